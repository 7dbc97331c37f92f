/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which Instances belong to a Cluster, and why the server refused to create a member. */

#include "api/instance.h"
#include "controller/concern.h"

struct gangs;

static inline struct gangs *gangs_of(const struct controller *c) {
	return concern_state(c, &concern_gangs);
}

/* The owner reference of the object to the Cluster that controls it; NULL if it is not a member of a Cluster. */
const struct api_owner_ref *gang_owner(const struct api_meta *m);

/*
 * The Instances whose controlling owner is a Cluster of this name, whatever that Cluster's uid, in order of name: begin
 * with PREV NULL; NULL at the end.
 */
const struct instance *gangs_member_next(const struct gangs *g, const char *ns, const char *cluster,
                                         const struct instance *prev);

/*
 * The server refused to create a member of the cluster KEY, for the reason WHY. The next attempt is made after a time
 * that doubles from 1 s to a minute, and not earlier, whatever happens meanwhile.
 */
void gangs_refuse(struct gangs *g, const char *key, const char *why);
/*
 * The reason of the last refusal, and *RET_LEFT_US: microseconds until the next attempt. NULL: an attempt may be made
 * now.
 */
const char *gangs_refused(const struct gangs *g, const char *key, uint64_t *ret_left_us);
void gangs_forget_refusal(struct gangs *g, const char *key);
