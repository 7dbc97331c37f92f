/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inside the edge: edge.c decides when, wanted.c what BGP should say, peers.c how the sessions are. */

#include "edge/announce.h"
#include "edge/bgp.h"
#include "edge/edge.h"
#include "kube/cache.h"
#include "net/bgp-watch.h"
#include "net/frr.h"

struct edge {
	struct edge_config c;
	struct kube_cache *peers, *pools;
	struct announcer *announcer;
	struct bgp_watch *public_watch, *underlay_watch;
	struct bgp_routes outside, fabric; /* what is known by BGP in `public` and in `underlay` */
	bool fabric_known;
	sd_event_source *sync_src, *poll_src;
	unsigned waits; /* for the announcement to get away */
	char frr_dir[128], netns[80];
	struct frr frr;
	struct edge_stats stats; /* as of the last look */
	bool ready;
	bool bad; /* the last report of state was an error */
	/* When the routes of pools and the filter of uplinks were last compared with the kernel, monotonic ns; 0: they
	 * must be. */
	uint64_t compared_at;
	uint64_t filter; /* as filter_ensure() left it */
	char last_error[512];
};

/*
 * What a peer lacks to be configured: NULL if nothing, and PASSWORD is its password ("": none); else a reason for its
 * condition, and MSG is filled.
 */
const char *edge_peer_fault(const struct edge *e, const struct edgepeer *p, char password[static BGP_PASSWORD_MAX + 1],
                            char *msg, size_t size);

/* Prefixes of all pools. *RET is malloc'ed. */
int edge_pool_prefixes(const struct edge *e, struct prefix **ret, size_t *ret_n, struct error *err) _must_use_;
/* What is to be announced: first prefixes of pools, then those of endpoints that no pool holds. *RET is malloc'ed. */
int edge_wanted_prefixes(const struct edge *e, struct prefix **ret, size_t *ret_n, size_t *ret_pools,
                         struct error *err) _must_use_;
/* Fills OUT, which is of FRRCONF_DATACENTER. *RET_SESSIONS: how many are configured in it. */
int edge_wanted_config(const struct edge *e, const struct prefix *announce, size_t n, struct frrconf *out,
                       size_t *ret_sessions, struct error *err) _must_use_;

/* Reads the sessions from FRR, which has SESSIONS of them, and writes the status of the EdgePeers. */
int edge_report_peers(struct edge *e, size_t sessions, struct error *err) _must_use_;
