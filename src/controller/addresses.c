/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/addresses.h"

#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "controller/ranges.h"
#include "controller/room.h"
#include "kube/index.h"

const char *const use_names[N_USES] = {"instance", "delegated", "overlay", "mac", "dedicated", "shared"};

struct pool {
	RB_ENTRY(pool) node;
	struct ranges ranges;
	char *name;
};

static int pool_cmp(const struct pool *a, const struct pool *b) {
	return strcmp(a->name, b->name);
}

RB_HEAD(pool_tree, pool);
RB_GENERATE_INTERNAL(pool_tree, pool, node, pool_cmp, _unused_ static)

struct addresses {
	struct controller *c;
	const struct kube_cache *pool_cache, *allocation_cache;
	struct pool_tree pools;
	uint64_t promised[N_USES];
	struct kube_index *owned; /* Allocations by the uid of their owner */
};

enum use value_use(const char *value) {
	const char *slash = strchr(value, '/');
	struct mac m;
	if (slash)
		return streq(slash, "/64") ? USE_INSTANCE : USE_DELEGATED;
	if (strchr(value, '.'))
		return strchr(value, ':') ? USE_SHARED : USE_DEDICATED;
	return mac_parse(value, &m, NULL) == 0 ? USE_MAC : USE_OVERLAY;
}

/* ---- pools ---- */

static struct pool *pool_find(const struct addresses *a, const char *name) {
	struct pool key = {.name = (char *)name};
	return RB_FIND(pool_tree, (struct pool_tree *)&a->pools, &key);
}

static void pool_free(struct addresses *a, struct pool *p) {
	RB_REMOVE(pool_tree, &a->pools, p);
	ranges_clear(&p->ranges);
	free(p->name);
	free(p);
}

/* Gives the value V back. */
static void pool_give(struct addresses *a, struct pool *p, uint64_t v) {
	const struct addresspool *obj = kube_cache_get(a->pool_cache, NULL, p->name);
	if (ranges_give(&p->ranges, v) < 0)
		abort(); /* the value would count as used for ever */
	if (obj)
		room_of_values(a->c, obj->spec->use);
}

static void pool_mark(struct addresses *a, const struct allocation *al, bool taken) {
	struct pool *p = pool_find(a, al->spec->pool);
	const struct addresspool *obj = kube_cache_get(a->pool_cache, NULL, al->spec->pool);
	uint64_t v;
	if (!p || !obj || !addresspool_index(obj->spec, al->spec->value, &v))
		return;
	if (!taken)
		pool_give(a, p, v);
	else if (ranges_take(&p->ranges, v) < 0)
		abort(); /* the value would be promised to somebody else */
}

/* Rebuilds the free values of the pool from the Allocations in the cache. */
static void pool_fill(struct addresses *a, struct pool *p, const struct addresspool *obj) {
	const struct allocation *al;
	uint64_t next = p->ranges.next;
	ranges_clear(&p->ranges);
	if (ranges_init(&p->ranges, (uint64_t)addresspool_total(obj->spec)) < 0)
		abort();
	p->ranges.next = next;
	KUBE_CACHE_FOREACH(al, a->allocation_cache) {
		if (streq(al->spec->pool, p->name))
			pool_mark(a, al, true);
	}
}

static void addresses_pool_changed(struct controller *c, const struct kube_change *ch) {
	struct addresses *a = addresses_of(c);
	struct pool *p = pool_find(a, ch->name);
	if (ch->type == KUBE_DELETED && p)
		pool_free(a, p);
	else if (ch->type != KUBE_DELETED)
		room_of_values(c, ((const struct addresspool *)ch->obj)->spec->use);
	if (ch->type != KUBE_ADDED || p)
		return;
	p = calloc(1, sizeof(*p));
	if (!p || !(p->name = strdup(ch->name)))
		abort();
	RB_INSERT(pool_tree, &a->pools, p);
	pool_fill(a, p, ch->obj);
}

int64_t addresses_used(const struct addresses *a, const char *pool) {
	struct pool *p = pool_find(a, pool);
	return p ? (int64_t)(p->ranges.total - p->ranges.free) : 0;
}

/* ---- allocations ---- */

/*
 * If a create was refused because somebody else has the value, the value counts as used. After a full list it is free
 * again unless the cache has an Allocation for it.
 */
