/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every key has one item, in a tree by key, as long as there is anything to remember about it. An item may at the same
 * time be queued (in the FIFO) or active (handed out) and have a time in the timer tree.
 */

#include "kube/workqueue.h"

#include <string.h>

#include "base/tree.h"
#include "base/util.h"

#define BACKOFF_MIN_US 5000ULL
#define BACKOFF_MAX_US (30 * USEC_PER_SEC)
#define BUSY_US        USEC_PER_SEC /* shortest delay if the server is too busy (429) */
/* Answers are handled before new work, so that the work uses what the answers said. */
#define PRIORITY (SD_EVENT_PRIORITY_NORMAL + 10)

struct item {
	RB_ENTRY(item) node, time_node;
	TAILQ_ENTRY(item) entry;
	uint64_t due_us; /* monotonic; 0: no timer */
	unsigned failures;
	bool queued, active, dirty; /* dirty: added while active */
	char key[];
};

static int item_cmp(const struct item *a, const struct item *b) {
	return strcmp(a->key, b->key);
}

static int time_cmp(const struct item *a, const struct item *b) {
	if (a->due_us != b->due_us)
		return a->due_us < b->due_us ? -1 : 1;
	return a < b ? -1 : a > b;
}

RB_HEAD(items, item);
RB_GENERATE_INTERNAL(items, item, node, item_cmp, _unused_ static)
RB_HEAD(times, item);
RB_GENERATE_INTERNAL(times, item, time_node, time_cmp, _unused_ static)

struct kube_workqueue {
	sd_event *loop;
	sd_event_source *defer, *timer;
	struct items items;
	struct times times;
	TAILQ_HEAD(, item) fifo;
	size_t depth, active;
	unsigned parallel;
	bool run;
	kube_reconcile_fn fn;
	void *userdata;
};

uint64_t kube_backoff_us(unsigned failures) {
	return failures > 16 ? BACKOFF_MAX_US : MIN(BACKOFF_MIN_US << (failures ? failures - 1 : 0), BACKOFF_MAX_US);
}

static struct item *workqueue_find(struct kube_workqueue *q, const char *key) {
	return TREE_FIND_STRING(item, &q->items, node, key, key);
}

static struct item *workqueue_get(struct kube_workqueue *q, const char *key) {
	struct item *it = workqueue_find(q, key);
	size_t n = strlen(key) + 1;
	if (it)
		return it;
	it = calloc(1, sizeof(*it) + n);
	if (!it)
		abort();
	memcpy(it->key, key, n);
	RB_INSERT(items, &q->items, it);
	return it;
}

static void forget_if_idle(struct kube_workqueue *q, struct item *it) {
	if (it->queued || it->active || it->due_us || it->failures)
		return;
	RB_REMOVE(items, &q->items, it);
	free(it);
}

/* The sources exist since kube_workqueue_new(); enabling them needs no memory. */
static void workqueue_wake(struct kube_workqueue *q) {
	bool on = q->run && q->depth && q->active < q->parallel;
	(void)!sd_event_source_set_enabled(q->defer, on ? SD_EVENT_ON : SD_EVENT_OFF);
}

