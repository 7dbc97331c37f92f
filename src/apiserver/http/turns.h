/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whose turn it is among the connections of a listener. libmicrohttpd serves all that are ready in one go, however
 * many they are; so what it is given at a time is bounded, by number and by processor time. A connection that must wait
 * is suspended there and parked here:
 *
 * PARK_TURN: for its turn, first come, first served. Whoever would go on when a turn has used up its time, reading a
 * request or a part of a handshake, or sending more of a watch, comes here; and so does each watch of which there is
 * news. Agents, the controller and administrators need not wait to be read from.
 *
 * PARK_LATE: what belongs to a party that has used up its processor time; it is looked at again a few times a second. A
 * watch: its events stay in the store's history; when they are gone from there it is ended with 410, like that of a
 * slow reader. Or the request after one that was refused: for a second, since refusals take time, too.
 *
 * PARK_INPUT: for its client to go on with a handshake. libmicrohttpd 0.9.75 would ask without end meanwhile, for a
 * handshake that waits doesn't reset its note that there is something to read.
 */

#include "apiserver/http/conn.h"

enum turn_next {
	TURN_GO,   /* it has something to do */
	TURN_DROP, /* there is nothing to do; it stays suspended */
	TURN_LATE,
};

struct turns {
	sd_event *loop;
	struct conn_head parked[PARKS];
	enum turn_next (*next)(struct conn *c);
	sd_event_source *soon; /* runs the listener; not owned */
	sd_event_source *timer;
	uint64_t until; /* of the thread's clock: the end of this turn */
	bool owed;      /* none of those whose turn has come has done anything yet */
};

/* NEXT is asked when the turn of a connection has come. */
void turns_init(struct turns *t, sd_event *loop, enum turn_next (*next)(struct conn *c));
/* All connections are gone. */
void turns_done(struct turns *t);

/* A turn begins at NOW of the thread's clock (limits_settle()): those that have waited the longest go on. */
void turns_begin(struct turns *t, struct limits *l, uint64_t now);
/*
 * C would go on at NOW; true: the turn has used up its time, and C must wait for another one. The first of those whose
 * turn has come goes on in any case, however long it took to find out that it has something to do: else all of them
 * might wait for ever.
 */
bool turns_wait(struct turns *t, const struct conn *c, uint64_t now);
/* Somebody waits for the next turn. */
bool turns_more(const struct turns *t);

/* C waits; it may be suspended already, or parked elsewhere. */
void turns_park(struct turns *t, struct conn *c, enum park where);
/* C is suspended, for somebody else to call turns_resume(). */
void turns_suspend(struct conn *c);
void turns_resume(struct turns *t, struct conn *c);
/* C is about to be gone. */
void turns_forget(struct turns *t, struct conn *c);
