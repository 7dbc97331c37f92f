/* SPDX-License-Identifier: Apache-2.0 */
#include "fabric/fabric.h"

#include <string.h>

#include "base/util.h"
#include "fabric/internal.h"

/* Time between checks of what sends no notification: namespaces, NICs, FRR. */
#define TICK_US (3 * USEC_PER_SEC)
/* The time for FRR to start, or to take changes. The next look repeats what was not finished. */
#define LOOK_MAX_MS 120000

static const char *const subjects[] = {
	[SUBJECT_ENDPOINT] = "endpoint",   [SUBJECT_ROUTE] = "route",       [SUBJECT_OVERLAY] = "overlay",
	[SUBJECT_DELIVERY] = "delivery",   [SUBJECT_UNDERLAY] = "underlay", [SUBJECT_API] = "api",
	[SUBJECT_HEARTBEAT] = "heartbeat", [SUBJECT_HOST] = "host",
};
_Static_assert(ARRAY_SIZE(subjects) == N_SUBJECTS, "each subject has a name");

void fabric_say(struct fabric *f, enum subject what, const struct error *err) {
	struct last *l = &f->last[what];
	if (err ? l->bad && strncmp(l->msg, err->msg, sizeof(l->msg) - 1) == 0 : !l->bad)
		return;
	l->bad = err != NULL;
	snprintf(l->msg, sizeof(l->msg), "%.*s", (int)sizeof(l->msg) - 1, err ? err->msg : "");
	if (f->c.state)
		f->c.state(subjects[what], err, f->c.userdata);
}

/* ---- endpoints ---- */

static int parse_endpoint(struct fabric *f, const struct endpoint *ep, struct overlay_endpoint *out,
                          struct prefix prefixes[static OVERLAY_PREFIXES_MAX], char device[static 16],
                          struct error *err) {
	const struct endpoint_spec *s = ep->spec;
	*out = (struct overlay_endpoint){.name = ep->meta.name, .prefixes = prefixes};
	int r = addr_parse(s->ip, &out->ip, err);
	if (r >= 0)
		r = mac_parse(s->mac, &out->mac, err);
	if (r >= 0)
		r = addr_parse(s->vtep, &out->vtep, err);
	for (size_t i = 0; r >= 0 && i < s->routes.n; i++) {
		if (endpoint_route_is_slice(&s->routes.v[i]))
			continue;
		if (out->n_prefixes == OVERLAY_PREFIXES_MAX)
			return error_set(err, E2BIG, "more than %d routes", OVERLAY_PREFIXES_MAX);
		r = prefix_parse(s->routes.v[i].prefix, &prefixes[out->n_prefixes], err);
		if (r >= 0 && (prefixes[out->n_prefixes].len > 0 || !f->c.own_defaults))
			out->n_prefixes++;
	}
	if (r >= 0 && addr_cmp(&out->vtep, &f->c.underlay.vtep) == 0 && f->c.device)
		out->device = f->c.device(ep, device, f->c.userdata);
	return r;
}

static void put_endpoint(struct fabric *f, const struct endpoint *ep) {
	struct prefix prefixes[OVERLAY_PREFIXES_MAX];
	struct overlay_endpoint e;
	struct error err = {0};
	char device[16];
	int r = parse_endpoint(f, ep, &e, prefixes, device, &err);
	if (r >= 0)
		r = overlay_put(f->overlay, &e, &err);
	if (r < 0) {
		error_prefix(&err, "Endpoint %s", ep->meta.name);
		fabric_say(f, SUBJECT_ENDPOINT, &err);
	}
}

static void fabric_on_endpoint(const struct kube_change *ch, void *userdata) {
	struct fabric *f = userdata;
	struct error err = {0};
	if (f->c.endpoint)
		f->c.endpoint(ch, f->c.userdata);
	switch (ch->type) {
	case KUBE_ADDED:
	case KUBE_MODIFIED: put_endpoint(f, ch->obj); break;
	case KUBE_DELETED: overlay_remove(f->overlay, ch->name); break;
	case KUBE_SYNCED:
		if (!f->started && overlay_start(f->overlay, &err) >= 0)
			f->started = true;
		fabric_delivery_look(f);
		fabric_say(f, SUBJECT_OVERLAY, f->started ? NULL : &err);
		fabric_host_ensure(f);
		break;
	}
}

static void on_route_report(const char *endpoint, _unused_ const struct prefix *route, const struct error *err,
                            void *userdata) {
	struct error e = {0};
	if (!err) {
		fabric_say(userdata, SUBJECT_ROUTE, NULL);
		return;
	}
	e = *err;
	error_prefix(&e, "Endpoint %s", endpoint);
	fabric_say(userdata, SUBJECT_ROUTE, &e);
}

