/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The kinds of agents: the programs of Nacre that run on a Host and may write only what is its own (access.h). This
 * table is the only place that lists them.
 */

#include "api/access.h"
#include "base/buf.h"

struct agent_kind {
	unsigned whose;          /* one of ACCESS_OF_… */
	enum access_role role;   /* the role of all agents of this kind */
	const char *what;        /* "edge", for messages and policies */
	const char *an;          /* "an edge" */
	const char *group;       /* the group of their users: "system:nacre:edges" */
	const char *user_prefix; /* their users are this and the name of a Host: "system:nacre:edge:" */
	const char *host_role;   /* spec.role of their Hosts */
	const char *endpoint;    /* the name of the Host's own Endpoint is this and the name of the Host; NULL: none */
};

/* Ends with whose 0. */
extern const struct agent_kind agent_kinds[];

/* The kind with this bit of ACCESS_OF_…. */
const struct agent_kind *agent_kind_of(unsigned whose);
/* The kind of a Host of this role. NULL: the role is not known. */
const struct agent_kind *agent_kind_of_role(const char *host_role);

/* The kind of an agent whose user has this name. NULL: it is not the name of an agent. */
const struct agent_kind *agent_kind_of_user(const char *user);

/* Prints "hosts, edges and balancers" for the kinds in WHOSE. */
void agents_print_plural(struct buf *out, unsigned whose);
/* Prints "a host, edge or balancer". */
void agents_print_one(struct buf *out, unsigned whose);
