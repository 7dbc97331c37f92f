/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inside net: what a netlink message says of a network device. The tables of its attributes are in link-attrs.c. */

#include "net/link.h"

/* One end of a link. What is 0 is not said. */
struct link_half {
	char name[IFNAMSIZ];
	struct mac mac;
	uint32_t mtu;
	int netns_fd; /* of the namespace that it is to be in */
};

struct link_attrs {
	struct link_half own, peer; /* a veth has both */
	int other;                  /* index of the other end of a veth, as the kernel says it */
	int master;
	char kind[16];
	struct {
		uint32_t vni;
		uint16_t port;
		struct addr local; /* IPv6 */
		uint8_t learning;
	} vxlan;
};

/* The attributes of kind A->kind, of those that links have in common A's. */
void link_attrs_put(struct nlmsghdr *h, const struct link_attrs *a);
/* Asks for a device that isn't there yet; NL is in the namespace where it is born. */
int link_create(struct nl *nl, const struct link_attrs *a, struct error *err) _must_use_;
