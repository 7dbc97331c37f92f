/* SPDX-License-Identifier: Apache-2.0 */

/* Metrics of this host's overlay, for Prometheus. */

#include "base/metrics.h"
#include "fabric/internal.h"

static struct metric endpoints = METRIC_GAUGE("nacre_overlay_endpoints", "Endpoints known.");
static struct metric not_understood =
	METRIC_GAUGE("nacre_overlay_endpoints_not_understood",
                     "Endpoints that can't be read; while there are any, no route is taken for stale.");
static struct metric routes = METRIC_GAUGE("nacre_overlay_routes", "Routes that should be in the kernel.");
static struct metric nexthops =
	METRIC_GAUGE("nacre_overlay_nexthops", "Nexthop objects: hosts, and endpoints of this host.");
static struct metric failing =
	METRIC_GAUGE("nacre_overlay_failing", "Entries that the kernel refused, or that wait for their device.");
static struct metric pending = METRIC_GAUGE("nacre_overlay_pending", "Changes not in the kernel yet.");
static struct metric messages = METRIC_COUNTER("nacre_overlay_messages_total", "Netlink messages sent.");
static struct metric repairs =
	METRIC_COUNTER("nacre_overlay_repairs_total", "Entries that another program had changed.");
static struct metric syncs = METRIC_COUNTER("nacre_overlay_syncs_total", "Comparisons with the whole kernel.");
static struct metric ready =
	METRIC_GAUGE("nacre_fabric_ready", "1 once underlay, overlay and Host object are correct.");

static void fabric_metrics_collect(void *userdata) {
	struct fabric *f = userdata;
	struct overlay_stats s;
	if (!f->endpoints)
		return;
	overlay_stats(f->overlay, &s);
	metric_set(&endpoints, (int64_t)s.endpoints);
	metric_set(&not_understood, (int64_t)kube_cache_count_bad(f->endpoints));
	metric_set(&routes, (int64_t)s.routes);
	metric_set(&nexthops, (int64_t)s.nexthops);
	metric_set(&failing, (int64_t)s.failing);
	metric_set(&pending, (int64_t)s.pending);
	metric_set(&messages, (int64_t)s.messages);
	metric_set(&repairs, (int64_t)s.repairs);
	metric_set(&syncs, (int64_t)s.syncs);
	metric_set(&ready, fabric_ready(f));
}

void fabric_metrics_start(struct fabric *f) {
	struct metric *const all[] = {&endpoints, &not_understood, &routes,  &nexthops, &failing,
	                              &pending,   &messages,       &repairs, &syncs,    &ready};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		metric_register(all[i]);
	metrics_collect(fabric_metrics_collect, f);
}

void fabric_metrics_stop(struct fabric *f) {
	metrics_forget(f);
}
