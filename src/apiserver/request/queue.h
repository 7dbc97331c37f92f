/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The queue of writes. Writes run one after the other against the state that is on disk. While a batch is being written
 * new writes wait; all waiting writes make the next batch. So each write sees every acknowledged write, and many
 * clients share one fsync.
 *
 * Whoever opened the store calls queue_settled() and queue_run() from the store's on_commit.
 */

#include <sys/queue.h>

#include "apiserver/store/store.h"

struct limits;
struct queue;

/* A write that waits for its turn. It is a member of a larger struct of its caller. */
struct write {
	TAILQ_ENTRY(write) link;
	size_t bytes; /* the size of what it has staged, as store_staged_bytes() counts */
	/* Its processor time and its share of the commits, both in ns. They add up until somebody sets them to 0. */
	uint64_t cpu_ns, commit_ns;
	enum write_result {
		WRITE_DONE,   /* answered without a change */
		WRITE_STAGED, /* changes are staged; answered once they are on disk */
		WRITE_LATER,  /* something it needs is in the current batch: try again in the next one */
	} (*run)(struct queue *q, struct write *w);
	/* R < 0: the batch failed because of CAUSE. Called exactly once; frees the write or passes it on. */
	void (*done)(struct queue *q, struct write *w, int r, const struct error *cause);
};

struct queue {
	struct store *store;   /* not owned, nor is limits */
	struct limits *limits; /* the time of a write is not charged to the party that the loop works for */
	TAILQ_HEAD(write_list, write) waiting, staged;
	sd_event_source *commit_soon; /* runs the commit; NULL without a loop (tests), which commits at once */
	uint64_t commit_since;        /* time of the thread's clock in ns since which a commit is planned; 0: none is */
	bool running;                 /* a write is running and must not run another one */
	bool again;                   /* run the queue soon, even if there is nothing to commit */
	bool read_only;               /* on hold: neither requests nor the collector change anything */
	void (*on_turn)(void);        /* called before each turn without a loop; may be NULL */
};

/* LOOP may be NULL. The caller must call queue_clear() even if this fails. */
int queue_init(struct queue *q, sd_event *loop, struct store *store, struct limits *limits,
               struct error *err) _must_use_;
/* Drops waiting writes without calling their done(). */
void queue_clear(struct queue *q);

/* Queues a write. Its done() is called when it is durable, has failed, or has changed nothing. */
void queue_write(struct queue *q, struct write *w);

/*
 * Call this after serving requests; NOW is the thread's clock in ns. A commit normally waits until nothing else is
 * ready. If that takes too long, this function commits, so that readers can't keep others from writing.
 */
void queue_served(struct queue *q, uint64_t now);

/* Call this when a batch has ended: calls done() of each write in it. R < 0: the batch failed because of CAUSE. */
void queue_settled(struct queue *q, int r, const struct error *cause);
/* Runs waiting writes, and commits or plans a commit. */
void queue_run(struct queue *q);
