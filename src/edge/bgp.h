/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The BGP configuration of an edge and the answers of FRR about its sessions. Needs no running FRR.
 *
 * The edge announces the aggregates that it is given, and no route that it has learnt (an edge is no transit between
 * its peers). It accepts only default routes, so that no peer can fill the host's tables or draw traffic to itself.
 * Refused routes are not stored (no soft reconfiguration), so a limit on prefixes is not needed.
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
	/* The configuration before this one, or NULL, and what of it is kept in addition. Neighbors are kept only if
	 * the AS number stays. */
	const struct frrconf *before;
	bool keep_neighbors, keep_networks;
};

/* Fills OUT, a model of FRRCONF_DATACENTER. Without peers and kept neighbors BGP is off. Errors are kept in the model
 * (frrconf_error()). */
void bgp_config_fill(const struct bgp_config *c, struct frrconf *out);

struct bgp_session {
	char state[32]; /* RFC 4271: "Established", "Active", ...; "": FRR does not know the session */
	bool established;
	int64_t received, announced; /* prefixes of both families together */
};

/* Reads the session with NEIGHBOR from JSON, the answer to "show bgp summary json". -EBADMSG if it is not such an
 * answer. */
int bgp_session_parse(const char *json, size_t len, const char *neighbor, struct bgp_session *ret,
                      struct error *err) _must_use_;
