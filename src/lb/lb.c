/* SPDX-License-Identifier: Apache-2.0 */
#include "lb/lb.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "api/addresspool.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "base/util.h"
#include "base/vtep.h"
#include "lb/internal.h"

/* Time between looks at what sends no notification, the NICs, and until what failed is tried again. */
#define TICK_US (3 * USEC_PER_SEC)
/* The same while the host isn't in service yet. */
#define START_US (200 * USEC_PER_MSEC)

/* Addresses that are changed before the loop gets to its other work. */
#define TURN_MAX 256

static void lb_say(struct lb *l, const struct error *err) {
	if (err ? streq(err->msg, l->last_error) : !l->bad)
		return;
	l->bad = err != NULL;
	snprintf(l->last_error, sizeof(l->last_error), "%s", err ? err->msg : "");
	if (l->c.state)
		l->c.state("balancer", err, l->c.userdata);
}

static void lb_sync_soon(struct lb *l) {
	sd_event_source_set_enabled(l->sync_src, SD_EVENT_ONESHOT);
}

/* ---- the table ---- */

static int lb_on_set(const struct slice *s, const struct balancer_endpoint *to, struct error *err, void *userdata) {
	struct lb *l = userdata;
	char text[SLICE_STR_MAX];
	int r = balancer_set(l->table, s, to, err);
	if (r < 0) {
		error_prefix(err, "slice %s", slice_str(s, text));
		l->faults = *err;
	}
	return r;
}

static int lb_on_clear(const struct slice *s, struct error *err, void *userdata) {
	struct lb *l = userdata;
	char text[SLICE_STR_MAX];
	int r = balancer_clear(l->table, s, err);
	if (r < 0) {
		error_prefix(err, "slice %s", slice_str(s, text));
		l->faults = *err;
	}
	return r;
}

static void lb_on_conflict(const struct slice *s, const char *loser, const char *winner, _unused_ void *userdata) {
	char text[SLICE_STR_MAX];
	log_warn("ports claimed twice", "slice=%s endpoint=%s owner=%s", slice_str(s, text), loser, winner);
}

static int prefix_order(const void *a, const void *b) {
	return prefix_cmp(a, b);
}

/* The prefixes of shared pools and those that are kept, in order, at most BALANCER_PREFIXES. Returns how many. */
static size_t lb_shared_prefixes(const struct lb *l, struct prefix *out) {
	const struct addresspool *pool;
	size_t n = 0, different = 0;
	KUBE_CACHE_FOREACH(pool, l->pools) {
		if (n < BALANCER_PREFIXES && streq(pool->spec->use, "shared") && pool->spec->prefix &&
		    prefix_parse(pool->spec->prefix, &out[n], NULL) == 0)
			n++;
	}
	for (size_t i = 0; i < l->n_kept && n < BALANCER_PREFIXES; i++)
		out[n++] = l->kept[i];
	qsort(out, n, sizeof(*out), prefix_order);
	for (size_t i = 0; i < n; i++)
		if (!different || prefix_cmp(&out[different - 1], &out[i]) != 0)
			out[different++] = out[i];
	return different;
}

static bool lb_has_prefix(const struct prefix *list, size_t n, const struct prefix *p) {
	return bsearch(p, list, n, sizeof(*list), prefix_order) != NULL;
}

/* ALL: the table may have none of them yet. */
static int lb_apply_prefixes(struct lb *l, bool all, struct error *err) {
	struct prefix want[BALANCER_PREFIXES];
	const size_t n = lb_shared_prefixes(l, want);
	bool changed = all || n != l->n_prefixes;
	int r = 0;
	for (size_t i = 0; r >= 0 && i < l->n_prefixes; i++)
		if (!lb_has_prefix(want, n, &l->prefixes[i])) {
			changed = true;
			r = balancer_clear_prefix(l->table, &l->prefixes[i], err);
		}
	for (size_t i = 0; r >= 0 && changed && i < n; i++)
		r = balancer_set_prefix(l->table, &want[i], err);
	if (r < 0)
		return error_prefix(err, "prefixes of shared addresses");
	memcpy(l->prefixes, want, n * sizeof(*want));
	l->n_prefixes = n;
	l->announce |= changed;
	return 0;
}

static bool lb_all_understood(const struct lb *l) {
	return fabric_endpoints_not_understood(l->c.fabric) == 0 && kube_cache_count_bad(l->pools) == 0;
}

/*
 * Brings what is known into the table, some in each turn of the loop. First all of it, since the table is new or was
 * adopted; then it is complete. What nobody asks for is removed once nothing of it can belong to an object that is not
 * understood.
 */
