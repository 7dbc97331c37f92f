/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sends the queued items in three steps: hops, groups, routes. Each step ends before the next begins, so that no route
 * is sent with a nexthop that the kernel refused. Unused entries are removed last.
 */

#include <string.h>

#include "base/util.h"
#include "base/vtep.h"
#include "net/overlay-internal.h"

/* Routes sent in one turn; then the loop runs other events. */
#define ROUTES_A_TURN 100000

static void overlay_flush_tell(struct overlay *o, const struct ep *ep, const struct prefix *route,
                               const struct error *err) {
	if (o->c.report)
		o->c.report(ep->name, route, err, o->c.userdata);
}

static void tell_all(struct overlay *o, struct item *i, const struct error *err) {
	if (i->kind == ITEM_ROUTE) {
		struct rt *rt = (struct rt *)i;
		for (struct path *p = rt->paths; p; p = p->next)
			overlay_flush_tell(o, p->ep, &rt->dst, err);
	} else if (i->kind == ITEM_HOP) {
		struct ep *ep;
		TAILQ_FOREACH (ep, &((struct hop *)i)->eps, at_hop)
			overlay_flush_tell(o, ep, NULL, err);
	}
}

static void failed(struct overlay *o, struct item *i, const struct error *err) {
	i->failed = true;
	if (!i->reported)
		tell_all(o, i, err);
	i->reported = true;
}

static void batch_failed(void *cookie, int code, const char *text, void *userdata) {
	struct overlay *o = userdata;
	struct error err = {0};
	/* The message without a cookie was a removal, of an entry that may be gone already. */
	if (!cookie)
		return;
	error_set(&err, code, "refused by the kernel: %s", text);
	failed(o, cookie, &err);
}

/* Puts a failed item aside for a later attempt. Reports success to those to whom its failure was reported. */
static void overlay_flush_settle(struct overlay *o, struct item *i) {
	if (i->failed) {
		overlay_retry_later(o, i);
	} else if (i->reported) {
		i->reported = false;
		tell_all(o, i, NULL);
	}
}

static int transmit(struct overlay *o, struct error *err) {
	int r = nl_batch_flush(&o->batch, err);
	o->messages = o->batch.sent;
	return r;
}

/* -- hops -- */

static uint32_t new_id(struct overlay *o) {
	if (o->next_id > OVERLAY_ID_LAST)
		o->next_id = OVERLAY_ID_FIRST;
	return o->next_id++;
}

static int put_hop(struct overlay *o, struct hop *h, struct error *err) {
	struct dev *d = overlay_find_dev(o, h->device);
	h->oif = d && d->up ? d->index : 0;
	o->local_changed |= !h->remote;
	if (!h->oif) {
		struct error why;
		error_set(&why, ENODEV, "network device `%s` is %s", h->device, d ? "down" : "not there");
		h->item.nexthop = false;
		failed(o, &h->item, &why);
		return 0;
	}
	if (!h->item.id)
		h->item.id = new_id(o);
	struct nexthop nh = {.id = h->item.id, .oif = h->oif, .via = vtep_link_local(&h->mac)};
	struct neigh ne = {.oif = h->oif, .mac = h->mac, .addr = nh.via};
	struct neigh fdb = {.oif = h->oif, .mac = h->mac, .vtep = h->vtep};
	/* Neighbour and forwarding entry come before the nexthop: no route is ever without its neighbour. */
	int r = neigh_batch(&o->batch, NET_PUT, &ne, h, err);
	if (r >= 0 && h->remote)
		r = neigh_batch(&o->batch, NET_PUT, &fdb, h, err);
	if (r >= 0)
		r = nexthop_batch(&o->batch, NET_PUT, &nh, h, err);
	return r;
}

/* Queues the routes of the hop's endpoints whose nexthop is another one. */
static void queue_routes(struct overlay *o, struct hop *h) {
	struct ep *ep;
	TAILQ_FOREACH (ep, &h->eps, at_hop) {
		for (unsigned i = 0; i < ep->n; i++)
			if (ep->paths[i].rt->item.id != h->item.id)
				overlay_queue(o, &ep->paths[i].rt->item);
	}
}

static void queue_groups(struct overlay *o, struct hop *h) {
	struct group *g;
	RB_FOREACH (g, group_tree, &o->groups)
		for (unsigned i = 0; i < g->n; i++)
			if (g->hops[i] == h)
				overlay_queue(o, &g->item);
}

static int flush_hops(struct overlay *o, struct error *err) {
	struct item_list now = TAILQ_HEAD_INITIALIZER(now);
	struct item *i;
	int r = 0;
	while (r >= 0 && (i = TAILQ_FIRST(&o->dirty[ITEM_HOP]))) {
		overlay_unlist(o, i);
		i->failed = false;
		TAILQ_INSERT_TAIL(&now, i, link);
		if (!TAILQ_EMPTY(&((struct hop *)i)->eps))
			r = put_hop(o, (struct hop *)i, err);
	}
	if (r >= 0)
		r = transmit(o, err);
	while ((i = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, i, link);
		if (r < 0) {
			overlay_queue(o, i);
			continue;
		}
		bool fresh = !i->failed && !i->nexthop;
		overlay_flush_settle(o, i);
		if (TAILQ_EMPTY(&((struct hop *)i)->eps))
			continue;
		i->nexthop = !i->failed;
		if (fresh) {
			queue_routes(o, (struct hop *)i);
			queue_groups(o, (struct hop *)i);
		}
	}
	return r;
}

