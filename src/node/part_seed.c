/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the guest is told about its users and its setup, in the folder `seed` of the instance's directory
 * (node/instdir.h), from which nacre-vm serves it. It may belong to Secrets, so it is in no other place: not in
 * config.json, the status, events or logs. A running guest's files follow the API. A file whose Secret can't be read
 * stays as it is; only a guest that has no such folder yet is kept from starting.
 */

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "node/part.h"
#include "vm/seed.h"

/* ---- in the loop ---- */

/*
 * Appends the public keys in TEXT, one a line; empty lines and those that begin with # are left out. *COUNT is how many
 * there are.
 */
static int seed_add_lines(struct buf *keys, size_t *count, const char *text, size_t len,
                          const struct instance_secret *what, struct error *err) {
	const char *end = text + len;
	struct error why;

	for (unsigned line = 1; text < end; line++) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((nl ? nl : end) - text);
		const char *key = text;
		text += n + (nl != NULL);
		while (n && strchr(" \t\r", key[n - 1]) && key[n - 1])
			n--;
		if (n == 0 || *key == '#')
			continue;
		if (sshkey_check(key, n, &why) < 0)
			return error_set(err, EINVAL, "line %u of key `%s` of Secret `%s` of spec.%s %.200s", line,
			                 what->key, what->secret, what->field, why.msg);
		if (++*count > SEED_KEYS_MAX)
			return error_set(err, EINVAL,
			                 "key `%s` of Secret `%s` of spec.%s and spec.sshKeys have more than %d "
			                 "public keys together: remove some",
			                 what->key, what->secret, what->field, SEED_KEYS_MAX);
		buf_add(keys, key, n);
		buf_putc(keys, '\n');
	}
	return 0;
}

/* Gathers the SSH keys of the object and of its Secret. */
static int seed_gather_keys(const struct part_source *s, struct buf *keys, const char **reason, struct error *err) {
	const struct instance *inst = s->inst;
	struct instance_secret what;
	const char *text;
	size_t count = inst->spec->ssh_keys.n, len;

	for (size_t i = 0; i < inst->spec->ssh_keys.n; i++) {
		buf_puts(keys, inst->spec->ssh_keys.v[i]);
		buf_putc(keys, '\n');
	}
	if (!instance_secret(inst->spec, INSTANCE_SECRET_KEYS, &what))
		return 0;
	int r = secrets_get(s->secrets, inst->meta.ns, &what, &text, &len, reason, err);
	if (r < 0)
		return r;
	r = seed_add_lines(keys, &count, text, len, &what, err);
	if (r < 0) {
		*reason = "SecretInvalid";
		secrets_refuse(s->secrets, inst->meta.ns, &what);
	}
	return r;
}

static int seed_gather_user_data(const struct part_source *s, struct seed *seed, const char **reason,
                                 struct error *err) {
	const struct instance_spec *is = s->inst->spec;
	struct instance_secret what;

	if (instance_secret(is, INSTANCE_SECRET_USER_DATA, &what))
		return secrets_get(s->secrets, s->inst->meta.ns, &what, &seed->user_data, &seed->user_data_len, reason,
		                   err);
	if (is->user_data && *is->user_data) {
		seed->user_data = is->user_data;
		seed->user_data_len = strlen(is->user_data);
	}
	return 0;
}

/* A file can't be made, because of WHY. Returns -EAGAIN if a new guest must wait, as it does for the first answer. */
static int seed_note_problem(const struct part_source *s, struct guest_spec *spec, int r, const char *reason,
                             const struct error *why) {
	if (r == -EAGAIN && !s->known)
		return r;
	snprintf(spec->seed_reason, sizeof(spec->seed_reason), "%s", reason);
	snprintf(spec->seed_problem, sizeof(spec->seed_problem), "%.300s", why->msg);
	return 0;
}

static int seed_desire(const struct part_source *s, struct guest_spec *spec, struct error *err) {
	_buf_free_ struct buf keys = {0};
	const char *reason = NULL;
	struct seed seed = {0};
	struct error why = {0};
	int wait = 0;

	if (!s->seeds)
		return 0;
	int r = seed_gather_user_data(s, &seed, &reason, &why);
	seed.keep_user_data = r < 0;
	if (r < 0)
		wait = seed_note_problem(s, spec, r, reason, &why);
	r = seed_gather_keys(s, &keys, &reason, &why);
	seed.keep_ssh_keys = r < 0;
	if (r < 0)
		wait = MIN(wait, seed_note_problem(s, spec, r, reason, &why));
	if (r >= 0) {
		seed.ssh_keys = keys.data;
		seed.ssh_keys_len = keys.len;
	}
	r = keys.failed ? -ENOMEM : seeds_put(s->seeds, instance_id(s->inst), &seed, &spec->seed);
	if (keys.data)
		explicit_bzero(keys.data, keys.len);
	if (r < 0)
		return error_oom(err);
	return wait < 0 ? error_set(err, EAGAIN, "%s", why.msg) : 0;
}

