/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What an Endpoint claims must be true: its name is its owner's, the VTEP is its Host's, the addresses and routes are
 * what its Instance was given, and the Instance is on that host. Otherwise a host that was broken into draws other
 * people's traffic. nacre-apiserver refuses such an Endpoint as its agent writes it; on a kube-apiserver, where no
 * policy can look that up, it is deleted here.
 *
 * What can't be judged yet (a Host or Instance that isn't there, or knows less than the Endpoint says) is left alone.
 * And a cache may be behind: before anything goes the server is asked for Host and Instance, and only that state of the
 * Endpoint is deleted which was judged.
 */

#include "base/log.h"
#include "base/util.h"
#include "controller/controller.h"

#define LATER_US (10 * USEC_PER_SEC)

enum claim { CLAIM_GOOD, CLAIM_WRONG, CLAIM_UNKNOWN };

static const struct instance *owner_of(const struct controller *c, const struct endpoint *e) {
	const struct api_object_ref *o = e->spec->owner;
	if (!o || !streq(o->kind, "Instance"))
		return NULL;
	const struct instance *i = kube_cache_get(c->instances, o->ns, o->name);
	return i && streq(instance_id(i), o->uid) ? i : NULL;
}

static bool given(const char *s) {
	return s && *s;
}

#define WRONG(...) (snprintf(why, 256, __VA_ARGS__), CLAIM_WRONG)

static enum claim judge_instance(const struct endpoint *e, const struct instance *i, char why[static 256]) {
	const struct endpoint_spec *s = e->spec;
	const struct instance_status *st = i->status;
	if (!st || !given(st->host) || !given(st->overlay_address) || !given(st->mac) || !given(st->prefix))
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
		const char *p = s->routes.v[k].prefix;
		if (!streq(p, st->prefix) && !streq(p, st->delegated_prefix))
			return WRONG("spec.routes has %s, which Instance %s/%s was not given", p, i->meta.ns,
			             i->meta.name);
	}
	return CLAIM_GOOD;
}

static enum claim judge(const struct controller *c, const struct endpoint *e, char why[static 256]) {
	const struct host *h = kube_cache_get(c->hosts, NULL, e->spec->host);
	const struct instance *i = owner_of(c, e);
	char name[64];
	if (!h)
		return CLAIM_UNKNOWN;
	/* A name that another owner needs can't wait until more is known. */
	const bool own = endpoint_name_is_own(e);
	if (!own && (starts_with(e->meta.name, ENDPOINT_OF_INSTANCE) || starts_with(e->meta.name, ENDPOINT_OF_EDGE)))
		return WRONG("its name is for another owner");
	if (!streq(h->spec->vtep, e->spec->vtep))
		return WRONG("spec.vtep %s is not that of Host %s, %s", e->spec->vtep, h->meta.name, h->spec->vtep);
	if (i) {
		enum claim found = judge_instance(e, i, why);
		return found == CLAIM_GOOD && !own
		               ? WRONG("its name must be " ENDPOINT_OF_INSTANCE "%s", e->spec->owner->uid)
		               : found;
	}
	if (e->spec->owner)
		return CLAIM_GOOD; /* gc.c sees to owners that are gone */
	allocation_name(e->spec->ip, name);
	const struct allocation *a = kube_cache_get(c->allocations, NULL, name);
	if (a && streq(a->spec->owner->kind, "Instance"))
		return WRONG("spec.ip %s belongs to Instance %s/%s", e->spec->ip,
		             a->spec->owner->ns ? a->spec->owner->ns : "", a->spec->owner->name);
	return CLAIM_GOOD;
}

static void asked(struct op *op, const struct kube_response *r) {
	struct work *w = op->work;
	struct controller *c = w->c;
	const struct endpoint *e = kube_cache_get(c->endpoints, NULL, w->key);
	struct error err = {0};
	char why[256];
	if (r->error < 0 || !e || !work_may_go_on(w))
		return;
	const struct api_object_ref *o = e->spec->owner;
	if (kube_cache_kind(op->feed) == &api_kind_host && o && streq(o->kind, "Instance")) {
		struct op *next = work_op(w, c->instances);
		struct kube_call call = op_call(next);
		next->missing_ok = true;
		next->then = asked;
		work_sent(w, kube_get(c->client, &api_kind_instance, o->ns, o->name, &call, &err), &err);
		return;
	}
	if (judge(c, e, why) != CLAIM_WRONG)
		return;
	log_warn("endpoint claims what is not its host's", "endpoint=%s host=%s why=\"%s\"", w->key, e->spec->host,
	         why);
	kube_event(c->recorder, &api_kind_host, kube_cache_get(c->hosts, NULL, e->spec->host), KUBE_EVENT_WARNING,
	           "EndpointRemoved", "Endpoint %s was removed: %s", w->key, why);
	struct op *last = work_op(w, NULL);
	struct kube_call call = op_call(last);
	last->missing_ok = true;
	work_sent(w, kube_delete_exact(c->client, &api_kind_endpoint, &e->meta, &call, &err), &err);
}

bool claims_check(struct work *w, const struct endpoint *e) {
	struct controller *c = w->c;
	struct error err = {0};
	char why[256];
	enum claim found = judge(c, e, why);
	if (found == CLAIM_UNKNOWN)
		kube_workqueue_add_after(c->queues[QUEUE_ENDPOINTS], w->key, LATER_US);
	if (found != CLAIM_WRONG)
		return false;
	struct op *op = work_op(w, c->hosts);
	struct kube_call call = op_call(op);
	op->missing_ok = true;
	op->then = asked;
	work_sent(w, kube_get(c->client, &api_kind_host, NULL, e->spec->host, &call, &err), &err);
	return true;
}
