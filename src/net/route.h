/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Routes, nexthop objects, neighbours and forwarding entries of one namespace.
 *
 * Everything that we program has our protocol number, NET_PROTOCOL, and we list and remove only entries that have it:
 * routes of the kernel, of FRR or of a person stay untouched. (VXLAN forwarding entries have no protocol number; all of
 * our VXLAN device are ours.) Within one namespace a module recognises its own routes by their metric: 1024 is the
 * overlay's, 8192 an edge's aggregates, 4294967295 the default of last resort.
 *
 * Each kind has X_put() (add or replace) and X_delete() (a missing entry is success), which are one request each;
 * X_batch() for either of them in a batch; X_dump(); X_decode() for a notification.
 */

#include "base/inet.h"
#include "net/nl.h"

/* In the range that rtnetlink(7) leaves to users (above RTPROT_STATIC), and not used in iproute2's list (iproute2
 * etc/iproute2). */
#define NET_PROTOCOL 78

enum net_op { NET_PUT, NET_DELETE };

/* Always in the main table. */
struct route {
	struct prefix dst;
	uint8_t type;     /* RTN_UNICAST (also when 0), RTN_UNREACHABLE, RTN_BLACKHOLE, RTN_PROHIBIT */
	uint8_t protocol; /* only set by decoding; routes that we put have NET_PROTOCOL */
	uint32_t nexthop; /* id of a nexthop object; then via and oif are empty */
	struct addr via;  /* gateway; may be IPv6 for an IPv4 route */
	struct addr src;  /* source of what this host itself sends there; family 0: the kernel chooses */
	int oif;
	uint32_t metric; /* 0: the kernel's default (1024 for IPv6) */
};
int route_put(struct nl *n, const struct route *r, struct error *err) _must_use_;
/* Adds the route unless one with this prefix and metric exists, whatever its nexthop. */
int route_ensure(struct nl *n, const struct route *r, struct error *err) _must_use_;
int route_delete(struct nl *n, const struct route *r, struct error *err);
int route_batch(struct nl_batch *b, enum net_op op, const struct route *r, void *cookie, struct error *err) _must_use_;
typedef int (*route_handler)(const struct route *r, void *userdata);
/* Lists routes with our protocol number. FAMILY is AF_INET or AF_INET6. */
int route_dump(struct nl *n, int family, route_handler handler, void *userdata, struct error *err) _must_use_;
/* False for cached routes and for routes outside the main table. */
bool route_decode(const struct nlmsghdr *h, struct route *ret);
/* 1 if TO is reached by a unicast route (not unreachable, blackhole, ...), 0 if not, negative on failure. */
int route_lookup(struct nl *n, const struct addr *to, struct error *err) _must_use_;

#define NEXTHOP_MEMBERS_MAX 64

/* A gateway on a device, or a group (n_members > 0) of nexthops over which flows are spread evenly. */
struct nexthop {
	uint32_t id;
	uint8_t protocol; /* only set by decoding */
	int oif;
	struct addr via;
	unsigned n_members;
	uint32_t members[NEXTHOP_MEMBERS_MAX];
};
int nexthop_put(struct nl *n, const struct nexthop *nh, struct error *err) _must_use_;
/* The kernel also removes the routes that use the nexthop. */
int nexthop_delete(struct nl *n, uint32_t id, struct error *err);
int nexthop_batch(struct nl_batch *b, enum net_op op, const struct nexthop *nh, void *cookie,
                  struct error *err) _must_use_;
typedef int (*nexthop_handler)(const struct nexthop *nh, void *userdata);
/* Lists all nexthops of the namespace; the handler has to check their protocol. */
int nexthop_dump(struct nl *n, nexthop_handler handler, void *userdata, struct error *err) _must_use_;
void nexthop_decode(const struct nlmsghdr *h, struct nexthop *ret);

/* A permanent neighbour (addr set), or a forwarding entry of a VXLAN device (vtep set). */
struct neigh {
	int oif;
	struct mac mac;
	struct addr addr;
	struct addr vtep;
	uint8_t protocol; /* only set by decoding, for neighbours */
	bool permanent;   /* only set by decoding */
};
int neigh_put(struct nl *n, const struct neigh *ne, struct error *err) _must_use_;
int neigh_delete(struct nl *n, const struct neigh *ne, struct error *err);
int neigh_batch(struct nl_batch *b, enum net_op op, const struct neigh *ne, void *cookie, struct error *err) _must_use_;
typedef int (*neigh_handler)(const struct neigh *ne, void *userdata);
/* Lists IPv6 neighbours with our protocol number. */
int neigh_dump(struct nl *n, neigh_handler handler, void *userdata, struct error *err) _must_use_;
/* Lists forwarding entries of device OIF. */
int neigh_dump_fdb(struct nl *n, int oif, neigh_handler handler, void *userdata, struct error *err) _must_use_;
/* False if the message is neither about an IP neighbour nor about a VXLAN forwarding entry. */
bool neigh_decode(const struct nlmsghdr *h, struct neigh *ret);
