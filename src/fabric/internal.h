/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/loop.h"
#include "fabric/fabric.h"
#include "kube/cache.h"
#include "kube/lease.h"
#include "net/bgp-watch.h"

struct fabric {
	struct fabric_config c;
	struct underlay underlay;
	struct overlay *overlay;
	struct kube_cache *endpoints; /* names only */
	struct kube_cache *hosts;     /* this one's object */
	struct kube_heartbeat *heartbeat;
	struct bgp_watch *bgp;
	struct kube_request *host_request;
	sd_event_source *tick, *host_retry;
	char uid[64];
	bool registered; /* the Host object is as it should be */
	bool started;    /* the overlay was given all endpoints */
	bool host_waits; /* for host_retry */
	struct last {
		const char *what;
		bool bad;
		char msg[256];
	} last[4];
};

/* Tells the user of what changed. WHAT is a literal. */
void fabric_say(struct fabric *f, const char *what, const struct error *err);

/* host.c: creates the Host object, keeps its spec and status as they should be. */
int fabric_host_start(struct fabric *f, struct error *err) _must_use_;
void fabric_host_ensure(struct fabric *f);

/* metrics.c: the overlay's figures, while F lives. */
void fabric_metrics_start(struct fabric *f);
void fabric_metrics_stop(struct fabric *f);