/* ---- in a worker ---- */

static bool seed_file_is(const char *path, const char *bytes, size_t len, gid_t group) {
	_free_ char *text = NULL;
	struct stat st;
	size_t n;

	return stat(path, &st) == 0 && st.st_gid == group && (st.st_mode & 07777) == 0640 &&
	       (size_t)st.st_size == len && read_file(path, len + 1, &text, &n, NULL) >= 0 && n == len &&
	       memcmp(text, bytes, len) == 0;
}

/*
 * Makes FOLDER/NAME have these BYTES; NULL: makes it not exist. At each moment it has the old or the new content. Only
 * root and GROUP, which nacre-vm in the container has, may read it; QEMU's user may not.
 */
static int seed_write_file(const char *folder, const char *name, const char *bytes, size_t len, gid_t group,
                           struct error *err) {
	_free_ char *path = strf("%s/%s", folder, name), *temporary = strf("%s/.%s", folder, name);

	if (!path || !temporary)
		return error_oom(err);
	if (!bytes)
		return unlink(path) < 0 && errno != ENOENT ? error_errno(err, errno, "remove `%s`", path) : 0;
	if (seed_file_is(path, bytes, len, group))
		return 0;
	_close_ int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "open `%s`", temporary);
	int r = write_all(fd, bytes, len, err);
	if (r < 0)
		return r;
	if (fchown(fd, 0, group) < 0 || fchmod(fd, 0640) < 0)
		return error_errno(err, errno, "set who may read `%s`", temporary);
	return rename(temporary, path) < 0 ? error_errno(err, errno, "rename `%s`", temporary) : 0;
}

/* An agent that was killed may have left a part of a content in FOLDER/.NAME. */
static int seed_remove_temporary(const char *folder, const char *name, struct error *err) {
	_free_ char *temporary = strf("%s/.%s", folder, name);

	if (!temporary)
		return error_oom(err);
	return unlink(temporary) < 0 && errno != ENOENT ? error_errno(err, errno, "remove `%s`", temporary) : 0;
}

static int seed_write_files(const struct guest_look *l, const char *folder, const struct seed *seed,
                            struct error *err) {
	const gid_t group = container_root(l->user);
	int r = seed_remove_temporary(folder, "user-data", err);

	if (r >= 0)
		r = seed_remove_temporary(folder, "ssh-keys", err);
	if (r < 0)
		return r;
	if (chown(folder, 0, group) < 0 || chmod(folder, 0750) < 0)
		return error_errno(err, errno, "set who may read `%s`", folder);
	if (!seed->keep_user_data)
		r = seed_write_file(folder, "user-data", seed->user_data, seed->user_data_len, group, err);
	if (r >= 0 && !seed->keep_ssh_keys)
		r = seed_write_file(folder, "ssh-keys", seed->ssh_keys, seed->ssh_keys_len, group, err);
	return r;
}

/* The folder appears with all its files, so one that is there is complete. */
static int seed_write(const struct guest_look *l, struct error *err) {
	const struct seed *seed = l->host->seeds ? seeds_get(l->host->seeds, l->uid) : NULL;
	_free_ char *folder = strf("%s/" CONTAINER_SEED, l->dir), *new = strf("%s/" CONTAINER_SEED ".new", l->dir);

	if (!folder || !new)
		return error_oom(err);
	if (!seed)
		return 0;
	if (access(folder, F_OK) == 0)
		return seed_write_files(l, folder, seed, err);
	if (seed->keep_user_data || seed->keep_ssh_keys)
		return 0;
	int r = remove_tree(new, err);
	if (r >= 0)
		r = mkdir_p(new, 0700, err);
	if (r >= 0)
		r = seed_write_files(l, new, seed, err);
	if (r >= 0 && rename(new, folder) < 0)
		r = error_errno(err, errno, "rename `%s`", new);
	return r;
}

static int seed_ensure(struct guest_look *l, struct error *err) {
	return l->pid ? seed_write(l, err) : 0;
}

static int seed_configure(struct guest_look *l, struct error *err) {
	_free_ char *folder = strf("%s/" CONTAINER_SEED, l->dir);

	if (!folder)
		return error_oom(err);
	if (!l->spec->seed_problem[0] || access(folder, F_OK) == 0)
		return 0;
	snprintf(l->ret->reason, sizeof(l->ret->reason), "%s", l->spec->seed_reason);
	return error_set(err, ENOENT, "%s", l->spec->seed_problem);
}

static int seed_prepare(struct guest_look *l, struct error *err) {
	return seed_write(l, err);
}

const struct part part_seed = {.name = "seed",
                               .reason = "SeedFailed",
                               .desire = seed_desire,
                               .ensure = seed_ensure,
                               .configure = seed_configure,
                               .prepare = seed_prepare};