static int lb_update_table(struct lb *l, struct error *err) {
	const bool begin = !l->complete && !l->filling;
	struct assignments_stats st;
	struct error one;
	if (begin) {
		balancer_begin(l->table);
		assignments_forget(l->assignments);
	}
	int r = lb_apply_prefixes(l, begin, err);
	l->filling = r >= 0 && !l->complete;
	/* What fails here is tried again on its own. */
	if (r >= 0)
		(void)!assignments_apply(l->assignments, TURN_MAX, &one);
	assignments_stats(l->assignments, &st);
	if (r >= 0 && st.waiting) {
		lb_sync_soon(l);
		return 0;
	}
	l->complete |= l->filling;
	l->filling = false;
	if (r >= 0 && l->complete && !l->swept && lb_all_understood(l)) {
		r = balancer_end(l->table, err);
		l->swept = r >= 0;
	}
	if (r >= 0 && !st.failed)
		l->faults = (struct error){0};
	return r;
}

/* ---- NICs ---- */

static int lb_attach(struct lb *l, struct error *err) {
	const bool before = l->attached;
	size_t n = 0;
	int first = 0;
	if (before && !l->look)
		return 0;
	memset(l->modes, 0, sizeof(l->modes));
	for (size_t i = 0; i < l->c.n_nics; i++) {
		enum balancer_mode mode;
		struct error one = {0};
		int r = balancer_attach(l->table, l->c.nics[i], l->c.mode, &mode, &one);
		if (r >= 0) {
			l->modes[mode]++;
			n++;
		} else if (r != -ENODEV && first >= 0) {
			first = r;
			*err = one;
			error_prefix(err, "NIC `%s`", l->c.nics[i]);
		}
	}
	if (first >= 0 && n == 0)
		first = error_set(err, ENODEV, "there is no NIC to receive packets on");
	l->attached = first >= 0;
	l->look = false;
	l->announce |= l->attached != before;
	return first;
}

/* ---- API ---- */

/* Mistakes in the configuration, with which the balancer works as well as it can. */
static int lb_check_pools(const struct lb *l, struct error *err) {
	if (l->n_prefixes > LB_ROUTES_MAX)
		return error_set(err, E2BIG,
		                 "more than %d AddressPools have use shared: only the prefixes of the first ones, by "
		                 "address, are announced",
		                 LB_ROUTES_MAX);
	return announcer_check_ip(l->pools, &l->c.overlay_ip, err);
}

static int lb_announce(struct lb *l, struct error *err) {
	char ip[ADDR_STR_MAX], vtep[ADDR_STR_MAX], mac_text[MAC_STR_MAX], text[LB_ROUTES_MAX][PREFIX_STR_MAX];
	struct endpoint_route routes[LB_ROUTES_MAX] = {0};
	const struct mac mac = vtep_router_mac(&l->c.vtep);
	const size_t n = MIN(l->n_prefixes, (size_t)LB_ROUTES_MAX);
	struct endpoint_spec spec = {.host = (char *)l->c.name,
	                             .vtep = (char *)addr_str(&l->c.vtep, vtep),
	                             .ip = (char *)addr_str(&l->c.overlay_ip, ip),
	                             .mac = (char *)mac_str(&mac, mac_text),
	                             .routes = {.v = routes, .n = n}};
	/* A host that isn't in the underlay yet would attract packets that don't reach it. */
	if (!l->announce || !fabric_ready(l->c.fabric))
		return 0;
	for (size_t i = 0; i < n; i++)
		routes[i].prefix = (char *)prefix_str(&l->prefixes[i], text[i]);
	int r = announcer_want(l->announcer, l->attached && n ? &spec : NULL, err);
	l->announce = r < 0;
	return r;
}

static void lb_set_condition(struct lb *l, const char *reason, bool holds, const char *message) {
	struct fabric_condition c = {.type = "Balancing", .reason = reason, .holds = holds};
	snprintf(c.message, sizeof(c.message), "%.*s", (int)sizeof(c.message) - 1, message);
	if (l->condition.type && c.holds == l->condition.holds && streq(c.reason, l->condition.reason) &&
	    streq(c.message, l->condition.message))
		return;
	l->condition = c;
	fabric_update(l->c.fabric);
}

void lb_condition(const struct lb *l, struct fabric_condition *ret) {
	*ret = l->condition;
}

