/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What nobody owns any more: Allocations after their quarantine, Allocations and Endpoints whose owner is gone. An
 * absence in the cache is only a suspicion: the server is asked for the owner before anything goes.
 *
 * Of a lost host go the Endpoints that another can stand in for, an edge's. An instance's stays as long as it is
 * wanted: nobody else has its prefixes, so withdrawing it would gain nothing if the host is dead, and lose its traffic
 * if only its agent is, or the link that it reaches the API by.
 */

#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "controller/addresses.h"

/* The cache and kind an owner reference points to; false for kinds that this controller doesn't know. */
static bool owner_cache(const struct controller *c, const struct api_object_ref *o, struct kube_cache **ret) {
	*ret = streq(o->kind, "Instance") ? c->instances : streq(o->kind, "Host") ? c->hosts : NULL;
	return *ret;
}

/* Whether OBJ is the one that REF means, not a later one of its name. */
static bool is_owner(const struct api_object_ref *ref, const void *obj) {
	const char *id = streq(ref->kind, "Instance") ? instance_id(obj) : ((const struct api_meta *)obj)->uid;
	return streq(id, ref->uid);
}

/* The server has answered whether the owner is there. */
static void owner_asked(struct op *op, const struct kube_response *r) {
	struct work *w = op->work;
	struct controller *c = w->c;
	void *owner = NULL;
	const struct allocation *al =
		w->queue == QUEUE_ALLOCATIONS ? kube_cache_get(c->allocations, NULL, w->key) : NULL;
	const struct endpoint *e = w->queue == QUEUE_ENDPOINTS ? kube_cache_get(c->endpoints, NULL, w->key) : NULL;
	const struct api_object_ref *ref = al ? al->spec->owner : e ? e->spec->owner : NULL;
	struct kube_cache *cache;
	if (!ref || !owner_cache(c, ref, &cache) || !work_may_go_on(w))
		return;
	if (r->error == 0 && kube_response_parse(r, kube_cache_kind(cache), &owner, NULL) < 0)
		return;
	bool gone = r->error == -ENOENT || (owner && !is_owner(ref, owner));
	api_free(kube_cache_kind(cache), owner);
	if (!gone)
		return;
	log_info("owner is gone", "%s=%s owner=%s/%s", al ? "allocation" : "endpoint", w->key, ref->ns ? ref->ns : "",
	         ref->name);
	if (al)
		addresses_release(w, al);
	else
		work_delete(w, &api_kind_endpoint, &e->meta);
}

/* Asks the server if the cache knows no such owner. */
static void check_owner(struct work *w, const struct api_object_ref *ref) {
	struct kube_cache *cache;
	struct error err = {0};
	if (!ref || !owner_cache(w->c, ref, &cache))
		return;
	const struct api_meta *m = kube_cache_get(cache, ref->ns, ref->name);
	if (m && is_owner(ref, m))
		return;
	struct op *op = work_op(w, NULL);
	struct kube_call call = op_call(op);
	op->missing_ok = true;
	op->then = owner_asked;
	work_sent(w, kube_get(w->c->client, kube_cache_kind(cache), ref->ns, ref->name, &call, &err), &err);
}

/* ---- allocations ---- */

/* Deletes a released Allocation when its quarantine is over, or comes back then. */
static void after_quarantine(struct work *w, const struct allocation *al) {
	uint64_t since, now = now_realtime_us(), wait = (uint64_t)addresses_quarantine(w->c, al) * USEC_PER_SEC;
	if (time_parse(al->status->released_at, &since) < 0 || since + wait <= now)
		work_delete(w, &api_kind_allocation, &al->meta);
	else
		kube_workqueue_add_after(w->c->queues[QUEUE_ALLOCATIONS], w->key, since + wait - now);
}

void allocation_reconcile(const char *key, void *userdata) {
	struct controller *c = userdata;
	struct work *w = work_new(c, QUEUE_ALLOCATIONS, key);
	const struct allocation *al = kube_cache_get(c->allocations, NULL, key);
	if (al && work_may_go_on(w) && !al->meta.deletion_timestamp) {
		if (al->status && al->status->released_at)
			after_quarantine(w, al);
		else
			check_owner(w, al->spec->owner);
	}
	work_close(w);
}

/* ---- endpoints ---- */

static void host_asked(struct op *op, const struct kube_response *r) {
	struct work *w = op->work;
	const struct endpoint *e = kube_cache_get(w->c->endpoints, NULL, w->key);
	if (r->error == -ENOENT && e && work_may_go_on(w))
		work_delete(w, &api_kind_endpoint, &e->meta);
}

/* True if E is an instance's that nobody has deleted. */
static bool serves_instance(const struct controller *c, const struct endpoint *e) {
	const struct api_object_ref *o = e->spec->owner;
	if (!o || !streq(o->kind, "Instance"))
		return false;
	const struct api_meta *m = kube_cache_get(c->instances, o->ns, o->name);
	return m && is_owner(o, m) && !m->deletion_timestamp;
}

void endpoint_reconcile(const char *key, void *userdata) {
	struct controller *c = userdata;
	struct work *w = work_new(c, QUEUE_ENDPOINTS, key);
	const struct endpoint *e = kube_cache_get(c->endpoints, NULL, key);
	struct error err = {0};
	if (!e || !work_may_go_on(w) || e->meta.deletion_timestamp) {
		work_close(w);
		return;
	}
	if (!kube_cache_get(c->hosts, NULL, e->spec->host)) {
		struct op *op = work_op(w, c->hosts);
		struct kube_call call = op_call(op);
		op->missing_ok = true;
		op->then = host_asked;
		work_sent(w, kube_get(c->client, &api_kind_host, NULL, e->spec->host, &call, &err), &err);
	} else if (host_is_lost(c, e->spec->host) && !serves_instance(c, e)) {
		log_debug("endpoint of a lost host withdrawn", "endpoint=%s host=%s", key, e->spec->host);
		work_delete(w, &api_kind_endpoint, &e->meta);
	} else if (!claims_check(w, e))
		check_owner(w, e->spec->owner);
	work_close(w);
}
