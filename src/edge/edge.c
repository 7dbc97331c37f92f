/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "api/addresspool.h"
#include "base/util.h"
#include "base/vtep.h"
#include "edge/edge-internal.h"

#define POLL_US    (2 * USEC_PER_SEC)
#define COMPARE_NS (60 * NSEC_PER_SEC) /* between comparisons with the kernel while nothing changes */

static void say(struct edge *e, const struct error *err) {
	if (err ? streq(err->msg, e->last_error) : !e->bad)
		return;
	e->bad = err != NULL;
	snprintf(e->last_error, sizeof(e->last_error), "%s", err ? err->msg : "");
	if (e->c.state)
		e->c.state("edge", err, e->c.userdata);
}

static void tell_object(struct edge *e, const struct kube_cache *c, const char *name, const struct error *err) {
	_free_ char *what = strf("%s %s", kube_cache_kind(c)->kind, name);
	if (what && e->c.state)
		e->c.state(what, err, e->c.userdata);
}

static int want_endpoint(struct edge *e, struct error *err) {
	struct endpoint_route routes[2] = {0};
	size_t n = 0;
	char ip[ADDR_STR_MAX], vtep[ADDR_STR_MAX], mac_text[MAC_STR_MAX];
	struct mac mac = vtep_router_mac(&e->c.vtep);
	if (e->outside.default6)
		routes[n++].prefix = (char *)"::/0";
	if (e->outside.default4)
		routes[n++].prefix = (char *)"0.0.0.0/0";
	addr_str(&e->c.overlay_ip, ip);
	addr_str(&e->c.vtep, vtep);
	mac_str(&mac, mac_text);
	struct endpoint_spec spec = {.host = (char *)e->c.name, .vtep = vtep, .ip = ip, .mac = mac_text};
	spec.routes.v = routes;
	spec.routes.n = n;
	return announcer_want(e->announcer, n ? &spec : NULL, err);
}

static void sync_soon(struct edge *e) {
	sd_event_source_set_enabled(e->sync_src, SD_EVENT_ONESHOT);
}

/* Fills e->look with the wanted state. A fault in it is reported only after the filter was applied, which does not
 * depend on it. */
static int prepare_look(struct edge *e, struct error *err) {
	struct edge_look *l = &e->look;
	_free_ struct prefix *prefixes = NULL;
	uint64_t now = now_monotonic_ns();
	struct error why = {0};
	size_t n;

	edge_look_clear(l);
	/* Until everything is known, nothing is withdrawn. */
	l->known = kube_cache_synced(e->peers) && kube_cache_synced(e->pools) && fabric_synced(e->c.fabric) &&
	           e->fabric_known;
	if (!l->known)
		return 0;
	int r = edge_pool_prefixes(e, &l->pools, &l->n_pools, err);
	if (r < 0)
		return r;
	l->keep_pools = kube_cache_count_bad(e->pools) > 0;
	/* Without a route to the fabric announce nothing, so that traffic goes to another edge. */
	l->announce = e->fabric.any;
	l->compare = !e->compared_at || now - e->compared_at > COMPARE_NS;
	if (l->compare)
		e->compared_at = now;
	if (edge_wanted_prefixes(e, &prefixes, &n, &l->fault) < 0)
		return 0;
	e->stats.announced = l->announce ? (int64_t)n : 0;
	if (edge_wanted_config(e, prefixes, (size_t)e->stats.announced, l, &why) < 0)
		l->fault = why;
	return 0;
}

static int edge_on_sync(_unused_ sd_event_source *s, void *userdata) {
	struct edge *e = userdata;
	struct error err = {0};
	if (e->job) {
		e->look_again = true;
		return 0;
	}
	int r = prepare_look(e, &err);
	if (r >= 0)
		r = edge_look_start(e, &err);
	if (r < 0) {
		e->compared_at = 0;
		say(e, &err);
	}
	return 0;
}

void edge_looked(struct edge *e, int r, const struct bgp_session *sessions, const struct error *why) {
	struct error err = *why;
	if (r >= 0 && e->look.known) {
		r = edge_report_peers(e, sessions, &err);
		e->ready |= r >= 0;
		/* This is a mistake in the configuration: report it and go on. */
		if (r >= 0)
			r = announcer_check_ip(e->pools, &e->c.overlay_ip, &err);
	}
	say(e, r < 0 ? &err : NULL);
	edge_look_clear(&e->look);
	if (e->look_again)
		sync_soon(e);
	e->look_again = false;
}

/* Sessions, FRR and the overlay change without a notification, so they are polled. */
static int on_poll(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct edge *e = userdata;
	sync_soon(e);
	return loop_timer(e->c.loop, &e->poll_src, POLL_US, on_poll, e);
}

static void edge_on_bad(const struct kube_cache *c, _unused_ const char *ns, const char *name, const struct error *why,
                        void *userdata) {
	struct error err;
	error_set(&err, EBADMSG,
	          "not understood, so the edge removes no %s: %.300s; correct the object or, if a newer program wrote "
	          "it, upgrade this agent",
	          kube_cache_kind(c) == &api_kind_edgepeer ? "BGP session" : "announced prefix", why->msg);
	tell_object(userdata, c, name, &err);
}