static void addresses_allocations_synced(struct controller *c) {
	struct addresses *a = addresses_of(c);
	struct pool *p;
	RB_FOREACH (p, pool_tree, &a->pools) {
		const struct addresspool *obj = kube_cache_get(a->pool_cache, NULL, p->name);
		if (!obj)
			continue;
		pool_fill(a, p, obj);
		room_of_values(c, obj->spec->use);
	}
}

static const char *allocation_owner(const void *obj, _unused_ char buf[static KUBE_KEY_MAX]) {
	return ((const struct allocation *)obj)->spec->owner->uid;
}

static void addresses_allocation_changed(struct controller *c, const struct kube_change *ch) {
	struct addresses *a = addresses_of(c);
	const struct allocation *al = ch->obj;
	if (ch->type == KUBE_MODIFIED)
		return; /* the spec of an Allocation can't change */
	pool_mark(a, al, ch->type == KUBE_ADDED);
}

const struct allocation *addresses_owned_next(const struct addresses *a, const char *id,
                                              const struct allocation *prev) {
	return prev ? kube_index_next(a->owned, id, prev) : kube_index_first(a->owned, id);
}

bool addresses_in_use(const struct allocation *al) {
	return !al->meta.deletion_timestamp && !(al->status && al->status->released_at);
}

const struct allocation *addresses_owned(const struct addresses *a, const char *id, enum use use) {
	const struct allocation *al = NULL;
	while ((al = addresses_owned_next(a, id, al)))
		if (value_use(al->spec->value) == use && addresses_in_use(al))
			return al;
	return NULL;
}

bool addresses_has(const struct addresses *a, const struct instance *i, enum use use) {
	static const struct instance_status none;
	const struct instance_status *s = i->status ? i->status : &none;
	const bool dedicated = instance_ipv4(i->spec) == INSTANCE_IPV4_DEDICATED;
	const bool in_status[N_USES] = {[USE_INSTANCE] = s->prefix,
	                                [USE_DELEGATED] = s->delegated_prefix,
	                                [USE_OVERLAY] = s->overlay_address,
	                                [USE_MAC] = s->mac,
	                                [USE_DEDICATED] = dedicated && s->public_ipv4,
	                                [USE_SHARED] = s->port_slices.n};
	return in_status[use] || addresses_owned(a, instance_id(i), use);
}

/* ---- allocating ---- */

/* The value that an Allocation is being created for. */
struct reservation {
	char pool[256];
	uint64_t value;
};

WORK_THEN_DEFINE(allocation_created, struct reservation)

static void allocation_created(struct work *w, const struct kube_response *r, const struct reservation *res) {
	struct pool *p = pool_find(addresses_of(work_controller(w)), res->pool);
	/*
	 * If the create was refused because the value's Allocation exists, the value stays taken; the watch brings that
	 * Allocation. If there was no answer, the Allocation may have been created; then the watch marks the value
	 * again.
	 */
	if (r->error < 0)
		room_write_failed(work_controller(w), r->error);
	if (r->error < 0 && r->error != -EEXIST && p)
		pool_give(addresses_of(work_controller(w)), p, res->value);
}

static struct allocation *allocation_new(const char *pool, const char *value, const struct instance *owner) {
	struct allocation *al = api_new(&api_kind_allocation);
	char name[64], now[TIME_STR_MAX];
	allocation_name(value, name);
	if (!al)
		return NULL;
	al->meta.name = strdup(name);
	al->spec = calloc(1, sizeof(*al->spec));
	if (al->spec) {
		al->spec->pool = strdup(pool);
		al->spec->value = strdup(value);
		al->spec->since = strdup(time_str(now_realtime_us(), true, now));
		al->spec->owner = calloc(1, sizeof(*al->spec->owner));
	}
	if (al->spec && al->spec->owner) {
		al->spec->owner->kind = strdup("Instance");
		al->spec->owner->ns = strdup(owner->meta.ns);
		al->spec->owner->name = strdup(owner->meta.name);
		al->spec->owner->uid = strdup(instance_id(owner));
	}
	if (!al->meta.name || !al->spec || !al->spec->pool || !al->spec->value || !al->spec->since ||
	    !al->spec->owner || !al->spec->owner->kind || !al->spec->owner->ns || !al->spec->owner->name ||
	    !al->spec->owner->uid) {
		api_free(&api_kind_allocation, al);
		return NULL;
	}
	return al;
}

