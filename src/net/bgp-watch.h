/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The routes that a namespace has by BGP. They exist exactly while a session is established on which they were
 * received, and the kernel tells at once when they come and go, whatever became of FRR.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"

struct bgp_routes {
	bool default4, default6;
	bool any; /* IPv6 */
};

struct bgp_watch;

/* Calls CHANGED from the loop whenever the answer differs from before, first with what is there at the start. */
int bgp_watch_new(struct bgp_watch **ret, sd_event *loop, int netns_fd,
                  void (*changed)(const struct bgp_routes *now, void *userdata), void *userdata,
                  struct error *err) _must_use_;
struct bgp_watch *bgp_watch_free(struct bgp_watch *w);
