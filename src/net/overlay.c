/* SPDX-License-Identifier: Apache-2.0 */

/* The desired state: endpoints, their routes, hops and groups. overlay-*.c program the kernel. */

#include <string.h>

#include "base/loop.h"
#include "base/util.h"
#include "base/vtep.h"
#include "net/overlay-internal.h"

#define RETRY_US (5 * USEC_PER_SEC)

static int ep_cmp(const struct ep *a, const struct ep *b) {
	return strcmp(a->name, b->name);
}

static int rt_cmp(const struct rt *a, const struct rt *b) {
	return prefix_cmp(&a->dst, &b->dst);
}

static int hop_cmp(const struct hop *a, const struct hop *b) {
	int c = memcmp(&a->mac, &b->mac, sizeof(a->mac));
	return c ? c : strcmp(a->device, b->device);
}

static int group_cmp(const struct group *a, const struct group *b) {
	if (a->n != b->n)
		return a->n < b->n ? -1 : 1;
	return memcmp(a->hops, b->hops, a->n * sizeof(a->hops[0]));
}

static int dev_cmp(const struct dev *a, const struct dev *b) {
	return strcmp(a->name, b->name);
}

/* clang-format off */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
RB_GENERATE(ep_tree, ep, node, ep_cmp)
RB_GENERATE(rt_tree, rt, node, rt_cmp)
RB_GENERATE(hop_tree, hop, node, hop_cmp)
RB_GENERATE(group_tree, group, node, group_cmp)
RB_GENERATE(dev_tree, dev, node, dev_cmp)
#pragma GCC diagnostic pop
/* clang-format on */

struct rt *overlay_find_rt(struct overlay *o, const struct prefix *dst) {
	struct rt key = {.dst = *dst};
	return RB_FIND(rt_tree, &o->rts, &key);
}

struct hop *overlay_find_hop(struct overlay *o, const char *device, const struct mac *mac) {
	struct hop key = {.mac = *mac};
	snprintf(key.device, sizeof(key.device), "%s", device);
	return RB_FIND(hop_tree, &o->hops, &key);
}

struct dev *overlay_find_dev(struct overlay *o, const char *name) {
	struct dev key = {0};
	snprintf(key.name, sizeof(key.name), "%s", name);
	return RB_FIND(dev_tree, &o->devs, &key);
}

/* -- queues -- */

void overlay_unlist(struct overlay *o, struct item *i) {
	if (i->retry) {
		TAILQ_REMOVE(&o->failing, i, link);
		i->retry = false;
		o->n_failing--;
	} else if (i->queued) {
		TAILQ_REMOVE(&o->dirty[i->kind], i, link);
		i->queued = false;
		o->n_dirty--;
	}
}

void overlay_queue(struct overlay *o, struct item *i) {
	if (i->queued)
		return;
	overlay_unlist(o, i);
	i->queued = true;
	o->n_dirty++;
	TAILQ_INSERT_TAIL(&o->dirty[i->kind], i, link);
	if (o->started)
		sd_event_source_set_enabled(o->flush_src, SD_EVENT_ONESHOT);
}

void overlay_requeue_hop(struct overlay *o, struct hop *h) {
	struct ep *ep;
	struct group *g;
	h->item.nexthop = false;
	overlay_queue(o, &h->item);
	TAILQ_FOREACH (ep, &h->eps, at_hop) {
		for (unsigned i = 0; i < ep->n; i++) {
			struct rt *rt = ep->paths[i].rt;
			/* When a nexthop object is removed, the kernel removes its routes, but not those of a group. */
			if (!rt->item.grouped)
				rt->item.id = 0;
			overlay_queue(o, &rt->item);
		}
	}
	RB_FOREACH (g, group_tree, &o->groups)
		for (unsigned i = 0; i < g->n; i++)
			if (g->hops[i] == h)
				overlay_queue(o, &g->item);
}

static int on_flush(sd_event_source *s, void *userdata) {
	struct overlay *o = userdata;
	struct error err = {0};
	/* The whole flush fails only without memory or if the socket fails; then the kernel is compared again. */
	if (overlay_flush(o, &err) < 0) {
		if (o->c.report)
			o->c.report("", NULL, &err, o->c.userdata);
		overlay_schedule_sync(o);
	}
	return 0;
}

static int overlay_on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
	struct overlay *o = userdata;
	struct item *i;
	while ((i = TAILQ_FIRST(&o->failing)))
		overlay_queue(o, i);
	return 0;
}

