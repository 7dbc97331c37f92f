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
	/* Called when the state changes: ERR says what is wrong; NULL: all is well again. */
	void (*state)(const struct error *err, void *userdata);
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
	bool default4, default6;    /* it has learnt a default route outside, and announces it in its Endpoint */
};
void edge_stats(const struct edge *e, struct edge_stats *ret);

/* True once the wanted state is known and was applied at least once. */
bool edge_ready(const struct edge *e);
