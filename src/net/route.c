/* SPDX-License-Identifier: Apache-2.0 */
#include "net/route.h"

#include <linux/nexthop.h>
#include <string.h>

static struct rtmsg route_header(const struct route *r) {
	return (struct rtmsg){
		.rtm_family = (uint8_t)r->dst.addr.family,
		.rtm_dst_len = r->dst.len,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = NET_PROTOCOL,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = r->type ? r->type : RTN_UNICAST,
	};
}

static void route_attrs(struct nlmsghdr *h, const struct route *r) {
	unsigned len = addr_bits(r->dst.addr.family) / 8;
	if (r->dst.len)
		mnl_attr_put(h, RTA_DST, len, r->dst.addr.bytes);
	if (r->metric)
		mnl_attr_put_u32(h, RTA_PRIORITY, r->metric);
	if (r->nexthop)
		mnl_attr_put_u32(h, RTA_NH_ID, r->nexthop);
	if (r->oif)
		mnl_attr_put_u32(h, RTA_OIF, (uint32_t)r->oif);
	if (r->src.family)
		mnl_attr_put(h, RTA_PREFSRC, len, r->src.bytes);
	if (r->via.family == r->dst.addr.family) {
		mnl_attr_put(h, RTA_GATEWAY, len, r->via.bytes);
	} else if (r->via.family) {
		struct {
			uint16_t family; /* struct rtvia */
			uint8_t bytes[16];
		} via = {.family = (uint16_t)r->via.family};
		memcpy(via.bytes, r->via.bytes, sizeof(via.bytes));
		mnl_attr_put(h, RTA_VIA, sizeof(via), &via);
	}
}

static const struct {
	uint16_t route, nexthop, neigh, flags;
} ops[] = {
	[NET_PUT] = {RTM_NEWROUTE, RTM_NEWNEXTHOP, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE},
	[NET_DELETE] = {RTM_DELROUTE, RTM_DELNEXTHOP, RTM_DELNEIGH, 0},
};

int route_batch(struct nl_batch *b, enum net_op op, const struct route *r, void *cookie, struct error *err) {
	struct rtmsg m = route_header(r);
	struct nlmsghdr *h = nl_batch_add(b, ops[op].route, ops[op].flags, &m, sizeof(m), cookie, err);
	if (!h)
		return -EIO;
	route_attrs(h, r);
	return 0;
}

static int route_send(struct nl *n, enum net_op op, const struct route *r, struct error *err) {
	char text[PREFIX_STR_MAX];
	struct rtmsg m = route_header(r);
	struct nlmsghdr *h = nl_request(n, ops[op].route, ops[op].flags, &m, sizeof(m));
	route_attrs(h, r);
	return nl_send(n, h, err, "%s route %s", op == NET_PUT ? "add" : "remove", prefix_str(&r->dst, text));
}

int route_put(struct nl *n, const struct route *r, struct error *err) {
	return route_send(n, NET_PUT, r, err);
}

