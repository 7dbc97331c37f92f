/* SPDX-License-Identifier: Apache-2.0 */
#include "api/host.h"

#include "api/agents.h"
#include "base/util.h"

API_ENUM(host_role, "role", "compute", "edge", "balancer")
API_DEFINE(host_limits, RESOURCES_HOST_LIMITS)
API_DEFINE(host_spec, HOST_SPEC)
API_DEFINE(host_capacity, RESOURCES_HOST_CAPACITY)
API_DEFINE(host_status, HOST_STATUS)
API_DEFINE(host, HOST)

static const struct api_column columns[] = {
	{"Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status",
         "Whether the host is reachable and works.", 0},
	{"Role", "string", ".spec.role", "compute, edge or balancer.", 0},
	/* clang-format off */
	RESOURCES(RESOURCE_HOST_COLUMN, _, _)
	/* clang-format on */
	{"VTEP", "string", ".spec.vtep", "Tunnel endpoint.", 1},
	{"Version", "string", ".status.version", "Version of the agent.", 1},
	{0},
};

static const struct access_grant grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ},
	{ACCESS_CONTROLLER, "status", "get update patch"},
	{0},
};

static int check_role(const struct access_write *w, struct error *err) {
	const char *given = access_string(w->obj, "spec.role"), *role = given ? given : "compute";
	const struct agent_kind *k = agent_kind_of_role(role);
	if (k && k->whose == w->agent->whose)
		return 0;
	return error_set(err, EPERM, "%s %s may not have spec.role %s", w->agent->what, w->agent->host, role);
}

static const struct access_rule agent_rules[] = {
	{ACCESS_OF_ALL, "may write only a Host with its own role", check_role,
         "object.spec.role == (variables.kind == 'host' ? 'compute' : variables.kind)"},
	{0},
};
/*
 * An agent sets role and VTEP when it creates its Host. Only the operator changes them later: if two Hosts have the
 * same VTEP the older one gets it, so an agent could otherwise take the VTEP of every younger Host.
 */
static const struct api_access host_access = {
	.grants = grants,
	.agents = {.whose = ACCESS_OF_ALL,
                   .own = "metadata.name",
                   .reads = ACCESS_READ,
                   .creates = "role vtep",
                   .updates = "",
                   .status = "*",
                   .rules = agent_rules},
};

const struct api_kind api_kind_host = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Host",
	.plural = "hosts",
	.singular = "host",
	.doc = "One server of the fabric. Its own agent registers it; it is alive while its Lease in namespace "
	       "nacre-system is renewed.",
	.has_status = true,
	.desc = &api_desc_host,
	.access = &host_access,
	.columns = columns,
};

void host_capacity_set(struct host_capacity *to, const struct resources *amounts) {
	RESOURCES_HOST_CAPACITY(RESOURCE_WRITE, amounts)
}

static struct resources host_read_capacity(const struct host *h) {
	static const struct host_capacity none;
	const struct host_capacity *c = h->status && h->status->capacity ? h->status->capacity : &none;
	struct resources ret = RESOURCES_UNLIMITED;
	RESOURCES_HOST_CAPACITY(RESOURCE_READ, c)
	return ret;
}

void host_reported(const struct host *h, struct resources *out) {
	*out = host_read_capacity(h);
}

void host_usable(const struct host *h, struct resources *out) {
	struct resources ret = host_read_capacity(h);
	if (h->spec->limits) {
		RESOURCES_HOST_LIMITS(RESOURCE_READ_LIMIT, h->spec->limits)
	}
	*out = ret;
}

bool host_exceeds_limits(const struct host *h) {
	struct resources reported, usable;
	host_reported(h, &reported);
	host_usable(h, &usable);
	return resources_short(&usable, &reported) < N_RESOURCES;
}
