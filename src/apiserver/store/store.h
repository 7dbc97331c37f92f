/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The store keeps all objects in memory as JSON bytes, ordered by namespace and name within each kind, and the recent
 * events of each kind for watches. apiserver/store/db.h makes them durable.
 *
 * To write, stage changes with store_put() and store_remove() while store_busy() is false; store_commit() then hands
 * them to the writer thread as one transaction. Neither store_get() nor the events show a change before it is on disk.
 * Then on_event is called for each change and on_commit once. If a batch fails, nothing is changed. A key must not be
 * staged twice in a batch: check store_staged().
 *
 * All functions must be called in one thread. Blobs are reference-counted.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "api/api.h"
#include "apiserver/store/db.h"
#include "base/tree.h"

/*
 * The JSON text of one object. data[len] is ',' and data[len + 1] is NUL, so that a list can be sent from here without
 * copying.
 */
struct blob {
	uint32_t refs, len;
	char data[];
};

struct blob *blob_new(const char *json, size_t len); /* one reference; NULL: no memory */
static inline struct blob *blob_ref(struct blob *b) {
	b->refs++;
	return b;
}
struct blob *blob_unref(struct blob *b); /* B may be NULL; returns NULL */
DEFINE_CLEANUP(blob, struct blob *, blob_unref)
#define _blob_unref_ _cleanup_(cleanup_blob)

/* What metadata says about an object's life. It is kept because finding it in the text takes long. */
struct noted {
	char uid[40]; /* truncated if longer, which no uid of this server is */
	bool deleting;
	bool waiting; /* it is being deleted in the foreground */
};
void blob_note(const struct blob *b, struct noted *ret);

struct object {
	RB_ENTRY(object) node;
	struct blob *value;
	int64_t rv, written_s;
	struct noted noted;
	const char *name; /* points behind the NUL of ns */
	char ns[];
};

struct watch_event {
	enum event_type type;
	int64_t rv;
	int64_t prev_rv;    /* 0 for ADDED */
	struct blob *value; /* the last state for DELETED */
	struct blob *prev;  /* NULL for ADDED */
	const char *name;
	char ns[];
};

struct store;

struct store_hooks {
	/* A change has become visible. */
	void (*on_event)(void *userdata, unsigned kind, const struct watch_event *e);
	/* The batch has ended. R < 0: nothing was changed; CAUSE says why. From now on new changes may be staged. */
	void (*on_commit)(void *userdata, int r, const struct error *cause);
	void *userdata;
};

/*
 * Opens the database PATH (see db_open()) and loads it. LOOP NULL, for tests: there is no writer thread, and
 * store_commit() writes before it returns.
 */
int store_open(struct store **ret, const char *path, sd_event *loop, const struct store_hooks *hooks,
               struct error *err) _must_use_;
/* Waits for the batch that is being written, without calling the hooks. */
struct store *store_free(struct store *s);

int64_t store_version(const struct store *s); /* the version of the last visible change */
size_t store_count(const struct store *s, unsigned kind);
const struct object *store_get(const struct store *s, unsigned kind, const char *ns, const char *name);
/* Returns the first object at or after NS/NAME in the order of namespace, then name. */
const struct object *store_seek(const struct store *s, unsigned kind, const char *ns, const char *name);
const struct object *store_next(const struct store *s, unsigned kind, const struct object *o);

/* The size of an object in bytes; 0: there is no such object. */
size_t store_size(const struct store *s, unsigned kind, const char *ns, const char *name);

bool store_busy(const struct store *s);
bool store_staged(const struct store *s, unsigned kind, const char *ns, const char *name);
bool store_staged_kind(const struct store *s, unsigned kind);
size_t store_staged_count(const struct store *s);
/*
 * The measure by which the cost of a batch is shared among its writes: the bytes of the changes, and a constant for
 * each.
 */
size_t store_staged_bytes(const struct store *s);
/* The cost and size of the last batch, for use in on_commit. All 0 if memory ran out before anything was written. */
struct store_cost {
	uint64_t cpu_ns;  /* processor time of both threads */
	uint64_t took_ns; /* time to write it */
	size_t changes, bytes;
};
struct store_cost store_cost(const struct store *s);
/* The resourceVersion that the next staged change must carry. */
int64_t store_next_version(const struct store *s);
/*
 * Stages a new state of an object. Takes the reference VALUE, even on failure. NS is "" for a cluster-scoped object. 0
 * or -ENOMEM.
 */
int store_put(struct store *s, unsigned kind, const char *ns, const char *name, struct blob *value) _must_use_;
/* Stages a deletion. VALUE is the last state with the version of the deletion; its reference is taken as well. */
int store_remove(struct store *s, unsigned kind, const char *ns, const char *name, struct blob *value) _must_use_;
/* Does nothing if nothing is staged. */
void store_commit(struct store *s);

/*
 * Events of a kind are numbered without gaps. The store holds those from `first` up to but not including `end`.
 * store_event_after() finds the number of the first event with a version above RV. -EXPIRED_VERSION: an event after RV
 * has been forgotten.
 */
#define EXPIRED_VERSION ESTALE
uint64_t store_event_end(const struct store *s, unsigned kind);
int store_event_after(const struct store *s, unsigned kind, int64_t rv, uint64_t *ret) _must_use_;
const struct watch_event *store_event(const struct store *s, unsigned kind,
                                      uint64_t seq); /* NULL: forgotten, or not there yet */