static int lb_on_sync(_unused_ sd_event_source *s, void *userdata) {
	struct lb *l = userdata;
	struct error err = {0};
	if (!l->endpoints_known || !kube_cache_synced(l->pools))
		return 0;
	if (kube_cache_count_bad(l->pools) == 0)
		l->n_kept = 0;
	int r = lb_update_table(l, &err);
	if (l->filling)
		return 0;
	/* The program on the NICs is replaced only once its table is complete. */
	if (r >= 0)
		r = lb_attach(l, &err);
	if (l->complete) {
		struct error also = {0};
		int q = lb_announce(l, r < 0 ? &also : &err);
		r = r < 0 ? r : q;
	}
	l->ready |= r >= 0 && !l->announce;
	if (r < 0)
		lb_set_condition(l, "NotComplete", false, err.msg);
	else if (l->faults.code)
		lb_set_condition(l, l->faults.code == ENOSPC ? "TableFull" : "NotComplete", false, l->faults.msg);
	else
		lb_set_condition(l, "TableComplete", true, "every slice of ports that an Endpoint has is in the table");
	if (r >= 0 && l->faults.code) {
		err = l->faults;
		r = -err.code;
	}
	if (r >= 0)
		r = lb_check_pools(l, &err);
	lb_say(l, r < 0 ? &err : NULL);
	return 0;
}

static int lb_on_tick(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct lb *l = userdata;
	assignments_retry(l->assignments);
	l->look = true;
	lb_sync_soon(l);
	return loop_timer(l->c.loop, &l->tick_src, l->announce ? START_US : TICK_US, lb_on_tick, l);
}

static void lb_on_pool(_unused_ const struct kube_change *ch, void *userdata) {
	lb_sync_soon(userdata);
}

static void lb_tell_pool(struct lb *l, const char *name, const struct error *err) {
	_free_ char *what = strf("AddressPool %s", name);
	if (what && l->c.state)
		l->c.state(what, err, l->c.userdata);
}

static void lb_on_bad_pool(_unused_ const struct kube_cache *c, _unused_ const char *ns, const char *name,
                           const struct error *why, void *userdata) {
	struct error err;
	error_set(&err, EBADMSG,
	          "not understood, so the balancer withdraws no prefix and clears nothing that was there at its start: "
	          "%.300s; correct the object or, if a newer program wrote it, upgrade this agent",
	          why->msg);
	lb_tell_pool(userdata, name, &err);
}

static void lb_on_good_pool(_unused_ const struct kube_cache *c, _unused_ const char *ns, const char *name,
                            void *userdata) {
	lb_tell_pool(userdata, name, NULL);
	lb_sync_soon(userdata);
}

/* E is this host's Endpoint, as the process before has left it. */
static void lb_keep(struct lb *l, const struct endpoint *e) {
	for (size_t i = 0; i < e->spec->routes.n && l->n_kept < LB_ROUTES_MAX; i++) {
		const struct endpoint_route *route = &e->spec->routes.v[i];
		struct prefix *p = &l->kept[l->n_kept];
		if (!endpoint_route_is_slice(route) && prefix_parse(route->prefix, p, NULL) == 0 &&
		    p->addr.family == AF_INET)
			l->n_kept++;
	}
}

static bool lb_is_own(const struct lb *l, const char *endpoint) {
	return starts_with(endpoint, ENDPOINT_OF_BALANCER) && streq(endpoint + strlen(ENDPOINT_OF_BALANCER), l->c.name);
}

static int lb_put(struct lb *l, const struct endpoint *e, struct error *err) {
	const struct endpoint_spec *s = e->spec;
	struct slice slices[LB_ROUTES_MAX];
	struct balancer_endpoint to;
	struct prefix p;
	size_t n = 0;
	int r = addr_parse(s->vtep, &to.vtep, err);
	if (r >= 0)
		r = mac_parse(s->mac, &to.mac, err);
	for (size_t i = 0; r >= 0 && i < s->routes.n && n < LB_ROUTES_MAX; i++) {
		const struct endpoint_route *route = &s->routes.v[i];
		if (!endpoint_route_is_slice(route))
			continue;
		r = prefix_parse(route->prefix, &p, err);
		slices[n++] = (struct slice){
			.addr = p.addr, .first = (uint16_t)route->first_port.v, .last = (uint16_t)route->last_port.v};
	}
	return r < 0 ? r
	             : assignments_put(l->assignments, e->meta.name,
	                               e->meta.creation_timestamp ? e->meta.creation_timestamp : "", &to, slices, n,
	                               err);
}

void lb_endpoint_changed(struct lb *l, const struct kube_change *ch) {
	struct error err = {0};
	switch (ch->type) {
	case KUBE_ADDED:
	case KUBE_MODIFIED:
		if (!l->endpoints_known && lb_is_own(l, ch->name))
			lb_keep(l, ch->obj);
		if (lb_put(l, ch->obj, &err) < 0) {
			/* What it had before is not what it wants now. */
			assignments_remove(l->assignments, ch->name);
			log_warn("bad endpoint", "endpoint=%s cause=\"%s\"", ch->name, err.msg);
		}
		break;
	case KUBE_DELETED: assignments_remove(l->assignments, ch->name); break;
	case KUBE_SYNCED: l->endpoints_known = true; break;
	}
	lb_sync_soon(l);
}

