/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Internal to net: the attributes of a network device in a netlink message. Their tables are in link-attrs.c. */

#include "net/link.h"

/* One end of a link. Members that are 0 are not sent. */
struct link_half {
	char name[IFNAMSIZ];
	struct mac mac;
	uint32_t mtu;
	int netns_fd; /* namespace to put it into */
};

struct link_attrs {
	struct link_half own, peer; /* a veth has both */
	int other;                  /* index of the other end of a veth, as read from the kernel */
	int master;
	char kind[16];
	struct {
		uint32_t vni;
		uint16_t port;
		struct addr local; /* IPv6 */
		uint8_t learning;
	} vxlan;
};

/* Appends the attributes that all kinds of links have and those of A->kind. */
void link_attrs_put(struct nlmsghdr *h, const struct link_attrs *a);
/* Creates a device, which must not exist yet, in the namespace of NL, or in own.netns_fd if that is set. */
int link_create(struct nl *nl, const struct link_attrs *a, struct error *err) _must_use_;
