/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Prometheus metrics (text format 0.0.4) and the health endpoint of a daemon.
 *
 *     static struct metric synced = METRIC_COUNTER("nacre_node_syncs_total", "Syncs done.");
 *     metric_register(&synced); metric_add(&synced, 1);
 *
 * A metric is a static object. Labels, if any, are fixed text such as `verb="get"`; each label set is one object, and
 * those of one name are registered one after the other. Updates are atomic and may come from any thread; registration
 * happens on one thread at start.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/buf.h"
#include "base/listen.h"

struct metric {
	const char *name, *help, *type, *labels; /* labels may be NULL */
	int64_t value;
	double scale; /* printed value = value * scale; 0 means 1 */
	struct metric *next;
};

#define METRIC_COUNTER(n, h) \
	{ .name = (n), .help = (h), .type = "counter" }
#define METRIC_GAUGE(n, h) \
	{ .name = (n), .help = (h), .type = "gauge" }

void metric_register(struct metric *m);
static inline void metric_add(struct metric *m, int64_t v) {
	__atomic_fetch_add(&m->value, v, __ATOMIC_RELAXED);
}
static inline void metric_set(struct metric *m, int64_t v) {
	__atomic_store_n(&m->value, v, __ATOMIC_RELAXED);
}
/* FN is called before every rendering, to set gauges that are not kept up to date otherwise. It replaces an earlier
 * function with the same USERDATA. */
void metrics_collect(void (*fn)(void *userdata), void *userdata);
/* Removes the function with this USERDATA. */
void metrics_forget(void *userdata);
/* Appends all registered metrics and those of the process (memory, CPU time, open files). */
void metrics_render(struct buf *out);

/*
 * Serves GET /metrics, /healthz and /readyz on LISTEN: "unix:/path" or "127.0.0.1:9100" or "[::1]:9100". READY (may be
 * NULL) says whether /readyz answers 200 or 503.
 */
struct metrics_server;
int metrics_server_new(struct metrics_server **ret, sd_event *loop, const char *listen, bool (*ready)(void *),
                       void *userdata, struct error *err) _must_use_;
struct metrics_server *metrics_server_free(struct metrics_server *s);
