/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The two namespaces of a fabric host and their connection.
 *
 * `underlay` holds the NICs, the VTEP address on lo, and FRR, which speaks BGP unnumbered (RFC 5549) with every
 * neighbour and announces only the VTEP. It forwards nothing: the host is no transit between its leaves.
 * `public` is only a router. Its VXLAN device is created in the underlay and sends there; the device is the only
 * connection between the two, and no address or route of the underlay can be seen from `public`. Instances are
 * connected by veth pairs. A packet without a route is answered with "unreachable". Packets to the router itself are
 * accepted only if they are ICMP, from instances and from the overlay.
 *
 * MTU: 1500 in the overlay; an outer packet adds 70 bytes (Ethernet 14, IPv6 40, UDP 8, VXLAN 8), so NICs get
 * UNDERLAY_NIC_MTU, and every switch between hosts must carry 1570 or more.
 *
 * Nothing is undone when the process ends; underlay_remove() removes everything from a host.
 */

#include "base/inet.h"
#include "net/frrconf.h"
#include "net/nl.h"

#define UNDERLAY_NIC_MTU 9000
#define UNDERLAY_NICS    16
#define OVERLAY_MTU      1500
#define OVERLAY_DEVICE   "overlay"
#define INSTANCE_DEVICES "i-" /* the names of the instances' veths in `public` begin with this */

struct underlay_config {
	const char *prefix;  /* of the namespaces' names; "" on a real host */
	const char *run_dir; /* FRR's directory is RUN_DIR/frr-underlay */
	struct addr vtep;    /* IPv6 */
	uint32_t asn;        /* of this host, 1 to 4294967294 */
	uint32_t vni;        /* of the public overlay */
	/* Names of network devices. A device that is not in `underlay` is moved there from the caller's namespace. */
	const char *nics[UNDERLAY_NICS];
	size_t n_nics;
	const char *password_file; /* of the BGP sessions (net/bgp-password.h); NULL: none */
	uint32_t max_prefixes;     /* a neighbour that sends more prefixes is cut off for five minutes; 0: no limit */
};

struct underlay {
	int underlay_fd, public_fd;         /* namespaces */
	struct nl *underlay_nl, *public_nl; /* for requests in these namespaces */
	char underlay_name[80], public_name[80];
	int vxlan;       /* index of the VXLAN device in `public` */
	uint64_t filter; /* the state that nft_ensure() stored for the filter of `public` */
};

/* The rules in table `inet nacre` of `public`. As in all our rulesets, protocols and services are numbers: a small
 * container has no /etc/protocols to look names up in. */
extern const char underlay_public_filter[];

/*
 * Creates everything that is missing and corrects differences; changes nothing if all is well, so it may be called at
 * any time. U is all zero at first. After a failure U holds what was opened, and the next call continues. After -ESTALE
 * (another program deleted a namespace, and it was created again) the program has to be restarted.
 */
int underlay_ensure(struct underlay *u, const struct underlay_config *c, struct error *err) _must_use_;
/* Does the same without FRR, the only part that may take long. The kernel state is complete when it returns. */
int underlay_prepare(struct underlay *u, const struct underlay_config *c, struct error *err) _must_use_;
/* Closes descriptors. Leaves namespaces, devices and FRR as they are. */
void underlay_close(struct underlay *u);
/* The configuration of FRR in `underlay` (internal; public for its test). PASSWORD "": none. Errors are stored in the
 * model. */
void underlay_frrconf(const struct underlay_config *c, const char *password, struct frrconf *out);
/* Stops FRR and deletes both namespaces. NICs that came from another namespace go back to the first namespace. */
int underlay_remove(const struct underlay_config *c, struct error *err);
