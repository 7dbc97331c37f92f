/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The status of Firewalls: how many instances each selects, whether it is applied to all of them, and what its rules
 * counted. It is written at most every 5 s, a large Firewall less often, because each write costs the server the whole
 * object; and the counters in it at most every minute.
 */

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "controller/walls.h"

#define STATUS_US         (5 * USEC_PER_SEC)
#define STATUS_ELEMENT_US (2 * USEC_PER_MSEC) /* longer for each element (struct firewall_size): 20 s for 10,000 */
#define COUNTS_US         (60 * USEC_PER_SEC)

static int firewall_set_applied(const struct controller *c, const struct wall_ns *n, const struct wall *w,
                                struct firewall *f) {
	const char *reason = "Applied";
	char why[1024] = "", msg[1024] = "";
	if (w->bad)
		reason = evaluation_reason(c, n, w, w->example, why);
	if (w->bad > 1)
		snprintf(msg, sizeof(msg), "%.900s (and %zu other instances)", why, w->bad - 1);
	else
		snprintf(msg, sizeof(msg), "%s", why);
	return api_condition_set(&f->status->conditions.v, &f->status->conditions.n, FIREWALL_CONDITION,
	                         w->bad ? "False" : "True", reason, msg, f->meta.generation.v, now_realtime_us());
}

static int firewall_set_counters(struct firewall *f, const struct firewall_counter *rows, size_t n) {
	struct firewall_counter *v = n ? calloc(n, sizeof(*v)) : NULL;
	if (n && !v)
		return -ENOMEM;
	for (size_t i = 0; i < f->status->rules.n; i++)
		api_clear(&api_desc_firewall_counter, &f->status->rules.v[i]);
	free(f->status->rules.v);
	f->status->rules.v = v;
	f->status->rules.n = n;
	for (size_t i = 0; i < n; i++) {
		v[i] = (struct firewall_counter){.direction = strdup(rows[i].direction),
		                                 .rule = strdup(rows[i].rule),
		                                 .packets = rows[i].packets,
		                                 .bytes = rows[i].bytes};
		if (!v[i].direction || !v[i].rule)
			return -ENOMEM;
	}
	return 0;
}

/* Fills in the status of F. */
static int firewall_fill(const struct controller *c, const struct wall_ns *n, struct wall *w, struct firewall *f,
                         uint64_t now_us) {
	struct firewall_counter rows[FIREWALL_COUNTERS_MAX];
	f->status->observed_generation = f->meta.generation;
	f->status->instances = API_I64((int64_t)w->selected);
	if (!w->counted_us || now_us - w->counted_us >= COUNTS_US) {
		w->counted_us = now_us;
		if (firewall_set_counters(f, rows, sums_list(walls_sums(c), n->name, w->name, rows)) < 0)
			return -ENOMEM;
	}
	return firewall_set_applied(c, n, w, f);
}

static void firewall_written(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	const struct firewall *f = work_object(w);
	struct wall_ns *n = f ? wall_ns_find(walls_of(work_controller(w)), f->meta.ns) : NULL;
	struct wall *wall = n ? wall_find(n, f->meta.name) : NULL;
	if (wall && r->error == 0)
		wall->status_us = now_monotonic_ns() / 1000;
}

static void firewall_reconcile(struct work *w, const void *obj) {
	struct controller *c = work_controller(w);
	const struct firewall *f = obj;
	struct wall_ns *n = f ? wall_ns_find(walls_of(c), f->meta.ns) : NULL;
	struct wall *wall = n ? wall_find(n, f->meta.name) : NULL;
	const uint64_t now = now_monotonic_ns() / 1000;
	if (!wall || f->meta.deletion_timestamp || !wall_is_evaluated(n, wall))
		return; /* it is queued when it is evaluated */
	if (wall->bad && !wall->example) {
		wall_touch(n, wall);
		groups_queue(c, n);
		return;
	}
	const uint64_t pause = STATUS_US + (wall->size.ingress + wall->size.egress) * STATUS_ELEMENT_US;
	if (wall->status_us && now - wall->status_us < pause) {
		work_again(w, wall->status_us + pause - now);
		return;
	}
	const bool counts = !wall->counted_us || now - wall->counted_us >= COUNTS_US;
	struct firewall *changed = api_copy_with_status(&api_kind_firewall, f);
	if (!changed || firewall_fill(c, n, wall, changed, now) < 0)
		work_fail_oom(w);
	else
		work_patch_status(w, &api_kind_firewall, f, changed, WORK_THEN(firewall_written));
	api_free(&api_kind_firewall, changed);
	if (!counts)
		work_again(w, wall->counted_us + COUNTS_US - now);
}

const struct concern concern_firewalls = {
	.name = "firewalls",
	.kind = &api_kind_firewall,
	.watches = {{.kind = &api_kind_instance}},
	.reconcile = firewall_reconcile,
};
