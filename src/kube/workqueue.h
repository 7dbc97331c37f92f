/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A queue of keys to reconcile, with the semantics of client-go's work queue: a key is in it once, however often it
 * was added; a key that is added while it is being worked on comes again when that is done; failures are retried
 * with a delay that doubles from 5 ms to 30 s, per key.
 *
 * Work may be asynchronous: the callback begins it, and kube_workqueue_done() is called when it is over, from inside
 * the callback or any time later, exactly once a callback.
 *
 * Keys are copied. Adding can't fail: a lost key would be a change that is never acted on, so without memory the
 * process ends (abort) and starts over.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/loop.h"

struct kube_workqueue;

typedef void (*kube_reconcile_fn)(const char *key, void *userdata);

/* At most PARALLEL keys are worked on at once. Starts paused. */
int kube_workqueue_new(struct kube_workqueue **ret, sd_event *loop, unsigned parallel, kube_reconcile_fn fn,
                       void *userdata, struct error *err) _must_use_;
struct kube_workqueue *kube_workqueue_free(struct kube_workqueue *q);
DEFINE_CLEANUP(kube_workqueue, struct kube_workqueue *, kube_workqueue_free)

/* Its keys are handed out before those of all other queues that were not told this. */
void kube_workqueue_prefer(struct kube_workqueue *q);

/* While paused keys are collected but not handed out. */
void kube_workqueue_run(struct kube_workqueue *q, bool run);
bool kube_workqueue_running(const struct kube_workqueue *q);

void kube_workqueue_add(struct kube_workqueue *q, const char *key);
/* Before all that wait now. False: it is being worked on, and comes again after that, when its turn is. */
bool kube_workqueue_add_first(struct kube_workqueue *q, const char *key);
/* Not before DELAY_US from now; the earlier of two such times counts. */
void kube_workqueue_add_after(struct kube_workqueue *q, const char *key, uint64_t delay_us);
/*
 * The work on KEY is over. RESULT 0: its backoff starts afresh; negative: it is retried after its backoff,
 * which for -EBUSY (the server has too much to do) is a second at least.
 */
void kube_workqueue_done(struct kube_workqueue *q, const char *key, int result);

size_t kube_workqueue_depth(const struct kube_workqueue *q);  /* waiting to be handed out now */
size_t kube_workqueue_active(const struct kube_workqueue *q); /* handed out, not done */

/* The delay before retry number FAILURES (1 is the first), in microseconds. */
uint64_t kube_backoff_us(unsigned failures);
