/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What nacre-lb does beyond being a host of the fabric.
 *
 * - The slices in the routes of all Endpoints become the table of the program on the NICs (service/balancer.h): packets
 *   for a port of a shared address go to the host of its owner (assignments.h).
 * - Once the table has all of them and the program runs on all NICs, the Endpoint `lb-NAME` announces the prefixes of
 *   the AddressPools with use shared. So edges and hosts send packets for them here, spread over all balancers.
 * - If the table has no room for a slice, the Host has the condition Balancing=False, which says so. The others work.
 *
 * While an Endpoint or AddressPool is not understood (kube/cache.h), nothing is taken out of the table that a process
 * before has put into it, unless another Endpoint has it now. While an AddressPool isn't, the prefixes that were
 * announced at the start stay announced.
 *
 * Program, table and Endpoint outlive the process, and go on while the API is away: a restart adopts them and loses no
 * packet. lb_detach() takes them away.
 */

#include <systemd/sd-event.h>

#include "fabric/fabric.h"
#include "kube/client.h"
#include "service/balancer.h"

struct lb_config {
	sd_event *loop;
	struct kube_client *client;
	struct fabric *fabric;
	const char *name;    /* of the host */
	const char *run_dir; /* has the lock by which only one process at a time writes the table */
	struct addr vtep;
	uint32_t vni;
	struct addr overlay_ip;  /* outside all pools, unique among balancers and edges */
	const char *const *nics; /* of `underlay` */
	size_t n_nics;
	enum balancer_mode mode; /* for NICs that have no program yet */
	/* Called when the state changes: WHAT is "balancer" or an AddressPool that is not understood; ERR says what is
	 * wrong; NULL: all is well again. */
	void (*state)(const char *what, const struct error *err, void *userdata);
	void *userdata;
};

struct lb;

/* Strings of C must outlive the balancer. -EBUSY: another process writes the table of this host. */
int lb_new(struct lb **ret, const struct lb_config *c, struct error *err) _must_use_;
/* Leaves program, table and Endpoint as they are. */
struct lb *lb_free(struct lb *l);

/* For fabric_config. Each change of an Endpoint, and the condition of the Host (unknown before the first look). */
void lb_endpoint_changed(struct lb *l, const struct kube_change *ch);
void lb_condition(const struct lb *l, struct fabric_condition *ret);

/* True once the table was complete and the program ran on all NICs. */
bool lb_ready(const struct lb *l);

/* Registers the metrics of L, which are kept up to date until lb_free(). */
void lb_metrics_start(struct lb *l);

/*
 * Takes the host out of service, while no nacre-lb runs on it (-EBUSY): deletes its Endpoint, waits SECONDS until edges
 * and hosts send no more packets here, and takes the program off the NICs. Only name, run_dir, vtep, vni and the NICs
 * of C are used, and its client for the Endpoint. NETNS_FD is `underlay`. If the API doesn't answer nothing is taken
 * away, unless FORCE is set.
 */
int lb_detach(const struct lb_config *c, int netns_fd, unsigned seconds, bool force, struct error *err) _must_use_;
