/* SPDX-License-Identifier: Apache-2.0 */

#include "controller/claims.h"

#include <stdlib.h>
#include <string.h>

#include "api/addresspool.h"
#include "api/host.h"
#include "api/instance.h"
#include "base/log.h"
#include "base/tree.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/slices.h"

#define LATER_US (10 * USEC_PER_SEC)
#define DOUBT_US (20 * USEC_PER_SEC) /* a balancer may announce a prefix of no pool for so long */

enum claim { CLAIM_GOOD, CLAIM_WRONG, CLAIM_UNKNOWN };

/* A balancer's Endpoint that has a prefix of no pool. */
struct doubt {
	RB_ENTRY(doubt) node;
	uint64_t since_us; /* monotonic */
	char endpoint[];
};

static int doubt_cmp(const struct doubt *a, const struct doubt *b) {
	return strcmp(a->endpoint, b->endpoint);
}

RB_HEAD(claims, doubt);
RB_GENERATE_INTERNAL(claims, doubt, node, doubt_cmp, _unused_ static)

static struct doubt *doubt_find(const struct controller *c, const char *endpoint) {
	const struct claims *all = concern_state(c, &concern_endpoints);
	return TREE_FIND_STRING(doubt, all, node, endpoint, endpoint);
}

static void doubt_begin(const struct controller *c, const char *endpoint) {
	struct claims *all = concern_state(c, &concern_endpoints);
	if (doubt_find(c, endpoint))
		return;
	struct doubt *d = calloc(1, sizeof(*d) + strlen(endpoint) + 1);
	if (!d)
		abort(); /* the Endpoint would stay for ever */
	strcpy(d->endpoint, endpoint);
	d->since_us = now_monotonic_ns() / 1000;
	RB_INSERT(claims, all, d);
}

static bool doubt_is_over(const struct controller *c, const char *endpoint) {
	const struct doubt *d = doubt_find(c, endpoint);
	return d && now_monotonic_ns() / 1000 - d->since_us >= DOUBT_US;
}

void claims_forget(const struct controller *c, const char *endpoint) {
	struct claims *all = concern_state(c, &concern_endpoints);
	struct doubt *d = doubt_find(c, endpoint);
	if (d)
		RB_REMOVE(claims, all, d);
	free(d);
}

int claims_open(_unused_ struct controller *c, _unused_ const struct controller_options *o, void **ret,
                struct error *err) {
	struct claims *all = calloc(1, sizeof(*all));
	if (!all)
		return error_oom(err);
	RB_INIT(all);
	*ret = all;
	return 0;
}

static void claims_clear(struct claims *all) {
	struct doubt *d;
	while ((d = RB_MIN(claims, all))) {
		RB_REMOVE(claims, all, d);
		free(d);
	}
}

void claims_stopped(struct controller *c) {
	claims_clear(concern_state(c, &concern_endpoints));
}

void claims_close(void *state) {
	claims_clear(state);
	free(state);
}

static const struct instance *claims_owner(const struct controller *c, const struct endpoint *e) {
	const struct api_object_ref *o = e->spec->owner;
	if (!o || !streq(o->kind, "Instance"))
		return NULL;
	const struct instance *i = kube_cache_get(controller_cache(c, &api_kind_instance), o->ns, o->name);
	return i && streq(instance_id(i), o->uid) ? i : NULL;
}

static bool claims_is_given(const char *s) {
	return s && *s;
}

static bool claims_has_prefix(const struct instance *i, const char *prefix) {
	char address[40];
	snprintf(address, sizeof(address), "%.16s/32", i->status->public_ipv4 ? i->status->public_ipv4 : "");
	return streq(prefix, i->status->prefix) || streq(prefix, i->status->delegated_prefix) ||
	       (instance_ipv4(i->spec) == INSTANCE_IPV4_DEDICATED && streq(prefix, address));
}

