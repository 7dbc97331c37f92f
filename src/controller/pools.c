/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The status of AddressPools: how much is used, and whether they may be used. A finalizer keeps a deleted pool until
 * its last Allocation is gone; nothing new is allocated from it meanwhile.
 */

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "bpf/balancer.h"
#include "controller/addresses.h"

static bool pool_in_use(const struct controller *c, const char *pool) {
	const struct kube_cache *allocations = controller_cache(c, &api_kind_allocation);
	const struct allocation *al;
	KUBE_CACHE_FOREACH(al, allocations) {
		if (streq(al->spec->pool, pool))
			return true;
	}
	return false;
}

/* Orders pools by age, and those of equal age by name, so that exactly one of two is the older. */
static bool pool_is_older(const struct addresspool *a, const struct addresspool *b) {
	const char *x = a->meta.creation_timestamp ? a->meta.creation_timestamp : "";
	const char *y = b->meta.creation_timestamp ? b->meta.creation_timestamp : "";
	int c = strcmp(x, y);
	return c ? c < 0 : strcmp(a->meta.name, b->meta.name) < 0;
}

static const struct addresspool *pool_overlapped_by(const struct controller *c, const struct addresspool *p) {
	const struct kube_cache *pools = controller_cache(c, &api_kind_addresspool);
	const struct addresspool *q;
	KUBE_CACHE_FOREACH(q, pools) {
		if (q != p && pool_is_older(q, p) && addresspool_overlaps(q->spec, p->spec))
			return q;
	}
	return NULL;
}

_Static_assert(1U << (32 - ADDRESSPOOL_SHARED_MIN) <= BALANCER_ADDRESSES, "balancers hold the largest pool");
_Static_assert((uint64_t)BALANCER_ADDRESSES *(65536 >> BALANCER_SHIFT_MAX) <= BALANCER_OWNERS,
               "the groups of ports limit only pools with small slices");

/* How much of a balancer's maps pools need when all their values are used (bpf/balancer.h). */
struct pool_share {
	uint64_t addresses, groups;
};

static void pool_share_add(struct pool_share *s, const struct addresspool *p) {
	const int shift = MIN(__builtin_ctz(addresspool_slice_ports(p->spec)), BALANCER_SHIFT_MAX);
	struct prefix prefix;
	if (!p->spec->prefix || prefix_parse(p->spec->prefix, &prefix, NULL) < 0)
		return;
	s->addresses += prefix_count(&prefix, 32);
	s->groups += prefix_count(&prefix, 32) * (65536U >> shift);
}

static bool pool_share_is_too_large(const struct pool_share *s) {
	return s->addresses > BALANCER_ADDRESSES || s->groups > BALANCER_OWNERS;
}

static int pool_age_cmp(const void *a, const void *b) {
	const struct addresspool *x = *(const struct addresspool *const *)a;
	const struct addresspool *y = *(const struct addresspool *const *)b;
	return pool_is_older(x, y) ? -1 : pool_is_older(y, x);
}

/*
 * 1: balancers hold the slices of P, a pool with use shared, besides those of the older pools that they hold. 0: they
 * don't, and MSG says so. -ENOMEM.
 */