/* Begins to create the Allocation of the pool's next free value, which stays free if that fails. */
static void allocation_begin(struct work *w, struct pool *p, const struct addresspool *obj, uint64_t v,
                             const struct instance *owner) {
	char value[PREFIX_STR_MAX];
	struct reservation res = {.value = v};
	struct allocation *al =
		addresspool_value(obj->spec, v, value) < 0 ? NULL : allocation_new(p->name, value, owner);
	snprintf(res.pool, sizeof(res.pool), "%s", p->name);
	if (!al || ranges_take(&p->ranges, v) < 0)
		work_fail_oom(w);
	else if (!work_create(w, &api_kind_allocation, al, allocation_created_then(&res)))
		pool_give(addresses_of(work_controller(w)), p, v);
	api_free(&api_kind_allocation, al);
}

/*
 * Values are taken only from a pool that has its finalizer, so that it can't vanish under them, and that overlaps no
 * older pool.
 */
static bool pool_is_usable(const struct addresspool *obj) {
	const struct addresspool_status *st = obj->status;
	return !obj->meta.deletion_timestamp && has_finalizer(&obj->meta, FINALIZER_POOL) && st &&
	       api_condition_is_true(st->conditions.v, st->conditions.n, "Ready");
}

/* The next pool after P (NULL: the first) with that use, and its object; NULL at the end. */
static struct pool *pool_next(const struct addresses *a, const char *use, struct pool *p,
                              const struct addresspool **ret_obj) {
	struct pool_tree *pools = (struct pool_tree *)&a->pools;
	for (p = p ? RB_NEXT(pool_tree, pools, p) : RB_MIN(pool_tree, pools); p; p = RB_NEXT(pool_tree, pools, p)) {
		*ret_obj = kube_cache_get(a->pool_cache, NULL, p->name);
		if (*ret_obj && streq((*ret_obj)->spec->use, use))
			return p;
	}
	return NULL;
}

/* True if there is a pool with that use, whether it is full or ready or not. */
static bool use_is_offered(const struct addresses *a, enum use use) {
	const struct addresspool *obj;
	for (struct pool *p = NULL; (p = pool_next(a, use_names[use], p, &obj));)
		if (!obj->meta.deletion_timestamp)
			return true;
	return false;
}

bool addresses_lacks(const struct addresses *a, const struct instance *i, enum use use) {
	const enum instance_ipv4 ipv4 = instance_ipv4(i->spec);
	if ((use == USE_DEDICATED && ipv4 != INSTANCE_IPV4_DEDICATED) ||
	    (use == USE_SHARED && ipv4 != INSTANCE_IPV4_SHARED))
		return false;
	return !addresses_has(a, i, use) && (use != USE_SHARED || use_is_offered(a, use));
}

uint64_t addresses_room(const struct addresses *a, const char *use) {
	const struct addresspool *obj;
	uint64_t n = 0, promised = 0;
	for (struct pool *p = NULL; (p = pool_next(a, use, p, &obj));)
		n += pool_is_usable(obj) ? p->ranges.free : 0;
	for (enum use u = 0; u < N_USES; u++)
		promised += streq(use_names[u], use) ? a->promised[u] : 0;
	return n - MIN(n, promised);
}

void addresses_promise(struct addresses *a, enum use use) {
	a->promised[use]++;
}

void addresses_spend(struct addresses *a, enum use use) {
	a->promised[use]--;
}

void addresses_take_back(struct addresses *a, enum use use) {
	a->promised[use]--;
	room_of_values(a->c, use_names[use]);
}

