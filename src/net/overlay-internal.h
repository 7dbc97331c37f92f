/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Internals of the overlay. Pointers between its structs:
 *
 *   ep --hop--> hop            where the endpoint is (NULL: this host has no route to it)
 *   ep.paths[] --rt--> rt      each prefix that it announces; rt.paths chains the announcers
 *   rt --target--> hop/group   what the route uses, set by overlay_resolve()
 *   group.hops[] --> hop
 *
 * An item is `queued` in one of the lists o->dirty (one each for routes, hops and groups) when the kernel may differ
 * from it. Every change of a route's announcers queues the route, and overlay_flush() resolves every queued route
 * before it frees a hop or group, so targets never dangle.
 */

#include <net/if.h>

#include "base/tree.h"
#include "net/nl.h"
#include "net/overlay.h"
#include "net/route.h"

/* The metric of our routes, which no other routes have (net/route.h). */
#define OVERLAY_METRIC 1024

/*
 * Nexthop ids count up from here. On an edge FRR runs in `public`, too: its own ids count up from 1, and it reserves
 * ids from 200,000,000 on for its protocols (FRR zebra/zebra_nhg.h).
 */
#define OVERLAY_ID_FIRST 100000000
#define OVERLAY_ID_LAST  199999999

enum item_kind { ITEM_ROUTE, ITEM_HOP, ITEM_GROUP };

/* First member of struct hop, struct group and struct rt. */
struct item {
	uint8_t kind;
	uint8_t queued : 1;
	uint8_t failed : 1;   /* the last attempt failed */
	uint8_t reported : 1; /* the failure was reported to the user */
	uint8_t grouped : 1;  /* routes: target is a group */
	uint8_t nexthop : 1;  /* hops, groups: the kernel has its nexthop object */
	uint8_t neigh : 1;    /* hops: the kernel has its neighbour (used only during the sync) */
	uint8_t fdb : 1;      /* hops: the kernel has its forwarding entry (used only during the sync) */
	uint8_t retry : 1;    /* in the list o->failing */
	uint32_t id; /* hops, groups: nexthop id (0: none yet). Routes: the id that the kernel has (0: no route) */
	TAILQ_ENTRY(item) link;
};
TAILQ_HEAD(item_list, item);

struct hop {
	struct item item;
	RB_ENTRY(hop) node; /* by device and MAC */
	char device[IFNAMSIZ];
	bool remote;
	bool unreachable; /* remote: the underlay has no route to vtep */
	bool checked;     /* used only during overlay_check_reach() */
	struct mac mac;
	struct addr vtep;
	int oif; /* 0: the device does not exist or is down */
	TAILQ_HEAD(, ep) eps;
};
RB_HEAD(hop_tree, hop);

struct group {
	struct item item;
	RB_ENTRY(group) node;
	uint32_t refs; /* number of routes that use it */
	unsigned n;
	struct hop *hops[NEXTHOP_MEMBERS_MAX]; /* sorted by address of the struct */
};
RB_HEAD(group_tree, group);

struct rt {
	struct item item;
	RB_ENTRY(rt) node;
	struct path *paths;
	void *target; /* struct hop or struct group */
	struct prefix dst;
};
RB_HEAD(rt_tree, rt);

struct path {
	struct rt *rt;
	struct ep *ep;
	struct path *next; /* the next path of the same route */
};

struct ep {
	RB_ENTRY(ep) node;
	TAILQ_ENTRY(ep) at_hop;
	struct hop *hop;
	const char *name; /* points into the memory after paths */
	unsigned n;
	struct path paths[];
};
RB_HEAD(ep_tree, ep);

/* A device of `public`. */
struct dev {
	RB_ENTRY(dev) node;
	char name[IFNAMSIZ];
	int index;
	bool up;
	bool seen;
};
RB_HEAD(dev_tree, dev);

struct overlay {
	struct overlay_config c;
	char device[IFNAMSIZ];
	struct nl *nl, *underlay_nl;       /* for requests */
	struct nl *watch, *underlay_watch; /* for notifications */
	struct nl_batch batch;
	struct ep_tree eps;
	struct rt_tree rts;
	struct hop_tree hops;
	struct group_tree groups;
	struct dev_tree devs;
	struct item_list dirty[3]; /* by kind */
	struct item_list failing;
	sd_event_source *watch_src, *underlay_src, *flush_src, *retry_src, *sync_src;
	uint32_t next_id;
	bool started;
	bool keep;          /* overlay_keep() */
	bool sweep;         /* there may be unused hops or groups */
	bool local_changed; /* a hop of this host changed since the last call of c.local_changed() */
	size_t n_eps, n_rts, n_hops, n_groups, n_failing, n_dirty;
	uint64_t messages, syncs, repairs, last_flush_ns, last_sync_ns;
};

RB_PROTOTYPE(ep_tree, ep, node, )
RB_PROTOTYPE(rt_tree, rt, node, )
RB_PROTOTYPE(hop_tree, hop, node, )
RB_PROTOTYPE(group_tree, group, node, )
RB_PROTOTYPE(dev_tree, dev, node, )

/* overlay.c */
void overlay_queue(struct overlay *o, struct item *i);
/* The kernel has lost the hop or has a wrong one: queues the hop and the routes that use it. */
void overlay_requeue_hop(struct overlay *o, struct hop *h);
struct rt *overlay_find_rt(struct overlay *o, const struct prefix *dst);
struct hop *overlay_find_hop(struct overlay *o, const char *device, const struct mac *mac);
struct dev *overlay_find_dev(struct overlay *o, const char *name);
/* Removes the item from its list. */
void overlay_unlist(struct overlay *o, struct item *i);
/* Puts the item on the list of those that are retried after a while. */
void overlay_retry_later(struct overlay *o, struct item *i);

/* overlay-flush.c */
/* Sets the hop or group that RT uses; a new group is queued. On -ENOMEM nothing changes. */
int overlay_resolve(struct overlay *o, struct rt *rt);
int overlay_flush(struct overlay *o, struct error *err);
/* The ids of the members that the group should have now. */
unsigned overlay_group_members(const struct group *g, uint32_t ids[static NEXTHOP_MEMBERS_MAX]);

/* overlay-sync.c */
int overlay_sync(struct overlay *o, struct error *err);
void overlay_schedule_sync(struct overlay *o);

/* overlay-watch.c */
int overlay_watch(struct overlay *o, struct error *err);
/* Reads the devices of the kernel into o->devs. */
int overlay_list_devs(struct overlay *o, struct error *err);
/* Checks which VTEPs of groups have a route in the underlay. */
int overlay_check_reach(struct overlay *o, struct error *err);
