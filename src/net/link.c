/* SPDX-License-Identifier: Apache-2.0 */
#include "net/link.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <string.h>

#include "base/util.h"
#include "net/link-attrs.h"

static int get_one(const struct nlmsghdr *h, void *userdata) {
	link_decode(h, userdata);
	return 0;
}

static int link_check_name(const char *name, struct error *err) {
	if (!*name || strlen(name) >= IFNAMSIZ || strpbrk(name, "/: "))
		return error_set(err, EINVAL, "network device `%s`: not a usable name (1 to %d characters)", name,
		                 IFNAMSIZ - 1);
	return 0;
}

int link_get(struct nl *n, const char *name, struct link *ret, struct error *err) {
	struct ifinfomsg i = {0};
	struct link l = {0};
	int r = link_check_name(name, err);
	if (r < 0)
		return r;
	struct nlmsghdr *h = nl_request(n, RTM_GETLINK, 0, &i, sizeof(i));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	r = nl_get(n, h, get_one, &l, err, "network device `%s`", name);
	if (r >= 0)
		*ret = l;
	return r;
}

struct dump {
	link_handler handler;
	void *userdata;
};

static int dump_one(const struct nlmsghdr *h, void *userdata) {
	struct dump *d = userdata;
	struct link l;
	link_decode(h, &l);
	return d->handler(&l, d->userdata);
}

int link_dump(struct nl *n, link_handler handler, void *userdata, struct error *err) {
	struct ifinfomsg i = {0};
	struct dump d = {handler, userdata};
	struct nlmsghdr *h = nl_request(n, RTM_GETLINK, 0, &i, sizeof(i));
	return nl_dump(n, h, dump_one, &d, err, "list network devices");
}

int link_set(struct nl *n, int index, const struct link_change *c, struct error *err) {
	struct ifinfomsg i = {.ifi_index = index};
	struct link_attrs a = {.own.mtu = c->mtu, .own.netns_fd = c->move ? c->netns_fd : 0, .master = c->master};
	int r = c->name ? link_check_name(c->name, err) : 0;
	if (r < 0)
		return r;
	if (c->up || c->down) {
		i.ifi_change = IFF_UP;
		i.ifi_flags = c->up ? IFF_UP : 0;
	}
	if (c->mac)
		a.own.mac = *c->mac;
	if (c->name)
		snprintf(a.own.name, sizeof(a.own.name), "%s", c->name);
	struct nlmsghdr *h = nl_request(n, RTM_NEWLINK, 0, &i, sizeof(i));
	link_attrs_put(h, &a);
	return nl_send(n, h, err, "change network device %d", index);
}

int link_delete(struct nl *n, const char *name, struct error *err) {
	struct ifinfomsg i = {0};
	int r = link_check_name(name, err);
	if (r < 0)
		return r;
	struct nlmsghdr *h = nl_request(n, RTM_DELLINK, 0, &i, sizeof(i));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	r = nl_send(n, h, err, "delete network device `%s`", name);
	return r == -ENODEV ? 0 : r;
}

/* Corrects MTU, MAC and state. The MAC is changed without taking the device down, so that routes stay. */
static int repair(struct nl *n, const struct link *l, const struct mac *mac, uint32_t mtu, struct error *err) {
	struct link_change c = {0};
	if (mtu && l->mtu != mtu)
		c.mtu = mtu;
	if (mac && memcmp(mac, &l->mac, sizeof(*mac)) != 0)
		c.mac = mac;
	c.up = !(l->flags & IFF_UP);
	if (!c.mtu && !c.mac && !c.up)
		return 0;
	int r = link_set(n, l->index, &c, err);
	return r < 0 ? error_prefix(err, "`%s`", l->name) : 0;
}

static struct link_half half_of(const struct link_end *e, uint32_t mtu, int netns_fd) {
	struct link_half half = {.mtu = mtu, .netns_fd = netns_fd};
	snprintf(half.name, sizeof(half.name), "%s", e->name);
	if (e->mac)
		half.mac = *e->mac;
	return half;
}

static int create_veth(const struct link_end *a, const struct link_end *b, uint32_t mtu, struct error *err) {
	const struct link_attrs veth = {
		.kind = "veth", .own = half_of(a, mtu, 0), .peer = half_of(b, mtu, b->netns_fd)};
	int r = link_create(a->nl, &veth, err);
	return r < 0 ? error_prefix(err, "peer `%s`", b->name) : 0;
}

int link_ensure_veth(const struct link_end *a, const struct link_end *b, uint32_t mtu, int *ret_index,
                     struct error *err) {
	struct link la = {0}, lb = {0};
	for (int tries = 0;; tries++) {
		int ra = link_get(a->nl, a->name, &la, err), rb = link_get(b->nl, b->name, &lb, err);
		if ((ra < 0 && ra != -ENODEV) || (rb < 0 && rb != -ENODEV))
			return ra < 0 && ra != -ENODEV ? ra : rb;
		if (ra >= 0 && rb >= 0 && la.peer == lb.index && lb.peer == la.index)
			break;
		if (tries)
			return error_set(err, EIO, "`%s` and `%s` are not connected after they were created", a->name,
			                 b->name);
		/* These are halves of other pairs, or devices of another kind with these names. */
		int r = ra >= 0 ? link_delete(a->nl, a->name, err) : 0;
		if (r >= 0 && rb >= 0)
			r = link_delete(b->nl, b->name, err);
		if (r >= 0)
			r = create_veth(a, b, mtu, err);
		if (r < 0)
			return r;
	}
	int r = repair(a->nl, &la, a->mac, mtu, err);
	if (r >= 0)
		r = repair(b->nl, &lb, b->mac, mtu, err);
	if (r >= 0 && ret_index)
		*ret_index = la.index;
	return r;
}

