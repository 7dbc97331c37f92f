/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Makes the objects that the agent writes from Instances. No state, no requests. */

#include "api/endpoint.h"
#include "api/instance.h"
#include "node/hypervisor.h"

/* The Endpoint of INST, named by desired_endpoint_name(). The caller frees it with api_free(). NULL without memory. */
struct endpoint *desired_endpoint(const struct instance *inst, const char *host, const char *vtep) _must_use_;
#define DESIRED_NAME_MAX 64
/* The instance's id in the name of such an Endpoint; NULL if NAME is not such a name. */
const char *desired_endpoint_id(const char *name);
const char *desired_endpoint_name(const char *id, char out[static DESIRED_NAME_MAX]);

/* True if NOW has a slice of ports that WANT doesn't have. */
bool desired_endpoint_loses_slice(const struct endpoint *now, const struct endpoint *want);

struct desired_status {
	const char *phase;
	int64_t restarts; /* in addition to those in the status */
	bool ready;
	const char *reason, *message;          /* of Ready */
	const struct guest_ports *ports;       /* NULL: nothing is said about them */
	const struct guest_firewall *firewall; /* NULL: nothing is said about it */
};

/*
 * A copy of INST with the agent's part of the status. The caller frees it with api_free(). NULL without memory.
 */
struct instance *desired_status(const struct instance *inst, const struct desired_status *d) _must_use_;
