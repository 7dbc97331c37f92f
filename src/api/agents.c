/* SPDX-License-Identifier: Apache-2.0 */
#include "api/agents.h"

#include <string.h>

#include "api/endpoint.h"
#include "api/roles.h"
#include "base/util.h"

const struct agent_kind agent_kinds[] = {
	{ACCESS_OF_HOST, ACCESS_HOSTS, "host", "a host", ROLES_HOSTS, ROLES_HOST_PREFIX, "compute", NULL},
	{ACCESS_OF_EDGE, ACCESS_EDGES, "edge", "an edge", ROLES_EDGES, ROLES_EDGE_PREFIX, "edge", ENDPOINT_OF_EDGE},
	{ACCESS_OF_BALANCER, ACCESS_BALANCERS, "balancer", "a balancer", ROLES_BALANCERS, ROLES_BALANCER_PREFIX,
         "balancer", ENDPOINT_OF_BALANCER},
	{0},
};

const struct agent_kind *agent_kind_of(unsigned whose) {
	const struct agent_kind *k = agent_kinds;
	while (k->whose != whose)
		k++;
	return k;
}

const struct agent_kind *agent_kind_of_role(const char *host_role) {
	for (const struct agent_kind *k = agent_kinds; k->whose; k++)
		if (streq(k->host_role, host_role))
			return k;
	return NULL;
}

const struct agent_kind *agent_kind_of_user(const char *user) {
	for (const struct agent_kind *k = agent_kinds; k->whose; k++)
		if (starts_with(user, k->user_prefix))
			return k;
	return NULL;
}

/* Prints the kinds in WHOSE: the first as `an` if ONE is set; LAST comes before the last. */
static void agents_print(struct buf *out, unsigned whose, bool one, const char *last) {
	const char *sep = "";
	for (const struct agent_kind *k = agent_kinds; k->whose; k++) {
		if (!(whose & k->whose))
			continue;
		whose &= ~k->whose;
		buf_printf(out, "%s%s%s", sep, one && !*sep ? k->an : k->what, one ? "" : "s");
		sep = whose & (whose - 1) ? ", " : last;
	}
}

void agents_print_plural(struct buf *out, unsigned whose) {
	agents_print(out, whose, false, " and ");
}

void agents_print_one(struct buf *out, unsigned whose) {
	agents_print(out, whose, true, " or ");
}
