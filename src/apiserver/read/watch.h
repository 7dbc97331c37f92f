/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A watch: a cursor into the events of one kind. The events' bytes are the store's, encoded once for all watches;
 * each watch holds only its place, and one that falls behind what the store keeps is ended with 410. That is so for
 * what there is at the start, too: it is read from the store as the reader takes it.
 */

#include <sys/types.h>

#include "apiserver/json/selector.h"
#include "apiserver/request/request.h"

/* Begins with its struct held, by which the reply that it is put into frees it. */
struct watch;

/* All watches of what is in one store. */
struct watches {
	const struct store *store;
	TAILQ_HEAD(watch_list, watch) * by_kind;
	bool ended; /* no more are begun */
};
int watches_init(struct watches *ws, const struct store *store) _must_use_;
/* All watches are gone. */
void watches_clear(struct watches *ws);

struct watch_options {
	unsigned kind;
	const char *ns;            /* "" = all */
	struct selector *selector; /* taken, on failure too */
	bool initial;              /* begin with ADDED for all that is there */
	bool initial_end;          /* and mark the end of them by a bookmark */
	bool bookmarks, table, table_object;
	bool partial;  /* metadata alone */
	int64_t after; /* else: from just after this version */
	uint64_t timeout_s;
};

/* -EXPIRED_VERSION: `after` is too old. */
int watch_new(struct watch **ret, struct watches *ws, const struct watch_options *o) _must_use_;
struct watch *watch_free(struct watch *w);

/* So much is sent at a time. */
#define WATCH_CHUNK ((size_t)8192)
/* Fills at most MAX bytes. 0: nothing to say now, WAKE will be called once there is; -1: the stream has ended. */
ssize_t watch_read(struct watch *w, char *buf, size_t max);
/* That was not all: it is to be read again, in another turn of the loop. */
bool watch_unfinished(const struct watch *w);
/* After WAKE: whether there is something to say, or to be selected. False: it waits again. */
bool watch_due(struct watch *w);
struct watch_refusal {
	unsigned retry_after_s;
	char message[512];
};
/* HOLD: what is to be sent takes so many bytes now; false: that is too much, and the watch ends with an error (429). */
void watch_set_wake(struct watch *w, void (*wake)(void *userdata),
                    bool (*hold)(void *userdata, size_t bytes, struct watch_refusal *ret), void *userdata);
/* Ends the stream at the next read, and wakes its reader. */
void watch_end(struct watch *w);
/* If W is to end it does so at once, with the piece that is being sent: no event is looked at any more. */
bool watch_cut(struct watch *w);

/* News of a kind; the end of all; the passing of time. */
void watches_notify(struct watches *ws, unsigned kind);
void watches_end(struct watches *ws);
void watches_tick(struct watches *ws, uint64_t now_ns);