int link_ensure_bridge(struct nl *n, const char *name, int *ret_index, struct error *err) {
	struct link_attrs bridge = {.kind = "bridge"};
	struct link l;
	int r = link_get(n, name, &l, err);
	if (r >= 0 && !streq(l.kind, "bridge")) {
		r = link_delete(n, name, err);
		r = r < 0 ? r : -ENODEV;
	}
	if (r == -ENODEV) {
		snprintf(bridge.own.name, sizeof(bridge.own.name), "%s", name);
		r = link_create(n, &bridge, err);
		if (r >= 0)
			r = link_get(n, name, &l, err);
	}
	if (r >= 0)
		r = repair(n, &l, NULL, 0, err);
	if (r >= 0)
		*ret_index = l.index;
	return r;
}

/* Of IPv6 addresses the kernel knows it by itself. */
static bool is_link_local4(const struct addr *a) {
	return a->family == AF_INET && a->bytes[0] == 169 && a->bytes[1] == 254;
}

static int link_put_addr(struct nl *n, int index, const struct addr *addr, uint8_t len,
                         const struct ifa_cacheinfo *lifetime, struct error *err) {
	char text[ADDR_STR_MAX];
	struct ifaddrmsg m = {.ifa_family = (uint8_t)addr->family,
	                      .ifa_prefixlen = len,
	                      .ifa_flags = IFA_F_PERMANENT | IFA_F_NODAD,
	                      .ifa_scope = is_link_local4(addr) ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
	                      .ifa_index = (unsigned)index};
	struct nlmsghdr *h = nl_request(n, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
	mnl_attr_put(h, IFA_LOCAL, addr_bits(addr->family) / 8, addr->bytes);
	mnl_attr_put(h, IFA_ADDRESS, addr_bits(addr->family) / 8, addr->bytes);
	if (lifetime)
		mnl_attr_put(h, IFA_CACHEINFO, sizeof(*lifetime), lifetime);
	return nl_send(n, h, err, "add address %s/%u to network device %d", addr_str(addr, text), len, index);
}

int link_ensure_addr(struct nl *n, int index, const struct addr *addr, uint8_t len, struct error *err) {
	return link_put_addr(n, index, addr, len, NULL, err);
}

int link_ensure_deprecated(struct nl *n, int index, const struct addr *addr, uint8_t len, struct error *err) {
	const struct ifa_cacheinfo not_preferred = {.ifa_valid = UINT32_MAX};

	return link_put_addr(n, index, addr, len, &not_preferred, err);
}

#define SWEEP_MAX 64

struct addr_sweep {
	int index;
	const struct addr *keep;
	size_t n_keep, n;
	struct {
		struct addr addr;
		uint8_t len;
	} gone[SWEEP_MAX];
};

static int addr_seen(const struct nlmsghdr *h, void *userdata) {
	struct addr_sweep *s = userdata;
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[IFA_MAX + 1];
	struct addr a = {.family = m->ifa_family};
	nl_attrs(h, sizeof(*m), tb, IFA_MAX);
	if ((int)m->ifa_index != s->index || m->ifa_scope != RT_SCOPE_UNIVERSE || s->n == SWEEP_MAX ||
	    !nl_bytes(tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS], a.bytes, addr_bits(a.family) / 8U))
		return 0;
	for (size_t i = 0; i < s->n_keep; i++)
		if (addr_cmp(&s->keep[i], &a) == 0)
			return 0;
	s->gone[s->n].addr = a;
	s->gone[s->n++].len = m->ifa_prefixlen;
	return 0;
}

int link_sweep_addrs(struct nl *n, int index, const struct addr *keep, size_t n_keep, struct error *err) {
	struct addr_sweep s = {.index = index, .keep = keep, .n_keep = n_keep};
	struct ifaddrmsg m = {.ifa_family = AF_UNSPEC, .ifa_index = (unsigned)index};
	struct nlmsghdr *h = nl_request(n, RTM_GETADDR, 0, &m, sizeof(m));
	int r = nl_dump(n, h, addr_seen, &s, err, "list addresses of network device %d", index);
	for (size_t i = 0; r >= 0 && i < s.n; i++) {
		char text[ADDR_STR_MAX];
		struct ifaddrmsg d = {.ifa_family = (uint8_t)s.gone[i].addr.family,
		                      .ifa_prefixlen = s.gone[i].len,
		                      .ifa_index = (unsigned)index};
		h = nl_request(n, RTM_DELADDR, 0, &d, sizeof(d));
		mnl_attr_put(h, IFA_LOCAL, addr_bits(d.ifa_family) / 8, s.gone[i].addr.bytes);
		r = nl_send(n, h, err, "remove address %s from network device %d", addr_str(&s.gone[i].addr, text),
		            index);
		if (r == -EADDRNOTAVAIL)
			r = 0;
	}
	return r;
}