/* The flush calls this for each failed item. */
static void arm_retry(struct overlay *o) {
	int enabled = SD_EVENT_OFF;
	if (o->retry_src)
		sd_event_source_get_enabled(o->retry_src, &enabled);
	if (enabled == SD_EVENT_OFF)
		(void)!loop_timer(o->c.loop, &o->retry_src, RETRY_US, overlay_on_retry, o);
}

void overlay_retry_later(struct overlay *o, struct item *i) {
	overlay_unlist(o, i);
	i->retry = true;
	o->n_failing++;
	TAILQ_INSERT_TAIL(&o->failing, i, link);
	arm_retry(o);
}

/* -- endpoints -- */

static struct hop *get_hop(struct overlay *o, const struct overlay_endpoint *e, struct error *err) {
	bool remote = addr_cmp(&e->vtep, &o->c.vtep) != 0;
	const char *device = remote ? o->device : e->device;
	struct mac mac = remote ? vtep_router_mac(&e->vtep) : e->mac;
	struct hop *h = overlay_find_hop(o, device, &mac);
	if (h) {
		char a[ADDR_STR_MAX], b[ADDR_STR_MAX];
		if (!remote || addr_cmp(&h->vtep, &e->vtep) == 0) {
			/* The failed hop is tried again, so that its failure is reported for the new endpoint, too. */
			if (h->item.failed) {
				h->item.reported = false;
				overlay_queue(o, &h->item);
			}
			return h;
		}
		error_set(err, EADDRINUSE,
		          "endpoint `%s`: the router MACs of VTEP %s and VTEP %s are the same: change one of the two",
		          e->name, addr_str(&h->vtep, a), addr_str(&e->vtep, b));
		return NULL;
	}
	h = calloc(1, sizeof(*h));
	if (!h) {
		error_oom(err);
		return NULL;
	}
	h->item.kind = ITEM_HOP;
	h->remote = remote;
	h->mac = mac;
	h->vtep = e->vtep;
	snprintf(h->device, sizeof(h->device), "%s", device);
	TAILQ_INIT(&h->eps);
	RB_INSERT(hop_tree, &o->hops, h);
	o->n_hops++;
	o->sweep = true; /* if adding the endpoint fails, the hop is unused */
	overlay_queue(o, &h->item);
	return h;
}

static struct rt *get_rt(struct overlay *o, const struct prefix *dst) {
	struct rt *rt = overlay_find_rt(o, dst);
	if (rt)
		return rt;
	rt = calloc(1, sizeof(*rt));
	if (!rt)
		return NULL;
	rt->item.kind = ITEM_ROUTE;
	rt->dst = *dst;
	RB_INSERT(rt_tree, &o->rts, rt);
	o->n_rts++;
	return rt;
}

static void unlink_path(struct overlay *o, struct path *p) {
	struct path **at = &p->rt->paths;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	overlay_queue(o, &p->rt->item);
}

static void drop_ep(struct overlay *o, struct ep *ep) {
	for (unsigned i = 0; i < ep->n; i++)
		unlink_path(o, &ep->paths[i]);
	if (ep->hop) {
		TAILQ_REMOVE(&ep->hop->eps, ep, at_hop);
		if (TAILQ_EMPTY(&ep->hop->eps)) {
			o->sweep = true;
			if (o->started)
				sd_event_source_set_enabled(o->flush_src, SD_EVENT_ONESHOT);
		}
	}
	o->n_eps--;
	free(ep);
}

/*
 * Prefixes that no endpoint may have, so that it can't draw their traffic: link-local, loopback and multicast addresses
 * of the router itself (RFC 6890, RFC 4291). A shorter prefix that contains them (a default route) does no harm.
 */
static bool is_reserved(const struct prefix *p) {
	static const struct prefix reserved[] = {
		{{.family = AF_INET6, .bytes = {0xfe, 0x80}}, 10}, {{.family = AF_INET6, .bytes = {0xff}}, 8},
		{{.family = AF_INET6, .bytes = {[15] = 1}}, 128},  {{.family = AF_INET6}, 128},
		{{.family = AF_INET, .bytes = {127}}, 8},          {{.family = AF_INET, .bytes = {169, 254}}, 16},
		{{.family = AF_INET, .bytes = {224}}, 3},          {{.family = AF_INET}, 8},
	};
	for (size_t i = 0; p->len > 0 && i < ARRAY_SIZE(reserved); i++)
		if (prefix_contains(&reserved[i], p))
			return true;
	return false;
}

