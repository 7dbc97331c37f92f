/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Routes, nexthop objects, neighbours and forwarding entries of one namespace.
 *
 * Everything that we program carries our protocol number, NET_PROTOCOL, and only what carries it
 * is ever listed or swept by us: routes of the kernel, of FRR or of a person are left alone.
 * (VXLAN forwarding entries can't carry one; all of a VXLAN device of ours are ours.)
 * Within one namespace a module's own routes are those of its own metric: 1024 the overlay's, 8192 an edge's
 * aggregates, 4294967295 the default of last resort.
 *
 * Each kind has: X_put() (add or replace) and X_delete() (a missing one is success), one request
 * each; X_batch() for either in a batch; X_dump(); X_decode() for a notification.
 */

#include "base/inet.h"
#include "net/nl.h"

/* In the range that rtnetlink(7) leaves to users (above RTPROT_STATIC), in nobody's list (iproute2 etc/iproute2). */
#define NET_PROTOCOL 78

enum net_op { NET_PUT, NET_DELETE };

/* Always in the main table. */
struct route {
	struct prefix dst;
	uint8_t type;     /* RTN_UNICAST (also when 0), RTN_UNREACHABLE, RTN_BLACKHOLE, RTN_PROHIBIT */
	uint8_t protocol; /* decoded only; what we put has NET_PROTOCOL */
	uint32_t nexthop; /* id of a nexthop object; then via and oif stay empty */
	struct addr via;  /* gateway; may be IPv6 for an IPv4 route */
	int oif;
	uint32_t metric; /* 0: the kernel's default (1024 for IPv6) */
};
int route_put(struct nl *n, const struct route *r, struct error *err) _must_use_;
/* Adds it unless one with this prefix and metric is there; doesn't look at what that one says. */
int route_ensure(struct nl *n, const struct route *r, struct error *err) _must_use_;
int route_delete(struct nl *n, const struct route *r, struct error *err);
int route_batch(struct nl_batch *b, enum net_op op, const struct route *r, void *cookie, struct error *err) _must_use_;
typedef int (*route_handler)(const struct route *r, void *userdata);
/* Those with our protocol number. FAMILY is AF_INET or AF_INET6. */
int route_dump(struct nl *n, int family, route_handler handler, void *userdata, struct error *err) _must_use_;
/* False for routes outside the main table and cached ones. */
bool route_decode(const struct nlmsghdr *h, struct route *ret);
/* Whether TO is reached by a unicast route (not unreachable, blackhole, ...): 1 or 0, or a failure. */
int route_lookup(struct nl *n, const struct addr *to, struct error *err) _must_use_;

#define NEXTHOP_MEMBERS_MAX 64

/* A gateway on a device, or a group (n_members > 0) of such, over which flows are spread evenly. */
struct nexthop {
	uint32_t id;
	uint8_t protocol; /* decoded only */
	int oif;
	struct addr via;
	unsigned n_members;
	uint32_t members[NEXTHOP_MEMBERS_MAX];
};
int nexthop_put(struct nl *n, const struct nexthop *nh, struct error *err) _must_use_;
/* The kernel removes the routes that use it, too. */
int nexthop_delete(struct nl *n, uint32_t id, struct error *err);
int nexthop_batch(struct nl_batch *b, enum net_op op, const struct nexthop *nh, void *cookie,
                  struct error *err) _must_use_;
typedef int (*nexthop_handler)(const struct nexthop *nh, void *userdata);
/* All of the namespace; look at protocol. */
int nexthop_dump(struct nl *n, nexthop_handler handler, void *userdata, struct error *err) _must_use_;
void nexthop_decode(const struct nlmsghdr *h, struct nexthop *ret);

/* A permanent neighbour (addr set), or a forwarding entry of a VXLAN device (vtep set). */
struct neigh {
	int oif;
	struct mac mac;
	struct addr addr;
	struct addr vtep;
	uint8_t protocol; /* decoded only, neighbours only */
	bool permanent;   /* decoded only */
};
int neigh_put(struct nl *n, const struct neigh *ne, struct error *err) _must_use_;
int neigh_delete(struct nl *n, const struct neigh *ne, struct error *err);
int neigh_batch(struct nl_batch *b, enum net_op op, const struct neigh *ne, void *cookie, struct error *err) _must_use_;
typedef int (*neigh_handler)(const struct neigh *ne, void *userdata);
/* IPv6 neighbours with our protocol number. */
int neigh_dump(struct nl *n, neigh_handler handler, void *userdata, struct error *err) _must_use_;
/* Forwarding entries of device OIF. */
int neigh_dump_fdb(struct nl *n, int oif, neigh_handler handler, void *userdata, struct error *err) _must_use_;
/* False for what is neither an IP neighbour nor a VXLAN forwarding entry. */
bool neigh_decode(const struct nlmsghdr *h, struct neigh *ret);
