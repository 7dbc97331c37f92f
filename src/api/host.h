/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Host: one server of the fabric. The agent on the server registers it. Its heartbeat is a Lease, not this object. */

#include "api/meta.h"
#include "api/resources.h"

API_DECLARE(host_limits, RESOURCES_HOST_LIMITS)

#define HOST_SPEC(F, T)                                                                                       \
	F(T, str, role, "role", 0, host_role, 1, 15, "\"compute\"",                                           \
	  "compute: runs instances. edge: connects the public overlay to the routers outside. "               \
	  "balancer: forwards packets for shared IPv4 addresses to their owners.")                            \
	F(T, str, vtep, "vtep", API_REQ, ip6, 2, 45, NULL,                                                    \
	  "Address of the host's tunnel endpoint in the underlay. Unique among hosts.")                       \
	F(T, flag, unschedulable, "unschedulable", 0, _, 0, 0, NULL, "True: no new instance is placed here.") \
	F(T, obj, limits, "limits", 0, host_limits, 0, 0, NULL,                                               \
	  "The operator's limits: if the agent reports more in status.capacity, the rest is not used.")
API_DECLARE(host_spec, HOST_SPEC)

API_DECLARE(host_capacity, RESOURCES_HOST_CAPACITY)

#define HOST_STATUS(F, T)                                                                                   \
	F(T, obj, capacity, "capacity", 0, host_capacity, 0, 0, NULL, "What the host offers to instances.") \
	F(T, str, version, "version", 0, any, 0, 63, NULL, "Version of the agent.")                         \
	F(T, str, boot_id, "bootID", 0, any, 0, 63, NULL, "Id of the host's current boot.")                 \
	API_CONDITIONS(F, T)
API_DECLARE(host_status, HOST_STATUS)

#define HOST(F, T)                                                                                       \
	API_META(F, T)                                                                                   \
	F(T, obj, spec, "spec", API_REQ, host_spec, 0, 0, NULL, "Role, address and limits of the host.") \
	F(T, obj, status, "status", 0, host_status, 0, 0, NULL, "The last observed state.")
API_DECLARE(host, HOST)
extern const struct api_kind api_kind_host;

void host_capacity_set(struct host_capacity *to, const struct resources *amounts);
/* What H reports. All 0 if it reports no capacity yet; RESOURCE_UNLIMITED for resources that hosts don't report. */
void host_reported(const struct host *h, struct resources *out);
/* The part of that which instances may use: at most the operator's limits. */
void host_usable(const struct host *h, struct resources *out);
/* True if H reports more than its operator allows. */
bool host_exceeds_limits(const struct host *h);

/*
 * The reason of Ready=False if an older Host has the VTEP or its router MAC. The controller writes this condition and
 * the agent doesn't change it.
 */
#define HOST_VTEP_CONFLICT "VTEPConflict"
