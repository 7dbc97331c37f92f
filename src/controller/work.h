/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A piece of work: one key that is being reconciled, and the requests that were begun for it. It ends when reconcile()
 * has returned and all requests are answered. If one of them failed, the key is tried again after its backoff, and the
 * first failure is logged. Losing a race (409, or standing by) is a failure, but causes no warning.
 *
 * Every call below begins one request and handles its answer: the object in the answer is fed to the cache of its kind.
 * "Not found" (404) is a success for deletions, reads and the removal of a finalizer, a lost race for other patches,
 * and a failure for work_create(). All calls return true if the request has begun; otherwise W has failed, or there was
 * nothing to write. While the controller may not act they begin nothing, and W fails.
 *
 * THEN (WORK_NO_THEN: none) is called with the answer, success or not, after the cache was fed and before W ends. It
 * may begin further requests in W.
 */

#include <stddef.h>

#include "controller/concern.h"

#define FINALIZER_INSTANCE "nacre.dev/instance"
#define FINALIZER_POOL     "nacre.dev/addresspool"
#define FINALIZER_CLUSTER  "nacre.dev/cluster"

/* The most requests that one piece of work may begin. More are a bug of the concern and end the process (abort). */
#define WORK_OPS_MAX 8
/* Bytes that a request can keep for its THEN. */
#define WORK_ARG_MAX 320

struct work_then {
	void (*fn)(struct work *w, const struct kube_response *r, const void *arg);
	const void *arg; /* copied */
	size_t size;
};

#define WORK_NO_THEN ((struct work_then){0})
/* FUNCTION is called and ignores its ARG. */
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
/* The object in the cache now under the key of W; NULL: there is none. */
const void *work_object(const struct work *w);
/* How many more requests may begin. */
unsigned work_room(const struct work *w);

/* OBJ is of kind K. */
bool work_create(struct work *w, const struct api_kind *k, const void *obj, struct work_then then);
/* As kube_patch_status(). If nothing differs, no request begins and W has not failed. */
bool work_patch_status(struct work *w, const struct api_kind *k, const void *old, const void *new,
                       struct work_then then);
/* A merge patch. */
bool work_patch(struct work *w, const struct api_kind *k, const struct api_meta *m, const struct buf *patch);
/* Adds or removes a finalizer. The patch fails as a lost race if the object is no longer the version M. */
bool work_patch_finalizers(struct work *w, const struct api_kind *k, const struct api_meta *m, const char *finalizer,
                           bool add);
/* Deletes the object if it still has the uid of M. */
bool work_delete(struct work *w, const struct api_kind *k, const struct api_meta *m);
/* Deletes the object if it still has the uid and the version of M. */
bool work_delete_exact(struct work *w, const struct api_kind *k, const struct api_meta *m);
/* If there is no such object, THEN is called with -ENOENT. */
bool work_get(struct work *w, const struct api_kind *k, const char *ns, const char *name, struct work_then then);

/* Makes W fail without a request. R: a negative errno. An earlier failure is kept. */
void work_fail(struct work *w, int r, const struct error *err);
void work_fail_oom(struct work *w);
/* True while the controller may act; if not, W has failed. For a THEN that does more than begin requests. */
bool work_may_go_on(struct work *w);
/* The key is looked at once more after W has ended, but not within DELAY_US microseconds from now. */
void work_again(struct work *w, uint64_t delay_us);

bool has_finalizer(const struct api_meta *m, const char *finalizer);
