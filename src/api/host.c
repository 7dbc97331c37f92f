/* SPDX-License-Identifier: Apache-2.0 */
#include "api/host.h"

API_ENUM(host_role, "role", "compute", "edge")
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
