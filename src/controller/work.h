/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A piece of work: one key being reconciled, and the requests that were begun for it. It ends when reconcile() has
 * returned and all requests are answered. If one of them failed, the key is tried again after its backoff; the first
 * failure is the one that is logged. Losing a race (409, or standing by) is a failure that is no warning.
 *
 * Every call below begins one request and takes care of its answer: the object in it is fed to the cache of its kind.
 * "Not found" (404) is no failure of what deletes, reads or removes a finalizer, a lost race of other patches, and a
 * failure of work_create(). All return true if the request has begun; else W has failed, or there was nothing to write.
 * While the controller may not act they begin nothing, and W fails.
 *
 * THEN (WORK_NO_THEN: nobody cares) is called with the answer, success or not, after the cache was fed and before W
 * ends. It may begin further requests in W.
 */

#include <stddef.h>

#include "controller/concern.h"

#define FINALIZER_INSTANCE "nacre.dev/instance"
#define FINALIZER_POOL     "nacre.dev/addresspool"
#define FINALIZER_CLUSTER  "nacre.dev/cluster"

/* Requests that one piece of work may begin. More are a mistake of the concern, which ends the process (abort). */
#define WORK_OPS_MAX 8
/* Bytes that a request can keep for its THEN. */
#define WORK_ARG_MAX 320

struct work_then {
	void (*fn)(struct work *w, const struct kube_response *r, const void *arg);
	const void *arg; /* copied */
	size_t size;
};

#define WORK_NO_THEN ((struct work_then){0})
/* FUNCTION is called; its ARG means nothing. */
#define WORK_THEN(function) ((struct work_then){.fn = (function)})

/*
 * For a function that needs to know what the request was for:
 *
 *     WORK_THEN_DEFINE(instance_bound, struct decision)
 *     static void instance_bound(struct work *w, const struct kube_response *r, const struct decision *d) {…}
 *
 *     work_patch_status(w, &api_kind_instance, i, n, instance_bound_then(&d));
 *
 * The argument is copied into the request: a shallow copy, so whatever it points to must live as long as W.
 */
#define WORK_THEN_DEFINE(function, type)                                                              \
	_Static_assert(sizeof(type) <= WORK_ARG_MAX, #type " is too large to be kept by a request");  \
	_Static_assert(_Alignof(type) <= _Alignof(max_align_t), #type " is aligned too strictly");    \
	static void function(struct work *w, const struct kube_response *r, const type *arg);         \
	static void function##_call(struct work *w, const struct kube_response *r, const void *arg) { \
		function(w, r, arg);                                                                  \
	}                                                                                             \
	static struct work_then function##_then(const type *arg) {                                    \
		return (struct work_then){.fn = function##_call, .arg = arg, .size = sizeof(*arg)};   \
	}

struct controller *work_controller(const struct work *w);
const char *work_key(const struct work *w);
/* What the cache has now under the key; NULL: nothing. */
const void *work_object(const struct work *w);
/* How many more requests may begin. */
unsigned work_room(const struct work *w);

/* OBJ is of kind K. */
bool work_create(struct work *w, const struct api_kind *k, const void *obj, struct work_then then);
/* kube_patch_status(); if nothing differs, no request begins and W has not failed. */
bool work_patch_status(struct work *w, const struct api_kind *k, const void *old, const void *new,
                       struct work_then then);
/* A merge patch. */
bool work_patch(struct work *w, const struct api_kind *k, const struct api_meta *m, const struct buf *patch);
/* Adds or removes a finalizer by a patch that presumes the version seen. */
bool work_patch_finalizers(struct work *w, const struct api_kind *k, const struct api_meta *m, const char *finalizer,
                           bool add);
/* Presumes that it is the very object, of the same uid. */
bool work_delete(struct work *w, const struct api_kind *k, const struct api_meta *m);
/* The same, and that it is still in the state that M is of. */
bool work_delete_exact(struct work *w, const struct api_kind *k, const struct api_meta *m);
/* THEN is told of -ENOENT if there is no such object. */
bool work_get(struct work *w, const struct api_kind *k, const char *ns, const char *name, struct work_then then);

/* W has failed without a request. */
void work_fail(struct work *w, int r, const struct error *err);
void work_fail_oom(struct work *w);
/* True while the controller may act; if not, W has failed. For a THEN that does more than begin requests. */
bool work_may_go_on(struct work *w);
/* The key is looked at once more when W has ended; not before DELAY_US. */
void work_again(struct work *w, uint64_t delay_us);

bool has_finalizer(const struct api_meta *m, const char *finalizer);
