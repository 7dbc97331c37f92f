/* SPDX-License-Identifier: Apache-2.0 */
#include "api/host.h"

#include "base/util.h"

API_ENUM(host_role, "role", "compute", "edge")
API_DEFINE(host_limits, HOST_LIMITS)
API_DEFINE(host_spec, HOST_SPEC)
API_DEFINE(host_capacity, HOST_CAPACITY)
API_DEFINE(host_status, HOST_STATUS)
API_DEFINE(host, HOST)

static const struct api_column columns[] = {
	{"Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status", "Whether the host answers and works.",
         0},
	{"Role", "string", ".spec.role", "compute or edge.", 0},
	{"vCPUs", "integer", ".status.capacity.vcpus", "vCPUs for instances.", 0},
	{"MemoryMiB", "integer", ".status.capacity.memoryMiB", "Memory for instances.", 0},
	{"VTEP", "string", ".spec.vtep", "Tunnel endpoint.", 1},
	{"Version", "string", ".status.version", "Version of the agent.", 1},
	{0},
};

const struct api_kind api_kind_host = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Host",
	.plural = "hosts",
	.singular = "host",
	.doc = "One server of the fabric. Registered by its own agent; alive while its Lease in namespace "
	       "nacre-system is renewed.",
	.has_status = true,
	.desc = &api_desc_host,
	.columns = columns,
};

static struct api_i64 within(struct api_i64 reported, struct api_i64 limit) {
	return API_I64(limit.set ? MIN(reported.v, limit.v) : reported.v);
}

struct host_capacity host_usable(const struct host *h) {
	const struct host_capacity none = {0}, *has = h->status && h->status->capacity ? h->status->capacity : &none;
	const struct host_limits unlimited = {0}, *max = h->spec->limits ? h->spec->limits : &unlimited;
	return (struct host_capacity){within(has->vcpus, max->vcpus), within(has->memory_mib, max->memory_mib)};
}

bool host_exceeds_limits(const struct host *h) {
	const struct host_capacity use = host_usable(h), *has = h->status ? h->status->capacity : NULL;
	return has && (has->vcpus.v > use.vcpus.v || has->memory_mib.v > use.memory_mib.v);
}
