/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Notifications. In `public` only those arrive that other programs caused (the kernel filters out those of our own
 * requests), so each one about an entry of ours means that the entry has to be corrected. In `underlay` every change of
 * routes means that the reachability of the groups' VTEPs has to be checked.
 */

#include <string.h>
#include <sys/epoll.h>

#include "base/vtep.h"
#include "net/link.h"
#include "net/overlay-internal.h"

static void set_dev(struct overlay *o, const struct link *l, bool gone) {
	struct dev *d = overlay_find_dev(o, l->name), *other;
	struct hop *h;
	/* The kernel accepts no nexthop on a device without carrier, and removes the nexthops of a device that loses
	 * it. */
	bool up = !gone && (l->flags & IFF_UP) && l->carrier;
	bool changed = !d || d->index != l->index || d->up != up;
	/* The device was renamed: its index is stored under another name. */
	RB_FOREACH (other, dev_tree, &o->devs)
		if (other->index == l->index && other != d) {
			RB_REMOVE(dev_tree, &o->devs, other);
			free(other);
			break;
		}
	if (gone && d && d->index == l->index) {
		RB_REMOVE(dev_tree, &o->devs, d);
		free(d);
		d = NULL;
	} else if (!gone && !d) {
		d = calloc(1, sizeof(*d));
		if (!d) {
			overlay_schedule_sync(o);
			return;
		}
		memcpy(d->name, l->name, sizeof(d->name));
		RB_INSERT(dev_tree, &o->devs, d);
	}
	if (d) {
		d->index = l->index;
		d->up = up;
		d->seen = true;
	}
	if (!o->started || (!changed && !gone))
		return;
	RB_FOREACH (h, hop_tree, &o->hops)
		if (strcmp(h->device, l->name) == 0)
			overlay_requeue_hop(o, h);
}

static int list_dev(const struct link *l, void *userdata) {
	set_dev(userdata, l, false);
	return 0;
}

int overlay_list_devs(struct overlay *o, struct error *err) {
	struct dev *d, *next;
	RB_FOREACH (d, dev_tree, &o->devs)
		d->seen = false;
	int r = link_dump(o->nl, list_dev, o, err);
	RB_FOREACH_SAFE (d, dev_tree, &o->devs, next) {
		if (r >= 0 && !d->seen) {
			RB_REMOVE(dev_tree, &o->devs, d);
			free(d);
		}
	}
	return r;
}

static void on_nexthop(struct overlay *o, const struct nlmsghdr *m) {
	struct nexthop nh;
	struct hop *h;
	struct group *g;
	nexthop_decode(m, &nh);
	RB_FOREACH (h, hop_tree, &o->hops) {
		if (h->item.id != nh.id || !h->item.nexthop)
			continue;
		/* The kernel itself removes the nexthop when the device goes down. */
		o->repairs++;
		overlay_requeue_hop(o, h);
		return;
	}
	RB_FOREACH (g, group_tree, &o->groups)
		if (g->item.id == nh.id && g->item.nexthop) {
			/* The kernel has removed the group's routes with it, and we do not record which routes used the
			 * group. */
			if (m->nlmsg_type == RTM_DELNEXTHOP)
				overlay_schedule_sync(o);
			else
				overlay_queue(o, &g->item);
			return;
		}
	if (m->nlmsg_type == RTM_NEWNEXTHOP && nh.protocol == NET_PROTOCOL)
		overlay_schedule_sync(o);
}

static void on_route(struct overlay *o, const struct nlmsghdr *m) {
	struct route r;
	struct rt *rt;
	if (!route_decode(m, &r) || r.protocol == RTPROT_KERNEL || r.metric != OVERLAY_METRIC)
		return;
	rt = overlay_find_rt(o, &r.dst);
	if (rt && (m->nlmsg_type == RTM_NEWROUTE || r.protocol == NET_PROTOCOL)) {
		/* The route was removed, or another program replaced it. */
		o->repairs++;
		rt->item.id = 0;
		overlay_queue(o, &rt->item);
	} else if (m->nlmsg_type == RTM_NEWROUTE && r.protocol == NET_PROTOCOL) {
		overlay_schedule_sync(o);
	}
}

