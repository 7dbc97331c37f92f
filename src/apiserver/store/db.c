/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/store/db.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>

#include "api/api.h"
#include "base/hash.h"
#include "base/util.h"

#define APPLICATION_ID 0x4e616372 /* "Nacr" */
#define SCHEMA_VERSION 2
/*
 * The write-ahead log is checkpointed into the database when it has WAL_PAGES pages and no write waits, or at the
 * latest when it has twice as many. It is then written from its start again.
 */
#define WAL_PAGES 2000
#define WAL_BYTES ((off_t)17 << 20)
#define WAL_STEP  ((size_t)1 << 20)

struct db {
	sqlite3 *sql;
	char *path; /* for messages */
	int lock;
	int wal;       /* the log, while it is being lengthened; else -1 */
	int wal_pages; /* pages written since the last checkpoint */
	int wal_seen;  /* pages in the log at the last commit */
	sqlite3_stmt *insert, *forget, *meta, *begin, *commit, *rollback;
	int64_t *horizons; /* as stored; most don't change from one transaction to the next */
};

#define DETAIL_MAX 201

/* SQLite's messages may quote a damaged file. Keeps only characters that may go to a log. */
static const char *printable(const char *text, char out[static DETAIL_MAX]) {
	size_t n = 0;
	for (; text && text[n] && n < DETAIL_MAX - 1; n++)
		out[n] = text[n] >= ' ' && text[n] <= '~' && text[n] != '"' ? text[n] : '?';
	out[n] = '\0';
	return out;
}

static int db_error(struct db *db, int rc, const char *what, struct error *err) {
	char detail[DETAIL_MAX];
	const char *msg = printable(sqlite3_errmsg(db->sql), detail);
	int cause = sqlite3_system_errno(db->sql);
	/* SQLite keeps no errno if the index of the log can't grow. A full disk is nearly always the reason. */
	if (rc == SQLITE_IOERR_SHMSIZE ||
	    ((rc & 0xff) == SQLITE_IOERR && (cause == ENOSPC || cause == EDQUOT || cause == EFBIG)))
		rc = SQLITE_FULL;
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return error_set(
			err, EUCLEAN,
			"%s: database `%s` is damaged (%s); restore it from a copy, or try `sqlite3 %s .recover` "
			"into a new file",
			what, db->path, msg, db->path);
	case SQLITE_FULL: return error_set(err, ENOSPC, "%s: no space left for database `%s`", what, db->path);
	case SQLITE_NOMEM: return error_oom(err);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return error_set(err, EBUSY, "%s: database `%s` is in use by another program", what, db->path);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_CANTOPEN: return error_set(err, EACCES, "%s: can't write database `%s`: %s", what, db->path, msg);
	case SQLITE_IOERR: return error_errno(err, cause ? cause : EIO, "%s: database `%s`: %s", what, db->path, msg);
	default: return error_set(err, EIO, "%s: database `%s`: %s", what, db->path, msg);
	}
}

#define db_error(...) ERROR_NEGATIVE(db_error(__VA_ARGS__))