int route_ensure(struct nl *n, const struct route *r, struct error *err) {
	char text[PREFIX_STR_MAX];
	struct rtmsg m = route_header(r);
	struct nlmsghdr *h = nl_request(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
	route_attrs(h, r);
	int res = nl_send(n, h, err, "add route %s", prefix_str(&r->dst, text));
	return res == -EEXIST ? 0 : res;
}

int route_delete(struct nl *n, const struct route *r, struct error *err) {
	int res = route_send(n, NET_DELETE, r, err);
	return res == -ESRCH ? 0 : res;
}

bool route_decode(const struct nlmsghdr *h, struct route *ret) {
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[RTA_NH_ID + 1];
	struct route r = {.type = m->rtm_type, .protocol = m->rtm_protocol};
	if ((m->rtm_family != AF_INET && m->rtm_family != AF_INET6) || (m->rtm_flags & RTM_F_CLONED))
		return false;
	unsigned len = addr_bits(m->rtm_family) / 8;
	nl_attrs(h, sizeof(*m), tb, RTA_NH_ID);
	if ((tb[RTA_TABLE] ? nl_u32(tb[RTA_TABLE]) : m->rtm_table) != RT_TABLE_MAIN)
		return false;
	r.dst.addr.family = m->rtm_family;
	r.dst.len = m->rtm_dst_len;
	nl_bytes(tb[RTA_DST], r.dst.addr.bytes, len);
	if (nl_bytes(tb[RTA_GATEWAY], r.via.bytes, len))
		r.via.family = m->rtm_family;
	else if (tb[RTA_VIA] && mnl_attr_get_payload_len(tb[RTA_VIA]) == 18) {
		r.via.family = AF_INET6;
		memcpy(r.via.bytes, (const uint8_t *)mnl_attr_get_payload(tb[RTA_VIA]) + 2, 16);
	}
	if (nl_bytes(tb[RTA_PREFSRC], r.src.bytes, len))
		r.src.family = m->rtm_family;
	r.nexthop = nl_u32(tb[RTA_NH_ID]);
	r.oif = (int)nl_u32(tb[RTA_OIF]);
	r.metric = nl_u32(tb[RTA_PRIORITY]);
	*ret = r;
	return true;
}

struct route_walk {
	route_handler handler;
	void *userdata;
};

static int route_seen(const struct nlmsghdr *h, void *userdata) {
	struct route_walk *d = userdata;
	struct route r;
	return route_decode(h, &r) && r.protocol == NET_PROTOCOL ? d->handler(&r, d->userdata) : 0;
}

int route_dump(struct nl *n, int family, route_handler handler, void *userdata, struct error *err) {
	/* No filter on the table: an IPv4 main table that was never used would cause an error. */
	struct rtmsg m = {.rtm_family = (uint8_t)family, .rtm_protocol = NET_PROTOCOL};
	struct route_walk d = {handler, userdata};
	struct nlmsghdr *h = nl_request(n, RTM_GETROUTE, 0, &m, sizeof(m));
	return nl_dump(n, h, route_seen, &d, err, "list routes");
}

static int lookup_seen(const struct nlmsghdr *h, void *userdata) {
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	*(int *)userdata = m->rtm_type == RTN_UNICAST || m->rtm_type == RTN_LOCAL;
	return 0;
}

int route_lookup(struct nl *n, const struct addr *to, struct error *err) {
	char text[ADDR_STR_MAX];
	int found = 0;
	struct rtmsg m = {
		.rtm_family = (uint8_t)to->family, .rtm_dst_len = addr_bits(to->family), .rtm_flags = RTM_F_FIB_MATCH};
	struct nlmsghdr *h = nl_request(n, RTM_GETROUTE, 0, &m, sizeof(m));
	mnl_attr_put(h, RTA_DST, addr_bits(to->family) / 8, to->bytes);
	int r = nl_get(n, h, lookup_seen, &found, err, "look up the route to %s", addr_str(to, text));
	if (r == -ENETUNREACH || r == -EHOSTUNREACH || r == -EACCES || r == -EINVAL)
		return 0;
	return r < 0 ? r : found;
}

/* -- nexthop objects -- */

static struct nhmsg nexthop_header(enum net_op op, const struct nexthop *nh) {
	struct nhmsg m = {0};
	if (op == NET_PUT) {
		m.nh_family = nh->n_members ? AF_UNSPEC : (uint8_t)nh->via.family;
		m.nh_protocol = NET_PROTOCOL;
	}
	return m;
}

static void nexthop_attrs(struct nlmsghdr *h, enum net_op op, const struct nexthop *nh) {
	mnl_attr_put_u32(h, NHA_ID, nh->id);
	if (op == NET_DELETE)
		return;
	if (nh->n_members) {
		struct nexthop_grp g[NEXTHOP_MEMBERS_MAX] = {0};
		unsigned n = MIN(nh->n_members, (unsigned)NEXTHOP_MEMBERS_MAX);
		for (unsigned i = 0; i < n; i++)
			g[i].id = nh->members[i];
		mnl_attr_put(h, NHA_GROUP, n * sizeof(g[0]), g);
		return;
	}
	mnl_attr_put_u32(h, NHA_OIF, (uint32_t)nh->oif);
	mnl_attr_put(h, NHA_GATEWAY, addr_bits(nh->via.family) / 8, nh->via.bytes);
}

int nexthop_batch(struct nl_batch *b, enum net_op op, const struct nexthop *nh, void *cookie, struct error *err) {
	struct nhmsg m = nexthop_header(op, nh);
	struct nlmsghdr *h = nl_batch_add(b, ops[op].nexthop, ops[op].flags, &m, sizeof(m), cookie, err);
	if (!h)
		return -EIO;
	nexthop_attrs(h, op, nh);
	return 0;
}

static int nexthop_send(struct nl *n, enum net_op op, const struct nexthop *nh, struct error *err) {
	struct nhmsg m = nexthop_header(op, nh);
	struct nlmsghdr *h = nl_request(n, ops[op].nexthop, ops[op].flags, &m, sizeof(m));
	nexthop_attrs(h, op, nh);
	return nl_send(n, h, err, "%s nexthop %u", op == NET_PUT ? "add" : "remove", nh->id);
}

int nexthop_put(struct nl *n, const struct nexthop *nh, struct error *err) {
	return nexthop_send(n, NET_PUT, nh, err);
}

int nexthop_delete(struct nl *n, uint32_t id, struct error *err) {
	struct nexthop nh = {.id = id};
	int r = nexthop_send(n, NET_DELETE, &nh, err);
	return r == -ENOENT ? 0 : r;
}

void nexthop_decode(const struct nlmsghdr *h, struct nexthop *ret) {
	const struct nhmsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[NHA_GATEWAY + 1];
	nl_attrs(h, sizeof(*m), tb, NHA_GATEWAY);
	*ret = (struct nexthop){.id = nl_u32(tb[NHA_ID]), .protocol = m->nh_protocol};
	ret->oif = (int)nl_u32(tb[NHA_OIF]);
	if ((m->nh_family == AF_INET || m->nh_family == AF_INET6) &&
	    nl_bytes(tb[NHA_GATEWAY], ret->via.bytes, addr_bits(m->nh_family) / 8U))
		ret->via.family = m->nh_family;
	if (tb[NHA_GROUP]) {
		const uint8_t *p = mnl_attr_get_payload(tb[NHA_GROUP]);
		size_t n = mnl_attr_get_payload_len(tb[NHA_GROUP]) / sizeof(struct nexthop_grp);
		for (size_t i = 0; i < n && i < NEXTHOP_MEMBERS_MAX; i++)
			memcpy(&ret->members[ret->n_members++], p + i * sizeof(struct nexthop_grp), sizeof(uint32_t));
	}
}

struct nexthop_walk {
	nexthop_handler handler;
	void *userdata;
};

static int nexthop_seen(const struct nlmsghdr *h, void *userdata) {
	struct nexthop_walk *d = userdata;
	struct nexthop nh;
	nexthop_decode(h, &nh);
	return d->handler(&nh, d->userdata);
}

int nexthop_dump(struct nl *n, nexthop_handler handler, void *userdata, struct error *err) {
	struct nhmsg m = {0};
	struct nexthop_walk d = {handler, userdata};
	struct nlmsghdr *h = nl_request(n, RTM_GETNEXTHOP, 0, &m, sizeof(m));
	return nl_dump(n, h, nexthop_seen, &d, err, "list nexthops");
}

/* -- neighbours and forwarding entries -- */

static struct ndmsg neigh_header(const struct neigh *ne) {
	bool fdb = ne->vtep.family != 0;
	return (struct ndmsg){
		.ndm_family = fdb ? AF_BRIDGE : (uint8_t)ne->addr.family,
		.ndm_ifindex = ne->oif,
		.ndm_state = fdb ? NUD_NOARP | NUD_PERMANENT : NUD_PERMANENT,
		.ndm_flags = fdb ? NTF_SELF : 0,
	};
}

static void neigh_attrs(struct nlmsghdr *h, enum net_op op, const struct neigh *ne) {
	const struct addr *dst = ne->vtep.family ? &ne->vtep : &ne->addr;
	mnl_attr_put(h, NDA_DST, addr_bits(dst->family) / 8, dst->bytes);
	if (op == NET_PUT || ne->vtep.family)
		mnl_attr_put(h, NDA_LLADDR, sizeof(ne->mac), &ne->mac);
	if (op == NET_PUT && !ne->vtep.family)
		mnl_attr_put_u8(h, NDA_PROTOCOL, NET_PROTOCOL);
}

int neigh_batch(struct nl_batch *b, enum net_op op, const struct neigh *ne, void *cookie, struct error *err) {
	struct ndmsg m = neigh_header(ne);
	struct nlmsghdr *h = nl_batch_add(b, ops[op].neigh, ops[op].flags, &m, sizeof(m), cookie, err);
	if (!h)
		return -EIO;
	neigh_attrs(h, op, ne);
	return 0;
}

static int neigh_send(struct nl *n, enum net_op op, const struct neigh *ne, struct error *err) {
	char addr[ADDR_STR_MAX], mac[MAC_STR_MAX];
	struct ndmsg m = neigh_header(ne);
	struct nlmsghdr *h = nl_request(n, ops[op].neigh, ops[op].flags, &m, sizeof(m));
	neigh_attrs(h, op, ne);
	return nl_send(n, h, err, "%s %s %s (%s)", op == NET_PUT ? "add" : "remove",
	               ne->vtep.family ? "forwarding entry to" : "neighbour",
	               addr_str(ne->vtep.family ? &ne->vtep : &ne->addr, addr), mac_str(&ne->mac, mac));
}

int neigh_put(struct nl *n, const struct neigh *ne, struct error *err) {
	return neigh_send(n, NET_PUT, ne, err);
}

int neigh_delete(struct nl *n, const struct neigh *ne, struct error *err) {
	int r = neigh_send(n, NET_DELETE, ne, err);
	return r == -ENOENT ? 0 : r;
}

bool neigh_decode(const struct nlmsghdr *h, struct neigh *ret) {
	const struct ndmsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[NDA_PROTOCOL + 1];
	struct neigh ne = {.oif = m->ndm_ifindex, .permanent = (m->ndm_state & NUD_PERMANENT) != 0};
	struct addr dst = {0};
	nl_attrs(h, sizeof(*m), tb, NDA_PROTOCOL);
	if (nl_bytes(tb[NDA_DST], dst.bytes, 16))
		dst.family = AF_INET6;
	else if (nl_bytes(tb[NDA_DST], dst.bytes, 4))
		dst.family = AF_INET;
	nl_bytes(tb[NDA_LLADDR], &ne.mac, sizeof(ne.mac));
	ne.protocol = nl_u8(tb[NDA_PROTOCOL]);
	if (!dst.family)
		return false;
	if (m->ndm_family == AF_BRIDGE)
		ne.vtep = dst;
	else if (m->ndm_family == dst.family)
		ne.addr = dst;
	else
		return false;
	*ret = ne;
	return true;
}

struct neigh_walk {
	neigh_handler handler;
	void *userdata;
	bool fdb;
};

static int neigh_seen(const struct nlmsghdr *h, void *userdata) {
	struct neigh_walk *d = userdata;
	struct neigh ne;
	if (!neigh_decode(h, &ne) || (!d->fdb && ne.protocol != NET_PROTOCOL))
		return 0;
	return d->handler(&ne, d->userdata);
}

int neigh_dump(struct nl *n, neigh_handler handler, void *userdata, struct error *err) {
	struct ndmsg m = {.ndm_family = AF_INET6};
	struct neigh_walk d = {handler, userdata, false};
	struct nlmsghdr *h = nl_request(n, RTM_GETNEIGH, 0, &m, sizeof(m));
	return nl_dump(n, h, neigh_seen, &d, err, "list neighbours");
}

int neigh_dump_fdb(struct nl *n, int oif, neigh_handler handler, void *userdata, struct error *err) {
	struct ndmsg m = {.ndm_family = AF_BRIDGE, .ndm_ifindex = oif};
	struct neigh_walk d = {handler, userdata, true};
	struct nlmsghdr *h = nl_request(n, RTM_GETNEIGH, 0, &m, sizeof(m));
	return nl_dump(n, h, neigh_seen, &d, err, "list forwarding entries");
}
