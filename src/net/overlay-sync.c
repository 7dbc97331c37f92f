/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Compares the kernel with the desired state: at the start, when notifications were lost, and when another program made
 * a change that is not handled one by one. Correct entries are adopted with their ids. The others are queued and sent
 * by the flush, and only then are the wrong entries removed.
 */

#include <string.h>

#include "base/loop.h"
#include "base/util.h"
#include "base/vtep.h"
#include "net/overlay-internal.h"

#define SYNC_DELAY_US    (20 * USEC_PER_MSEC)
#define SYNC_INTERVAL_NS (2 * NSEC_PER_SEC)
/* Corrects even changes that no notification reported. */
#define SYNC_PERIOD_US (600 * USEC_PER_SEC)

/* Entries of the kernel that should not exist. */
struct stale {
	struct route *routes;
	struct neigh *neighs;
	struct nexthop *groups; /* groups found in the kernel, until they are matched with ours */
	uint32_t *nexthops;
	size_t n_routes, n_neighs, n_groups, n_nexthops;
};

struct sync {
	struct overlay *o;
	struct stale stale;
};

static void stale_free(struct stale *s) {
	free(s->routes);
	free(s->neighs);
	free(s->groups);
	free(s->nexthops);
}

/* Adds one element to a growing array; the size doubles when n is a power of two. */
#define PUSH(array, n, value)                                                                   \
	({                                                                                      \
		int _r = 0;                                                                     \
		if (((n) & ((n)-1)) == 0) {                                                     \
			void *_more = reallocarray((array), (n) ? (n)*2 : 1, sizeof(*(array))); \
			if (_more)                                                              \
				(array) = _more;                                                \
			else                                                                    \
				_r = -ENOMEM;                                                   \
		}                                                                               \
		if (_r == 0)                                                                    \
			(array)[(n)++] = (value);                                               \
		_r;                                                                             \
	})

static const char *device_of(struct overlay *o, int index) {
	struct dev *d;
	RB_FOREACH (d, dev_tree, &o->devs)
		if (d->index == index)
			return d->name;
	return NULL;
}

/* The hop whose gateway is VIA on device OIF; the MAC is part of the gateway (EUI-64). */
static struct hop *hop_of(struct overlay *o, int oif, const struct addr *via) {
	const char *device = device_of(o, oif);
	const uint8_t *b = via->bytes;
	struct mac mac = {.bytes = {b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]}};
	struct addr back = vtep_link_local(&mac);
	struct hop *h = device && addr_cmp(&back, via) == 0 ? overlay_find_hop(o, device, &mac) : NULL;
	return h && h->oif == oif && !TAILQ_EMPTY(&h->eps) ? h : NULL;
}

static int seen_nexthop(const struct nexthop *nh, void *userdata) {
	struct sync *s = userdata;
	struct overlay *o = s->o;
	if (nh->protocol != NET_PROTOCOL)
		return 0;
	if (nh->id >= o->next_id)
		o->next_id = nh->id + 1;
	if (nh->n_members)
		return PUSH(s->stale.groups, s->stale.n_groups, *nh);
	struct hop *h = hop_of(o, nh->oif, &nh->via);
	/* A repeated dump shows the same nexthop again. */
	if (h && h->item.nexthop && h->item.id == nh->id)
		return 0;
	if (!h || h->item.nexthop)
		return PUSH(s->stale.nexthops, s->stale.n_nexthops, nh->id);
	h->item.id = nh->id;
	h->item.nexthop = true;
	return 0;
}

