/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Endpoint: one thing that sits in the public overlay, and what can be reached through it. Announced by the agent of
 * the host it is on; every host and edge turns all Endpoints into routes.
 */

#include "api/meta.h"

/* Every host holds all of them: 64 routes, the rest of the spec and a little metadata. */
#define ENDPOINT_MAX ((size_t)16 << 10)

#define ENDPOINT_ROUTE(F, T)                                      \
	F(T, str, prefix, "prefix", API_REQ, prefix, 3, 49, NULL, \
	  "A prefix reached through the endpoint; host bits must be 0.")
API_DECLARE(endpoint_route, ENDPOINT_ROUTE)

#define ENDPOINT_SPEC(F, T)                                                                             \
	F(T, str, host, "host", API_REQ, subdomain, 1, 253, NULL, "Host that it is on.")                \
	F(T, str, vtep, "vtep", API_REQ, ip6, 2, 45, NULL, "Tunnel endpoint of that host.")             \
	F(T, str, ip, "ip", API_REQ, ip6, 2, 45, NULL, "Address of the endpoint in the overlay.")       \
	F(T, str, mac, "mac", API_REQ, mac, 17, 17, NULL, "MAC of the endpoint; not multicast.")        \
	F(T, list, routes, "routes", 0, endpoint_route, 0, 64, NULL, "What can be reached through it.") \
	F(T, obj, owner, "owner", 0, api_object_ref, 0, 0, NULL, "The object it was made for.")
API_DECLARE(endpoint_spec, ENDPOINT_SPEC)

#define ENDPOINT(F, T) \
	API_META(F, T) \
	F(T, obj, spec, "spec", API_REQ, endpoint_spec, 0, 0, NULL, "Where it is and what it reaches.")
API_DECLARE(endpoint, ENDPOINT)
extern const struct api_kind api_kind_endpoint;

/*
 * Names belong to owners: of an Instance's Endpoint to its id, of an edge's way out to its Host. So there is one for
 * each owner, and nobody's name can be taken by another.
 */
#define ENDPOINT_OF_INSTANCE "i-"
#define ENDPOINT_OF_EDGE     "edge-"
/* False: the name is another owner's. Without an owner an Endpoint may have any name that is nobody's. */
bool endpoint_name_is_own(const struct endpoint *e);
