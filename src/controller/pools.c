/* SPDX-License-Identifier: Apache-2.0 */

/*
 * AddressPools: their usage, whether they may be used, and that they stay while values of theirs are in use: a
 * finalizer holds a deleted pool (nothing new is allocated from it) until its last Allocation is gone.
 */

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "controller/addresses.h"

static bool in_use(const struct controller *c, const char *pool) {
	const struct allocation *al;
	KUBE_CACHE_FOREACH(al, c->allocations) {
		if (streq(al->spec->pool, pool))
			return true;
	}
	return false;
}

/* Order of age; of equal ones the name decides, so that exactly one of two is the older. */
static bool older(const struct addresspool *a, const struct addresspool *b) {
	const char *x = a->meta.creation_timestamp ? a->meta.creation_timestamp : "";
	const char *y = b->meta.creation_timestamp ? b->meta.creation_timestamp : "";
	int c = strcmp(x, y);
	return c ? c < 0 : strcmp(a->meta.name, b->meta.name) < 0;
}

static const struct addresspool *overlapped_by(const struct controller *c, const struct addresspool *p) {
	const struct addresspool *q;
	KUBE_CACHE_FOREACH(q, c->pools) {
		if (q != p && older(q, p) && addresspool_overlaps(q->spec, p->spec))
			return q;
	}
	return NULL;
}

static int set_conditions(const struct controller *c, const struct addresspool *p, struct addresspool *n) {
	const struct addresspool *q = overlapped_by(c, p);
	char msg[400];
	if (q)
		snprintf(msg, sizeof(msg), "overlaps the older AddressPool `%s`; nothing is allocated from it",
		         q->meta.name);
	return api_condition_set(&n->status->conditions.v, &n->status->conditions.n, "Ready", q ? "False" : "True",
	                         q ? "Overlap" : "Ready", q ? msg : "", p->meta.generation.v, now_realtime_us());
}

static void update_status(struct work *w, const struct addresspool *p) {
	struct controller *c = w->c;
	struct error err = {0};
	struct addresspool *n = clone(&api_kind_addresspool, p);
	if (n && !n->status)
		n->status = calloc(1, sizeof(*n->status));
	if (!n || !n->status || set_conditions(c, p, n) < 0) {
		work_sent(w, error_oom(&err), &err);
	} else {
		n->status->used = API_I64(addresses_used(c->addresses, p->meta.name));
		n->status->total = API_I64(addresspool_total(p->spec));
		struct kube_call call = op_call(work_op(w, c->pools));
		int r = kube_patch_status(c->client, &api_kind_addresspool, p, n, &call, &err);
		if (r != -EALREADY)
			work_sent(w, r, &err);
	}
	api_free(&api_kind_addresspool, n);
}

void pool_reconcile(const char *key, void *userdata) {
	struct controller *c = userdata;
	struct work *w = work_new(c, QUEUE_POOLS, key);
	const struct addresspool *p = kube_cache_get(c->pools, NULL, key);
	if (p && work_may_go_on(w)) {
		bool held = has_finalizer(&p->meta, FINALIZER_POOL);
		if (p->meta.deletion_timestamp) {
			if (held && !in_use(c, key))
				work_patch_finalizers(w, c->pools, &p->meta, FINALIZER_POOL, false);
		} else if (!held)
			work_patch_finalizers(w, c->pools, &p->meta, FINALIZER_POOL, true);
		if (held)
			update_status(w, p);
	}
	work_close(w);
}
