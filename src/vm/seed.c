/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "vm/status.h"

int seed_open(const char *path, int *ret_fd, struct error *err) {
	int fd = *path ? open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;

	if (*path && fd < 0 && errno != ENOENT)
		return error_errno(err, errno, "open `%s`", path);
	*ret_fd = fd;
	return 0;
}

static int seed_read(int dir, const char *name, size_t max, struct buf *out) {
	_close_ int fd = dir >= 0 ? openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
	struct stat st;

	if (fd < 0)
		return dir < 0 || errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > max)
		return -EFBIG;
	for (size_t left = (size_t)st.st_size; left;) {
		char *p = buf_reserve(out, left);
		ssize_t n = p ? read(fd, p, left) : -1;
		if (n < 0 && p && errno == EINTR)
			continue;
		if (n < 0)
			return p ? -errno : -ENOMEM;
		if (n == 0)
			break;
		out->len += (size_t)n;
		out->data[out->len] = 0;
		left -= (size_t)n;
	}
	return 0;
}

int seed_user_data(int dir, struct buf *out) {
	return seed_read(dir, "user-data", SEED_USER_DATA_MAX, out);
}

int seed_keys(int dir, struct seed_keys *ret) {
	struct seed_keys k = {0};
	char *rest;
	int r = seed_read(dir, "ssh-keys", (size_t)SEED_KEYS_MAX * (SEED_KEY_MAX + 1), &k.text);

	for (size_t i = 0; i < k.text.len; i++)
		if (!k.text.data[i])
			k.text.data[i] = '?';
	rest = k.text.data;
	for (char *line; r >= 0 && k.n < SEED_KEYS_MAX && (line = strsep(&rest, "\n"));) {
		if (!*line || strlen(line) > SEED_KEY_MAX)
			continue;
		vm_status_plain(line);
		k.key[k.n++] = line;
	}
	if (r < 0)
		seed_keys_done(&k);
	*ret = k;
	return r;
}

void seed_keys_done(struct seed_keys *k) {
	buf_free(&k->text);
	k->n = 0;
}
