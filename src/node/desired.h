/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* From API objects to what the hypervisor and the API shall have; no state, no requests. */

#include "api/endpoint.h"
#include "api/instance.h"
#include "node/hypervisor.h"

/*
 * What the guest of INST shall be. IMG is its image, NULL if there is none of that name. 1 if addresses
 * are not given yet. -ENOENT: the image is missing.
 */
int desired_guest(const struct instance *inst, const struct image *img, const char *image_dir, struct guest_spec *ret,
                  struct error *err) _must_use_;

/* The Endpoint of INST (caller frees with api_free()); NULL on no memory. Name: desired_endpoint_name(). */
struct endpoint *desired_endpoint(const struct instance *inst, const char *host, const char *vtep) _must_use_;
#define DESIRED_NAME_MAX 64
/* The instance's id in the name of such an Endpoint; NULL if NAME is none. */
const char *desired_endpoint_id(const char *name);
const char *desired_endpoint_name(const char *id, char out[static DESIRED_NAME_MAX]);

/* A copy of INST (caller frees) with the agent's part of the status: PHASE, RESTARTS more, Ready. NULL on no memory. */
struct instance *desired_status(const struct instance *inst, const char *phase, int64_t restarts, bool ready,
                                const char *reason, const char *message) _must_use_;