/* The status of the instance gives it the slice, or gave it: its agent may still be withdrawing it (ipv4.c). */
static bool claims_has_slice(const struct controller *c, const struct instance *i, const char *value) {
	char name[64];
	allocation_name(value, name);
	const struct allocation *al = kube_cache_get(controller_cache(c, &api_kind_allocation), NULL, name);
	return slices_have(i->status, value) ||
	       (al && addresses_in_use(al) && streq(al->spec->value, value) &&
	        streq(al->spec->owner->kind, "Instance") && streq(al->spec->owner->uid, instance_id(i)));
}

#define WRONG(...) (snprintf(why, 256, __VA_ARGS__), CLAIM_WRONG)

static enum claim claims_judge_instance(const struct controller *c, const struct endpoint *e, const struct instance *i,
                                        char why[static 256]) {
	const struct endpoint_spec *s = e->spec;
	const struct instance_status *st = i->status;
	if (!st || !claims_is_given(st->host) || !claims_is_given(st->overlay_address) || !claims_is_given(st->mac) ||
	    !claims_is_given(st->prefix))
		return CLAIM_UNKNOWN;
	if (!streq(st->host, s->host))
		return WRONG("Instance %s/%s is on host %s", i->meta.ns, i->meta.name, st->host);
	if (!streq(st->overlay_address, s->ip))
		return WRONG("spec.ip %s is not that of Instance %s/%s, %s", s->ip, i->meta.ns, i->meta.name,
		             st->overlay_address);
	if (!streq(st->mac, s->mac))
		return WRONG("spec.mac %s is not that of Instance %s/%s, %s", s->mac, i->meta.ns, i->meta.name,
		             st->mac);
	for (size_t k = 0; k < s->routes.n; k++) {
		char slice[SLICE_STR_MAX];
		const char *p = s->routes.v[k].prefix;
		if (endpoint_route_value(&s->routes.v[k], slice) ? claims_has_slice(c, i, slice)
		                                                 : claims_has_prefix(i, p))
			continue;
		return WRONG("spec.routes has %s, which Instance %s/%s was not given",
		             endpoint_route_value(&s->routes.v[k], slice) ? slice : p, i->meta.ns, i->meta.name);
	}
	return CLAIM_GOOD;
}

/* Judges a route of a balancer. */
static enum claim claims_judge_shared(const struct controller *c, const struct endpoint *e, const char *text,
                                      char why[static 256]) {
	const struct addresspool *pool, *other = NULL;
	struct prefix p, route;
	if (prefix_parse(text, &route, NULL) < 0)
		return WRONG("spec.routes has %s, which can't be read", text);
	KUBE_CACHE_FOREACH(pool, controller_cache(c, &api_kind_addresspool)) {
		if (!pool->spec->prefix || prefix_parse(pool->spec->prefix, &p, NULL) < 0)
			continue;
		if (streq(pool->spec->use, "shared") && prefix_cmp(&p, &route) == 0)
			return CLAIM_GOOD;
		if (!streq(pool->spec->use, "shared") && prefix_overlaps(&p, &route))
			other = pool;
	}
	if (other)
		return WRONG("spec.routes has %s, but the use of AddressPool %.63s is %s", text, other->meta.name,
		             other->spec->use);
	return doubt_is_over(c, e->meta.name)
	               ? WRONG("spec.routes has %s, but no AddressPool with use shared has that prefix", text)
	               : CLAIM_UNKNOWN;
}

static enum claim claims_judge_balancer(const struct controller *c, const struct endpoint *e, char why[static 256]) {
	enum claim all = CLAIM_GOOD;
	for (size_t i = 0; i < e->spec->routes.n && all != CLAIM_WRONG; i++) {
		enum claim one = claims_judge_shared(c, e, e->spec->routes.v[i].prefix, why);
		all = one == CLAIM_GOOD ? all : one;
	}
	return all;
}

