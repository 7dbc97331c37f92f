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
 * all handlers have run. An index must come before the concerns that ask it in their handlers. The states are opened in
 * this order and closed in the opposite order.
 */
#define CONCERNS(F)    \
	F(room)        \
	F(addresses)   \
	F(dns)         \
	F(placement)   \
	F(seats)       \
	F(gangs)       \
	F(vteps)       \
	F(quotas)      \
	F(hosts)       \
	F(clusters)    \
	F(instances)   \
	F(ipv4)        \
	F(pools)       \
	F(records)     \
	F(secrets)     \
	F(allocations) \
	F(endpoints)   \
	F(walls)       \
	F(firewalls)   \
	F(groups)

struct metric;
struct work;

/* A kind whose objects a concern reads. */
struct concern_watch {
	const struct api_kind *kind;
	const char *ns; /* NULL: all namespaces; all concerns that watch the kind must name the same */
	/* The cache keeps only names, see struct kube_cache_options. No other concern may watch the kind. */
	bool names_only;
	/* An object was added, modified or deleted; never KUBE_SYNCED. NULL: the concern only reads the cache. */
	void (*changed)(struct controller *c, const struct kube_change *ch);
	/* A whole list was received, see KUBE_SYNCED. */
	void (*synced)(struct controller *c);
};

#define CONCERN_WATCHES_MAX 8

struct concern {
	const char *name; /* of its queue, in metrics and logs */
	/*
	 * The kind that it reconciles; NULL: it has no queue. Its objects are watched. An object is queued whenever it
	 * changes, and all objects are queued when the controller begins to act.
	 */
	const struct api_kind *kind;
	bool first;                                            /* its keys are handed out before all others */
	struct metric *count;                                  /* a gauge of how many objects of its kind there are */
	struct concern_watch watches[CONCERN_WATCHES_MAX + 1]; /* besides its own kind; ended by kind NULL */
	/* Makes the state, *RET. */
	int (*open)(struct controller *c, const struct controller_options *o, void **ret, struct error *err);
	/*
	 * Compares OBJ with what should be and begins the requests that are missing. OBJ is the object in the cache
	 * under the key of W; NULL: there is none. Called only while the controller may act. The caller makes W, which
	 * ends when this call has returned and the last request begun in W is answered.
	 */
	void (*reconcile)(struct work *w, const void *obj);
	/*
	 * A piece of work has failed with ERROR and will be tried again. OBJ is the object in the cache now; NULL:
	 * there is none.
	 */
	void (*failed)(struct controller *c, const void *obj, int error);
	/* A key of the concern WHOSE is about to be reconciled. */
	void (*looked_at)(struct controller *c, const struct concern *whose, const char *ns, const char *name);
	/*
	 * started: the controller begins to act; all objects are queued after this. stopped: the controller acts no
	 * longer, and another one may act.
	 */
	void (*started)(struct controller *c);
	void (*stopped)(struct controller *c);
	void (*close)(void *state);
};

#define CONCERN_DECLARE(name) extern const struct concern concern_##name;
CONCERNS(CONCERN_DECLARE)

/* The state that open() of the concern made. The headers of concerns wrap this function and return the right type. */
void *concern_state(const struct controller *c, const struct concern *concern);

/* Queues a key of the concern. */
void concern_enqueue(struct controller *c, const struct concern *concern, const char *ns, const char *name);
/* The same, but ahead of all keys that wait. False: the key is being worked on, and is handed out again after that. */
bool concern_enqueue_first(struct controller *c, const struct concern *concern, const char *ns, const char *name);
void concern_enqueue_after(struct controller *c, const struct concern *concern, const char *ns, const char *name,
                           uint64_t delay_us);
/* Queues every object of its kind. */
void concern_enqueue_all(struct controller *c, const struct concern *concern);
