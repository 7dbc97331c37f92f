/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which Instances belong to a Cluster, and what the server refused it. */

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

/*
 * The server refused a member of the cluster KEY, and said WHY: it is tried again after a time that doubles from 1 s to
 * a minute, and not sooner, whatever happens.
 */
void gangs_refuse(struct gangs *g, const char *key, const char *why);
/* What it said, and microseconds until it is to be tried again; NULL: now. */
const char *gangs_refused(const struct gangs *g, const char *key, uint64_t *ret_left_us);
void gangs_forget_refusal(struct gangs *g, const char *key);