static void arm(struct kube_workqueue *q) {
	struct item *it = RB_MIN(times, &q->times);
	if (it)
		(void)!sd_event_source_set_time(q->timer, it->due_us);
	(void)!sd_event_source_set_enabled(q->timer, it ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void set_due(struct kube_workqueue *q, struct item *it, uint64_t due_us) {
	if (it->due_us)
		RB_REMOVE(times, &q->times, it);
	it->due_us = due_us;
	if (due_us)
		RB_INSERT(times, &q->times, it);
	arm(q);
}

static void enqueue(struct kube_workqueue *q, struct item *it) {
	if (it->active)
		it->dirty = true;
	else if (!it->queued) {
		it->queued = true;
		TAILQ_INSERT_TAIL(&q->fifo, it, entry);
		q->depth++;
		workqueue_wake(q);
	}
}

bool kube_workqueue_add_first(struct kube_workqueue *q, const char *key) {
	struct item *it = workqueue_get(q, key);
	enqueue(q, it);
	if (!it->queued)
		return false;
	TAILQ_REMOVE(&q->fifo, it, entry);
	TAILQ_INSERT_HEAD(&q->fifo, it, entry);
	return true;
}

void kube_workqueue_add(struct kube_workqueue *q, const char *key) {
	enqueue(q, workqueue_get(q, key));
}

void kube_workqueue_add_after(struct kube_workqueue *q, const char *key, uint64_t delay_us) {
	struct item *it = workqueue_get(q, key);
	uint64_t due = now_monotonic_ns() / 1000 + delay_us;
	if (!delay_us)
		enqueue(q, it);
	else if (!it->due_us || due < it->due_us)
		set_due(q, it, due);
}

void kube_workqueue_done(struct kube_workqueue *q, const char *key, int result) {
	struct item *it = workqueue_find(q, key);
	if (!it || !it->active)
		return;
	it->active = false;
	q->active--;
	if (result < 0) {
		it->failures++;
		uint64_t due =
			now_monotonic_ns() / 1000 + MAX(kube_backoff_us(it->failures), result == -EBUSY ? BUSY_US : 0);
		if (!it->due_us || due < it->due_us)
			set_due(q, it, due);
	} else
		it->failures = 0;
	if (it->dirty) {
		it->dirty = false;
		enqueue(q, it);
	}
	forget_if_idle(q, it);
	workqueue_wake(q);
}

void kube_workqueue_retry(struct kube_workqueue *q) {
	struct item *it;
	RB_FOREACH (it, items, &q->items) {
		if (!it->failures && !it->active)
			continue;
		if (it->failures)
			set_due(q, it, 0);
		enqueue(q, it);
	}
}

static int on_defer(sd_event_source *src, void *userdata) {
	struct kube_workqueue *q = userdata;
	struct item *it = q->run && q->active < q->parallel ? TAILQ_FIRST(&q->fifo) : NULL;
	(void)src;
	if (it) {
		TAILQ_REMOVE(&q->fifo, it, entry);
		q->depth--;
		it->queued = false;
		it->active = true;
		q->active++;
		workqueue_wake(q);
		q->fn(it->key, q->userdata);
	} else
		workqueue_wake(q);
	return 0;
}

static int workqueue_on_timer(sd_event_source *src, uint64_t usec, void *userdata) {
	struct kube_workqueue *q = userdata;
	uint64_t now = now_monotonic_ns() / 1000;
	struct item *it;
	(void)src;
	(void)usec;
	while ((it = RB_MIN(times, &q->times)) && it->due_us <= now) {
		set_due(q, it, 0);
		enqueue(q, it);
	}
	arm(q);
	return 0;
}

int kube_workqueue_new(struct kube_workqueue **ret, sd_event *loop, unsigned parallel, kube_reconcile_fn fn,
                       void *userdata, struct error *err) {
	_cleanup_(cleanup_kube_workqueue) struct kube_workqueue *q = calloc(1, sizeof(*q));
	if (!q)
		return error_oom(err);
	*q = (struct kube_workqueue){
		.loop = sd_event_ref(loop), .parallel = parallel ? parallel : 1, .fn = fn, .userdata = userdata};
	RB_INIT(&q->items);
	RB_INIT(&q->times);
	TAILQ_INIT(&q->fifo);
	int r = sd_event_add_defer(loop, &q->defer, on_defer, q);
	if (r >= 0)
		r = sd_event_source_set_enabled(q->defer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(loop, &q->timer, CLOCK_MONOTONIC, 0, 1, workqueue_on_timer, q);
	if (r >= 0)
		r = sd_event_source_set_enabled(q->timer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_source_set_priority(q->defer, PRIORITY);
	if (r < 0)
		return error_errno(err, r, "work queue");
	*ret = TAKE_PTR(q);
	return 0;
}

struct kube_workqueue *kube_workqueue_free(struct kube_workqueue *q) {
	struct item *it, *next;
	if (!q)
		return NULL;
	RB_FOREACH_SAFE (it, items, &q->items, next) {
		RB_REMOVE(items, &q->items, it);
		free(it);
	}
	sd_event_source_disable_unref(q->defer);
	sd_event_source_disable_unref(q->timer);
	sd_event_unref(q->loop);
	free(q);
	return NULL;
}

void kube_workqueue_prefer(struct kube_workqueue *q) {
	(void)!sd_event_source_set_priority(q->defer, PRIORITY - 1);
}

void kube_workqueue_run(struct kube_workqueue *q, bool run) {
	q->run = run;
	workqueue_wake(q);
}

bool kube_workqueue_running(const struct kube_workqueue *q) {
	return q->run;
}

size_t kube_workqueue_depth(const struct kube_workqueue *q) {
	return q->depth;
}

size_t kube_workqueue_active(const struct kube_workqueue *q) {
	return q->active;
}
