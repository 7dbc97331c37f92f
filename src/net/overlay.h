/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The public overlay on one host: turns Endpoints into entries of the kernel and keeps them correct.
 *
 *   endpoint on another host:  one nexthop object for each VTEP (gateway net/vtep.h, on the VXLAN device), one
 *                              permanent neighbour, one forwarding entry (router MAC -> VTEP)
 *   endpoint on this host:     one nexthop object (gateway: link-local address made of the endpoint's MAC,
 *                              on the endpoint's device), one permanent neighbour
 *   its ip and each prefix:    one route with the id of that nexthop; a prefix of several endpoints gets a
 *                              group of their nexthops, but if one of them is on this host, only its nexthop
 *
 * Level-triggered. The desired state is in memory. The kernel is read once at the start, and again when something was
 * lost: correct entries stay untouched, missing ones are added, and wrong ones are removed last. Changes are collected
 * and sent in batches, once per turn of the loop. Entries that other programs change are corrected at once
 * (notifications). Only entries with our protocol number (net/route.h) are ever removed, and forwarding entries of our
 * VXLAN device.
 *
 * A member of a group whose VTEP has no route in the underlay is left out of the group until it has a route again. A
 * route with only one nexthop stays: there is no better path for its packets.
 *
 * Memory: about 600 bytes for an endpoint with three prefixes.
 */

#include <systemd/sd-event.h>

#include "base/inet.h"

#define OVERLAY_PREFIXES_MAX 64

struct overlay;

struct overlay_config {
	sd_event *loop;
	int underlay_fd, public_fd; /* namespaces; not duplicated, used only during overlay_new() */
	const char *device;         /* the VXLAN device in `public` */
	struct addr vtep;           /* the VTEP of this host */
	/*
	 * Called when a route (NULL: the whole endpoint) can't be programmed, and when it can again (ERR NULL). The
	 * overlay retries it by itself; other routes are not affected. Must not call back into the overlay. May be
	 * NULL.
	 */
	void (*report)(const char *endpoint, const struct prefix *route, const struct error *err, void *userdata);
	/*
	 * Called after overlay_start() when the answer of overlay_foreach_local() may have changed. May be NULL. The
	 * overlay must not be changed from it.
	 */
	void (*local_changed)(void *userdata);
	void *userdata;
};

/* Follows the kernel from now on, but changes nothing in it before overlay_start(). */
int overlay_new(struct overlay **ret, const struct overlay_config *c, struct error *err) _must_use_;
/* Leaves the kernel as it is. */
struct overlay *overlay_free(struct overlay *o);
DEFINE_CLEANUP(overlay, struct overlay *, overlay_free)

struct overlay_endpoint {
	const char *name; /* identifies it */
	struct addr ip;   /* IPv6 */
	struct mac mac;
	struct addr vtep;
	/* For an endpoint of this host (vtep is the overlay's own): its device in `public`, which need not exist yet.
	 * NULL: the endpoint is not routed here. */
	const char *device;
	const struct prefix *prefixes; /* in addition to ip */
	size_t n_prefixes;
};

/*
 * Adds the endpoint, or replaces the one of the same name. Takes effect within a turn of the loop. -EINVAL or
 * -EADDRINUSE (two VTEPs with the same router MAC) change nothing.
 */
int overlay_put(struct overlay *o, const struct overlay_endpoint *ep, struct error *err) _must_use_;
/* Does nothing if the name is unknown. */
void overlay_remove(struct overlay *o, const char *name);

/*
 * All endpoints are known: program the kernel. To be called once, after the first complete list; before that nothing is
 * programmed and, above all, nothing is removed.
 */
int overlay_start(struct overlay *o, struct error *err) _must_use_;
/*
 * While KEEP is true there may be endpoints that the overlay was not given. Entries of the kernel that no endpoint asks
 * for then stay. Those of an endpoint that overlay_remove() removes go all the same.
 */
void overlay_keep(struct overlay *o, bool keep);

/*
 * Calls FN for each ip and prefix of the endpoints, in order; for one that several endpoints have, once for each of
 * these. ENDPOINT is the endpoint's name. A negative result of FN ends the loop and is returned. FN must not change
 * the overlay.
 */
int overlay_foreach(const struct overlay *o, int (*fn)(const struct prefix *dst, const char *endpoint, void *userdata),
                    void *userdata) _must_use_;

/* Calls FN once for each endpoint of this host whose device is there and up, with the index of the device. */
void overlay_foreach_local(const struct overlay *o, void (*fn)(const struct mac *mac, int index, void *userdata),
                           void *userdata);

struct overlay_stats {
	size_t endpoints, routes, nexthops, groups;
	size_t failing;           /* entries that the kernel refused, or that wait for their device */
	size_t pending;           /* changes not sent yet */
	uint64_t messages, syncs; /* messages sent so far; comparisons with the whole kernel so far */
	uint64_t repairs;         /* entries that another program had changed */
	uint64_t last_flush_ns;   /* duration of the last flush */
};
void overlay_stats(const struct overlay *o, struct overlay_stats *ret);