/* -- groups -- */

unsigned overlay_group_members(const struct group *g, uint32_t ids[static NEXTHOP_MEMBERS_MAX]) {
	unsigned n = 0, all = 0;
	for (unsigned i = 0; i < g->n; i++)
		if (g->hops[i]->item.nexthop && !g->hops[i]->unreachable)
			ids[n++] = g->hops[i]->item.id;
	/* If no member is reachable, all members are the best choice. */
	for (unsigned i = 0; i < g->n && n == 0; i++)
		if (g->hops[i]->item.nexthop)
			ids[all++] = g->hops[i]->item.id;
	return n ? n : all;
}

static int put_group(struct overlay *o, struct group *g, struct error *err) {
	struct nexthop nh = {0};
	nh.n_members = overlay_group_members(g, nh.members);
	if (nh.n_members == 0) {
		/*
		 * The hops report the reason, and queue the group once they exist. The kernel has removed the group
		 * with its last member, and the routes with the group; because the group gets a new id, its routes will
		 * be sent again.
		 */
		g->item.nexthop = false;
		g->item.id = 0;
		g->item.failed = true;
		return 0;
	}
	if (!g->item.id)
		g->item.id = new_id(o);
	nh.id = g->item.id;
	return nexthop_batch(&o->batch, NET_PUT, &nh, g, err);
}

static int flush_groups(struct overlay *o, struct error *err) {
	struct item_list now = TAILQ_HEAD_INITIALIZER(now);
	struct item *i;
	int r = 0;
	while (r >= 0 && (i = TAILQ_FIRST(&o->dirty[ITEM_GROUP]))) {
		overlay_unlist(o, i);
		i->failed = false;
		TAILQ_INSERT_TAIL(&now, i, link);
		if (((struct group *)i)->refs)
			r = put_group(o, (struct group *)i, err);
	}
	if (r >= 0)
		r = transmit(o, err);
	while ((i = TAILQ_FIRST(&now))) {
		struct group *g = (struct group *)i;
		TAILQ_REMOVE(&now, i, link);
		if (r < 0) {
			overlay_queue(o, i);
			continue;
		}
		bool fresh = g->refs && !i->failed && !i->nexthop;
		if (g->refs)
			i->nexthop = !i->failed;
		if (g->refs && i->failed)
			overlay_retry_later(o, i);
		for (unsigned k = 0; fresh && k < g->n; k++)
			queue_routes(o, g->hops[k]);
	}
	return r;
}

/* -- routes -- */

static int hop_order(const void *a, const void *b) {
	uintptr_t x = (uintptr_t) * (struct hop *const *)a, y = (uintptr_t) * (struct hop *const *)b;
	return x < y ? -1 : x > y;
}

static struct group *get_group(struct overlay *o, struct hop **hops, unsigned n) {
	struct group *g, *found;
	qsort(hops, n, sizeof(*hops), hop_order);
	g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	g->item.kind = ITEM_GROUP;
	g->n = n;
	memcpy(g->hops, hops, n * sizeof(*hops));
	found = RB_INSERT(group_tree, &o->groups, g);
	if (found) {
		free(g);
		return found;
	}
	o->n_groups++;
	o->sweep = true;
	overlay_queue(o, &g->item);
	/* From now on it matters whether the members can be reached. */
	(void)!overlay_check_reach(o, NULL);
	return g;
}

int overlay_resolve(struct overlay *o, struct rt *rt) {
	struct hop *hops[NEXTHOP_MEMBERS_MAX];
	unsigned n = 0;
	bool local = false;
	for (struct path *p = rt->paths; p; p = p->next) {
		struct hop *h = p->ep->hop;
		bool known = false;
		if (!h || (h->remote && local))
			continue;
		if (!h->remote && !local) {
			local = true;
			n = 0;
		}
		for (unsigned i = 0; i < n; i++)
			known |= hops[i] == h;
		if (!known && n < NEXTHOP_MEMBERS_MAX)
			hops[n++] = h;
	}
	void *target = n == 1 ? hops[0] : NULL;
	if (n > 1) {
		struct group *g = get_group(o, hops, n);
		if (!g)
			return -ENOMEM;
		g->refs++;
		target = g;
	}
	if (rt->item.grouped) {
		struct group *g = rt->target;
		if (--g->refs == 0)
			o->sweep = true;
	}
	rt->target = target;
	rt->item.grouped = n > 1;
	return 0;
}

/* The nexthop that the route should have; 0: none, or one that the kernel does not have yet. */
static uint32_t target_id(const struct rt *rt) {
	const struct item *t = rt->target; /* first member of both kinds */
	return t && t->nexthop ? t->id : 0;
}

