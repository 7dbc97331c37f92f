/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Checks what an Endpoint claims: its name must be its owner's, its VTEP its Host's, its addresses and routes those
 * that its Instance was given, and the Instance must be on that host. Without this check a compromised host could draw
 * other tenants' traffic. nacre-apiserver refuses a false Endpoint when the agent writes it. On a kube-apiserver no
 * policy can look these objects up, so the controller deletes the Endpoint.
 *
 * An Endpoint that can't be judged yet (its Host or Instance is missing, or knows less than the Endpoint says) is left
 * alone. The caches may be behind: before a deletion the server is asked for the Host and the Instance, and only the
 * version of the Endpoint that was judged is deleted.
 *
 * The routes of a balancer must be the prefixes of AddressPools with use shared. Balancers and the controller learn of
 * a pool at different times, so an Endpoint with a prefix of no pool is wrong only after 20 s.
 */

#include "api/endpoint.h"
#include "controller/work.h"

/* True if E seems to claim what isn't its Host's. Then the server is being asked, and E may be deleted after that. */
bool claims_check(struct work *w, const struct endpoint *e);
/* True if E seems to claim what isn't its Host's, by what the caches know now. */
bool claims_are_wrong(const struct controller *c, const struct endpoint *e);
/* The Endpoint of that name is gone. */
void claims_forget(const struct controller *c, const char *endpoint);

/* The state of the concern that calls these functions (concern_endpoints). */
int claims_open(struct controller *c, const struct controller_options *o, void **ret, struct error *err) _must_use_;
void claims_stopped(struct controller *c);
void claims_close(void *state);
