/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The store's file: SQLite in WAL mode. One table, `log`, holds a row for each version of an object that is
 * current or that a watch may still resume from, keyed by resourceVersion; a deletion is a row too until it is
 * forgotten. Reading all rows in order gives back both the objects and the recent events. So each write is one
 * insert at the end of one B-tree, and nothing is written twice.
 *
 * All functions block. db_write() is called from the store's writer thread, the rest before it starts.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct db;

enum event_type { EVENT_ADDED, EVENT_MODIFIED, EVENT_DELETED };

struct db_row {
	int64_t rv, written_s; /* resourceVersion; UNIX time of the write */
	enum event_type type;
	unsigned kind;         /* index into api_kinds */
	const char *ns, *name; /* "" for objects of no namespace */
	const char *value;     /* JSON of the object; of a deleted one, its last state with the deletion's version */
	size_t len;
};

struct db_batch {
	const struct db_row *rows;
	size_t n_rows;
	const int64_t *forget; /* versions whose rows go */
	size_t n_forget;
	const int64_t *horizons; /* for each kind: the last event forgotten */
};

/*
 * PATH NULL: a database in memory. Refuses a file that is damaged, of another program, of a newer version or in
 * use by another server, each with a message that says what to do.
 */
int db_open(struct db **ret, const char *path, struct error *err) _must_use_;
/* A file that no server writes to, such as a backup, for db_load() alone; the same refusals. */
int db_open_copy(struct db **ret, const char *path, struct error *err) _must_use_;
struct db *db_close(struct db *db);
DEFINE_CLEANUP(db, struct db *, db_close)

/*
 * Copies database FROM, which a server may be writing to meanwhile, as of one moment into the new file TO, whole in
 * one file. On failure TO may be there in part.
 */
int db_copy(const char *from, const char *to, struct error *err) _must_use_;
/* Brings what is in PATH's log into the file itself and removes the log. The caller holds db_lock(). */
int db_fold(const char *path, struct error *err) _must_use_;
/* Holds PATH against servers while the descriptor is open; made beside it if need be. */
int db_lock(const char *path, int *ret_fd, struct error *err) _must_use_;

/* For each kind the version of its last forgotten event. HORIZONS has room for all kinds. */
int db_horizons(struct db *db, int64_t *horizons, struct error *err) _must_use_;
enum db_rows { DB_ALL, DB_CURRENT };
/*
 * Calls ROW for every row in order of version, or only for those of objects that are there. RET_RV is the last version
 * ever given.
 */
int db_load(struct db *db, enum db_rows which, int (*row)(void *userdata, const struct db_row *r, struct error *err),
            void *userdata, int64_t *ret_rv, struct error *err) _must_use_;

/* All of BATCH or nothing of it; durable once it returns 0. LAST_RV is remembered even if its row goes. */
int db_write(struct db *db, const struct db_batch *batch, int64_t last_rv, struct error *err) _must_use_;

/*
 * Upkeep between two writes, for when nobody waits for the next one (if someone does, only what can't be put off). True
 * if there is more of it to do.
 */
bool db_tidy(struct db *db, bool waited_for);
