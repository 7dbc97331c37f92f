/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/store/backup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "apiserver/json/selector.h"
#include "apiserver/store/db.h"
#include "base/util.h"

/* A gap between versions. No server gives so many between the time of a copy and its own end. */
#define VERSION_LEAP INT64_C(1000000000)
#define BATCH        512

static int remove_database(const char *path, struct error *err) {
	static const char *const suffixes[] = {"", "-wal", "-shm", "-journal", ".lock"};
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_free_ char *file = strf("%s%s", path, suffixes[i]);
		if (!file)
			return error_oom(err);
		if (unlink(file) < 0 && errno != ENOENT)
			return error_errno(err, errno, "remove `%s`", file);
	}
	return 0;
}

static bool same_file(const char *a, const char *b) {
	struct stat x, y;
	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* True if FILE is DATABASE, or a file that SQLite or this server keeps beside it. */
static bool is_of_database(const char *file, const char *database) {
	static const char *const suffixes[] = {"", "-wal", "-shm", "-journal", ".lock", ".service-account.key"};
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_free_ char *own = strf("%s%s", database, suffixes[i]);
		if (!own || streq(file, own) || same_file(file, own))
			return true;
	}
	return false;
}

static int backup_count(void *userdata, const struct db_row *r, struct error *err) {
	(void)r;
	(void)err;
	++*(size_t *)userdata;
	return 0;
}

/* Reads the whole database at PATH and checks that each row holds an object. */
static int backup_check(const char *path, struct backup_report *ret, struct error *err) {
	_cleanup_(cleanup_db) struct db *db = NULL;
	size_t rows = 0;
	*ret = (struct backup_report){0};
	int r = db_open_copy(&db, path, err);
	if (r == 0)
		r = db_load(db, DB_ALL, backup_count, &rows, &ret->version, err);
	return r < 0 ? r : db_load(db, DB_CURRENT, backup_count, &ret->objects, &ret->version, err);
}

int backup_make(const char *database, const char *to, struct backup_report *ret, struct error *err) {
	_free_ char *part = strf("%s.part", to);
	struct error ignored;
	if (!part)
		return error_oom(err);
	if (access(database, F_OK) < 0)
		return error_errno(err, errno, "database `%s`", database);
	if (is_of_database(to, database))
		return error_set(err, EINVAL,
		                 "`%s` is the database itself or belongs to it; give another file to copy to", to);
	int r = remove_database(part, err);
	if (r < 0)
		return r;
	r = db_copy(database, part, err);
	if (r == 0)
		r = backup_check(part, ret, err);
	if (r == 0)
		r = rename_durable(part, to, err);
	if (r < 0)
		(void)!remove_database(part, &ignored);
	return r;
}

/* ---- restore ---- */

struct restore {
	struct db *target;
	struct db_row rows[BATCH];
	char *texts[BATCH], *names[BATCH];
	size_t n, total;
	int64_t base, version;
	int64_t *horizons;
};

static void backup_clear_batch(struct restore *rs) {
	for (size_t i = 0; i < rs->n; i++) {
		free(rs->texts[i]);
		free(rs->names[i]);
	}
	rs->n = 0;
}

static int backup_write_batch(struct restore *rs, struct error *err) {
	const int64_t nothing = 0;
	/* A horizon is only written if some row is forgotten. The batch forgets a version that never existed. */
	const struct db_batch b = {rs->rows, rs->n, &nothing, 1, rs->horizons};
	int r = db_write(rs->target, &b, rs->version, err);
	backup_clear_batch(rs);
	return r;
}

/* Returns the object's text with another resourceVersion. The caller frees it. */
static char *with_version(const struct db_row *r, int64_t version, size_t *ret_len) {
	_buf_free_ struct buf b = {0};
	const char *v;
	size_t n;
	if (!json_find(r->value, r->len, "metadata.resourceVersion", &v, &n))
		return NULL;
	buf_add(&b, r->value, (size_t)(v - r->value));
	buf_printf(&b, "\"%" PRId64 "\"", version);
	buf_add(&b, v + n, (size_t)(r->value + r->len - (v + n)));
	*ret_len = b.len;
	return buf_steal(&b);
}

