/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Deletes Endpoints whose owner or Host is gone, and Endpoints that claim what is not their host's (claims.h).
 *
 * If a host is lost, the Endpoint of an edge or balancer is deleted, because another one can take its place. The
 * Endpoint of an instance stays as long as the instance is wanted, because no other host has its prefixes: if the host
 * is dead, nothing would be gained; if only its agent or its link to the API has failed, the instance would lose its
 * traffic.
 */

#include "api/addresspool.h"
#include "api/instance.h"
#include "base/log.h"
#include "base/util.h"
#include "controller/claims.h"
#include "controller/hosts.h"
#include "controller/owner.h"

static const struct endpoint *endpoint_of(const struct work *w) {
	return kube_cache_get(controller_cache(work_controller(w), &api_kind_endpoint), NULL, work_key(w));
}

static void endpoint_host_asked(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	const struct endpoint *e = endpoint_of(w);
	if (r->error == -ENOENT && e)
		work_delete(w, &api_kind_endpoint, &e->meta);
}

static void endpoint_owner_gone(struct work *w, const char *uid) {
	const struct endpoint *e = endpoint_of(w);
	const struct api_object_ref *o = e ? e->spec->owner : NULL;
	if (!o || !streq(o->uid, uid))
		return;
	log_info("owner is gone", "endpoint=%s owner=%s/%s", e->meta.name, o->ns ? o->ns : "", o->name);
	work_delete(w, &api_kind_endpoint, &e->meta);
}

/* True if E belongs to an instance that exists and is not being deleted. */
static bool endpoint_serves_instance(const struct controller *c, const struct endpoint *e) {
	const struct api_object_ref *o = e->spec->owner;
	if (!o || !streq(o->kind, "Instance"))
		return false;
	const struct instance *i = kube_cache_get(controller_cache(c, &api_kind_instance), o->ns, o->name);
	return i && owner_is(o, i) && !i->meta.deletion_timestamp;
}

static void endpoint_reconcile(struct work *w, const void *obj) {
	const struct controller *c = work_controller(w);
	const struct endpoint *e = obj;
	if (!e)
		claims_forget(c, work_key(w));
	if (!e || e->meta.deletion_timestamp)
		return;
	if (!kube_cache_get(controller_cache(c, &api_kind_host), NULL, e->spec->host)) {
		work_get(w, &api_kind_host, NULL, e->spec->host, WORK_THEN(endpoint_host_asked));
	} else if (host_is_lost(c, e->spec->host) && !endpoint_serves_instance(c, e)) {
		log_debug("endpoint of a lost host withdrawn", "endpoint=%s host=%s", e->meta.name, e->spec->host);
		work_delete(w, &api_kind_endpoint, &e->meta);
	} else if (!claims_check(w, e))
		owner_check(w, e->spec->owner, endpoint_owner_gone);
}

/* What an Endpoint may claim depends on its Host's VTEP, and on whether the Host exists. */
static void endpoints_host_changed(struct controller *c, const struct kube_change *ch) {
	const struct host *now = ch->obj, *old = ch->old;
	const struct endpoint *e = NULL;
	if (ch->type != KUBE_DELETED && (!old || streq(old->spec->vtep, now->spec->vtep)))
		return;
	while ((e = host_endpoint_next(c, ch->name, e)))
		concern_enqueue(c, &concern_endpoints, NULL, e->meta.name);
}

/* What balancers may announce depends on the AddressPools. */
static void endpoints_pool_changed(struct controller *c, const struct kube_change *ch) {
	const struct endpoint *e;
	if (ch->type == KUBE_MODIFIED)
		return;
	KUBE_CACHE_FOREACH(e, controller_cache(c, &api_kind_endpoint)) {
		if (starts_with(e->meta.name, ENDPOINT_OF_BALANCER))
			concern_enqueue(c, &concern_endpoints, NULL, e->meta.name);
	}
}

const struct concern concern_endpoints = {
	.name = "endpoints",
	.kind = &api_kind_endpoint,
	.watches = {{.kind = &api_kind_host, .changed = endpoints_host_changed},
                    {.kind = &api_kind_instance},
                    {.kind = &api_kind_addresspool, .changed = endpoints_pool_changed},
                    {.kind = &api_kind_allocation}},
	.open = claims_open,
	.reconcile = endpoint_reconcile,
	.stopped = claims_stopped,
	.close = claims_close,
};
