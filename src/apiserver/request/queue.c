/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request/queue.h"

#include "apiserver/request/limits.h"
#include "base/util.h"

/* The number of changes in a transaction: enough to share the cost of an fsync, few enough to answer soon. */
#define BATCH_MAX 2048
/* The processor time after which other work of the loop has its turn before the next write. */
#define TURN_NS (20 * NSEC_PER_MSEC)
/*
 * The processor time of the loop after which a commit no longer waits for further writes: enough for hundreds of them.
 */
#define COMMIT_NS (20 * NSEC_PER_MSEC)

/* Runs each waiting write once, or until other work must have its turn. Writes that must run later stay, in order. */
static void run_waiting(struct queue *q) {
	if (q->running || store_busy(q->store))
		return;
	q->running = true;
	struct write *w, *next, *last = TAILQ_LAST(&q->waiting, write_list);
	/*
	 * The clock is read once for each write, since it is a system call. The end of a write is the beginning of the
	 * next.
	 */
	uint64_t now = now_thread_cpu_ns();
	const uint64_t until = now + TURN_NS;
	bool end = false;
	for (w = TAILQ_FIRST(&q->waiting); w && !end; w = next) {
		if (store_staged_count(q->store) >= BATCH_MAX)
			break;
		if (now >= until) {
			q->again = true;
			break;
		}
		/* A write that queues itself again is then behind LAST and is not run in this call. */
		next = TAILQ_NEXT(w, link);
		end = w == last;
		const uint64_t begin = now;
		const size_t bytes = store_staged_bytes(q->store);
		enum write_result res = w->run(q, w);
		w->bytes = store_staged_bytes(q->store) - bytes;
		now = now_thread_cpu_ns();
		const uint64_t took = now - begin;
		limits_except(q->limits, took);
		w->cpu_ns += took;
		if (res == WRITE_LATER)
			continue;
		TAILQ_REMOVE(&q->waiting, w, link);
		if (res == WRITE_STAGED)
			TAILQ_INSERT_TAIL(&q->staged, w, link);
		else
			w->done(q, w, 0, NULL);
	}
	q->running = false;
}

static void commit(struct queue *q);

static int on_commit_soon(sd_event_source *src, void *userdata) {
	struct queue *q = userdata;
	(void)src;
	q->again = false;
	q->commit_since = 0;
	store_commit(q->store);
	run_waiting(q);
	commit(q);
	return 0;
}

void queue_served(struct queue *q, uint64_t now) {
	if (!q->commit_since || now < q->commit_since + COMMIT_NS)
		return;
	(void)!sd_event_source_set_enabled(q->commit_soon, SD_EVENT_OFF);
	(void)on_commit_soon(NULL, q);
}

static void commit(struct queue *q) {
	/* If the queue is running, its caller commits afterwards. */
	if (q->running || store_busy(q->store) || (!store_staged_count(q->store) && !q->again))
		return;
	/* With a loop, commit when nothing else is ready: what is ready now may add writes. */
	if (q->commit_soon) {
		if (!q->commit_since)
			q->commit_since = now_thread_cpu_ns();
		(void)!sd_event_source_set_enabled(q->commit_soon, SD_EVENT_ONESHOT);
	} else
		do {
			if (q->on_turn)
				q->on_turn();
			q->again = false;
			store_commit(q->store);
			run_waiting(q);
		} while (store_staged_count(q->store) || q->again);
}

void queue_run(struct queue *q) {
	run_waiting(q);
	commit(q);
}

void queue_write(struct queue *q, struct write *w) {
	TAILQ_INSERT_TAIL(&q->waiting, w, link);
	/* A write that continues later queues itself again. Run the queue soon, even if nothing was changed. */
	q->again |= q->running;
	queue_run(q);
}

void queue_settled(struct queue *q, int r, const struct error *cause) {
	const struct store_cost cost = store_cost(q->store);
	struct write *w;
	struct write_list done = TAILQ_HEAD_INITIALIZER(done);
	TAILQ_CONCAT(&done, &q->staged, link);
	while ((w = TAILQ_FIRST(&done))) {
		TAILQ_REMOVE(&done, w, link);
		if (cost.bytes)
			w->commit_ns += cost.cpu_ns * w->bytes / cost.bytes;
		w->done(q, w, r, cause);
	}
}

int queue_init(struct queue *q, sd_event *loop, struct store *store, struct limits *limits, struct error *err) {
	*q = (struct queue){.store = store, .limits = limits};
	TAILQ_INIT(&q->waiting);
	TAILQ_INIT(&q->staged);
	if (!loop)
		return 0;
	int r = sd_event_add_defer(loop, &q->commit_soon, on_commit_soon, q);
	if (r >= 0)
		r = sd_event_source_set_enabled(q->commit_soon, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_source_set_priority(q->commit_soon, SD_EVENT_PRIORITY_IDLE);
	return r < 0 ? error_errno(err, r, "prepare commits") : 0;
}

void queue_clear(struct queue *q) {
	q->commit_soon = sd_event_source_disable_unref(q->commit_soon);
}