static int overlay_check(const struct overlay_endpoint *e, struct error *err) {
	char text[PREFIX_STR_MAX];
	struct prefix own;
	if (e->ip.family != AF_INET6 || e->vtep.family != AF_INET6)
		return error_set(err, EINVAL, "endpoint `%s`: ip and vtep must be IPv6", e->name);
	if (e->n_prefixes > OVERLAY_PREFIXES_MAX)
		return error_set(err, EINVAL, "endpoint `%s`: more than %d prefixes", e->name, OVERLAY_PREFIXES_MAX);
	if (e->device && (!*e->device || strlen(e->device) >= IFNAMSIZ))
		return error_set(err, EINVAL, "endpoint `%s`: `%s` is not a valid name of a device", e->name,
		                 e->device);
	for (size_t i = 0; i < e->n_prefixes; i++) {
		int family = e->prefixes[i].addr.family;
		if ((family != AF_INET && family != AF_INET6) || e->prefixes[i].len > addr_bits(family))
			return error_set(err, EINVAL, "endpoint `%s`: prefix %zu is not a valid prefix", e->name, i);
		if (is_reserved(&e->prefixes[i]))
			return error_set(err, EINVAL, "endpoint `%s`: %s is reserved and can't be an endpoint's",
			                 e->name, prefix_str(&e->prefixes[i], text));
	}
	own = prefix_of(&e->ip, 128);
	if (is_reserved(&own))
		return error_set(err, EINVAL, "endpoint `%s`: ip %s is reserved and can't be an endpoint's", e->name,
		                 prefix_str(&own, text));
	return 0;
}

/* True if EP announces RT already (a prefix given twice, or its own ip). */
static bool has_path(const struct ep *ep, const struct rt *rt) {
	for (unsigned i = 0; i < ep->n; i++)
		if (ep->paths[i].rt == rt)
			return true;
	return false;
}

static int add_path(struct overlay *o, struct ep *ep, const struct prefix *dst) {
	struct rt *rt = get_rt(o, dst);
	if (!rt)
		return -ENOMEM;
	if (has_path(ep, rt))
		return 0;
	ep->paths[ep->n] = (struct path){.rt = rt, .ep = ep, .next = rt->paths};
	rt->paths = &ep->paths[ep->n++];
	overlay_queue(o, &rt->item);
	return 0;
}

int overlay_put(struct overlay *o, const struct overlay_endpoint *e, struct error *err) {
	struct error ignored;
	err = err ? err : &ignored;
	int r = overlay_check(e, err);
	if (r < 0)
		return r;
	struct hop *hop = NULL;
	if (e->device || addr_cmp(&e->vtep, &o->c.vtep) != 0) {
		hop = get_hop(o, e, err);
		if (!hop)
			return -err->code;
	}
	size_t paths = (e->n_prefixes + 1) * sizeof(struct path), len = strlen(e->name) + 1;
	struct ep *ep = calloc(1, sizeof(*ep) + paths + len);
	if (!ep)
		return error_oom(err);
	ep->name = memcpy((char *)ep + sizeof(*ep) + paths, e->name, len);
	ep->hop = hop;
	o->n_eps++;
	if (hop)
		TAILQ_INSERT_TAIL(&hop->eps, ep, at_hop);
	struct prefix own = prefix_of(&e->ip, 128);
	r = add_path(o, ep, &own);
	for (size_t i = 0; r >= 0 && i < e->n_prefixes; i++)
		r = add_path(o, ep, &e->prefixes[i]);
	if (r < 0) {
		drop_ep(o, ep);
		return error_oom(err);
	}
	/* The new endpoint is added before the old one is removed, so that routes of both don't vanish in between. */
	struct ep *old = RB_FIND(ep_tree, &o->eps, ep);
	if (old) {
		RB_REMOVE(ep_tree, &o->eps, old);
		drop_ep(o, old);
	}
	RB_INSERT(ep_tree, &o->eps, ep);
	return 0;
}

void overlay_remove(struct overlay *o, const char *name) {
	struct ep key = {.name = name};
	struct ep *ep = RB_FIND(ep_tree, &o->eps, &key);
	if (!ep)
		return;
	RB_REMOVE(ep_tree, &o->eps, ep);
	drop_ep(o, ep);
}

/* -- start and end -- */