static int id_order(const void *a, const void *b) {
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static bool same_members(const struct group *g, const struct nexthop *nh) {
	uint32_t want[NEXTHOP_MEMBERS_MAX], have[NEXTHOP_MEMBERS_MAX];
	unsigned n = overlay_group_members(g, want);
	if (n != nh->n_members)
		return false;
	memcpy(have, nh->members, n * sizeof(have[0]));
	qsort(want, n, sizeof(want[0]), id_order);
	qsort(have, n, sizeof(have[0]), id_order);
	return memcmp(want, have, n * sizeof(want[0])) == 0;
}

static int match_groups(struct sync *s) {
	struct group *g;
	int r = 0;
	for (size_t i = 0; r == 0 && i < s->stale.n_groups; i++) {
		const struct nexthop *nh = &s->stale.groups[i];
		bool taken = false;
		RB_FOREACH (g, group_tree, &s->o->groups) {
			taken |= g->item.nexthop && g->item.id == nh->id;
			if (!taken && !g->item.nexthop && same_members(g, nh)) {
				g->item.id = nh->id;
				g->item.nexthop = taken = true;
			}
		}
		if (!taken)
			r = PUSH(s->stale.nexthops, s->stale.n_nexthops, nh->id);
	}
	return r;
}

static int seen_neigh(const struct neigh *ne, void *userdata) {
	struct sync *s = userdata;
	struct hop *h = hop_of(s->o, ne->oif, &ne->addr);
	if (h && ne->permanent && memcmp(&ne->mac, &h->mac, sizeof(h->mac)) == 0) {
		h->item.neigh = true;
		return 0;
	}
	/* A wrong neighbour of one of our hops will be replaced, so it is not removed. */
	return h ? 0 : PUSH(s->stale.neighs, s->stale.n_neighs, *ne);
}

static int seen_fdb(const struct neigh *ne, void *userdata) {
	struct sync *s = userdata;
	struct hop *h = overlay_find_hop(s->o, s->o->device, &ne->mac);
	if (h && h->remote && !TAILQ_EMPTY(&h->eps) && ne->permanent && addr_cmp(&ne->vtep, &h->vtep) == 0) {
		h->item.fdb = true;
		return 0;
	}
	return PUSH(s->stale.neighs, s->stale.n_neighs, *ne);
}

static int seen_route(const struct route *r, void *userdata) {
	struct sync *s = userdata;
	struct rt *rt;
	if (r->metric != OVERLAY_METRIC)
		return 0; /* belongs to another module (net/route.h) */
	rt = overlay_find_rt(s->o, &r->dst);
	if (rt && r->type == RTN_UNICAST) {
		/* A route without a nexthop object must be replaced or removed, too. */
		rt->item.id = r->nexthop ? r->nexthop : UINT32_MAX;
		return 0;
	}
	return PUSH(s->stale.routes, s->stale.n_routes, *r);
}

/*
 * Forgets the known kernel state, including ids: an id may belong to another object now, which will be removed. An
 * object that is not found gets a new id, above all ids in use.
 */
static int forget(struct overlay *o, struct error *err) {
	struct rt *rt;
	struct hop *h;
	struct group *g;
	int r = 0;
	RB_FOREACH (rt, rt_tree, &o->rts) {
		rt->item.id = 0;
		if (r >= 0)
			r = overlay_resolve(o, rt);
	}
	RB_FOREACH (h, hop_tree, &o->hops) {
		struct dev *d = overlay_find_dev(o, h->device);
		h->oif = d && d->up ? d->index : 0;
		h->item.nexthop = h->item.neigh = h->item.fdb = false;
		h->item.id = 0;
	}
	RB_FOREACH (g, group_tree, &o->groups) {
		g->item.nexthop = false;
		g->item.id = 0;
	}
	return r < 0 ? error_oom(err) : 0;
}

/* Takes correct entries off the queue and queues all others. */
static void overlay_sync_compare(struct overlay *o) {
	struct rt *rt;
	struct hop *h;
	struct group *g;
	RB_FOREACH (h, hop_tree, &o->hops) {
		if (!h->item.nexthop || !h->item.neigh || (h->remote && !h->item.fdb))
			overlay_queue(o, &h->item);
		else
			overlay_unlist(o, &h->item);
	}
	RB_FOREACH (g, group_tree, &o->groups) {
		if (g->item.nexthop)
			overlay_unlist(o, &g->item);
		else
			overlay_queue(o, &g->item);
	}
	RB_FOREACH (rt, rt_tree, &o->rts) {
		const struct item *t = rt->target;
		if (rt->paths && (t ? t->nexthop && rt->item.id == t->id : rt->item.id == 0))
			overlay_unlist(o, &rt->item);
		else
			overlay_queue(o, &rt->item);
	}
}

static int read_kernel(struct sync *s, struct error *err) {
	struct overlay *o = s->o;
	struct dev *vxlan = overlay_find_dev(o, o->device);
	int r = nexthop_dump(o->nl, seen_nexthop, s, err);
	if (r >= 0 && (r = match_groups(s)) < 0)
		return error_oom(err);
	if (r >= 0)
		r = neigh_dump(o->nl, seen_neigh, s, err);
	if (r >= 0 && vxlan)
		r = neigh_dump_fdb(o->nl, vxlan->index, seen_fdb, s, err);
	if (r >= 0)
		r = route_dump(o->nl, AF_INET6, seen_route, s, err);
	if (r >= 0)
		r = route_dump(o->nl, AF_INET, seen_route, s, err);
	return r;
}

/* Removes routes before their nexthops, and nexthops before their neighbours. */
static int remove_stale(struct overlay *o, const struct stale *s, struct error *err) {
	int r = 0;
	for (size_t i = 0; r >= 0 && i < s->n_routes; i++)
		r = route_batch(&o->batch, NET_DELETE, &s->routes[i], NULL, err);
	for (size_t i = 0; r >= 0 && i < s->n_nexthops; i++) {
		struct nexthop nh = {.id = s->nexthops[i]};
		r = nexthop_batch(&o->batch, NET_DELETE, &nh, NULL, err);
	}
	for (size_t i = 0; r >= 0 && i < s->n_neighs; i++)
		r = neigh_batch(&o->batch, NET_DELETE, &s->neighs[i], NULL, err);
	return r >= 0 ? nl_batch_flush(&o->batch, err) : r;
}

static int overlay_sync_on_sync(sd_event_source *src, uint64_t usec, void *userdata) {
	struct overlay *o = userdata;
	struct error err = {0};
	if (overlay_sync(o, &err) < 0) {
		if (o->c.report)
			o->c.report("", NULL, &err, o->c.userdata);
		overlay_schedule_sync(o);
	}
	return 0;
}

void overlay_schedule_sync(struct overlay *o) {
	uint64_t since = now_monotonic_ns() - o->last_sync_ns, delay = SYNC_DELAY_US;
	if (!o->started)
		return;
	if (since < SYNC_INTERVAL_NS)
		delay = MAX(delay, (SYNC_INTERVAL_NS - since) / 1000);
	(void)!loop_timer(o->c.loop, &o->sync_src, delay, overlay_sync_on_sync, o);
}

int overlay_sync(struct overlay *o, struct error *err) {
	struct sync s = {.o = o};
	int r = overlay_list_devs(o, err);
	if (r >= 0)
		r = forget(o, err);
	if (r >= 0)
		r = overlay_check_reach(o, err);
	if (r >= 0)
		r = read_kernel(&s, err);
	if (r >= 0) {
		overlay_sync_compare(o);
		/* A flush stops at its limit and continues in the next turn; the removals must wait until all is sent.
		 */
		do
			r = overlay_flush(o, err);
		while (r >= 0 && !TAILQ_EMPTY(&o->dirty[ITEM_ROUTE]));
	}
	if (r >= 0 && !o->keep)
		r = remove_stale(o, &s.stale, err);
	stale_free(&s.stale);
	o->syncs++;
	o->last_sync_ns = now_monotonic_ns();
	if (r >= 0)
		r = loop_timer(o->c.loop, &o->sync_src, SYNC_PERIOD_US, overlay_sync_on_sync, o);
	return r < 0 ? error_prefix(err, "compare the overlay with the kernel") : 0;
}
