/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Internal to service: the balancer's maps (bpf/balancer.h) and what user space remembers of them. service/balancer.h
 * says what the functions do; balancer.c calls them.
 *
 * Nothing of what user space remembers is needed by the next process: endpoints and blocks are in use if a shared
 * address leads to them, and free otherwise. So a process may end between any two writes.
 */

#include "service/balancer.h"

struct owners;

struct owners_maps {
	int addresses, owners, hosts, prefixes; /* descriptors, not duplicated; they must outlive the owners */
};

/* Reads what the maps hold. -EUCLEAN: what they hold isn't what a process like this one has left there. ADOPTED: a
 * program is using them. */
int owners_new(struct owners **ret, const struct owners_maps *maps, bool adopted, struct error *err) _must_use_;
struct owners *owners_free(struct owners *o);
DEFINE_CLEANUP(owners, struct owners *, owners_free)

int owners_set_prefix(struct owners *o, const struct prefix *p, struct error *err) _must_use_;
int owners_clear_prefix(struct owners *o, const struct prefix *p, struct error *err) _must_use_;
int owners_set(struct owners *o, const struct slice *s, const struct balancer_endpoint *e,
               struct error *err) _must_use_;
int owners_clear(struct owners *o, const struct slice *s, struct error *err) _must_use_;
void owners_begin(struct owners *o);
int owners_end(struct owners *o, struct error *err) _must_use_;
/* Fills all but the packets. */
void owners_stats(const struct owners *o, struct balancer_stats *ret);
/* The sum of an even number of bytes as the Internet checksum has it, not inverted, as in memory. */
uint16_t owners_sum(const void *data, size_t len);
