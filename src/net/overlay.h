/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The public overlay as one host sees it: turns Endpoints into entries of the kernel, and keeps
 * them there.
 *
 *   endpoint on another host:  one nexthop object for each VTEP (gateway net/vtep.h, on the VXLAN device), one
 *                              permanent neighbour, one forwarding entry (router MAC -> VTEP)
 *   endpoint on this host:     one nexthop object (gateway: link-local address made of the endpoint's MAC,
 *                              on the device it hangs on), one permanent neighbour
 *   its ip and each prefix:    one route with the id of that nexthop; a prefix of several endpoints gets a
 *                              group of their nexthops; one that an endpoint of this host has, too, goes there only
 *
 * Level-triggered. The desired state is held here; the kernel is read once at the start (and again when
 * something was lost): what is right stays untouched, what is missing is added, what is wrong is removed last.
 * Changes are collected and sent in batches, once a turn of the loop. Entries that somebody else changes are
 * repaired at once (notifications). Only entries with our protocol number (net/route.h) are ever removed,
 * besides forwarding entries of our VXLAN device.
 *
 * A member of a group whose VTEP has no route in the underlay is left out of the group until it has one again.
 * Routes with one nexthop stay: there is nothing better to do with their packets.
 *
 * Memory: about 600 bytes for an endpoint with three prefixes.
 */

#include <systemd/sd-event.h>

#include "base/inet.h"

#define OVERLAY_PREFIXES_MAX 64

struct overlay;

struct overlay_config {
	sd_event *loop;
	int underlay_fd, public_fd; /* namespaces; duplicated by nobody, used during overlay_new() only */
	const char *device;         /* the VXLAN device in `public` */
	struct addr vtep;           /* this host's */
	/*
	 * A route (NULL: the endpoint as a whole) can't be programmed, or can again (ERR NULL). It is tried
	 * again by itself; other routes don't suffer. Must not call back into the overlay. May be NULL.
	 */
	void (*report)(const char *endpoint, const struct prefix *route, const struct error *err, void *userdata);
	void *userdata;
};

/* Follows the kernel from then on, but changes nothing in it before overlay_start(). */
int overlay_new(struct overlay **ret, const struct overlay_config *c, struct error *err) _must_use_;
/* Leaves the kernel as it is. */
struct overlay *overlay_free(struct overlay *o);
DEFINE_CLEANUP(overlay, struct overlay *, overlay_free)

struct overlay_endpoint {
	const char *name; /* identifies it */
	struct addr ip;   /* IPv6 */
	struct mac mac;
	struct addr vtep;
	/* For one of this host (vtep is the overlay's own): the device in `public` that it hangs on, which may come
	 * later. NULL: it isn't routed here. */
	const char *device;
	const struct prefix *prefixes; /* besides ip */
	size_t n_prefixes;
};

/*
 * Adds it, or replaces what was known under that name. Takes effect within a turn of the loop.
 * -EINVAL or -EADDRINUSE (two VTEPs share a router MAC) change nothing.
 */
int overlay_put(struct overlay *o, const struct overlay_endpoint *ep, struct error *err) _must_use_;
/* An unknown name is no failure. */
void overlay_remove(struct overlay *o, const char *name);

/*
 * All endpoints are known: make the kernel so. To be called once, after the first whole list;
 * before that nothing is programmed, and above all nothing is removed.
 */
int overlay_start(struct overlay *o, struct error *err) _must_use_;

/*
 * Each ip and prefix that endpoints have, once, in order. A negative return of FN ends it and is passed on.
 * FN must not change the overlay.
 */
int overlay_foreach(const struct overlay *o, int (*fn)(const struct prefix *dst, void *userdata),
                    void *userdata) _must_use_;

struct overlay_stats {
	size_t endpoints, routes, nexthops, groups;
	size_t failing;           /* entries that the kernel refused, or that wait for their device */
	size_t pending;           /* changes not sent yet */
	uint64_t messages, syncs; /* sent so far; comparisons with the whole kernel so far */
	uint64_t repairs;         /* entries that somebody else had changed */
	uint64_t last_flush_ns;   /* duration */
};
void overlay_stats(const struct overlay *o, struct overlay_stats *ret);