static void on_api_state(_unused_ const struct kube_cache *c, bool connected, const struct error *err, void *userdata) {
	fabric_say(userdata, SUBJECT_API, connected ? NULL : err);
}

static void on_bad_object(_unused_ const struct kube_cache *c, _unused_ const char *ns, const char *name,
                          const struct error *err, void *userdata) {
	struct fabric *f = userdata;
	struct error e;
	error_set(&e, EBADMSG,
	          "Endpoint %s is not understood, its routes are left as they were: %.300s; correct the object or, if "
	          "a newer program wrote it, upgrade this agent",
	          name, err->msg);
	fabric_say(f, SUBJECT_ENDPOINT, &e);
	overlay_keep(f->overlay, true);
}

static void on_good_object(const struct kube_cache *c, _unused_ const char *ns, _unused_ const char *name,
                           void *userdata) {
	struct fabric *f = userdata;
	if (kube_cache_count_bad(c) > 0)
		return;
	fabric_say(f, SUBJECT_ENDPOINT, NULL);
	overlay_keep(f->overlay, false);
}

/* ---- start and end ---- */

/* What a look at the underlay passes to the next one. */
struct look_result {
	uint64_t filter;
	int vxlan;
};

/* FRR may need seconds for an answer, so a worker process asks it, with its own sockets in the same namespaces. */
static int fabric_look_in_worker(void *arg, void *result, struct error *err) {
	const struct fabric *f = arg;
	struct underlay u = {.underlay_fd = f->underlay.underlay_fd,
	                     .public_fd = f->underlay.public_fd,
	                     .vxlan = f->underlay.vxlan,
	                     .filter = f->underlay.filter};
	int r = underlay_ensure(&u, &f->c.underlay, err);

	*(struct look_result *)result = (struct look_result){.filter = u.filter, .vxlan = u.vxlan};
	return r;
}

static int fabric_on_tick(sd_event_source *s, uint64_t usec, void *userdata);

static void fabric_on_look(void *userdata, int r, const void *result, const struct error *err) {
	struct fabric *f = userdata;
	bool again = f->look_again;

	f->look = NULL;
	f->look_again = false;
	if (result) {
		f->underlay.filter = ((const struct look_result *)result)->filter;
		f->underlay.vxlan = ((const struct look_result *)result)->vxlan;
	}
	f->joined |= r >= 0;
	fabric_say(f, SUBJECT_UNDERLAY, r < 0 ? err : NULL);
	/* After a restart the program uses the new namespace. */
	if (r == -ESTALE) {
		(void)sd_event_exit(f->c.loop, r);
		return;
	}
	fabric_delivery_look(f);
	fabric_host_ensure(f);
	if (loop_timer(f->c.loop, &f->tick, again ? 0 : TICK_US, fabric_on_tick, f) < 0)
		abort();
}

static int fabric_on_tick(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct fabric *f = userdata;
	struct error err = {0};
	const struct job_spec spec = {.fn = fabric_look_in_worker,
	                              .arg = f,
	                              .result_size = sizeof(struct look_result),
	                              .keep = {f->underlay.underlay_fd, f->underlay.public_fd},
	                              .n_keep = 2,
	                              .timeout_ms = LOOK_MAX_MS,
	                              .done = fabric_on_look,
	                              .userdata = f};
	if (f->look) {
		f->look_again = true;
		return 0;
	}
	if (job_start(f->jobs, &spec, &f->look, &err) >= 0)
		return 0;
	fabric_say(f, SUBJECT_UNDERLAY, &err);
	return loop_timer(f->c.loop, &f->tick, TICK_US, fabric_on_tick, f);
}

/* BGP has no route any more, as if all leaves had gone. If FRR has died, the look starts it again. */
static void on_bgp(const struct bgp_routes *now, void *userdata) {
	struct fabric *f = userdata;
	if (!now->any)
		(void)!loop_timer(f->c.loop, &f->tick, 0, fabric_on_tick, f);
}

static void fabric_on_local_changed(void *userdata) {
	fabric_delivery_look(userdata);
}

static int start_overlay(struct fabric *f, struct error *err) {
	struct overlay_config oc = {.loop = f->c.loop,
	                            .underlay_fd = f->underlay.underlay_fd,
	                            .public_fd = f->underlay.public_fd,
	                            .device = OVERLAY_DEVICE,
	                            .vtep = f->c.underlay.vtep,
	                            .report = on_route_report,
	                            .local_changed = fabric_on_local_changed,
	                            .userdata = f};
	struct kube_cache_options co = {
		.names_only = true, .bad = on_bad_object, .good = on_good_object, .state = on_api_state, .userdata = f};
	int r = overlay_new(&f->overlay, &oc, err);
	if (r >= 0)
		r = kube_cache_new(&f->endpoints, f->c.client, &api_kind_endpoint, &co, err);
	if (r >= 0 && kube_cache_on_change(f->endpoints, fabric_on_endpoint, f) < 0)
		r = error_oom(err);
	return r;
}

