/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an edge says to FRR and hears from it; no FRR needed.
 *
 * Announced: the aggregates it is given, and nothing that was learnt elsewhere (an edge is no transit between its
 * peers). Accepted: default routes only, so that no peer can fill the host's tables or draw traffic to itself. What is
 * refused is not kept (no soft reconfiguration), so a limit on prefixes would have nothing to bound.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/inet.h"
#include "net/bgp-password.h"
#include "net/frrconf.h"

#define BGP_PEERS_MAX    32
#define BGP_PREFIXES_MAX 4096

struct bgp_peer {
	const char *neighbor; /* name of an interface (unnumbered, RFC 5549) or an address */
	bool unnumbered;
	uint32_t remote_asn;
	char password[BGP_PASSWORD_MAX + 1]; /* "": none */
	bool ttl_security;                   /* RFC 5082, directly connected */
};

struct bgp_config {
	uint32_t local_asn, router_id;
	const struct bgp_peer *peers;
	size_t n_peers;
	const struct prefix *announce;
	size_t n_announce;
};

/* OUT is of FRRCONF_DATACENTER. Without peers BGP is off. Errors are the model's. */
void bgp_config_fill(const struct bgp_config *c, struct frrconf *out);

struct bgp_session {
	char state[32]; /* of RFC 4271: "Established", "Active", ...; "" unknown to FRR */
	bool established;
	int64_t received, announced; /* prefixes, both families together */
};

/* JSON answer of "show bgp summary json" on NEIGHBOR. -EBADMSG if it is none. */
int bgp_session_parse(const char *json, size_t len, const char *neighbor, struct bgp_session *ret,
                      struct error *err) _must_use_;
