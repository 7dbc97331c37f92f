/* SPDX-License-Identifier: Apache-2.0 */

/* Metrics of the balancer, for Prometheus. */

#include "base/metrics.h"
#include "base/util.h"
#include "lb/internal.h"

static struct metric packets[BALANCER_COUNTERS];
static char packet_labels[BALANCER_COUNTERS][48];
static struct metric endpoints = METRIC_GAUGE("nacre_lb_endpoints", "Endpoints that have slices of ports.");
static struct metric slices = METRIC_GAUGE("nacre_lb_slices", "Slices of ports in the table.");
static struct metric addresses = METRIC_GAUGE("nacre_lb_addresses", "Shared addresses of which slices are in use.");
static struct metric prefixes = METRIC_GAUGE("nacre_lb_prefixes", "Prefixes of AddressPools with use shared.");
static struct metric conflicts = METRIC_GAUGE(
	"nacre_lb_conflicts", "Slices that are not in the table because another Endpoint has their ports.");
static struct metric failing =
	METRIC_GAUGE("nacre_lb_failing_addresses", "Addresses whose last change the table refused.");
static struct metric not_understood =
	METRIC_GAUGE("nacre_lb_objects_not_understood",
                     "AddressPools that this balancer can't read; what may belong to them is not removed.");
static struct metric changes = METRIC_COUNTER("nacre_lb_changes_total", "Slices that were set or cleared.");
static struct metric groups = METRIC_GAUGE("nacre_lb_groups", "Groups of ports in the table that have an owner.");
static struct metric room = METRIC_GAUGE("nacre_lb_groups_room", "Groups of ports for which the table has memory.");
static struct metric limit = METRIC_GAUGE("nacre_lb_groups_limit", "The most groups of ports that the table can have.");
static struct metric ready =
	METRIC_GAUGE("nacre_lb_ready", "1 once the table was complete and the program ran on all NICs.");
static struct metric nics[] = {
	[BALANCER_NATIVE] = {.name = "nacre_lb_nics",
                             .help = "NICs on which the program runs, by its mode.",
                             .type = "gauge",
                             .labels = "mode=\"native\""},
	[BALANCER_GENERIC] = {.name = "nacre_lb_nics",
                              .help = "NICs on which the program runs, by its mode.",
                              .type = "gauge",
                              .labels = "mode=\"generic\""},
};

static void lb_metrics_collect(void *userdata) {
	struct lb *l = userdata;
	struct balancer_stats b = {0};
	struct assignments_stats o;
	assignments_stats(l->assignments, &o);
	if (balancer_stats(l->table, &b, NULL) >= 0) {
		for (size_t i = 0; i < BALANCER_COUNTERS; i++)
			metric_set(&packets[i], (int64_t)b.packets[i]);
		metric_set(&groups, (int64_t)b.groups);
		metric_set(&room, (int64_t)b.group_room);
	}
	metric_set(&endpoints, (int64_t)o.endpoints);
	metric_set(&slices, (int64_t)o.slices);
	metric_set(&addresses, (int64_t)o.addresses);
	metric_set(&prefixes, (int64_t)l->n_prefixes);
	metric_set(&conflicts, (int64_t)o.conflicts);
	metric_set(&failing, (int64_t)o.failed);
	metric_set(&not_understood, (int64_t)kube_cache_count_bad(l->pools));
	metric_set(&changes, (int64_t)o.changes);
	metric_set(&limit, BALANCER_OWNERS);
	metric_set(&ready, l->ready);
	for (size_t i = 0; i < ARRAY_SIZE(nics); i++)
		metric_set(&nics[i], (int64_t)l->modes[i]);
}

void lb_metrics_start(struct lb *l) {
	struct metric *const all[] = {&ready,     &endpoints, &slices,         &addresses, &prefixes,
	                              &conflicts, &failing,   &not_understood, &changes,   &groups,
	                              &room,      &limit,     &nics[0],        &nics[1]};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		metric_register(all[i]);
	for (size_t i = 0; i < BALANCER_COUNTERS; i++) {
		snprintf(packet_labels[i], sizeof(packet_labels[i]), "result=\"%s\"",
		         balancer_counter_name((enum balancer_counter)i));
		packets[i] = (struct metric){.name = "nacre_lb_packets_total",
		                             .help = "Packets to shared addresses, by what became of them.",
		                             .type = "counter",
		                             .labels = packet_labels[i]};
		metric_register(&packets[i]);
	}
	metrics_collect(lb_metrics_collect, l);
}
