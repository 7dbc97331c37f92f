/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One concern of the controller: a file with one `const struct concern concern_NAME`, and a line in CONCERNS below.
 * That is all that is needed to add one. A concern may reconcile the objects of one kind, or only keep an index that
 * others ask, or both.
 *
 * All functions run on the loop's thread. Members that a concern doesn't need are NULL.
 */

#include "api/meta.h"
#include "controller/controller.h"

/*
 * Every concern. When an object changes, the handlers run in this order; keys that they queue are handed out only after
 * all of them have run. An index stands above those who ask it in their handlers. The states are opened in this order
 * and closed in the opposite one.
 */
#define CONCERNS(F)    \
	F(room)        \
	F(addresses)   \
	F(placement)   \
	F(seats)       \
	F(gangs)       \
	F(vteps)       \
	F(quotas)      \
	F(hosts)       \
	F(clusters)    \
	F(instances)   \
	F(pools)       \
	F(allocations) \
	F(endpoints)

struct metric;
struct work;

/* A kind whose objects a concern reads. */
struct concern_watch {
	const struct api_kind *kind;
	const char *ns; /* NULL: all namespaces; all concerns that watch the kind must name the same */
	/* An object was added, modified or deleted; never KUBE_SYNCED. NULL: the concern only reads the cache. */
	void (*changed)(struct controller *c, const struct kube_change *ch);
	/* A whole list was received, see KUBE_SYNCED. */
	void (*synced)(struct controller *c);
};

#define CONCERN_WATCHES_MAX 8

struct concern {
	const char *name; /* of its queue, in metrics and logs */
	/*
	 * The kind that it reconciles; NULL: it has no queue. Its objects are watched, and one is queued whenever it
	 * changes, and all of them when the controller begins to act.
	 */
	const struct api_kind *kind;
	bool first;           /* its keys are handed out before all others */
	bool retry_on_return; /* all its objects are queued when the API answers again, without waiting for a backoff */
	struct metric *count; /* a gauge of how many objects of its kind there are */
	struct concern_watch watches[CONCERN_WATCHES_MAX + 1]; /* besides its own kind; ended by kind NULL */
	/* Makes the state, *RET. */
	int (*open)(struct controller *c, const struct controller_options *o, void **ret, struct error *err);
	/*
	 * Compares and begins what is missing. OBJ is what the cache has under the key of W; NULL: nothing. Called only
	 * while the controller may act. W is made before and closed after the call: it ends when the last request that
	 * was begun in it is answered.
	 */
	void (*reconcile)(struct work *w, const void *obj);
	/* A piece of work has failed with ERROR, and is tried again. OBJ as for reconcile(), by now. */
	void (*failed)(struct controller *c, const void *obj, int error);
	/* A key of the concern WHOSE is about to be reconciled. */
	void (*looked_at)(struct controller *c, const struct concern *whose, const char *ns, const char *name);
	/* The controller begins to act, before all objects are queued; it acts no longer, and another one may. */
	void (*started)(struct controller *c);
	void (*stopped)(struct controller *c);
	void (*close)(void *state);
};

#define CONCERN_DECLARE(name) extern const struct concern concern_##name;
CONCERNS(CONCERN_DECLARE)

/* What open() of the concern made. Headers of concerns wrap this, with its type. */
void *concern_state(const struct controller *c, const struct concern *concern);

/* Queues a key of the concern. */
void concern_enqueue(struct controller *c, const struct concern *concern, const char *ns, const char *name);
/* The same, before all that wait. False: it is being worked on, and comes again after that. */
bool concern_enqueue_first(struct controller *c, const struct concern *concern, const char *ns, const char *name);
void concern_enqueue_after(struct controller *c, const struct concern *concern, const char *ns, const char *name,
                           uint64_t delay_us);
/* Queues every object of its kind. */
void concern_enqueue_all(struct controller *c, const struct concern *concern);
