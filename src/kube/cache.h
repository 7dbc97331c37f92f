/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The objects of one kind, kept up to date from the API, by namespace and name; several users share one cache.
 *
 *     kube_cache_new(&c, client, &api_kind_instance, NULL, &err);
 *     kube_cache_on_change(c, instance_changed, me);
 *
 * The cache owns its objects: a pointer from it is valid until control returns to the loop, and the object must not be
 * changed or freed. Handlers are called after the cache has changed, in the order in which they were added.
 *
 * A disconnected cache keeps its objects: nothing is removed because the API can't be reached.
 *
 * An object that can't be parsed (another version wrote it) is not understood: the cache keeps the last version that it
 * understood, if there was one. To a user that has just started the object is missing although it exists, so a user to
 * whom a missing object means that something must be removed asks kube_cache_first_bad() first.
 */

#include "base/tree.h"
#include "kube/reflector.h"

struct kube_cache;

enum kube_change_type { KUBE_ADDED, KUBE_MODIFIED, KUBE_DELETED, KUBE_SYNCED };

struct kube_change {
	enum kube_change_type type;
	const char *ns, *name; /* ns is "" for cluster-scoped kinds; both NULL for KUBE_SYNCED */
	const void *obj;       /* the object; for KUBE_DELETED its last known state */
	const void *old;       /* for KUBE_MODIFIED: the object before the change */
};

/*
 * KUBE_SYNCED comes after each complete list: at the start, and after each gap in the history. Before it, the objects
 * that vanished in the gap have been delivered as KUBE_DELETED.
 */
typedef void (*kube_change_fn)(const struct kube_change *ch, void *userdata);

struct kube_cache_options {
	struct kube_reflector_options select;
	/*
	 * Keeps only the names (for 100,000 objects and a user that keeps its own form of them): obj is set in
	 * KUBE_ADDED and KUBE_MODIFIED and is NULL in KUBE_DELETED, old is always NULL, lookups return nothing.
	 */
	bool names_only;
	/* Each may be NULL. */
	/*
	 * An object is not understood; called again only if the reason changes. ERR names the fields. NAME is "" if not
	 * even the name could be read.
	 */
	void (*bad)(const struct kube_cache *c, const char *ns, const char *name, const struct error *err,
	            void *userdata);
	/* Such an object is understood now or gone. Called after the handlers of that change. */
	void (*good)(const struct kube_cache *c, const char *ns, const char *name, void *userdata);
	void (*state)(const struct kube_cache *c, bool connected, const struct error *err, void *userdata);
	void *userdata;
};

/* Starts at once. Handlers that are added before control returns to the loop miss no change. O may be NULL. */
int kube_cache_new(struct kube_cache **ret, struct kube_client *client, const struct api_kind *k,
                   const struct kube_cache_options *o, struct error *err) _must_use_;
struct kube_cache *kube_cache_free(struct kube_cache *c);
DEFINE_CLEANUP(kube_cache, struct kube_cache *, kube_cache_free)

int kube_cache_on_change(struct kube_cache *c, kube_change_fn fn, void *userdata) _must_use_; /* 0 or -ENOMEM */

const struct api_kind *kube_cache_kind(const struct kube_cache *c);
bool kube_cache_synced(const struct kube_cache *c);    /* a whole list was received at least once */
bool kube_cache_connected(const struct kube_cache *c); /* listing or watching right now */
size_t kube_cache_count(const struct kube_cache *c);

/* NULL if there is no such object. NS is NULL or "" for cluster-scoped kinds. */
const void *kube_cache_get(const struct kube_cache *c, const char *ns, const char *name);
/* The first object and the next one, in order of namespace and name; NULL at the end. */
const void *kube_cache_first(const struct kube_cache *c);
const void *kube_cache_next(const struct kube_cache *c, const void *obj);
/* The first object of a namespace. The other objects of the namespace follow it. */
const void *kube_cache_first_in(const struct kube_cache *c, const char *ns);
#define KUBE_CACHE_FOREACH(obj, c) for ((obj) = kube_cache_first(c); (obj); (obj) = kube_cache_next((c), (obj)))

/*
 * The objects that are not understood. An object holds only the fields that could be read: all others are NULL, fields
 * that are required too.
 */
size_t kube_cache_count_bad(const struct kube_cache *c);
const void *kube_cache_get_bad(const struct kube_cache *c, const char *ns, const char *name);
const void *kube_cache_first_bad(const struct kube_cache *c);
const void *kube_cache_next_bad(const struct kube_cache *c, const void *obj);
#define KUBE_CACHE_FOREACH_BAD(obj, c) \
	for ((obj) = kube_cache_first_bad(c); (obj); (obj) = kube_cache_next_bad((c), (obj)))

/*
 * Read your writes: puts OBJ, the answer to a write of the caller, into the cache unless the cache has a newer version.
 * The cache takes ownership of OBJ in either case. Handlers are called as for a watch event; the watch's own event for
 * the same version is then ignored.
 */
void kube_cache_feed(struct kube_cache *c, void *obj);

/* "NS/NAME", or "NAME" without a namespace: a key for work queues. The buffer is large enough for the key of every
 * object. */
#define KUBE_KEY_MAX 320
const char *kube_key(const char *ns, const char *name, char out[static KUBE_KEY_MAX]);
/* Splits such a key. *RET_NS is "" without a namespace. Both strings point into BUF. */
void kube_key_split(const char *key, char buf[static KUBE_KEY_MAX], const char **ret_ns, const char **ret_name);
