/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The objects: all of them in memory as JSON bytes, ordered by namespace and name within each kind, and beside
 * them the recent events of each kind, for watches. Durable through apiserver/store/db.h.
 *
 * Writing: while store_busy() is false, changes are staged with store_put() and store_remove(); store_commit() then
 * hands them to the writer thread as one transaction. Nothing of it can be seen by store_get() or in the events
 * before it is on disk; then on_event is called for each change, and on_commit once. A batch that fails changes
 * nothing. No key may be staged twice in a batch: ask store_staged().
 *
 * All functions belong to one thread. Blobs are shared by counted references.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "api/api.h"
#include "apiserver/store/db.h"
#include "base/tree.h"

/* One JSON text. data[len] is ',' and data[len + 1] is NUL, so that lists can be sent straight from here. */
struct blob {
	uint32_t refs, len;
	char data[];
};

struct blob *blob_new(const char *json, size_t len); /* NULL on no memory */
static inline struct blob *blob_ref(struct blob *b) {
	b->refs++;
	return b;
}
struct blob *blob_unref(struct blob *b); /* NULL is fine; returns NULL */
DEFINE_CLEANUP(blob, struct blob *, blob_unref)
#define _blob_unref_ _cleanup_(cleanup_blob)

/* What metadata says of an object's life; kept, for it is long to look for among annotations. */
struct noted {
	char uid[40]; /* cut off if it is longer, which none of ours is */
	bool deleting;
	bool waiting; /* it is being deleted in the foreground */
};
void blob_note(const struct blob *b, struct noted *ret);

struct object {
	RB_ENTRY(object) node;
	struct blob *value;
	int64_t rv, written_s;
	struct noted noted;
	const char *name; /* behind ns */
	char ns[];
};

struct watch_event {
	enum event_type type;
	int64_t rv;
	int64_t prev_rv;    /* 0 for ADDED */
	struct blob *value; /* the last state, for DELETED */
	struct blob *prev;  /* NULL for ADDED */
	const char *name;
	char ns[];
};

struct store;

struct store_hooks {
	/* A change became visible. */
	void (*on_event)(void *userdata, unsigned kind, const struct watch_event *e);
	/* The batch ended; R < 0: nothing of it happened, CAUSE says why. New changes may be staged from here on. */
	void (*on_commit)(void *userdata, int r, const struct error *cause);
	void *userdata;
};

/* Without LOOP there is no writer thread, and store_commit() does it all: for tests. PATH as of db_open(). */
int store_open(struct store **ret, const char *path, sd_event *loop, const struct store_hooks *hooks,
               struct error *err) _must_use_;
/* Waits for the batch in flight, without calling the hooks. */
struct store *store_free(struct store *s);

int64_t store_version(const struct store *s); /* of the last visible change */
size_t store_count(const struct store *s, unsigned kind);
const struct object *store_get(const struct store *s, unsigned kind, const char *ns, const char *name);
/* The first object at or after NS/NAME. Objects are ordered by namespace, then name. */
const struct object *store_seek(const struct store *s, unsigned kind, const char *ns, const char *name);
const struct object *store_next(const struct store *s, unsigned kind, const struct object *o);

/* The bytes of an object; 0: there is none. */
size_t store_size(const struct store *s, unsigned kind, const char *ns, const char *name);

bool store_busy(const struct store *s);
bool store_staged(const struct store *s, unsigned kind, const char *ns, const char *name);
bool store_staged_kind(const struct store *s, unsigned kind);
size_t store_staged_count(const struct store *s);
/* What a batch is shared by: the bytes of its changes, and some for each of them. */
size_t store_staged_bytes(const struct store *s);
/* In on_commit: what the batch took and how large it was; all 0 if nothing was written for want of memory. */
struct store_cost {
	uint64_t cpu_ns;  /* of both threads */
	uint64_t took_ns; /* to write it */
	size_t changes, bytes;
};
struct store_cost store_cost(const struct store *s);
/* The resourceVersion that the next staged change must carry. */
int64_t store_next_version(const struct store *s);
/* VALUE's reference is taken, on failure too. -ENOMEM, else 0. NS is "" for objects of no namespace. */
int store_put(struct store *s, unsigned kind, const char *ns, const char *name, struct blob *value) _must_use_;
/* VALUE: the last state, with its version replaced. */
int store_remove(struct store *s, unsigned kind, const char *ns, const char *name, struct blob *value) _must_use_;
/* Does nothing if nothing is staged. */
void store_commit(struct store *s);

/*
 * Events of a kind are numbered without gaps; [first, end) are held. store_event_after() yields the number of the
 * first one with a version above RV, or -EXPIRED_VERSION if one was already forgotten.
 */
#define EXPIRED_VERSION ESTALE
uint64_t store_event_end(const struct store *s, unsigned kind);
int store_event_after(const struct store *s, unsigned kind, int64_t rv, uint64_t *ret) _must_use_;
const struct watch_event *store_event(const struct store *s, unsigned kind,
                                      uint64_t seq); /* NULL: forgotten, or not yet */