const char *addresses_explain(const struct addresses *a, enum use use, char *msg, size_t size) {
	const struct addresspool *obj;
	size_t full = 0, unusable = 0, promised = 0, n = 0;
	char names[256] = "";
	for (struct pool *p = NULL; (p = pool_next(a, use_names[use], p, &obj));) {
		if (!pool_is_usable(obj)) {
			unusable++;
			continue;
		}
		if (p->ranges.free) {
			promised++;
			continue;
		}
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s`%.60s` (%llu of %llu used)", full ? ", " : "",
		                      p->name, (unsigned long long)p->ranges.total,
		                      (unsigned long long)p->ranges.total);
		n = MIN(n, sizeof(names) - 1);
		full++;
	}
	if (promised)
		snprintf(msg, size,
		         "all free values of AddressPools with use %s are promised to instances that are being placed",
		         use_names[use]);
	else if (full)
		snprintf(msg, size, "AddressPool %s is full; add a pool with use %s, or delete instances", names,
		         use_names[use]);
	else if (unusable)
		snprintf(msg, size, "no AddressPool with use %s is ready", use_names[use]);
	else
		snprintf(msg, size, "there is no AddressPool with use %s", use_names[use]);
	return promised || full ? "PoolExhausted" : "PoolMissing";
}

/* A free slice of the address of the slice of AL, and its pool; NULL: there is none. */
static struct pool *pool_with_slice_beside(const struct addresses *a, const struct allocation *al, uint64_t *ret) {
	struct pool *p = pool_find(a, al->spec->pool);
	const struct addresspool *obj = kube_cache_get(a->pool_cache, NULL, al->spec->pool);
	uint64_t v;
	if (!p || !obj || !pool_is_usable(obj) || !addresspool_index(obj->spec, al->spec->value, &v))
		return NULL;
	/* The search begins after the slice of AL and wraps. */
	const struct addresspool_numbers all = addresspool_slices_beside(obj->spec, v);
	for (uint64_t k = (v - all.first) / all.step, i = 1; i < all.n; i++) {
		const uint64_t u = all.first + (k + i) % all.n * all.step;
		if (ranges_is_free(&p->ranges, u)) {
			*ret = u;
			return p;
		}
	}
	return NULL;
}

int addresses_allocate(struct addresses *a, struct work *w, enum use use, const struct instance *owner,
                       const struct allocation *beside, const char **reason, char *msg, size_t size) {
	const struct addresspool *obj;
	const bool room = addresses_room(a, use_names[use]) > 0;
	uint64_t v;
	struct pool *near = room && beside ? pool_with_slice_beside(a, beside, &v) : NULL;
	if (near) {
		allocation_begin(w, near, kube_cache_get(a->pool_cache, NULL, near->name), v, owner);
		return 0;
	}
	if (room)
		for (struct pool *p = NULL; (p = pool_next(a, use_names[use], p, &obj));) {
			if (!pool_is_usable(obj) || !ranges_next(&p->ranges, &v))
				continue;
			allocation_begin(w, p, obj, v, owner);
			return 0;
		}
	*reason = addresses_explain(a, use, msg, size);
	return -ENOSPC;
}

void addresses_restore(struct addresses *a, struct work *w, const char *value, const struct instance *owner) {
	const struct addresspool *obj;
	uint64_t v;
	for (struct pool *p = NULL; (p = pool_next(a, use_names[value_use(value)], p, &obj));)
		if (addresspool_index(obj->spec, value, &v) && ranges_is_free(&p->ranges, v)) {
			allocation_begin(w, p, obj, v, owner);
			return;
		}
}

/* ---- giving back ---- */

int64_t addresses_quarantine(const struct controller *c, const struct allocation *al) {
	const struct addresspool *p = kube_cache_get(controller_cache(c, &api_kind_addresspool), NULL, al->spec->pool);
	return p ? addresspool_quarantine(p->spec) : 0;
}

/* Deletes AL, or marks it released. */
static void release_finish(struct work *w, const struct allocation *al) {
	char now[TIME_STR_MAX];
	if (addresses_quarantine(work_controller(w), al) <= 0) {
		work_delete_exact(w, &api_kind_allocation, &al->meta);
		return;
	}
	struct allocation *n = api_copy_with_status(&api_kind_allocation, al);
	if (n && (n->status->released_at = strdup(time_str(now_realtime_us(), false, now))))
		work_patch_status(w, &api_kind_allocation, al, n, WORK_NO_THEN);
	else
		work_fail_oom(w);
	api_free(&api_kind_allocation, n);
}

/* The Allocation whose record is being written, and its version. */
struct release {
	char name[64], version[64];
};

WORK_THEN_DEFINE(release_recorded, struct release)

