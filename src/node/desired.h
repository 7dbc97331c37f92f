/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Makes the objects that the agent writes from Instances. No state, no requests. */

#include "api/endpoint.h"
#include "api/instance.h"

/* The Endpoint of INST, named by desired_endpoint_name(). The caller frees it with api_free(). NULL without memory. */
struct endpoint *desired_endpoint(const struct instance *inst, const char *host, const char *vtep) _must_use_;
#define DESIRED_NAME_MAX 64
/* The instance's id in the name of such an Endpoint; NULL if NAME is not such a name. */
const char *desired_endpoint_id(const char *name);
const char *desired_endpoint_name(const char *id, char out[static DESIRED_NAME_MAX]);

/* True if NOW has a slice of ports that WANT doesn't have. */
bool desired_endpoint_loses_slice(const struct endpoint *now, const struct endpoint *want);

/*
 * A copy of INST with the agent's part of the status: PHASE, restarts increased by RESTARTS, Ready. The caller frees it
 * with api_free(). NULL without memory.
 */
struct instance *desired_status(const struct instance *inst, const char *phase, int64_t restarts, bool ready,
                                const char *reason, const char *message) _must_use_;
