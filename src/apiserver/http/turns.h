/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Distributes turns among the connections of a listener. libmicrohttpd serves all ready connections in one run, however
 * many they are. So the connections that it is given for one run are limited, by number and by processor time. A
 * connection that must wait is suspended in libmicrohttpd and parked here:
 *
 * PARK_TURN: it waits for a turn, first come, first served. Connections are parked here if the turn has used up its
 * time before they can read a request or a part of a handshake, or send more of a watch. A watch is also parked here
 * when it has new events. Agents, the controller and administrators need no turn to be read from.
 *
 * PARK_LATE: its party has used up its processor time; it is checked again a few times a second. This may be a watch:
 * its events stay in the store's history, and when they are gone from there the watch ends with 410, like one with a
 * slow reader. Or it is the next request after a refusal: it waits for a second, since refusals take time, too.
 *
 * PARK_INPUT: it waits for its client to continue a handshake. libmicrohttpd 0.9.75 would otherwise run without end,
 * because a handshake that waits doesn't reset its note that there is something to read.
 */

#include "apiserver/http/conn.h"

enum turn_next {
	TURN_GO,   /* the connection has something to do */
	TURN_DROP, /* the connection has nothing to do and stays suspended */
	TURN_LATE,
};

struct turns {
	sd_event *loop;
	struct conn_head parked[PARKS];
	enum turn_next (*next)(struct conn *c);
	sd_event_source *soon; /* runs the listener; not owned */
	sd_event_source *timer;
	uint64_t until; /* the end of this turn in ns of the thread's clock */
	bool owed;      /* no connection whose turn has come has done anything yet */
};

/* NEXT is called when the turn of a connection has come. */
void turns_init(struct turns *t, sd_event *loop, enum turn_next (*next)(struct conn *c));
/* All connections must have been closed. */
void turns_done(struct turns *t);

/*
 * Begins a turn at NOW, ns of the thread's clock (limits_settle()). The connections that have waited longest continue.
 */
void turns_begin(struct turns *t, struct limits *l, uint64_t now);
/*
 * True: the turn has used up its time at NOW, and C must wait for another one. The first connection whose turn has come
 * may always continue, however long it took to find out that it has something to do. Otherwise all of them might wait
 * for ever.
 */
bool turns_wait(struct turns *t, const struct conn *c, uint64_t now);
/* True if some connection waits for the next turn. */
bool turns_more(const struct turns *t);

/* Suspends C and parks it. C may be suspended already, or parked elsewhere. */
void turns_park(struct turns *t, struct conn *c, enum park where);
/* Suspends C until somebody calls turns_resume(). */
void turns_suspend(struct conn *c);
void turns_resume(struct turns *t, struct conn *c);
/* Must be called before C is freed. */
void turns_forget(struct turns *t, struct conn *c);
