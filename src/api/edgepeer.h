/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* EdgePeer: one BGP session of an edge with a router outside. */

#include "api/meta.h"

#define EDGEPEER_SPEC(F, T)                                                                                    \
	F(T, str, edge, "edge", API_REQ, subdomain, 1, 253, NULL, "Host (role edge) that has the session.")    \
	F(T, str, interface, "interface", 0, ifname, 1, 15, NULL,                                              \
	  "Uplink with an unnumbered session (RFC 5549). One of interface, address.")                          \
	F(T, str, address, "address", 0, ip, 2, 45, NULL, "Address of the router. One of interface, address.") \
	F(T, i64, local_asn, "localASN", API_REQ, _, 1, 4294967294, NULL, "The edge's AS number.")             \
	F(T, i64, remote_asn, "remoteASN", API_REQ, _, 1, 4294967294, NULL, "The router's AS number.")         \
	F(T, str, password_file, "passwordFile", 0, file, 1, 64, NULL,                                         \
	  "File with the session's password (TCP-MD5, RFC 2385), in the edge's --bgp-passwords.")              \
	F(T, flag, ttl_security, "ttlSecurity", 0, _, 0, 0, NULL,                                              \
	  "True: the router is directly connected, and both sides send a TTL of 255 and check it (RFC 5082).")
API_DECLARE(edgepeer_spec, EDGEPEER_SPEC)

#define EDGEPEER_STATUS(F, T)                                                                                        \
	F(T, str, state, "state", 0, any, 0, 31, NULL, "State of the session (RFC 4271), such as Established.")      \
	F(T, i64, received, "prefixesReceived", 0, _, 0, INT64_MAX, NULL, "Prefixes received, of both families.")    \
	F(T, i64, announced, "prefixesAnnounced", 0, _, 0, INT64_MAX, NULL, "Prefixes announced, of both families.") \
	API_CONDITIONS(F, T)
API_DECLARE(edgepeer_status, EDGEPEER_STATUS)

#define EDGEPEER(F, T)                                                              \
	API_META(F, T)                                                              \
	F(T, obj, spec, "spec", API_REQ, edgepeer_spec, 0, 0, NULL, "The session.") \
	F(T, obj, status, "status", 0, edgepeer_status, 0, 0, NULL, "The last observed state.")
API_DECLARE(edgepeer, EDGEPEER)
extern const struct api_kind api_kind_edgepeer;
