/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/util.h"
#include "net/link-attrs.h"

static int vxlan_create(struct nl *underlay, int inner_fd, const struct link_vxlan *s, struct error *err) {
	/* The device is requested in the underlay and created in the inner namespace; it keeps sending in the underlay.
	 */
	struct link_attrs a = {.kind = "vxlan",
	                       .own = {.mac = s->mac, .mtu = s->mtu, .netns_fd = inner_fd},
	                       .vxlan = {.vni = s->vni, .port = s->port, .local = s->local}};
	snprintf(a.own.name, sizeof(a.own.name), "%s", s->name);
	return link_create(underlay, &a, err);
}

static bool vxlan_is_same(const struct link *l, const struct link_vxlan *s) {
	return streq(l->kind, "vxlan") && l->vxlan.vni == s->vni && l->vxlan.port == s->port && !l->vxlan.learning &&
	       addr_cmp(&l->vxlan.local, &s->local) == 0 && memcmp(&l->mac, &s->mac, sizeof(s->mac)) == 0;
}

int link_ensure_vxlan(struct nl *underlay, struct nl *inner, int inner_fd, const struct link_vxlan *s, int *ret_index,
                      struct error *err) {
	struct link l;
	int r = link_get(inner, s->name, &l, err);
	if (r >= 0 && !vxlan_is_same(&l, s)) {
		r = link_delete(inner, s->name, err);
		if (r >= 0)
			r = -ENODEV;
	}
	if (r == -ENODEV) {
		r = vxlan_create(underlay, inner_fd, s, err);
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
