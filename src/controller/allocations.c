/* SPDX-License-Identifier: Apache-2.0 */

/* Allocations that nobody owns any more are released, and deleted when their quarantine is over. */

#include "api/host.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/owner.h"

/* Deletes a released Allocation if its quarantine is over; otherwise queues it for that time. */
static void allocation_after_quarantine(struct work *w, const struct allocation *al) {
	uint64_t since, now = now_realtime_us();
	uint64_t wait = (uint64_t)addresses_quarantine(work_controller(w), al) * USEC_PER_SEC;
	if (time_parse(al->status->released_at, &since) < 0 || since + wait <= now)
		work_delete(w, &api_kind_allocation, &al->meta);
	else
		work_again(w, since + wait - now);
}

static void allocation_owner_gone(struct work *w, const char *uid) {
	const struct kube_cache *cache = controller_cache(work_controller(w), &api_kind_allocation);
	const struct allocation *al = kube_cache_get(cache, NULL, work_key(w));
	if (!al || !streq(al->spec->owner->uid, uid))
		return;
	log_info("owner is gone", "allocation=%s owner=%s/%s", al->meta.name,
	         al->spec->owner->ns ? al->spec->owner->ns : "", al->spec->owner->name);
	addresses_release(w, al);
}

static void allocation_reconcile(struct work *w, const void *obj) {
	const struct allocation *al = obj;
	if (!al || al->meta.deletion_timestamp)
		return;
	if (al->status && al->status->released_at)
		allocation_after_quarantine(w, al);
	else
		owner_check(w, al->spec->owner, allocation_owner_gone);
}

static void allocations_instance_changed(struct controller *c, const struct kube_change *ch) {
	const struct allocation *al = NULL;
	if (ch->type != KUBE_DELETED)
		return;
	while ((al = addresses_owned_next(addresses_of(c), instance_id(ch->obj), al)))
		concern_enqueue(c, &concern_allocations, NULL, al->meta.name);
}

/* A quarantine that has changed is for values that rest already, too. */
static void allocations_pool_changed(struct controller *c, const struct kube_change *ch) {
	const struct kube_cache *cache = controller_cache(c, &api_kind_allocation);
	const struct addresspool *now = ch->obj, *old = ch->old;
	const struct allocation *al;
	if (ch->type != KUBE_MODIFIED || addresspool_quarantine(now->spec) == addresspool_quarantine(old->spec))
		return;
	KUBE_CACHE_FOREACH(al, cache) {
		if (streq(al->spec->pool, now->meta.name) && al->status && al->status->released_at)
			concern_enqueue(c, &concern_allocations, NULL, al->meta.name);
	}
}

static struct metric n_allocations = METRIC_GAUGE("nacre_controller_allocations", "Allocations there are.");

const struct concern concern_allocations = {
	.name = "allocations",
	.kind = &api_kind_allocation,
	.count = &n_allocations,
	.watches = {{.kind = &api_kind_instance, .changed = allocations_instance_changed},
                    {.kind = &api_kind_addresspool, .changed = allocations_pool_changed},
                    {.kind = &api_kind_host}},
	.reconcile = allocation_reconcile,
};