static void on_heartbeat(const struct error *err, void *userdata) {
	fabric_say(userdata, SUBJECT_HEARTBEAT, err);
}

void fabric_heartbeat_start(struct fabric *f) {
	struct error err = {0};
	char lease[KUBE_LEASE_NAME_MAX];
	struct kube_heartbeat_options ho = {.ns = KUBE_SYSTEM_NS,
	                                    .name = kube_host_lease_name(f->c.host, lease),
	                                    .identity = f->c.host,
	                                    .duration_s = f->c.lease_s,
	                                    .state = on_heartbeat,
	                                    .userdata = f};
	if (!f->heartbeat && kube_heartbeat_new(&f->heartbeat, f->c.client, &ho, &err) < 0)
		fabric_say(f, SUBJECT_HEARTBEAT, &err);
}

static int fabric_start(struct fabric *f, struct error *err) {
	/* The first look starts FRR, which may take long; until then the heartbeat already runs. */
	int r = underlay_prepare(&f->underlay, &f->c.underlay, err);
	if (r >= 0)
		r = jobs_new(&f->jobs, f->c.loop, 1, SD_EVENT_PRIORITY_NORMAL, err);
	if (r >= 0)
		r = start_overlay(f, err);
	if (r >= 0)
		r = fabric_host_start(f, err);
	if (r >= 0 && loop_timer(f->c.loop, &f->tick, 0, fabric_on_tick, f) < 0)
		r = error_oom(err);
	if (r >= 0)
		r = bgp_watch_new(&f->bgp, f->c.loop, f->underlay.underlay_fd, on_bgp, f, err);
	return r;
}

int fabric_new(struct fabric **ret, const struct fabric_config *c, struct error *err) {
	struct fabric *f = calloc(1, sizeof(*f));
	if (!f)
		return error_oom(err);
	f->c = *c;
	int r = fabric_start(f, err);
	if (r < 0) {
		fabric_free(f);
		return r;
	}
	fabric_metrics_start(f);
	*ret = f;
	return 0;
}

struct fabric *fabric_free(struct fabric *f) {
	if (!f)
		return NULL;
	fabric_metrics_stop(f);
	bgp_watch_free(f->bgp);
	jobs_free(f->jobs);
	sd_event_source_disable_unref(f->tick);
	sd_event_source_disable_unref(f->host_retry);
	kube_heartbeat_free(f->heartbeat);
	kube_request_cancel(&f->host_request);
	kube_cache_free(f->endpoints);
	kube_cache_free(f->hosts);
	overlay_free(f->overlay);
	deliver_free(f->deliver);
	underlay_close(&f->underlay);
	free(f);
	return NULL;
}

const struct underlay *fabric_underlay(const struct fabric *f) {
	return &f->underlay;
}

struct overlay *fabric_overlay(const struct fabric *f) {
	return f->overlay;
}

bool fabric_synced(const struct fabric *f) {
	return f->started;
}

size_t fabric_endpoints_not_understood(const struct fabric *f) {
	return kube_cache_count_bad(f->endpoints);
}

bool fabric_ready(const struct fabric *f) {
	return f->started && f->registered;
}

const char *fabric_host_uid(const struct fabric *f) {
	return f->uid;
}

int fabric_options_apply(const struct fabric_options *o, struct fabric_config *c, struct error *err) {
	int r = addr_parse(o->vtep, &c->underlay.vtep, err);
	if (r < 0)
		return error_prefix(err, "--vtep");
	if (c->underlay.vtep.family != AF_INET6)
		return error_set(err, EINVAL, "--vtep %s: must be an IPv6 address", o->vtep);
	if (o->nics.n > UNDERLAY_NICS)
		return error_set(err, E2BIG, "--nic: given more than %d times", UNDERLAY_NICS);
	for (size_t i = 0; i < o->nics.n; i++)
		c->underlay.nics[c->underlay.n_nics++] = o->nics.v[i];
	c->underlay.prefix = o->prefix;
	c->underlay.run_dir = o->run_dir;
	c->underlay.password_file = o->underlay_password;
	c->underlay.max_prefixes = (uint32_t)o->underlay_max_prefixes;
	c->underlay.asn = (uint32_t)o->asn;
	c->underlay.vni = (uint32_t)o->vni;
	c->host = o->host;
	c->lease_s = (uint32_t)o->lease_s;
	return 0;
}
