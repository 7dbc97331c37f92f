/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The two namespaces of a fabric host and what connects them.
 *
 * `underlay`: the NICs, the VTEP address on lo, and FRR, which speaks BGP unnumbered (RFC 5549) with
 * every neighbour and announces the VTEP and nothing else. It forwards nothing: the host is no
 * transit between its leaves.
 * `public`: a router and nothing else. Its VXLAN device is born in the underlay and sends there; it is
 * the only way between the two, and no address or route of the underlay can be seen from it.
 * Instances hang on it by veth pairs. What has no route is answered with "unreachable". Of what is for the router
 * itself it takes ICMP only, from instances and from the overlay.
 *
 * MTU: 1500 in the overlay; an outer packet adds 70 bytes (Ethernet 14, IPv6 40, UDP 8, VXLAN 8), so NICs
 * get UNDERLAY_NIC_MTU, and every switch between hosts must carry 1570 or more.
 *
 * Nothing here is undone when the process ends; underlay_remove() is for taking a host apart.
 */

#include "base/inet.h"
#include "net/frrconf.h"
#include "net/nl.h"

#define UNDERLAY_NIC_MTU 9000
#define UNDERLAY_NICS    16
#define OVERLAY_MTU      1500
#define OVERLAY_DEVICE   "overlay"
#define INSTANCE_DEVICES "i-" /* the veths of instances in `public` begin so */
#define VXLAN_PORT       4789

struct underlay_config {
	const char *prefix;  /* before the names of namespaces; "" on a real host */
	const char *run_dir; /* FRR's directory is made in it: RUN_DIR/frr-underlay */
	struct addr vtep;    /* IPv6 */
	uint32_t asn;        /* of this host, 1 to 4294967294 */
	uint32_t vni;        /* of the public overlay */
	/* Names of network devices. Looked for in `underlay`, then in the caller's namespace, from where they are
	 * moved. */
	const char *nics[UNDERLAY_NICS];
	size_t n_nics;
	const char *password_file; /* of the BGP sessions (net/bgp-password.h); NULL: none */
	uint32_t max_prefixes;     /* a neighbour that sends more is cut off for five minutes; 0: no limit */
};

struct underlay {
	int underlay_fd, public_fd;         /* namespaces */
	struct nl *underlay_nl, *public_nl; /* for requests in them */
	char underlay_name[80], public_name[80];
	int vxlan;       /* index of the VXLAN device in `public` */
	uint64_t filter; /* as nft_ensure() found the filter of `public` last */
};

/* The rules in table `inet nacre` of `public`. Here and in all rulesets protocols and services are numbers: a small
 * container has no /etc/protocols to look names up in. */
extern const char underlay_public_filter[];

/*
 * Makes it so, repairs what differs; free of effect when all is well, so it may be called at any time.
 * U is all zero at first. On failure U holds what is open already, and calling again carries on; but after -ESTALE
 * (somebody deleted a namespace, and it was made anew) only a new start of the program helps.
 */
int underlay_ensure(struct underlay *u, const struct underlay_config *c, struct error *err) _must_use_;
/* The same without FRR, which alone may take long. What is in the kernel is there at once. */
int underlay_prepare(struct underlay *u, const struct underlay_config *c, struct error *err) _must_use_;
/* Closes descriptors. Leaves namespaces, devices and FRR as they are. */
void underlay_close(struct underlay *u);
/* What FRR in `underlay` has to do (internal; here for its test). PASSWORD "": none. Errors are the model's. */
void underlay_frrconf(const struct underlay_config *c, const char *password, struct frrconf *out);
/* Stops FRR and deletes both namespaces. NICs that came from elsewhere go back to the first namespace. */
int underlay_remove(const struct underlay_config *c, struct error *err);
