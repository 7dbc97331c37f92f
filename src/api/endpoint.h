/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Endpoint: an instance, edge or balancer in the public overlay, and what can be reached through it. The agent of its
 * host announces it; every host and edge turns all Endpoints into routes, and every balancer the slices in them into
 * its table. The controller writes the status: the groups that a rule of a Firewall can name.
 */

#include "api/addresspool.h"
#include "api/meta.h"

/*
 * The limit in bytes, since every host holds all Endpoints: enough for 64 routes, the rest of the spec, 64 groups and
 * some metadata.
 */
#define ENDPOINT_MAX ((size_t)16 << 10)

#define ENDPOINT_ROUTE(F, T)                                                             \
	F(T, str, prefix, "prefix", API_REQ, prefix, 3, 49, NULL,                        \
	  "A prefix reached through the endpoint; host bits must be 0.")                 \
	F(T, i64, first_port, "firstPort", 0, _, 0, 65535, NULL,                         \
	  "Only these ports of the IPv4 address are reached through it: the first one.") \
	F(T, i64, last_port, "lastPort", 0, _, 0, 65535, NULL, "The last one.")
API_DECLARE(endpoint_route, ENDPOINT_ROUTE)

#define ENDPOINT_SPEC(F, T)                                                                                       \
	F(T, str, host, "host", API_REQ, subdomain, 1, 253, NULL, "Host of the endpoint.")                        \
	F(T, str, vtep, "vtep", API_REQ, ip6, 2, 45, NULL, "Tunnel endpoint of that host.")                       \
	F(T, str, ip, "ip", API_REQ, ip6, 2, 45, NULL, "Address of the endpoint in the overlay.")                 \
	F(T, str, mac, "mac", API_REQ, mac, 17, 17, NULL, "MAC of the endpoint; not multicast.")                  \
	F(T, list, routes, "routes", 0, endpoint_route, 0, 64, NULL, "The prefixes that are reached through it.") \
	F(T, obj, owner, "owner", 0, api_object_ref, 0, 0, NULL, "The object that the endpoint belongs to.")
API_DECLARE(endpoint_spec, ENDPOINT_SPEC)

/* True if only a slice of the ports of the route's address is reached. Balancers forward it; it is no route. */
static inline bool endpoint_route_is_slice(const struct endpoint_route *r) {
	return r->first_port.set;
}

/* Writes the slice of such a route as in an Allocation: "198.51.100.3:1024-1535". False: R is no such route. */
bool endpoint_route_value(const struct endpoint_route *r, char out[static SLICE_STR_MAX]);

/* How many groups an Endpoint can be in, and the length in bytes of the id of a group (firewall.h). */
#define ENDPOINT_GROUPS_MAX   64
#define ENDPOINT_GROUP_LENGTH 32

#define ENDPOINT_STATUS(F, T)                                                   \
	F(T, strs, groups, "groups", 0, group_id, 0, ENDPOINT_GROUPS_MAX, NULL, \
	  "The ids of the groups that its instance is in: those that the peers of Firewalls match, in order.")
API_DECLARE(endpoint_status, ENDPOINT_STATUS)

#define ENDPOINT(F, T)                                                                                           \
	API_META(F, T)                                                                                           \
	F(T, obj, spec, "spec", API_REQ, endpoint_spec, 0, 0, NULL, "The place of the endpoint and its routes.") \
	F(T, obj, status, "status", 0, endpoint_status, 0, 0, NULL, "What the controller says about its instance.")
API_DECLARE(endpoint, ENDPOINT)
extern const struct api_kind api_kind_endpoint;

/*
 * The name of an Endpoint is determined by the object that it belongs to: for an Instance by status.id, for an edge or
 * balancer by the name of its Host. So each object has at most one Endpoint, and nobody can take the name of another's.
 */
#define ENDPOINT_OF_INSTANCE "i-"
#define ENDPOINT_OF_EDGE     "edge-"
#define ENDPOINT_OF_BALANCER "lb-"
/* False: the name belongs to another object. An Endpoint without spec.owner may have any name that belongs to none. */
bool endpoint_name_is_own(const struct endpoint *e);
/* True if only one object may have an Endpoint of this name. */
bool endpoint_name_is_reserved(const char *name);
