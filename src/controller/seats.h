/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Seats. A seat is what is promised to an instance for which a place was found, while its addresses are taken and it is
 * bound: room on one host and one value of each use that the instance lacks, both or none. An instance that has a seat
 * waits only for answers of the server.
 *
 * A seat ends when the instance is bound, is being deleted or is gone. It is only a promise of this process: after a
 * restart places are found anew, and Allocations that exist by then are used.
 */

#include "api/instance.h"
#include "controller/concern.h"

struct seats;

static inline struct seats *seats_of(const struct controller *c) {
	return concern_state(c, &concern_seats);
}

/* The host kept for the instance; NULL: it has no seat. */
const char *seats_host(const struct seats *s, const struct instance *i);
/* Keeps a seat for I, in place of its former one: TYPE's size on HOST, and a value of each use that I lacks. */
void seats_keep(struct seats *s, const struct instance *i, const char *host, const struct instancetype *type);
/* A value for USE (enum use) is about to be taken for I: it is no longer promised. */
void seats_spend(struct seats *s, const struct instance *i, unsigned use);
/* Gives the seat of I back, if it has one. */
void seats_drop(struct seats *s, const struct instance *i);
