/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Seats. A seat is what is promised to an instance for which a place was found, while its addresses are taken and it is
 * bound: room on one host and one value of each use that the instance lacks, both or none. An instance that has a seat
 * waits only for answers of the server.
 *
 * A seat ends when the instance is bound, is being deleted or is gone, or when it is given back. While a status patch
 * that may bind the instance is under way, and after that until the patch's fate is known, the seat can't end by being
 * given back: the place may be taken already. It is given back when the fate is known. All seats are given back when
 * the controller stops acting. A seat is only a promise of this process: after a restart places are found anew.
 * Allocations that exist by then are used if there is a place, and given back if there is none.
 */

#include "api/instance.h"
#include "controller/concern.h"

struct seats;

static inline struct seats *seats_of(const struct controller *c) {
	return concern_state(c, &concern_seats);
}

bool seats_has(const struct seats *s, const struct instance *i);
/*
 * The host kept for the instance. NULL: it has no seat, or one that is of no use: TYPE has another size than the seat,
 * the host takes no such instances any more, or the seat has been given back. A seat whose instance is being bound
 * stays of use.
 */
const char *seats_host(const struct seats *s, const struct instance *i, const struct instancetype *type);
/* Keeps a seat for I, which is not being bound, in place of its former one: TYPE's size on HOST, and a value of each
 * use that I lacks. */
void seats_keep(struct seats *s, const struct instance *i, const char *host, const struct instancetype *type);
/* A value for USE (enum use) is about to be taken for I: it is no longer promised. */
void seats_spend(struct seats *s, const struct instance *i, unsigned use);
/* Gives the seat of I back, if it has one. If I is being bound this takes effect when seats_bind_ended() is called. */
void seats_drop(struct seats *s, const struct instance *i);
/* A status patch that binds I to the host of its seat has begun. */
void seats_bind_begun(struct seats *s, const struct instance *i);
/* True from then on until I is known to be bound or not. */
bool seats_is_binding(const struct seats *s, const struct instance *i);
/* I is known to be bound or not. True: I's seat has been given back meanwhile, and has ended now. */
bool seats_bind_ended(struct seats *s, const struct instance *i);
