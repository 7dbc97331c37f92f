/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/if_link.h>
#include <string.h>

#include "base/util.h"
#include "net/link.h"

static int create(struct nl *underlay, int inner_fd, const struct link_vxlan *s, struct error *err) {
	struct ifinfomsg i = {0};
	struct nlmsghdr *h = nl_request(underlay, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &i, sizeof(i));
	mnl_attr_put_strz(h, IFLA_IFNAME, s->name);
	mnl_attr_put_u32(h, IFLA_MTU, s->mtu);
	mnl_attr_put(h, IFLA_ADDRESS, sizeof(s->mac), &s->mac);
	/* Asked for in the underlay and born in the inner namespace: it keeps sending in the former. */
	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)inner_fd);
	struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "vxlan");
	struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	mnl_attr_put_u32(h, IFLA_VXLAN_ID, s->vni);
	mnl_attr_put(h, IFLA_VXLAN_LOCAL6, 16, &s->local.v6);
	mnl_attr_put_u16(h, IFLA_VXLAN_PORT, __builtin_bswap16(s->port));
	mnl_attr_put_u8(h, IFLA_VXLAN_LEARNING, 0);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return nl_send(underlay, h, err, "create vxlan device `%s`", s->name);
}

static bool same(const struct link *l, const struct link_vxlan *s) {
	return streq(l->kind, "vxlan") && l->vxlan.vni == s->vni && l->vxlan.port == s->port && !l->vxlan.learning &&
	       addr_cmp(&l->vxlan.local, &s->local) == 0 && memcmp(&l->mac, &s->mac, sizeof(s->mac)) == 0;
}

int link_ensure_vxlan(struct nl *underlay, struct nl *inner, int inner_fd, const struct link_vxlan *s, int *ret_index,
                      struct error *err) {
	struct link l;
	int r = link_get(inner, s->name, &l, err);
	if (r >= 0 && !same(&l, s)) {
		r = link_delete(inner, s->name, err);
		if (r >= 0)
			r = -ENODEV;
	}
	if (r == -ENODEV) {
		r = create(underlay, inner_fd, s, err);
		if (r >= 0)
			r = link_get(inner, s->name, &l, err);
	}
	if (r < 0)
		return r;
	struct link_change c = {.up = !(l.flags & IFF_UP), .mtu = l.mtu != s->mtu ? s->mtu : 0};
	if (c.up || c.mtu)
		r = link_set(inner, l.index, &c, err);
	if (r >= 0 && ret_index)
		*ret_index = l.index;
	return r;
}