static int exec(struct db *db, const char *sql, const char *what, struct error *err) {
	int rc = sqlite3_exec(db->sql, sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : db_error(db, rc, what, err);
}

static int get_i64(struct db *db, const char *sql, int64_t *ret, struct error *err) {
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->sql, sql, -1, &st, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(st, 0);
	int r = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : db_error(db, rc, "read", err);
	sqlite3_finalize(st);
	return r;
}

_Static_assert(EVENT_DELETED == 2, "the queries of db_load() contain this number");

static int check_whole(struct db *db, struct error *err) {
	char detail[DETAIL_MAX];
	sqlite3_stmt *st = NULL;
	int r = 0, rc = sqlite3_prepare_v2(db->sql, "PRAGMA quick_check(1)", -1, &st, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc != SQLITE_ROW)
		r = db_error(db, rc, "open", err);
	else if (!streq((const char *)sqlite3_column_text(st, 0), "ok"))
		r = error_set(
			err, EUCLEAN,
			"database `%s` is damaged (%s); restore it from a copy, or try `sqlite3 %s .recover` into a "
			"new file",
			db->path, printable((const char *)sqlite3_column_text(st, 0), detail), db->path);
	sqlite3_finalize(st);
	return r;
}

int db_lock(const char *database, int *ret_fd, struct error *err) {
	_free_ char *path = strf("%s.lock", database), *dir = strdup(database);
	if (!path || !dir)
		return error_oom(err);
	char *slash = strrchr(dir, '/');
	if (slash && slash != dir) {
		*slash = '\0';
		int r = mkdir_p(dir, 0700, err);
		if (r < 0)
			return r;
	}
	int r = lock_path(path, O_RDWR | O_CREAT, false, ret_fd, err);
	if (r == -EBUSY)
		error_set(err, EBUSY,
		          "another nacre-apiserver uses database `%s` (it holds `%s`); stop it, or give this one "
		          "another --database",
		          database, path);
	return r;
}

/* Checks that a nacre-apiserver wrote the database. RET_TABLES 0: the database is empty. */
static int check_ours(struct db *db, int64_t *ret_tables, struct error *err) {
	int64_t id = 0, version = 0, tables = 0;
	int r = get_i64(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
	if (r == 0)
		r = get_i64(db, "PRAGMA application_id", &id, err);
	if (r == 0)
		r = get_i64(db, "PRAGMA user_version", &version, err);
	if (r < 0)
		return r;
	if (tables > 0 && id != APPLICATION_ID)
		return error_set(err, EINVAL, "`%s` is a database of another program; give another --database",
		                 db->path);
	if (tables > 0 && version != SCHEMA_VERSION)
		return error_set(
			err, EINVAL,
			"database `%s` has version %lld, this nacre-apiserver reads version %d; use the one that "
			"wrote it",
			db->path, (long long)version, SCHEMA_VERSION);
	*ret_tables = tables;
	return tables > 0 ? check_whole(db, err) : 0;
}

static int set_up(struct db *db, struct error *err) {
	int64_t tables;
	int r = check_ours(db, &tables, err);
	if (r < 0 || tables > 0)
		return r;
	_free_ char *sql = strf("BEGIN IMMEDIATE; PRAGMA application_id=%d; PRAGMA user_version=%d;"
	                        "CREATE TABLE log(rv INTEGER PRIMARY KEY, type INTEGER NOT NULL, kind TEXT NOT NULL,"
	                        " ns TEXT NOT NULL, name TEXT NOT NULL, at INTEGER NOT NULL, value BLOB NOT NULL, sum "
	                        "INTEGER NOT NULL) STRICT;"
	                        "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	                        "COMMIT",
	                        APPLICATION_ID, SCHEMA_VERSION);
	return sql ? exec(db, sql, "set up", err) : error_oom(err);
}

static int prepare(struct db *db, struct error *err) {
	const struct {
		sqlite3_stmt **st;
		const char *sql;
	} all[] = {
		{&db->begin, "BEGIN IMMEDIATE"},
		{&db->commit, "COMMIT"},
		{&db->rollback, "ROLLBACK"},
		{&db->insert,
	         "INSERT INTO log(rv, type, kind, ns, name, at, value, sum) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)"},
		{&db->forget, "DELETE FROM log WHERE rv = ?1"},
		{&db->meta, "INSERT INTO meta(key, value) VALUES(?1,?2) ON CONFLICT(key) DO UPDATE SET value = ?2 "
	                    "WHERE value <> ?2"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		int rc = sqlite3_prepare_v3(db->sql, all[i].sql, -1, SQLITE_PREPARE_PERSISTENT, all[i].st, NULL);
		if (rc != SQLITE_OK)
			return db_error(db, rc, "prepare", err);
	}
	return 0;
}

/*
 * fdatasync() of a file that grows costs several times as much as of one that doesn't, since its length is metadata. So
 * the log is lengthened beforehand, step by step. SQLite takes the zeros for the end of the log. This only saves time,
 * so failures are ignored.
 */
static bool lengthen_wal(struct db *db) {
	_free_ char *zeros = calloc(1, WAL_STEP);
	off_t at = lseek(db->wal, 0, SEEK_END);
	bool more = zeros && at >= 0 && at < WAL_BYTES && pwrite(db->wal, zeros, WAL_STEP, at) == (ssize_t)WAL_STEP &&
	            fdatasync(db->wal) == 0;
	if (!more)
		db->wal = safe_close(db->wal);
	return more;
}

bool db_tidy(struct db *db, bool waited_for) {
	if (db->wal_pages >= (waited_for ? 2 * WAL_PAGES : WAL_PAGES)) {
		/* If this fails (the disk is full), the log still has everything; the next pages cause another try. */
		(void)!sqlite3_wal_checkpoint_v2(db->sql, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
		db->wal_pages = 0;
		return false;
	}
	return !waited_for && db->wal >= 0 && lengthen_wal(db);
}

static int on_wal(void *userdata, sqlite3 *sql, const char *name, int pages) {
	struct db *db = userdata;
	(void)sql;
	(void)name;
	/*
	 * PAGES counts from the start of the log and stays high if a checkpoint fails. Count only new pages, so that a
	 * failure doesn't cause a checkpoint at every commit.
	 */
	db->wal_pages = pages < db->wal_seen ? pages : db->wal_pages + pages - db->wal_seen;
	db->wal_seen = pages;
	return SQLITE_OK;
}

static int open_file(struct db **ret, const char *path, int flags, struct error *err) {
	_cleanup_(cleanup_db) struct db *db = calloc(1, sizeof(*db));
	if (!db)
		return error_oom(err);
	db->lock = db->wal = -1;
	db->path = strdup(path);
	db->horizons = calloc(api_kinds_count(), sizeof(*db->horizons));
	if (!db->path || !db->horizons)
		return error_oom(err);
	int rc = sqlite3_open_v2(db->path, &db->sql, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
	if (rc != SQLITE_OK)
		return db->sql ? db_error(db, rc, "open", err) : error_oom(err);
	/* An operator's sqlite3 may hold a lock for a moment. */
	sqlite3_busy_timeout(db->sql, 5000);
	*ret = TAKE_PTR(db);
	return 0;
}

int db_open_copy(struct db **ret, const char *path, struct error *err) {
	_cleanup_(cleanup_db) struct db *db = NULL;
	int64_t tables;
	int r = open_file(&db, path, SQLITE_OPEN_READONLY, err);
	if (r == 0)
		r = check_ours(db, &tables, err);
	if (r)
		return r;
	if (!tables)
		return error_set(err, EINVAL, "`%s` is empty: no nacre-apiserver wrote it", path);
	*ret = TAKE_PTR(db);
	return 0;
}

int db_copy(const char *from, const char *to, struct error *err) {
	_cleanup_(cleanup_db) struct db *source = NULL, *target = NULL;
	int64_t tables;
	int r = open_file(&source, from, SQLITE_OPEN_READWRITE, err);
	if (r == 0)
		r = check_ours(source, &tables, err);
	if (r == 0)
		r = open_file(&target, to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
	if (r)
		return r;
	/* A single step is one read transaction, so writers can go on. */
	sqlite3_backup *b = sqlite3_backup_init(target->sql, "main", source->sql, "main");
	int rc = b ? sqlite3_backup_step(b, -1) : sqlite3_errcode(target->sql);
	sqlite3_backup_finish(b);
	if (rc != SQLITE_DONE)
		return db_error(target, rc, "copy", err);
	return exec(target, "PRAGMA synchronous=FULL; PRAGMA journal_mode=DELETE", "copy", err);
}

int db_checkpoint(const char *path, struct error *err) {
	_cleanup_(cleanup_db) struct db *db = NULL;
	int64_t tables;
	int r = open_file(&db, path, SQLITE_OPEN_READWRITE, err);
	if (r == 0)
		r = check_ours(db, &tables, err);
	/* In this mode the last connection removes the log when it closes. */
	return r < 0 ? r : exec(db, "PRAGMA synchronous=FULL; PRAGMA wal_checkpoint(TRUNCATE)", "checkpoint", err);
}

int db_open(struct db **ret, const char *path, struct error *err) {
	_cleanup_(cleanup_db) struct db *db = NULL;
	_close_ int lock = -1;
	int r = path ? db_lock(path, &lock, err) : 0;
	if (r == 0)
		r = open_file(&db, path ? path : ":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
	if (r)
		return r;
	db->lock = TAKE_FD(lock);
	r = exec(db,
	         "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cell_size_check=ON; PRAGMA "
	         "trusted_schema=OFF",
	         "open", err);
	if (r == 0)
		r = set_up(db, err);
	if (r == 0)
		r = prepare(db, err);
	if (r < 0)
		return r;
	/* This hook replaces SQLite's own checkpoints, which run inside a commit that somebody waits for. */
	sqlite3_wal_hook(db->sql, on_wal, db);
	_free_ char *wal = path ? strf("%s-wal", path) : NULL;
	db->wal = wal ? open(wal, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
	*ret = TAKE_PTR(db);
	return 0;
}

struct db *db_close(struct db *db) {
	if (!db)
		return NULL;
	sqlite3_stmt *all[] = {db->insert, db->forget, db->meta, db->begin, db->commit, db->rollback};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		sqlite3_finalize(all[i]);
	sqlite3_close(db->sql);
	safe_close(db->lock);
	safe_close(db->wal);
	free(db->path);
	free(db->horizons);
	free(db);
	return NULL;
}

/* Kinds are stored by name ("nacre.dev/instances"), because their order in the program may change. */
static void kind_key(unsigned kind, const char *prefix, char out[static 192]) {
	snprintf(out, 192, "%s%s/%s", prefix, api_kinds[kind]->group, api_kinds[kind]->plural);
}

static int kind_of_key(const char *key) {
	char k[192];
	for (unsigned i = 0; api_kinds[i]; i++) {
		kind_key(i, "", k);
		if (streq(k, key))
			return (int)i;
	}
	return -1;
}

static int get_meta(struct db *db, const char *key, int64_t *ret, struct error *err) {
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->sql, "SELECT value FROM meta WHERE key = ?1", -1, &st, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
		rc = sqlite3_step(st);
	}
	int r = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : db_error(db, rc, "load", err);
	if (r == 0)
		*ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
	sqlite3_finalize(st);
	return r;
}

int db_horizons(struct db *db, int64_t *horizons, struct error *err) {
	char key[192];
	int r = 0;
	for (unsigned i = 0; r == 0 && api_kinds[i]; i++) {
		kind_key(i, "horizon/", key);
		r = get_meta(db, key, &horizons[i], err);
		if (r == 0)
			db->horizons[i] = horizons[i];
	}
	return r;
}

static uint64_t add_number_to_sum(uint64_t h, int64_t n) {
	return fnv1a(h, &n, sizeof(n));
}

/*
 * SQLite checks the structure of its pages, but not the values in them: a value with a flipped bit would be served. So
 * each row has a checksum of all its columns.
 */
static int64_t row_sum(const struct db_row *r, const char *kind) {
	uint64_t h = FNV1A_BASIS;
	h = add_number_to_sum(h, r->rv);
	h = add_number_to_sum(h, r->written_s);
	h = add_number_to_sum(h, (int64_t)r->type);
	h = fnv1a(h, kind, strlen(kind) + 1);
	h = fnv1a(h, r->ns, strlen(r->ns) + 1);
	h = fnv1a(h, r->name, strlen(r->name) + 1);
	return (int64_t)fnv1a(h, r->value, r->len);
}

static int db_load_row(struct db *db, sqlite3_stmt *st, struct db_row *r, struct error *err) {
	const char *kind_text = (const char *)sqlite3_column_text(st, 2);
	*r = (struct db_row){.rv = sqlite3_column_int64(st, 0),
	                     .type = (enum event_type)sqlite3_column_int(st, 1),
	                     .ns = (const char *)sqlite3_column_text(st, 3),
	                     .name = (const char *)sqlite3_column_text(st, 4),
	                     .written_s = sqlite3_column_int64(st, 5),
	                     .value = sqlite3_column_blob(st, 6),
	                     .len = (size_t)sqlite3_column_bytes(st, 6)};
	int kind = kind_text ? kind_of_key(kind_text) : -1;
	char detail[DETAIL_MAX];
	if (kind < 0)
		return error_set(
			err, EINVAL,
			"database `%s` holds objects of %s, which this nacre-apiserver does not know; use a newer one",
			db->path, printable(kind_text, detail));
	r->kind = (unsigned)kind;
	if (!r->ns || !r->name || !r->value || r->type > EVENT_DELETED ||
	    row_sum(r, kind_text) != sqlite3_column_int64(st, 7))
		return error_set(
			err, EUCLEAN,
			"database `%s` is damaged: row %lld (%s %s) is not as it was written; restore it from a copy",
			db->path, (long long)r->rv, kind_text, printable(r->name, detail));
	return 0;
}

int db_load(struct db *db, enum db_rows which, int (*row)(void *, const struct db_row *, struct error *),
            void *userdata, int64_t *ret_rv, struct error *err) {
	/*
	 * With max() the other columns are those of the row with the maximum
	 * (https://sqlite.org/lang_select.html#bareagg).
	 */
	static const char *const queries[] = {
		[DB_ALL] = "SELECT rv, type, kind, ns, name, at, value, sum FROM log ORDER BY rv",
		[DB_CURRENT] = "SELECT * FROM (SELECT max(rv) AS rv, type, kind, ns, name, at, value, sum FROM log"
			       " GROUP BY kind, ns, name) WHERE type <> 2 ORDER BY rv",
	};
	int64_t rv;
	int r = get_meta(db, "rv", &rv, err);
	if (r < 0)
		return r;
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->sql, queries[which], -1, &st, NULL);
	if (rc == SQLITE_OK)
		while (r == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
			struct db_row one;
			r = db_load_row(db, st, &one, err);
			if (r == 0)
				r = row(userdata, &one, err);
			if (r == 0)
				rv = MAX(rv, one.rv);
		}
	if (r == 0 && rc != SQLITE_DONE)
		r = db_error(db, rc, "load", err);
	sqlite3_finalize(st);
	if (r == 0)
		*ret_rv = rv;
	return r;
}

static int step(struct db *db, sqlite3_stmt *st, struct error *err) {
	int rc = sqlite3_step(st);
	int r = rc == SQLITE_DONE ? 0 : db_error(db, rc, "write", err);
	sqlite3_reset(st);
	return r;
}

static int put_meta(struct db *db, const char *key, int64_t value, struct error *err) {
	sqlite3_bind_text(db->meta, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_int64(db->meta, 2, value);
	return step(db, db->meta, err);
}

static int write_rows(struct db *db, const struct db_batch *b, int64_t last_rv, struct error *err) {
	char key[192];
	int r = 0;
	for (size_t i = 0; r == 0 && i < b->n_rows; i++) {
		const struct db_row *row = &b->rows[i];
		kind_key(row->kind, "", key);
		sqlite3_bind_int64(db->insert, 1, row->rv);
		sqlite3_bind_int(db->insert, 2, (int)row->type);
		sqlite3_bind_text(db->insert, 3, key, -1, SQLITE_STATIC);
		sqlite3_bind_text(db->insert, 4, row->ns, -1, SQLITE_STATIC);
		sqlite3_bind_text(db->insert, 5, row->name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(db->insert, 6, row->written_s);
		sqlite3_bind_blob64(db->insert, 7, row->value, row->len, SQLITE_STATIC);
		sqlite3_bind_int64(db->insert, 8, row_sum(row, key));
		r = step(db, db->insert, err);
	}
	for (size_t i = 0; r == 0 && i < b->n_forget; i++) {
		sqlite3_bind_int64(db->forget, 1, b->forget[i]);
		r = step(db, db->forget, err);
	}
	/* If no row is deleted, the last version is that of the last row. Not writing it again saves a page. */
	if (!b->n_forget)
		return r;
	for (unsigned i = 0; r == 0 && api_kinds[i]; i++) {
		if (b->horizons[i] == db->horizons[i])
			continue;
		kind_key(i, "horizon/", key);
		r = put_meta(db, key, b->horizons[i], err);
	}
	return r < 0 ? r : put_meta(db, "rv", last_rv, err);
}

int db_write(struct db *db, const struct db_batch *batch, int64_t last_rv, struct error *err) {
	int r = step(db, db->begin, err);
	if (r < 0)
		return r;
	r = write_rows(db, batch, last_rv, err);
	if (r == 0)
		r = step(db, db->commit, err);
	if (r == 0 && batch->n_forget)
		memcpy(db->horizons, batch->horizons, api_kinds_count() * sizeof(*db->horizons));
	/* SQLite may have rolled back by itself, for example when the disk is full. */
	if (r < 0 && !sqlite3_get_autocommit(db->sql)) {
		sqlite3_step(db->rollback);
		sqlite3_reset(db->rollback);
	}
	return r;
}