static void on_neigh(struct overlay *o, const struct nlmsghdr *m) {
	struct neigh ne;
	struct hop *h;
	struct dev *d;
	if (!neigh_decode(m, &ne))
		return;
	bool fdb = ne.vtep.family != 0, known = false;
	RB_FOREACH (h, hop_tree, &o->hops) {
		struct addr via = vtep_link_local(&h->mac);
		if (h->oif != ne.oif || (fdb ? memcmp(&ne.mac, &h->mac, sizeof(h->mac)) : addr_cmp(&via, &ne.addr)))
			continue;
		known = true;
		if (m->nlmsg_type == RTM_NEWNEIGH && ne.permanent && memcmp(&ne.mac, &h->mac, sizeof(h->mac)) == 0 &&
		    (!fdb || addr_cmp(&ne.vtep, &h->vtep) == 0))
			continue;
		o->repairs++;
		overlay_queue(o, &h->item);
		/* A second destination for the same MAC must be removed. */
		known = !(fdb && m->nlmsg_type == RTM_NEWNEIGH);
	}
	d = overlay_find_dev(o, o->device);
	if (fdb && !known && m->nlmsg_type == RTM_NEWNEIGH && d && d->index == ne.oif)
		overlay_schedule_sync(o);
}

static int on_public(const struct nlmsghdr *m, void *userdata) {
	struct overlay *o = userdata;
	struct link l;
	switch (m->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		link_decode(m, &l);
		/* Messages about the FDB of a bridge or a VXLAN device arrive here, too; they have no device name. */
		if (l.name[0])
			set_dev(o, &l, m->nlmsg_type == RTM_DELLINK);
		break;
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP: on_nexthop(o, m); break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE: on_route(o, m); break;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH: on_neigh(o, m); break;
	}
	return 0;
}

static int public_readable(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	struct overlay *o = userdata;
	if (nl_receive(o->watch, on_public, o, NULL) < 0)
		overlay_schedule_sync(o); /* some notifications were lost */
	return 0;
}

int overlay_check_reach(struct overlay *o, struct error *err) {
	struct group *g;
	struct hop *h;
	RB_FOREACH (h, hop_tree, &o->hops)
		h->checked = false;
	RB_FOREACH (g, group_tree, &o->groups) {
		for (unsigned i = 0; i < g->n; i++) {
			h = g->hops[i];
			if (!h->remote || h->checked)
				continue;
			int r = route_lookup(o->underlay_nl, &h->vtep, err);
			if (r < 0)
				return r;
			h->checked = true;
			if (h->unreachable == !r)
				continue;
			h->unreachable = !r;
			struct group *user;
			RB_FOREACH (user, group_tree, &o->groups)
				for (unsigned k = 0; k < user->n; k++)
					if (user->hops[k] == h)
						overlay_queue(o, &user->item);
		}
	}
	return 0;
}

static int ignore(const struct nlmsghdr *m, void *userdata) {
	return 0;
}

static int underlay_readable(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	struct overlay *o = userdata;
	/* It does not matter which route changed, nor that notifications were lost. */
	(void)!nl_receive(o->underlay_watch, ignore, NULL, NULL);
	if (overlay_check_reach(o, NULL) < 0)
		overlay_schedule_sync(o);
	return 0;
}

int overlay_watch(struct overlay *o, struct error *err) {
	static const unsigned public_groups[] = {RTNLGRP_LINK,       RTNLGRP_NEIGH,   RTNLGRP_IPV4_ROUTE,
	                                         RTNLGRP_IPV6_ROUTE, RTNLGRP_NEXTHOP, 0};
	static const unsigned underlay_groups[] = {RTNLGRP_LINK, RTNLGRP_IPV6_ROUTE, RTNLGRP_NEXTHOP, 0};
	int r = nl_subscribe(&o->watch, o->c.public_fd, public_groups, err);
	if (r >= 0)
		r = nl_ignore(o->watch, o->nl, err);
	if (r >= 0)
		r = nl_subscribe(&o->underlay_watch, o->c.underlay_fd, underlay_groups, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(o->c.loop, &o->watch_src, nl_fd(o->watch), EPOLLIN, public_readable, o);
	if (r >= 0)
		r = sd_event_add_io(o->c.loop, &o->underlay_src, nl_fd(o->underlay_watch), EPOLLIN, underlay_readable,
		                    o);
	return r < 0 ? error_errno(err, r, "overlay: event loop") : 0;
}
