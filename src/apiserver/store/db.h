/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The store's file: SQLite in WAL mode. Its table `log` has a row for each version of an object that is current or that
 * a watch may still need to resume, keyed by resourceVersion. A deletion has a row, too, until its event is forgotten.
 * All rows in order of version give both the objects and the recent events. So a write is one insert at the end of one
 * B-tree, and nothing is written twice.
 *
 * All functions block. db_write() and db_tidy() are called in the store's writer thread, the others before that thread
 * starts.
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
	const char *value;     /* JSON of the object; for a deletion: its last state, with the deletion's version */
	size_t len;
};

struct db_batch {
	const struct db_row *rows;
	size_t n_rows;
	const int64_t *forget; /* versions whose rows are deleted */
	size_t n_forget;
	const int64_t *horizons; /* for each kind: the version of the last event forgotten */
};

/*
 * Opens or creates the database PATH; NULL: one in memory. Fails if the file is damaged, if another program or a newer
 * version wrote it, or if another server uses it. Each message names the remedy.
 */
int db_open(struct db **ret, const char *path, struct error *err) _must_use_;
/* Opens a file that no server writes to, such as a backup, only for db_load(). Fails in the same cases. */
int db_open_copy(struct db **ret, const char *path, struct error *err) _must_use_;
struct db *db_close(struct db *db);
DEFINE_CLEANUP(db, struct db *, db_close)

/*
 * Copies database FROM, as of one moment, into the new file TO, which has no log of its own. A server may be writing to
 * FROM. On failure TO may be incomplete.
 */
int db_copy(const char *from, const char *to, struct error *err) _must_use_;
/* Checkpoints the log of PATH into the database file and removes the log. The caller holds db_lock(). */
int db_checkpoint(const char *path, struct error *err) _must_use_;
/*
 * Locks the database PATH against servers until the descriptor *RET_FD is closed. Creates its directory and the lock
 * file beside it if they don't exist.
 */
int db_lock(const char *path, int *ret_fd, struct error *err) _must_use_;

/* Reads for each kind the version of the last event forgotten. HORIZONS has room for all kinds. */
int db_horizons(struct db *db, int64_t *horizons, struct error *err) _must_use_;
enum db_rows { DB_ALL, DB_CURRENT };
/*
 * Calls ROW in order of version for every row (DB_ALL), or for the current rows of existing objects (DB_CURRENT).
 * *RET_RV is the last version ever given.
 */
int db_load(struct db *db, enum db_rows which, int (*row)(void *userdata, const struct db_row *r, struct error *err),
            void *userdata, int64_t *ret_rv, struct error *err) _must_use_;

/*
 * Writes BATCH in one transaction: all of it or, on failure, nothing. It is durable when 0 is returned. LAST_RV is
 * remembered even if its row is deleted.
 */
int db_write(struct db *db, const struct db_batch *batch, int64_t last_rv, struct error *err) _must_use_;

/*
 * Does one step of maintenance between two writes. WAITED_FOR: a write is waiting, so only what can't be put off is
 * done. True if there is more to do.
 */
bool db_tidy(struct db *db, bool waited_for);
