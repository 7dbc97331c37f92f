/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A queue of keys to reconcile, with the semantics of client-go's work queue: a key is in the queue once, however often
 * it was added; a key that is added while it is being worked on comes again when that work is done; failures are
 * retried with a delay that doubles from 5 ms to 30 s, per key.
 *
 * Work may be asynchronous: the callback begins the work, and kube_workqueue_done() must be called exactly once per
 * callback when the work is over, from inside the callback or at any later time.
 *
 * Keys are copied. Adding can't fail: a lost key would be a change that is never acted on, so without memory the
 * process ends (abort) and is started again.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/loop.h"

struct kube_workqueue;

typedef void (*kube_reconcile_fn)(const char *key, void *userdata);

/* Works on at most PARALLEL keys at once. The queue starts paused. */
int kube_workqueue_new(struct kube_workqueue **ret, sd_event *loop, unsigned parallel, kube_reconcile_fn fn,
                       void *userdata, struct error *err) _must_use_;
struct kube_workqueue *kube_workqueue_free(struct kube_workqueue *q);
DEFINE_CLEANUP(kube_workqueue, struct kube_workqueue *, kube_workqueue_free)

/* Hands out the keys of this queue before those of all queues for which this was not called. */
void kube_workqueue_prefer(struct kube_workqueue *q);

/* While paused, the queue collects keys but hands out none. */
void kube_workqueue_run(struct kube_workqueue *q, bool run);
bool kube_workqueue_running(const struct kube_workqueue *q);

void kube_workqueue_add(struct kube_workqueue *q, const char *key);
/* Adds KEY before all keys that wait now. False if KEY is being worked on: it comes again after that, in its turn. */
bool kube_workqueue_add_first(struct kube_workqueue *q, const char *key);
/* Adds KEY after DELAY_US microseconds; if KEY has such a time already, the earlier one counts. */
void kube_workqueue_add_after(struct kube_workqueue *q, const char *key, uint64_t delay_us);
/*
 * The work on KEY is over. RESULT 0 resets the backoff of KEY. A negative RESULT retries KEY after its backoff, which
 * is at least one second for -EBUSY (the server is too busy).
 */
void kube_workqueue_done(struct kube_workqueue *q, const char *key, int result);

/*
 * Hands out the keys that wait for their backoff at once, and those that are being worked on once more: what they
 * failed for, or are about to fail for, is over.
 */
void kube_workqueue_retry(struct kube_workqueue *q);

size_t kube_workqueue_depth(const struct kube_workqueue *q);  /* keys that could be handed out now */
size_t kube_workqueue_active(const struct kube_workqueue *q); /* keys that are handed out and not done */

/* The delay before retry number FAILURES (from 1), in microseconds. */
uint64_t kube_backoff_us(unsigned failures);