static enum claim claims_judge(const struct controller *c, const struct endpoint *e, char why[static 256]) {
	const struct host *h = kube_cache_get(controller_cache(c, &api_kind_host), NULL, e->spec->host);
	const struct instance *i = claims_owner(c, e);
	char name[64];
	if (!h)
		return CLAIM_UNKNOWN;
	/* An Endpoint must not occupy a name that another owner needs, so the name is judged before more is known. */
	const bool own = endpoint_name_is_own(e);
	if (!own && endpoint_name_is_reserved(e->meta.name))
		return WRONG("its name is for another owner");
	if (!streq(h->spec->vtep, e->spec->vtep))
		return WRONG("spec.vtep %s is not that of Host %s, %s", e->spec->vtep, h->meta.name, h->spec->vtep);
	if (i) {
		enum claim found = claims_judge_instance(c, e, i, why);
		return found == CLAIM_GOOD && !own
		               ? WRONG("its name must be " ENDPOINT_OF_INSTANCE "%s", e->spec->owner->uid)
		               : found;
	}
	if (e->spec->owner)
		return CLAIM_GOOD; /* owner.c handles owners that are gone */
	allocation_name(e->spec->ip, name);
	const struct allocation *a = kube_cache_get(controller_cache(c, &api_kind_allocation), NULL, name);
	if (a && streq(a->spec->owner->kind, "Instance"))
		return WRONG("spec.ip %s belongs to Instance %s/%s", e->spec->ip,
		             a->spec->owner->ns ? a->spec->owner->ns : "", a->spec->owner->name);
	return starts_with(e->meta.name, ENDPOINT_OF_BALANCER) ? claims_judge_balancer(c, e, why) : CLAIM_GOOD;
}

/* The server was asked for the Host and the Instance, so the caches have what the server has. */
static void claims_settle(struct work *w, const struct endpoint *e) {
	struct controller *c = work_controller(w);
	char why[256];
	if (claims_judge(c, e, why) != CLAIM_WRONG || !work_may_go_on(w))
		return;
	log_warn("endpoint claims what is not its host's", "endpoint=%s host=%s why=\"%s\"", e->meta.name,
	         e->spec->host, why);
	kube_event(controller_recorder(c), &api_kind_host,
	           kube_cache_get(controller_cache(c, &api_kind_host), NULL, e->spec->host), KUBE_EVENT_WARNING,
	           "EndpointRemoved", "Endpoint %s was removed: %s", e->meta.name, why);
	work_delete_exact(w, &api_kind_endpoint, &e->meta);
}

static const struct endpoint *claims_endpoint(const struct work *w) {
	return kube_cache_get(controller_cache(work_controller(w), &api_kind_endpoint), NULL, work_key(w));
}

static void claims_instance_asked(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	const struct endpoint *e = claims_endpoint(w);
	if (r->error == 0 && e)
		claims_settle(w, e);
}

static void claims_host_asked(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	const struct endpoint *e = claims_endpoint(w);
	const struct api_object_ref *o = e ? e->spec->owner : NULL;
	if (r->error < 0 || !e)
		return;
	if (o && streq(o->kind, "Instance"))
		work_get(w, &api_kind_instance, o->ns, o->name, WORK_THEN(claims_instance_asked));
	else
		claims_settle(w, e);
}

bool claims_are_wrong(const struct controller *c, const struct endpoint *e) {
	char why[256];
	return claims_judge(c, e, why) == CLAIM_WRONG;
}

bool claims_check(struct work *w, const struct endpoint *e) {
	char why[256];
	enum claim found = claims_judge(work_controller(w), e, why);
	if (found == CLAIM_UNKNOWN) {
		if (starts_with(e->meta.name, ENDPOINT_OF_BALANCER))
			doubt_begin(work_controller(w), e->meta.name);
		work_again(w, LATER_US);
	}
	if (found == CLAIM_GOOD)
		claims_forget(work_controller(w), e->meta.name);
	if (found != CLAIM_WRONG)
		return false;
	work_get(w, &api_kind_host, NULL, e->spec->host, WORK_THEN(claims_host_asked));
	return true;
}