int overlay_new(struct overlay **ret, const struct overlay_config *c, struct error *err) {
	_cleanup_(cleanup_overlay) struct overlay *o = calloc(1, sizeof(*o));
	if (!o)
		return error_oom(err);
	if (c->vtep.family != AF_INET6 || strlen(c->device) >= IFNAMSIZ)
		return error_set(err, EINVAL, "overlay: the VTEP must be IPv6 and the device have a name");
	o->c = *c;
	snprintf(o->device, sizeof(o->device), "%s", c->device);
	o->next_id = OVERLAY_ID_FIRST;
	RB_INIT(&o->eps);
	RB_INIT(&o->rts);
	RB_INIT(&o->hops);
	RB_INIT(&o->groups);
	RB_INIT(&o->devs);
	for (int i = 0; i < 3; i++)
		TAILQ_INIT(&o->dirty[i]);
	TAILQ_INIT(&o->failing);
	sd_event_ref(c->loop);
	int r = nl_open(&o->nl, c->public_fd, err);
	if (r >= 0)
		r = nl_open(&o->underlay_nl, c->underlay_fd, err);
	if (r >= 0)
		r = overlay_watch(o, err);
	if (r < 0)
		return r;
	r = sd_event_add_defer(c->loop, &o->flush_src, on_flush, o);
	if (r >= 0)
		r = sd_event_source_set_enabled(o->flush_src, SD_EVENT_OFF);
	if (r < 0)
		return error_errno(err, r, "overlay: event loop");
	*ret = TAKE_PTR(o);
	return 0;
}

int overlay_start(struct overlay *o, struct error *err) {
	o->started = true;
	return overlay_sync(o, err);
}

void overlay_keep(struct overlay *o, bool keep) {
	if (o->keep && !keep)
		overlay_schedule_sync(o);
	o->keep = keep;
}

struct overlay *overlay_free(struct overlay *o) {
	struct ep *ep;
	struct rt *rt;
	struct hop *h;
	struct group *g;
	struct dev *d;
	if (!o)
		return NULL;
	sd_event_source_disable_unref(o->watch_src);
	sd_event_source_disable_unref(o->underlay_src);
	sd_event_source_disable_unref(o->flush_src);
	sd_event_source_disable_unref(o->retry_src);
	sd_event_source_disable_unref(o->sync_src);
	while ((ep = RB_ROOT(&o->eps))) {
		RB_REMOVE(ep_tree, &o->eps, ep);
		free(ep);
	}
	while ((rt = RB_ROOT(&o->rts))) {
		RB_REMOVE(rt_tree, &o->rts, rt);
		free(rt);
	}
	while ((h = RB_ROOT(&o->hops))) {
		RB_REMOVE(hop_tree, &o->hops, h);
		free(h);
	}
	while ((g = RB_ROOT(&o->groups))) {
		RB_REMOVE(group_tree, &o->groups, g);
		free(g);
	}
	while ((d = RB_ROOT(&o->devs))) {
		RB_REMOVE(dev_tree, &o->devs, d);
		free(d);
	}
	nl_batch_done(&o->batch);
	nl_free(o->nl);
	nl_free(o->underlay_nl);
	nl_free(o->watch);
	nl_free(o->underlay_watch);
	sd_event_unref(o->c.loop);
	free(o);
	return NULL;
}

int overlay_foreach(const struct overlay *o, int (*fn)(const struct prefix *dst, const char *endpoint, void *userdata),
                    void *userdata) {
	struct rt *rt;
	RB_FOREACH (rt, rt_tree, (struct rt_tree *)&o->rts) {
		for (const struct path *p = rt->paths; p; p = p->next) {
			int r = fn(&rt->dst, p->ep->name, userdata);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

void overlay_foreach_local(const struct overlay *o, void (*fn)(const struct mac *mac, int index, void *userdata),
                           void *userdata) {
	struct hop *h;
	RB_FOREACH (h, hop_tree, (struct hop_tree *)&o->hops)
		if (!h->remote && h->oif && !TAILQ_EMPTY(&h->eps))
			fn(&h->mac, h->oif, userdata);
}

void overlay_stats(const struct overlay *o, struct overlay_stats *ret) {
	*ret = (struct overlay_stats){.endpoints = o->n_eps,
	                              .routes = o->n_rts,
	                              .nexthops = o->n_hops,
	                              .groups = o->n_groups,
	                              .failing = o->n_failing,
	                              .pending = o->n_dirty,
	                              .messages = o->messages,
	                              .syncs = o->syncs,
	                              .repairs = o->repairs,
	                              .last_flush_ns = o->last_flush_ns};
}
