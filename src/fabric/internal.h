/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/job.h"
#include "base/loop.h"
#include "fabric/fabric.h"
#include "kube/cache.h"
#include "kube/lease.h"
#include "net/bgp-watch.h"
#include "service/deliver.h"

/* Parts whose state is reported to the user; each remembers its last report. */
enum subject {
	SUBJECT_ENDPOINT,
	SUBJECT_ROUTE,
	SUBJECT_OVERLAY,
	SUBJECT_DELIVERY,
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
	struct deliver *deliver;          /* NULL: no instances on this host, or not loaded yet */
	struct kube_cache *endpoints;     /* names only */
	struct kube_cache *hosts;         /* only the object of this host */
	struct kube_heartbeat *heartbeat; /* NULL: it has not begun */
	struct bgp_watch *bgp;
	struct jobs *jobs;
	struct job *look; /* the look at the underlay under way; NULL: none */
	bool look_again;
	struct kube_request *host_request;
	sd_event_source *tick, *host_retry;
	char uid[64];
	bool registered; /* the Host object is correct */
	bool started;    /* the overlay was given all Endpoints */
	bool joined;     /* a look has found the underlay, FRR included, correct */
	bool host_waits; /* until host_retry has run */
	struct last {
		bool bad;
		char msg[256];
	} last[N_SUBJECTS];
};

/* Reports ERR (NULL: all is well) for WHAT to the user, unless that was the last report for WHAT. */
void fabric_say(struct fabric *f, enum subject what, const struct error *err);

/* fabric.c: begins the heartbeat if it has not begun. */
void fabric_heartbeat_start(struct fabric *f);

/* host.c: creates the Host object and keeps its status correct. */
int fabric_host_start(struct fabric *f, struct error *err) _must_use_;
void fabric_host_ensure(struct fabric *f);

/*
 * delivery.c: makes program and table for frames to instances equal to the overlay. Changes nothing if they are, so it
 * is called after changes and now and then.
 */
void fabric_delivery_look(struct fabric *f);

/* metrics.c: the overlay's metrics, until fabric_metrics_stop(). */
void fabric_metrics_start(struct fabric *f);
void fabric_metrics_stop(struct fabric *f);
