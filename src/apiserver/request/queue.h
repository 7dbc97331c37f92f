/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The queue of writes. They run one after the other against what is on disk: while a batch is being written new ones
 * wait, then all that wait make the next batch. So a write sees every acknowledged one, and many clients share one
 * fsync.
 *
 * The owner of the store calls queue_settled() and queue_run() when the store's on_commit tells that a batch ended.
 */

#include <sys/queue.h>

#include "apiserver/store/store.h"

struct limits;
struct queue;

/* A write that waits for its turn; part of whoever makes it. */
struct write {
	TAILQ_ENTRY(write) link;
	size_t bytes; /* of what it has staged, as store_staged_bytes() counts */
	/* Processor time that it took, and its share of commits. These add up until somebody sets them to 0. */
	uint64_t cpu_ns, commit_ns;
	enum write_result {
		WRITE_DONE,   /* answered without a change */
		WRITE_STAGED, /* changes are staged; answered once they are on disk */
		WRITE_LATER,  /* something it needs is in the batch: try again in the next one */
	} (*run)(struct queue *q, struct write *w);
	/* R < 0: the batch failed. Frees the write or gives it on; called exactly once. */
	void (*done)(struct queue *q, struct write *w, int r, const struct error *cause);
};

struct queue {
	struct store *store;   /* not owned, like the next */
	struct limits *limits; /* what a write takes is not charged to whoever the loop works for */
	TAILQ_HEAD(write_list, write) waiting, staged;
	sd_event_source *commit_soon; /* NULL without a loop, as in tests: all happens at once */
	uint64_t commit_since;        /* of the thread's clock: since when it is to come; 0: it is not */
	bool running;                 /* a write must not run another one */
	bool again;                   /* it is to be run soon, though there may be nothing to commit */
	bool read_only;               /* on hold: no request and no collection changes anything */
	void (*on_turn)(void);        /* without a loop: another turn begins; may be NULL */
};

/* LOOP may be NULL. On failure queue_clear() is to be called all the same. */
int queue_init(struct queue *q, sd_event *loop, struct store *store, struct limits *limits,
               struct error *err) _must_use_;
/* What waits is forgotten: no done() is called. */
void queue_clear(struct queue *q);

/* Puts a write into the queue; its done() is called when it is durable, has failed, or changed nothing. */
void queue_write(struct queue *q, struct write *w);

/*
 * Requests were served, until NOW of the thread's clock. A commit comes when nothing is ready any more; that may never
 * be, and then it comes here, so that those who only read can't keep others from writing.
 */
void queue_served(struct queue *q, uint64_t now);

/* A batch ended: calls done() of each write in it. R < 0: it failed because of CAUSE. */
void queue_settled(struct queue *q, int r, const struct error *cause);
/* Runs what waits, and sees to the next commit. */
void queue_run(struct queue *q);
