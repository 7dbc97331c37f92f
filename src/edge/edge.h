/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What nacre-edge does beyond being a host of the fabric.
 *
 * - EdgePeers of this edge become BGP sessions of the FRR instance in `public`.
 * - AddressPools become aggregates that these sessions announce, unreachable routes for unused addresses, and a filter
 * that drops packets from an uplink with a source in a pool.
 * - Endpoint routes outside all pools are announced one by one.
 * - Learnt default routes become the Endpoint `edge-NAME` with ::/0 and 0.0.0.0/0, which exists only while there is a
 *   default route.
 * - While the underlay has no route nothing is announced: other edges should take the traffic.
 *
 * While an EdgePeer, AddressPool or Endpoint is not understood (kube/cache.h), what may belong to it stays as it was:
 * - EdgePeer: no session is ended.
 * - AddressPool: no prefix is withdrawn, and neither aggregates nor the filter lose one. No Endpoint outside the known
 *   pools is newly announced, since it may be in the unknown one.
 * - Endpoint: no prefix is withdrawn.
 * All that is known is still added and changed, and without a route of the underlay nothing is announced.
 *
 * FRR, routes and the Endpoint outlive the process: a restart finds them as they are. Nothing is changed before the
 * wanted state is known from the API.
 */

#include <systemd/sd-event.h>

#include "fabric/fabric.h"
#include "kube/client.h"
#include "net/overlay.h"

#define EDGE_UPLINKS_MAX 16

struct edge_config {
	sd_event *loop;
	struct kube_client *client;
	struct fabric *fabric;
	const char *name;    /* of the host */
	const char *run_dir; /* FRR's directory is RUN_DIR/frr-public */
	struct addr vtep;
	struct addr overlay_ip;                /* outside all pools, unique among edges */
	const char *uplinks[EDGE_UPLINKS_MAX]; /* network devices, moved into `public` */
	const char *passwords; /* directory of the files that EdgePeers name (net/bgp-password.h), or NULL */
	size_t n_uplinks;
	/* Called when the state changes: WHAT is "edge" or an object that is not understood; ERR says what is wrong;
	 * NULL: all is well again. */
	void (*state)(const char *what, const struct error *err, void *userdata);
	void *userdata;
};

struct edge;

/* Strings of C must outlive the edge. */
int edge_new(struct edge **ret, const struct edge_config *c, struct error *err) _must_use_;
/* Leaves BGP sessions, routes and objects as they are. */
struct edge *edge_free(struct edge *e);

struct edge_stats {
	int64_t peers, established; /* EdgePeers of this edge */
	int64_t announced;          /* prefixes that it announces */
	size_t not_understood;      /* EdgePeers of this edge and AddressPools */
	bool default4, default6;    /* it has learnt a default route outside, and announces it in its Endpoint */
};
void edge_stats(const struct edge *e, struct edge_stats *ret);

/* True once the wanted state is known and was applied at least once. */
bool edge_ready(const struct edge *e);
