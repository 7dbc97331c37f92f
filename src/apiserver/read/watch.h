/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A watch is a cursor into the events of one kind. The bytes of the events belong to the store and are encoded once for
 * all watches; a watch only holds its position. A watch that falls behind the events that the store keeps ends with
 * 410. The initial objects are also read from the store, at the pace of the reader.
 */

#include <sys/types.h>

#include "apiserver/json/selector.h"
#include "apiserver/request/request.h"

/* Begins with a struct held, by which the reply that holds it frees it. */
struct watch;

/* All watches of one store. */
struct watches {
	const struct store *store;
	TAILQ_HEAD(watch_list, watch) * by_kind;
	bool ended; /* no new watches are accepted */
};
int watches_init(struct watches *ws, const struct store *store) _must_use_;
/* All watches must have been freed. */
void watches_clear(struct watches *ws);

struct watch_options {
	unsigned kind;
	const char *ns;            /* "": all namespaces */
	struct selector *selector; /* taken, even on failure */
	bool initial;              /* begin with ADDED for all existing objects */
	bool initial_end;          /* and send a bookmark after them */
	bool bookmarks, table, table_object;
	bool partial;  /* send only metadata */
	int64_t after; /* without `initial`: send the events after this version */
	uint64_t timeout_s;
};

/* 0, -ENOMEM, or -EXPIRED_VERSION: events after `after` have been forgotten. */
int watch_new(struct watch **ret, struct watches *ws, const struct watch_options *o) _must_use_;
struct watch *watch_free(struct watch *w);

/* bytes that are sent at a time */
#define WATCH_CHUNK ((size_t)8192)
/*
 * Writes at most MAX bytes to BUF. 0: there is nothing to send now; WAKE will be called when there is. -1: the stream
 * has ended.
 */
ssize_t watch_read(struct watch *w, char *buf, size_t max);
/* True if watch_read() stopped because it took long: it must be called again, in another turn of the loop. */
bool watch_unfinished(const struct watch *w);
/* To be called after WAKE. True: there may be something to send. False: nothing; the watch waits again. */
bool watch_due(struct watch *w);
struct watch_refusal {
	unsigned retry_after_s;
	char message[512];
};
/*
 * WAKE is called when the watch has something to send. HOLD is told how many bytes the watch now holds for its reader.
 * If HOLD returns false, that is too much, and the watch ends with an error (429).
 */
void watch_set_wake(struct watch *w, void (*wake)(void *userdata),
                    bool (*hold)(void *userdata, size_t bytes, struct watch_refusal *ret), void *userdata);
/* Ends the stream at the next read, and wakes the reader. */
void watch_end(struct watch *w);
/*
 * If W is to end, it ends after the piece that is being sent, without checking further events. Returns whether it is to
 * end.
 */
bool watch_cut(struct watch *w);

/*
 * watches_notify(): there are new events of a kind. watches_end(): all watches end. watches_tick(): to be called
 * regularly; sends bookmarks and ends watches whose time is over.
 */
void watches_notify(struct watches *ws, unsigned kind);
void watches_end(struct watches *ws);
void watches_tick(struct watches *ws, uint64_t now_ns);