static int pool_fits_balancers(const struct controller *c, const struct addresspool *p, char *msg, size_t size) {
	const struct kube_cache *pools = controller_cache(c, &api_kind_addresspool);
	const struct addresspool *q;
	struct pool_share had = {0}, own = {0};
	size_t n = 0, i = 0;
	KUBE_CACHE_FOREACH(q, pools) {
		n += streq(q->spec->use, "shared") && pool_is_older(q, p);
	}
	_free_ const struct addresspool **older = calloc(n + 1, sizeof(const struct addresspool *));
	if (!older)
		return -ENOMEM;
	KUBE_CACHE_FOREACH(q, pools) {
		if (streq(q->spec->use, "shared") && pool_is_older(q, p))
			older[i++] = q;
	}
	qsort(older, n, sizeof(const struct addresspool *), pool_age_cmp);
	for (i = 0; i < n; i++) {
		struct pool_share with = had;
		pool_share_add(&with, older[i]);
		if (!pool_share_is_too_large(&with))
			had = with;
	}
	pool_share_add(&own, p);
	const struct pool_share all = {had.addresses + own.addresses, had.groups + own.groups};
	if (!pool_share_is_too_large(&all))
		return 1;
	snprintf(msg, size,
	         "balancers hold %d addresses and %u groups of ports; older AddressPools with use shared have %llu and "
	         "%llu of them, and this one has %llu and %llu; nothing is allocated from it",
	         BALANCER_ADDRESSES, BALANCER_OWNERS, (unsigned long long)had.addresses, (unsigned long long)had.groups,
	         (unsigned long long)own.addresses, (unsigned long long)own.groups);
	return 0;
}

static int pool_set_conditions(const struct controller *c, const struct addresspool *p, struct addresspool *n) {
	const struct addresspool *q = pool_overlapped_by(c, p);
	const char *reason = "Ready";
	char msg[400] = "";
	if (q) {
		reason = "Overlap";
		snprintf(msg, sizeof(msg), "overlaps the older AddressPool `%s`; nothing is allocated from it",
		         q->meta.name);
	} else if (streq(p->spec->use, "shared")) {
		int fits = pool_fits_balancers(c, p, msg, sizeof(msg));
		if (fits < 0)
			return fits;
		reason = fits ? reason : "BalancersFull";
	}
	return api_condition_set(&n->status->conditions.v, &n->status->conditions.n, "Ready", *msg ? "False" : "True",
	                         reason, msg, p->meta.generation.v, now_realtime_us());
}

static void pool_update_status(struct work *w, const struct addresspool *p) {
	const struct controller *c = work_controller(w);
	struct addresspool *n = api_copy_with_status(&api_kind_addresspool, p);
	if (n && pool_set_conditions(c, p, n) >= 0) {
		n->status->used = API_I64(addresses_used(addresses_of(c), p->meta.name));
		n->status->total = API_I64(addresspool_total(p->spec));
		work_patch_status(w, &api_kind_addresspool, p, n, WORK_NO_THEN);
	} else
		work_fail_oom(w);
	api_free(&api_kind_addresspool, n);
}

static void pool_reconcile(struct work *w, const void *obj) {
	const struct addresspool *p = obj;
	if (!p)
		return;
	bool held = has_finalizer(&p->meta, FINALIZER_POOL);
	if (p->meta.deletion_timestamp) {
		if (held && !pool_in_use(work_controller(w), p->meta.name))
			work_patch_finalizers(w, &api_kind_addresspool, &p->meta, FINALIZER_POOL, false);
	} else if (!held)
		work_patch_finalizers(w, &api_kind_addresspool, &p->meta, FINALIZER_POOL, true);
	if (held)
		pool_update_status(w, p);
}

/* A pool that came or went may overlap any other. */
static void pools_pool_changed(struct controller *c, const struct kube_change *ch) {
	if (ch->type != KUBE_MODIFIED)
		concern_enqueue_all(c, &concern_pools);
}

/* Updates the pool's usage after a second, so that many changes cause one update. */
static void pools_allocation_changed(struct controller *c, const struct kube_change *ch) {
	const struct allocation *al = ch->obj;
	concern_enqueue_after(c, &concern_pools, NULL, al->spec->pool, USEC_PER_SEC);
}

const struct concern concern_pools = {
	.name = "addresspools",
	.kind = &api_kind_addresspool,
	.watches = {{.kind = &api_kind_addresspool, .changed = pools_pool_changed},
                    {.kind = &api_kind_allocation, .changed = pools_allocation_changed}},
	.reconcile = pool_reconcile,
};
