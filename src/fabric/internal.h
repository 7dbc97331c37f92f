/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/job.h"
#include "base/loop.h"
#include "fabric/fabric.h"
#include "kube/cache.h"
#include "kube/lease.h"
#include "net/bgp-watch.h"

/* What the user is told of; each remembers what was said last. */
enum subject {
	SUBJECT_ENDPOINT,
	SUBJECT_ROUTE,
	SUBJECT_OVERLAY,
	SUBJECT_UNDERLAY,
	SUBJECT_API,
	SUBJECT_HEARTBEAT,
	SUBJECT_HOST,
	N_SUBJECTS
};

struct fabric {
	struct fabric_config c;
	struct underlay underlay;
	struct overlay *overlay;
	struct kube_cache *endpoints; /* names only */
	struct kube_cache *hosts;     /* this one's object */
	struct kube_heartbeat *heartbeat;
	struct bgp_watch *bgp;
	struct jobs *jobs;
	struct job *look; /* at the underlay; NULL: none is under way */
	bool look_again;
	struct kube_request *host_request;
	sd_event_source *tick, *host_retry;
	char uid[64];
	bool registered; /* the Host object is as it should be */
	bool started;    /* the overlay was given all endpoints */
	bool joined;     /* a look has found the underlay, FRR included, as it should be */
	bool host_waits; /* for host_retry */
	struct last {
		bool bad;
		char msg[256];
	} last[N_SUBJECTS];
};

/* Tells the user if that is not what was said of WHAT before. ERR NULL: all is well with it. */
void fabric_say(struct fabric *f, enum subject what, const struct error *err);

/* host.c: creates the Host object, keeps its spec and status as they should be. */
int fabric_host_start(struct fabric *f, struct error *err) _must_use_;
void fabric_host_ensure(struct fabric *f);

/* metrics.c: the overlay's figures, while F lives. */
void fabric_metrics_start(struct fabric *f);
void fabric_metrics_stop(struct fabric *f);
