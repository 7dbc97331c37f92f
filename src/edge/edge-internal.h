/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Shared by the files of the edge: edge.c decides when to look, wanted.c computes the BGP configuration, look.c applies
 * it, peers.c reports the sessions. A "look" compares the wanted state with kernel and FRR, and corrects them.
 */

#include "api/edgepeer.h"
#include "base/job.h"
#include "edge/bgp.h"
#include "edge/edge.h"
#include "fabric/announce.h"
#include "kube/cache.h"
#include "net/bgp-watch.h"
#include "net/frr.h"

#define NEIGHBOR_MAX 64

/* The wanted state for a look, as it was when the look began. The worker of the look reads it. */
struct edge_look {
	bool known;           /* the wanted state is known; otherwise only links are checked */
	bool keep_pools;      /* pools may be missing in POOLS: leave the prefixes of the last look, too */
	bool announce;        /* prefixes are announced */
	bool compare;         /* also compare filter and routes of pools with the kernel */
	struct prefix *pools; /* malloc'ed */
	size_t n_pools;
	struct frrconf *config; /* NULL if FAULT says why there is no configuration */
	struct error fault;
	char neighbors[BGP_PEERS_MAX][NEIGHBOR_MAX]; /* of the sessions in CONFIG, in their order */
	size_t n_sessions;
};

struct edge {
	struct edge_config c;
	struct kube_cache *peers, *pools;
	struct announcer *announcer;
	struct bgp_watch *public_watch, *underlay_watch;
	struct bgp_routes outside, fabric; /* what BGP has learnt in `public` and in `underlay` */
	bool fabric_known;
	sd_event_source *sync_src, *poll_src;
	struct jobs *jobs;
	struct job *job; /* the look under way; NULL: none */
	struct edge_look look;
	bool look_again; /* something changed during the look: look again */
	char frr_dir[128], netns[80];
	struct frr frr;
	struct edge_stats stats; /* as of the last look */
	bool ready;
	bool bad; /* the last call of `state` reported an error */
	/* Monotonic ns when routes of pools and the filter of uplinks were last compared with the kernel; 0: compare in
	 * the next look. */
	uint64_t compared_at;
	uint64_t filter; /* the state that filter_ensure() stored */
	char last_error[512];
};

/*
 * Why the peer P can't be configured: returns NULL if it can, and PASSWORD is its password ("": none). Else returns a
 * reason for its condition, and MSG is the message.
 */
const char *edge_peer_fault(const struct edge *e, const struct edgepeer *p, char password[static BGP_PASSWORD_MAX + 1],
                            char *msg, size_t size);

/* The name of the peer's interface, or its address. */
const char *edge_neighbor(const struct edgepeer *p);

/* The prefixes of all pools. *RET is malloc'ed. */
int edge_pool_prefixes(const struct edge *e, struct prefix **ret, size_t *ret_n, struct error *err) _must_use_;
/* The prefixes to announce: first those of pools, then those of endpoints outside all pools. *RET is malloc'ed. */
int edge_wanted_prefixes(const struct edge *e, struct prefix **ret, size_t *ret_n, struct error *err) _must_use_;
/* Fills config, neighbors and n_sessions of L. */
int edge_wanted_config(const struct edge *e, const struct prefix *announce, size_t n, struct edge_look *l,
                       struct error *err) _must_use_;

/* Starts a worker for e->look; afterwards the loop calls edge_looked(). e->look must not change until then. */
int edge_look_start(struct edge *e, struct error *err) _must_use_;
void edge_look_clear(struct edge_look *l);
/* In edge.c. The look is over: R and ERR are its result; SESSIONS has e->look.n_sessions entries if R is not
 * negative. */
void edge_looked(struct edge *e, int r, const struct bgp_session *sessions, const struct error *err);

/* Writes the status of the EdgePeers. SESSIONS belong to the sessions of e->look. */
int edge_report_peers(struct edge *e, const struct bgp_session *sessions, struct error *err) _must_use_;