static void lb_on_announce_failed(const struct error *err, void *userdata) {
	lb_say(userdata, err);
}

/* ---- start and end ---- */

static int lb_lock(const struct lb_config *c, int *ret_fd, struct error *err) {
	_free_ char *path = strf("%s/lb.lock", c->run_dir);
	int r = path ? mkdir_p(c->run_dir, 0755, err) : error_oom(err);
	if (r >= 0)
		r = lock_path(path, O_RDWR | O_CREAT, false, ret_fd, err);
	return r == -EBUSY ? error_set(err, EBUSY, "another nacre-lb runs on this host (it holds `%s`)", path) : r;
}

static struct balancer_config lb_table_config(const struct lb_config *c, int netns_fd) {
	return (struct balancer_config){
		.netns_fd = netns_fd, .nics = c->nics, .n_nics = c->n_nics, .vtep = c->vtep, .vni = c->vni};
}

static int lb_start(struct lb *l, struct error *err) {
	const struct assignments_config oc = {
		.set = lb_on_set, .clear = lb_on_clear, .conflict = lb_on_conflict, .userdata = l};
	const struct balancer_config bc = lb_table_config(&l->c, fabric_underlay(l->c.fabric)->underlay_fd);
	const struct kube_cache_options po = {.bad = lb_on_bad_pool, .good = lb_on_good_pool, .userdata = l};
	char endpoint[300];
	snprintf(endpoint, sizeof(endpoint), ENDPOINT_OF_BALANCER "%s", l->c.name);
	int r = lb_lock(&l->c, &l->lock, err);
	if (r >= 0)
		r = balancer_open(&l->table, &bc, err);
	if (r >= 0)
		r = assignments_new(&l->assignments, &oc, err);
	if (r >= 0)
		r = kube_cache_new(&l->pools, l->c.client, &api_kind_addresspool, &po, err);
	if (r >= 0)
		r = announcer_new(&l->announcer, l->c.client, endpoint, lb_on_announce_failed, l, err);
	if (r < 0)
		return r;
	if (kube_cache_on_change(l->pools, lb_on_pool, l) < 0 ||
	    sd_event_add_defer(l->c.loop, &l->sync_src, lb_on_sync, l) < 0 ||
	    loop_timer(l->c.loop, &l->tick_src, START_US, lb_on_tick, l) < 0)
		return error_oom(err);
	return 0;
}

int lb_new(struct lb **ret, const struct lb_config *c, struct error *err) {
	struct lb *l = calloc(1, sizeof(*l));
	if (!l)
		return error_oom(err);
	l->c = *c;
	l->lock = -1;
	l->announce = true;
	int r = lb_start(l, err);
	if (r < 0) {
		lb_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

struct lb *lb_free(struct lb *l) {
	if (!l)
		return NULL;
	metrics_forget(l);
	announcer_free(l->announcer);
	kube_cache_free(l->pools);
	sd_event_source_disable_unref(l->sync_src);
	sd_event_source_disable_unref(l->tick_src);
	assignments_free(l->assignments);
	balancer_free(l->table);
	if (l->lock >= 0)
		close(l->lock);
	free(l);
	return NULL;
}

bool lb_ready(const struct lb *l) {
	return l->ready;
}

/* ---- out of service ---- */

static int lb_withdraw(const struct lb_config *c, struct error *err) {
	_buf_free_ struct buf path = {.max = 1024};
	_free_ char *name = strf(ENDPOINT_OF_BALANCER "%s", c->name);
	struct kube_response resp = {0};
	if (!name)
		return error_oom(err);
	kube_path(&path, &api_kind_endpoint, NULL, name, NULL);
	int r = buf_error(&path, "path", err);
	if (r < 0)
		return r;
	const struct kube_spec spec = {.method = "DELETE", .path = path.data, .timeout_ms = 10000};
	r = kube_perform(c->client, &spec, &resp);
	if (r == -ENOENT)
		r = 0;
	else if (r < 0)
		error_set(err, r, "Endpoint %s is not withdrawn: %s", name, resp.err.msg);
	kube_response_clear(&resp);
	return r;
}

int lb_detach(const struct lb_config *c, int netns_fd, unsigned seconds, bool force, struct error *err) {
	const struct balancer_config bc = lb_table_config(c, netns_fd);
	_balancer_free_ struct balancer *table = NULL;
	_close_ int lock = -1;
	int r = lb_lock(c, &lock, err);
	if (r >= 0 && (r = lb_withdraw(c, err)) < 0 && force)
		r = 0;
	if (r < 0)
		return r;
	for (unsigned left = seconds; left; left = sleep(left))
		;
	r = balancer_open(&table, &bc, err);
	for (size_t i = 0; r >= 0 && i < c->n_nics; i++)
		r = balancer_detach(table, c->nics[i], err);
	return r;
}