static int backup_take(void *userdata, const struct db_row *r, struct error *err) {
	struct restore *rs = userdata;
	struct db_row *out = &rs->rows[rs->n];
	*out = *r;
	out->rv = rs->version + 1;
	out->type = EVENT_ADDED;
	char *text = with_version(r, out->rv, &out->len), *names = strf("%s/%s", r->ns, r->name);
	if (!text || !names) {
		free(text);
		free(names);
		return error_set(err, EUCLEAN, "row %lld has no metadata.resourceVersion; use another copy",
		                 (long long)r->rv);
	}
	rs->texts[rs->n] = text;
	rs->names[rs->n++] = names;
	out->value = text;
	char *slash = names + strlen(r->ns);
	*slash = '\0';
	out->ns = names;
	out->name = slash + 1;
	rs->version++;
	rs->total++;
	return rs->n == BATCH ? backup_write_batch(rs, err) : 0;
}

/* The last version that the database at PATH has given; 0 if the database can't be read. */
static int64_t version_of(const char *path) {
	struct backup_report there;
	struct error ignored;
	return backup_check(path, &there, &ignored) == 0 ? there.version : 0;
}

static int backup_fill(const char *from, const char *path, int64_t after, struct backup_report *ret,
                       struct error *err) {
	_cleanup_(cleanup_db) struct db *source = NULL, *target = NULL;
	_free_ struct restore *rs = calloc(1, sizeof(*rs));
	_free_ int64_t *horizons = calloc(api_kinds_count(), sizeof(*horizons));
	int64_t version;
	if (!rs || !horizons)
		return error_oom(err);
	int r = db_open_copy(&source, from, err);
	if (r == 0)
		r = db_open(&target, path, err);
	if (r < 0)
		return r;
	rs->base = rs->version = after + VERSION_LEAP;
	rs->target = target;
	rs->horizons = horizons;
	for (unsigned i = 0; i < api_kinds_count(); i++)
		horizons[i] = rs->base;
	r = db_load(source, DB_CURRENT, backup_take, rs, &version, err);
	if (r == 0)
		r = backup_write_batch(rs, err);
	backup_clear_batch(rs);
	*ret = (struct backup_report){rs->total, rs->version};
	return r;
}

/*
 * Gives the old database a second name, KEPT. The rename that puts the new database in place then removes its first
 * name, so that there is a database at every moment. The log is checkpointed into the old database first, because the
 * new database must not find it. If the old database can't be read, its log is kept beside KEPT.
 */
static int keep_old(const char *database, const char *kept, struct error *err) {
	_free_ char *log = strf("%s-wal", database), *kept_log = strf("%s-wal", kept), *shm = strf("%s-shm", database);
	struct error ignored;
	if (!log || !kept_log || !shm)
		return error_oom(err);
	(void)!db_checkpoint(database, &ignored);
	if (link(database, kept) < 0 && !(errno == EEXIST && same_file(database, kept)))
		return error_errno(err, errno, "keep `%s` as `%s`", database, kept);
	if (rename(log, kept_log) < 0 && errno != ENOENT)
		return error_errno(err, errno, "rename `%s` to `%s`", log, kept_log);
	unlink(shm);
	return sync_directory_of(database, err);
}

int backup_restore(const char *from, const char *database, bool force, struct backup_report *ret, struct error *err) {
	_free_ char *part = strf("%s.part", database), *kept = strf("%s.replaced", database);
	_close_ int lock = -1;
	struct backup_report copy, made;
	struct error ignored;
	if (!part || !kept)
		return error_oom(err);
	if (is_of_database(from, database))
		return error_set(err, EINVAL, "`%s` is the database itself or belongs to it; give a copy of it", from);
	int r = backup_check(from, &copy, err);
	if (r < 0)
		return error_prefix(err, "`%s` can't be restored", from);
	r = db_lock(database, &lock, err);
	if (r < 0)
		return r;
	bool there = access(database, F_OK) == 0;
	if (there && !force)
		return error_set(err, EEXIST,
		                 "database `%s` exists; with --force it is kept as `%s.replaced` and the copy "
		                 "takes its place",
		                 database, database);
	/* They are the same file if an earlier restore was killed between its two steps. */
	if (there && access(kept, F_OK) == 0 && !same_file(kept, database))
		return error_set(err, EEXIST, "`%s` exists, from an earlier restore; move it away first", kept);
	int64_t after = there ? version_of(database) : 0;
	r = remove_database(part, err);
	if (r == 0)
		r = backup_fill(from, part, MAX(after, copy.version), &made, err);
	if (r == 0)
		r = backup_check(part, ret, err);
	if (r == 0 && there)
		r = keep_old(database, kept, err);
	if (r == 0)
		r = rename_durable(part, database, err);
	(void)!remove_database(part, &ignored);
	return r;
}
