/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the edge: edge.c decides when to look, wanted.c what BGP should say, look.c makes it so, peers.c tells how the
 * sessions are.
 */

#include "api/edgepeer.h"
#include "base/job.h"
#include "edge/announce.h"
#include "edge/bgp.h"
#include "edge/edge.h"
#include "kube/cache.h"
#include "net/bgp-watch.h"
#include "net/frr.h"

#define NEIGHBOR_MAX 64

/* What a look is to make so, as it was when the look began: its worker reads it. */
struct edge_look {
	bool known;           /* the rest is; otherwise only links are looked at */
	bool compare;         /* compare filter and routes of pools with the kernel, too */
	struct prefix *pools; /* malloc'ed */
	size_t n_pools;
	struct frrconf *config; /* NULL if FAULT says why there is none */
	struct error fault;
	char neighbors[BGP_PEERS_MAX][NEIGHBOR_MAX]; /* of the sessions in CONFIG */
	size_t n_sessions;
};

struct edge {
	struct edge_config c;
	struct kube_cache *peers, *pools;
	struct announcer *announcer;
	struct bgp_watch *public_watch, *underlay_watch;
	struct bgp_routes outside, fabric; /* what is known by BGP in `public` and in `underlay` */
	bool fabric_known;
	sd_event_source *sync_src, *poll_src;
	struct jobs *jobs;
	struct job *job; /* the look that is under way; NULL: none is */
	struct edge_look look;
	bool look_again; /* something changed meanwhile */
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

/* The name of an interface, or an address. */
const char *edge_neighbor(const struct edgepeer *p);

/* Prefixes of all pools. *RET is malloc'ed. */
int edge_pool_prefixes(const struct edge *e, struct prefix **ret, size_t *ret_n, struct error *err) _must_use_;
/* What is to be announced: first prefixes of pools, then those of endpoints that no pool holds. *RET is malloc'ed. */
int edge_wanted_prefixes(const struct edge *e, struct prefix **ret, size_t *ret_n, struct error *err) _must_use_;
/* Fills config, neighbors and n_sessions of L. */
int edge_wanted_config(const struct edge *e, const struct prefix *announce, size_t n, struct edge_look *l,
                       struct error *err) _must_use_;

/* Takes e->look to a worker; edge_looked() follows, from the loop. What it holds must stay until then. */
int edge_look_start(struct edge *e, struct error *err) _must_use_;
void edge_look_clear(struct edge_look *l);
/* In edge.c. The look is over: R and ERR are its result, SESSIONS as many as e->look.n_sessions if R isn't negative. */
void edge_looked(struct edge *e, int r, const struct bgp_session *sessions, const struct error *err);

/* Writes the status of the EdgePeers. SESSIONS are those of e->look. */
int edge_report_peers(struct edge *e, const struct bgp_session *sessions, struct error *err) _must_use_;
