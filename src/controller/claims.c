/* SPDX-License-Identifier: Apache-2.0 */

#include "controller/claims.h"

#include "api/addresspool.h"
#include "api/host.h"
#include "api/instance.h"
#include "base/log.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/slices.h"

#define LATER_US (10 * USEC_PER_SEC)

enum claim { CLAIM_GOOD, CLAIM_WRONG, CLAIM_UNKNOWN };

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
		char slice[PORT_SLICE_STR_MAX];
		const char *p = s->routes.v[k].prefix;
		if (endpoint_route_value(&s->routes.v[k], slice) ? claims_has_slice(c, i, slice)
		                                                 : claims_has_prefix(i, p))
			continue;
		return WRONG("spec.routes has %s, which Instance %s/%s was not given",
		             endpoint_route_value(&s->routes.v[k], slice) ? slice : p, i->meta.ns, i->meta.name);
	}
	return CLAIM_GOOD;
}

/* A prefix that is in no pool that the cache has may be that of a new pool. */
static enum claim claims_judge_balancer(const struct controller *c, const struct endpoint *e, char why[static 256]) {
	for (size_t i = 0; i < e->spec->routes.n; i++) {
		const struct addresspool *pool;
		struct prefix p, route;
		if (prefix_parse(e->spec->routes.v[i].prefix, &route, NULL) < 0)
			continue;
		KUBE_CACHE_FOREACH(pool, controller_cache(c, &api_kind_addresspool)) {
			if (!streq(pool->spec->use, "shared") && pool->spec->prefix &&
			    prefix_parse(pool->spec->prefix, &p, NULL) == 0 && prefix_overlaps(&p, &route))
				return WRONG("spec.routes has %s, but the use of AddressPool %.63s is %s",
				             e->spec->routes.v[i].prefix, pool->meta.name, pool->spec->use);
		}
	}
	return CLAIM_GOOD;
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

bool claims_check(struct work *w, const struct endpoint *e) {
	char why[256];
	enum claim found = claims_judge(work_controller(w), e, why);
	if (found == CLAIM_UNKNOWN)
		work_again(w, LATER_US);
	if (found != CLAIM_WRONG)
		return false;
	work_get(w, &api_kind_host, NULL, e->spec->host, WORK_THEN(claims_host_asked));
	return true;
}