static int overlay_flush_put_route(struct overlay *o, struct rt *rt, struct error *err) {
	struct route r = {.dst = rt->dst, .metric = OVERLAY_METRIC};
	uint32_t id = target_id(rt);
	if (id) {
		if (id == rt->item.id)
			return 0;
		r.nexthop = id;
		return route_batch(&o->batch, NET_PUT, &r, rt, err);
	}
	/* The nexthop is missing still, so the kernel's present route is the best. */
	if (rt->target || rt->item.id == 0)
		return 0;
	return route_batch(&o->batch, NET_DELETE, &r, NULL, err);
}

static void settle_route(struct overlay *o, struct rt *rt) {
	uint32_t id = target_id(rt);
	if (!rt->item.failed && (id || !rt->target))
		rt->item.id = id;
	if (!rt->paths) {
		RB_REMOVE(rt_tree, &o->rts, rt);
		o->n_rts--;
		free(rt);
		return;
	}
	overlay_flush_settle(o, &rt->item);
}

static int resolve_all(struct overlay *o, struct error *err) {
	struct item *i;
	int r = 0;
	TAILQ_FOREACH (i, &o->dirty[ITEM_ROUTE], link)
		if (r >= 0)
			r = overlay_resolve(o, (struct rt *)i);
	return r < 0 ? error_oom(err) : 0;
}

static int flush_routes(struct overlay *o, struct error *err) {
	struct item_list now = TAILQ_HEAD_INITIALIZER(now);
	struct item *i;
	int r = 0;
	for (unsigned n = 0; r >= 0 && n < ROUTES_A_TURN && (i = TAILQ_FIRST(&o->dirty[ITEM_ROUTE])); n++) {
		overlay_unlist(o, i);
		i->failed = false;
		TAILQ_INSERT_TAIL(&now, i, link);
		r = overlay_flush_put_route(o, (struct rt *)i, err);
	}
	if (r >= 0)
		r = transmit(o, err);
	while ((i = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, i, link);
		if (r < 0)
			overlay_queue(o, i);
		else
			settle_route(o, (struct rt *)i);
	}
	return r;
}

/* -- unused entries -- */

static int delete_hop(struct overlay *o, struct hop *h, struct error *err) {
	struct nexthop nh = {.id = h->item.id};
	struct neigh ne = {.oif = h->oif, .mac = h->mac, .addr = vtep_link_local(&h->mac)};
	struct neigh fdb = {.oif = h->oif, .mac = h->mac, .vtep = h->vtep};
	int r = 0;
	if (h->item.nexthop)
		r = nexthop_batch(&o->batch, NET_DELETE, &nh, NULL, err);
	if (r >= 0 && h->oif)
		r = neigh_batch(&o->batch, NET_DELETE, &ne, NULL, err);
	if (r >= 0 && h->oif && h->remote)
		r = neigh_batch(&o->batch, NET_DELETE, &fdb, NULL, err);
	return r;
}

static int sweep(struct overlay *o, struct error *err) {
	struct group *g, *g2;
	struct hop *h, *h2;
	int r = 0;
	RB_FOREACH_SAFE (g, group_tree, &o->groups, g2) {
		if (g->refs)
			continue;
		struct nexthop nh = {.id = g->item.id};
		if (g->item.nexthop && (r = nexthop_batch(&o->batch, NET_DELETE, &nh, NULL, err)) < 0)
			return r;
		overlay_unlist(o, &g->item);
		RB_REMOVE(group_tree, &o->groups, g);
		o->n_groups--;
		free(g);
	}
	RB_FOREACH_SAFE (h, hop_tree, &o->hops, h2) {
		if (!TAILQ_EMPTY(&h->eps))
			continue;
		if ((r = delete_hop(o, h, err)) < 0)
			return r;
		o->local_changed |= !h->remote;
		overlay_unlist(o, &h->item);
		RB_REMOVE(hop_tree, &o->hops, h);
		o->n_hops--;
		free(h);
	}
	o->sweep = false;
	return transmit(o, err);
}

int overlay_flush(struct overlay *o, struct error *err) {
	uint64_t start = now_monotonic_ns();
	if (!o->started)
		return 0;
	if (!o->batch.buf) {
		int r = nl_batch_init(&o->batch, o->nl, batch_failed, o, err);
		if (r < 0)
			return r;
	}
	int r = flush_hops(o, err);
	if (r >= 0)
		r = resolve_all(o, err);
	if (r >= 0)
		r = flush_groups(o, err);
	if (r >= 0)
		r = flush_routes(o, err);
	if (r >= 0 && o->sweep && TAILQ_EMPTY(&o->dirty[ITEM_ROUTE]))
		r = sweep(o, err);
	if (r >= 0 && o->n_dirty)
		sd_event_source_set_enabled(o->flush_src, SD_EVENT_ONESHOT);
	o->last_flush_ns = now_monotonic_ns() - start;
	if (o->local_changed && o->c.local_changed)
		o->c.local_changed(o->c.userdata);
	o->local_changed = false;
	return r;
}