/* What was kept because it might belong to this object may be removed now. */
static void edge_on_good(const struct kube_cache *c, _unused_ const char *ns, const char *name, void *userdata) {
	struct edge *e = userdata;
	tell_object(e, c, name, NULL);
	e->compared_at = 0;
	sync_soon(e);
}

static void edge_on_change(_unused_ const struct kube_change *ch, void *userdata) {
	struct edge *e = userdata;
	e->compared_at = 0;
	sync_soon(e);
}

/* Only a changed spec matters; we write the status ourselves. */
static void on_peer_change(const struct kube_change *ch, void *userdata) {
	const struct edgepeer *now = ch->obj, *old = ch->old;
	if (ch->type == KUBE_MODIFIED && old && api_equal(&api_desc_edgepeer_spec, now->spec, old->spec))
		return;
	sync_soon(userdata);
}

static void on_outside(const struct bgp_routes *now, void *userdata) {
	struct edge *e = userdata;
	struct error err = {0};
	e->outside = *now;
	if (want_endpoint(e, &err) < 0)
		say(e, &err);
	/* If FRR has died, the look starts it again. */
	sync_soon(e);
}

static void on_fabric(const struct bgp_routes *now, void *userdata) {
	struct edge *e = userdata;
	e->fabric = *now;
	e->fabric_known = true;
	e->compared_at = 0; /* kept prefixes are announced again */
	sync_soon(e);
}

static void on_announce_failed(const struct error *err, void *userdata) {
	say(userdata, err);
}

static int edge_start(struct edge *e, struct error *err) {
	char endpoint[300], own[300];
	struct kube_cache_options pools = {.bad = edge_on_bad, .good = edge_on_good, .userdata = e}, peers = pools;
	peers.select.field_selector = own;
	snprintf(own, sizeof(own), "spec.edge=%s", e->c.name);
	snprintf(endpoint, sizeof(endpoint), ENDPOINT_OF_EDGE "%s", e->c.name);
	snprintf(e->frr_dir, sizeof(e->frr_dir), "%s/frr-public", e->c.run_dir);
	snprintf(e->netns, sizeof(e->netns), "%s", fabric_underlay(e->c.fabric)->public_name);
	e->frr = (struct frr){.netns = e->netns, .dir = e->frr_dir};
	int r = jobs_new(&e->jobs, e->c.loop, 1, SD_EVENT_PRIORITY_NORMAL, err);
	if (r >= 0)
		r = kube_cache_new(&e->peers, e->c.client, &api_kind_edgepeer, &peers, err);
	if (r >= 0)
		r = kube_cache_new(&e->pools, e->c.client, &api_kind_addresspool, &pools, err);
	if (r >= 0)
		r = announcer_new(&e->announcer, e->c.client, endpoint, on_announce_failed, e, err);
	if (r < 0)
		return r;
	if (kube_cache_on_change(e->peers, on_peer_change, e) < 0 ||
	    kube_cache_on_change(e->pools, edge_on_change, e) < 0 ||
	    sd_event_add_defer(e->c.loop, &e->sync_src, edge_on_sync, e) < 0)
		return error_oom(err);
	r = loop_timer(e->c.loop, &e->poll_src, POLL_US, on_poll, e);
	if (r < 0)
		return error_errno(err, r, "timer");
	r = bgp_watch_new(&e->underlay_watch, e->c.loop, fabric_underlay(e->c.fabric)->underlay_fd, on_fabric, e, err);
	if (r >= 0)
		r = bgp_watch_new(&e->public_watch, e->c.loop, fabric_underlay(e->c.fabric)->public_fd, on_outside, e,
		                  err);
	return r;
}

int edge_new(struct edge **ret, const struct edge_config *c, struct error *err) {
	struct edge *e = calloc(1, sizeof(*e));
	if (!e)
		return error_oom(err);
	e->c = *c;
	int r = edge_start(e, err);
	if (r < 0) {
		edge_free(e);
		return r;
	}
	*ret = e;
	return 0;
}

struct edge *edge_free(struct edge *e) {
	if (!e)
		return NULL;
	bgp_watch_free(e->public_watch);
	bgp_watch_free(e->underlay_watch);
	jobs_free(e->jobs);
	edge_look_clear(&e->look);
	announcer_free(e->announcer);
	kube_cache_free(e->peers);
	kube_cache_free(e->pools);
	sd_event_source_disable_unref(e->sync_src);
	sd_event_source_disable_unref(e->poll_src);
	free(e);
	return NULL;
}

void edge_stats(const struct edge *e, struct edge_stats *ret) {
	*ret = e->stats;
	ret->not_understood = kube_cache_count_bad(e->peers) + kube_cache_count_bad(e->pools);
	ret->default4 = e->outside.default4;
	ret->default6 = e->outside.default6;
}

bool edge_ready(const struct edge *e) {
	return e->ready;
}
