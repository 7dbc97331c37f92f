/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which values of which pools are free, and which Allocations an object owns: two indexes over the caches of
 * AddressPools and Allocations, kept up to date by their events.
 */

#include "api/addresspool.h"
#include "api/instance.h"
#include "controller/work.h"

struct addresses;

static inline struct addresses *addresses_of(const struct controller *c) {
	return concern_state(c, &concern_addresses);
}

enum use { USE_INSTANCE, USE_DELEGATED, USE_OVERLAY, USE_MAC, USE_DEDICATED, USE_SHARED, N_USES };
extern const char *const use_names[N_USES];

/* The use of VALUE, which its form shows. */
enum use value_use(const char *value);

/* The first Allocation of the Instance with this id that is for USE and not released; NULL if none. */
const struct allocation *addresses_owned(const struct addresses *a, const char *id, enum use use);
/* All Allocations of the Instance: begin with PREV NULL; in order of name. */
const struct allocation *addresses_owned_next(const struct addresses *a, const char *id, const struct allocation *prev);

/* True if AL is in use: neither released nor being deleted. */
bool addresses_in_use(const struct allocation *al);

/* True if I has a value for USE, in its status or as an Allocation. */
bool addresses_has(const struct addresses *a, const struct instance *i, enum use use);
/*
 * True if I needs a value for USE and has none. Every instance needs one for each use, but of dedicated and shared only
 * the one that spec.ipv4 names, and a slice of ports only if there is an AddressPool with use shared.
 */
bool addresses_lacks(const struct addresses *a, const struct instance *i, enum use use);

/*
 * Reserves a free value for USE that isn't promised, of any usable pool, and begins to create its Allocation for OWNER
 * in W. If there is none, returns -ENOSPC, with REASON and MSG as from addresses_explain(). If BESIDE, an Allocation of
 * a slice, is not NULL, a free slice of the same address is preferred.
 */
int addresses_allocate(struct addresses *a, struct work *w, enum use use, const struct instance *owner,
                       const struct allocation *beside, const char **reason, char *msg, size_t size) _must_use_;

/* Begins to create the Allocation of VALUE for OWNER, whose status has it, if it is a free value of a pool. */
void addresses_restore(struct addresses *a, struct work *w, const char *value, const struct instance *owner);

/* How many values for USE are free in all usable pools, and not promised. */
uint64_t addresses_room(const struct addresses *a, const char *use);
/* Why there is no room: a REASON ("PoolExhausted", "PoolMissing") and MSG. */
const char *addresses_explain(const struct addresses *a, enum use use, char *msg, size_t size);
/*
 * Promises a value for USE. addresses_spend() ends the promise when its holder takes a value, addresses_take_back()
 * when the holder needs none any more.
 */
void addresses_promise(struct addresses *a, enum use use);
void addresses_spend(struct addresses *a, enum use use);
void addresses_take_back(struct addresses *a, enum use use);
/* How many values of the pool are in use, including those reserved for requests in flight. */
int64_t addresses_used(const struct addresses *a, const char *pool);

/* Seconds for which the value of AL is kept from others after it was released. */
int64_t addresses_quarantine(const struct controller *c, const struct allocation *al);
/* The most requests that a release may begin. */
#define ADDRESSES_RELEASE_OPS 2
/*
 * Begins to release AL, which must not be released yet: deletes it, or marks it released if its pool has a quarantine.
 * If the pool keeps a history, an AllocationRecord is written first. Its name is made from AL and its uid, so a release
 * that is begun again writes no second one. A release applies to this version of AL and fails as a lost race if another
 * write came first.
 */
void addresses_release(struct work *w, const struct allocation *al);