static void release_recorded(struct work *w, const struct kube_response *r, const struct release *what) {
	const struct kube_cache *cache = controller_cache(work_controller(w), &api_kind_allocation);
	const struct allocation *al = kube_cache_get(cache, NULL, what->name);
	/* It exists if this release was begun before. */
	if ((r->error == 0 || r->error == -EEXIST) && al && streq(al->meta.resource_version, what->version) &&
	    addresses_in_use(al))
		release_finish(w, al);
}

static struct allocationrecord *record_new(const struct allocation *al) {
	struct allocationrecord *rec = api_new(&api_kind_allocationrecord);
	char name[ALLOCATIONRECORD_NAME_MAX], address[ADDR_STR_MAX], from[TIME_STR_MAX], now[TIME_STR_MAX];
	const struct api_object_ref *of = al->spec->owner;
	time_str(now_realtime_us(), false, now);
	if (!rec || !allocation_address(al->spec->value, address)) {
		api_free(&api_kind_allocationrecord, rec);
		return NULL;
	}
	allocationrecord_name(al, name);
	rec->meta.name = strdup(name);
	struct allocationrecord_spec *s = rec->spec = calloc(1, sizeof(*rec->spec));
	struct api_object_ref *o = s ? s->owner = calloc(1, sizeof(*s->owner)) : NULL;
	if (o) {
		*s = (struct allocationrecord_spec){.pool = strdup(al->spec->pool),
		                                    .value = strdup(al->spec->value),
		                                    .address = strdup(address),
		                                    .owner = o,
		                                    .from = strdup(allocation_since(al, from) ? from : now),
		                                    .until = strdup(now)};
		*o = (struct api_object_ref){.kind = strdup(of->kind),
		                             .ns = of->ns ? strdup(of->ns) : NULL,
		                             .name = strdup(of->name),
		                             .uid = strdup(of->uid)};
	}
	if (!rec->meta.name || !o || !s->pool || !s->value || !s->address || !s->from || !s->until || !o->kind ||
	    !o->ns != !of->ns || !o->name || !o->uid) {
		api_free(&api_kind_allocationrecord, rec);
		return NULL;
	}
	return rec;
}

static bool release_is_recorded(const struct controller *c, const struct allocation *al) {
	const struct addresspool *p = kube_cache_get(controller_cache(c, &api_kind_addresspool), NULL, al->spec->pool);
	const enum use use = value_use(al->spec->value);
	/* Without its pool, the defaults hold. */
	return p ? addresspool_history_days(p->spec) && addresspool_history_records(p->spec)
	         : use != USE_MAC && use != USE_OVERLAY;
}

void addresses_release(struct work *w, const struct allocation *al) {
	if (!release_is_recorded(work_controller(w), al)) {
		release_finish(w, al);
		return;
	}
	struct release what;
	struct allocationrecord *rec = record_new(al);
	snprintf(what.name, sizeof(what.name), "%s", al->meta.name);
	snprintf(what.version, sizeof(what.version), "%s", al->meta.resource_version);
	if (rec)
		work_create(w, &api_kind_allocationrecord, rec, release_recorded_then(&what));
	else
		work_fail_oom(w);
	api_free(&api_kind_allocationrecord, rec);
}

/* ---- ---- */

static int addresses_open(struct controller *c, _unused_ const struct controller_options *o, void **ret,
                          struct error *err) {
	struct addresses *a = calloc(1, sizeof(*a));
	if (!a)
		return error_oom(err);
	a->c = c;
	a->pool_cache = controller_cache(c, &api_kind_addresspool);
	a->allocation_cache = controller_cache(c, &api_kind_allocation);
	RB_INIT(&a->pools);
	*ret = a;
	return kube_index_new(&a->owned, controller_cache(c, &api_kind_allocation), allocation_owner, err);
}

static void addresses_close(void *state) {
	struct addresses *a = state;
	struct pool *p;
	while ((p = RB_MIN(pool_tree, &a->pools)))
		pool_free(a, p);
	kube_index_free(a->owned);
	free(a);
}

const struct concern concern_addresses = {
	.name = "addresses",
	.watches = {{.kind = &api_kind_addresspool, .changed = addresses_pool_changed},
                    {.kind = &api_kind_allocation,
                     .changed = addresses_allocation_changed,
                     .synced = addresses_allocations_synced}},
	.open = addresses_open,
	.close = addresses_close,
};
