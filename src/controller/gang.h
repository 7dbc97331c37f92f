/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which Instances belong to a Cluster, and the hosts kept for them. When a gang fits, a seat is kept for each of its
 * members at once; the members then bind one by one, each to its own seat, which counts as taken meanwhile. Seats are
 * nothing but a promise of this process: after a restart the members that are not bound yet are placed anew, before
 * all others.
 */

#include "api/cluster.h"
#include "api/instance.h"
#include "controller/concern.h"

struct gangs;

static inline struct gangs *gangs_of(const struct controller *c) {
	return concern_state(c, &concern_gangs);
}

/* The Cluster that controls the object, by name and uid; NULL if it is no member of one. */
const struct api_owner_ref *gang_owner(const struct api_meta *m);
/* The same, if the Cluster is known; else NULL. */
const struct cluster *gang_cluster(const struct controller *c, const struct api_meta *m);

/*
 * The Instances whose controlling owner is a Cluster of this name, whichever its uid, in order of name: begin with PREV
 * NULL; NULL at the end.
 */
const struct instance *gangs_member_next(const struct gangs *g, const char *ns, const char *cluster,
                                         const struct instance *prev);

/* The host kept for the instance; NULL: none. */
const char *gangs_seat(const struct gangs *g, const struct instance *i);
/* Keeps a seat of SIZE for I. It goes when the instance is bound or gone. */
void gangs_keep(struct gangs *g, const struct instance *i, const char *host, const struct resources *size);
void gangs_drop(struct gangs *g, const struct instance *i);

/*
 * The server refused a member of the cluster KEY, and said WHY: it is tried again after a time that doubles from 1 s to
 * a minute, and not sooner, whatever happens.
 */
void gangs_refuse(struct gangs *g, const char *key, const char *why);
/* What it said, and microseconds until it is to be tried again; NULL: now. */
const char *gangs_refused(const struct gangs *g, const char *key, uint64_t *ret_left_us);
void gangs_forget_refusal(struct gangs *g, const char *key);
