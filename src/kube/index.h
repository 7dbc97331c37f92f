/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An index over a cache, like an Indexer of client-go: it finds the objects with a value that a function computes from
 * each object. It is updated when objects change, before any handler of the cache is called, so that nobody has to
 * search all objects:
 *
 *     kube_index_new(&by_host, instances, instance_host, &err);
 *     for (i = kube_index_first(by_host, "h1"); i; i = kube_index_next(by_host, "h1", i))
 *
 * Objects without a value take no memory. Not for a cache with names_only. Without memory the process ends (abort), as
 * with the cache.
 */

#include "kube/cache.h"

struct kube_index;

/* The value of OBJ, which may be in BUF; NULL: OBJ has no value. */
typedef const char *(*kube_index_fn)(const void *obj, char buf[static KUBE_KEY_MAX]);

/* CACHE must still be empty. It calls the index as long as it lives, so it must be freed before the index. */
int kube_index_new(struct kube_index **ret, struct kube_cache *cache, kube_index_fn fn, struct error *err) _must_use_;
struct kube_index *kube_index_free(struct kube_index *x);

/*
 * The first object with the value and the one after OBJ, in order of namespace and name; NULL at the end. OBJ may have
 * another value now, or be the one that a handler is told is deleted.
 */
const void *kube_index_first(const struct kube_index *x, const char *value);
const void *kube_index_next(const struct kube_index *x, const char *value, const void *obj);
