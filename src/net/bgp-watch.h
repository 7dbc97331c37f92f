/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The BGP routes of a namespace. A route exists exactly while a session is established on which it was received. The
 * kernel reports at once when a route appears or disappears, even if FRR has died.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"

struct bgp_routes {
	bool default4, default6;
	bool any; /* there is a route, and it is IPv6 */
};

struct bgp_watch;

/* Calls CHANGED from the loop whenever the result changes, and first with the state at the start. */
int bgp_watch_new(struct bgp_watch **ret, sd_event *loop, int netns_fd,
                  void (*changed)(const struct bgp_routes *now, void *userdata), void *userdata,
                  struct error *err) _must_use_;
struct bgp_watch *bgp_watch_free(struct bgp_watch *w);
