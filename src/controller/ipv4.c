/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Slices of ports and forwards of an Instance that has a host. (An instance is bound with its first slice, or with its
 * dedicated address, if there are AddressPools for that: instance.c.) Each look takes it one step further:
 *
 *   a slice is missing         an Allocation is made; when it is there the slice is added to the status
 *   there is one too many      the last slice leaves the status as soon as the Endpoint announces it
 *   an Allocation is left over it is released as soon as the Endpoint doesn't announce its slice any more
 *
 * An instance that was bound before there was a pool gets its first slice when there is one. It keeps its first slice
 * as long as it lives, and every slice with a port of one of its forwards. How many more it has is what the host's
 * agent asks for (status.portSlicesWanted), up to the limit of its InstanceType or of the AddressPool.
 *
 * The agent stops using a slice that has left the status, and then withdraws it from the Endpoint. So while the
 * Endpoint announces it, it may be in use; after that it isn't. That holds because no slice leaves the status before it
 * was announced, and none is added again before it was withdrawn. Without an Endpoint nothing is known, and no slice
 * leaves or is released.
 *
 * An Allocation that isn't in the status may be left over
 * or new: nothing is done with it before the server has been asked, because the caches may be behind. And a write of a
 * controller that was killed or is slow may come late:
 *
 *   a late release   names the version of the Allocation. Whoever takes the slice writes the Allocation first.
 *   a late taking    names the version of the Instance, which the Allocation names, too (status.takenFor). While the
 *                    Instance still has that version, it is written before anything is released.
 */

#include <string.h>

#include "api/endpoint.h"
#include "base/log.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/instance.h"
#include "controller/room.h"
#include "controller/slices.h"

#define READY "PortSlicesReady"

/* What a look finds. The pointers point into the caches. */
struct ipv4_look {
	const struct instance *i;
	const struct allocation *first; /* of its first slice; NULL: not there */
	const struct allocation *spare; /* in use, but not in the status */
	size_t have, want;
	int64_t asked, limit;
	char limited_by[320];
};

static const struct allocation *ipv4_next_spare(const struct controller *c, const struct instance *i,
                                                const struct allocation *al) {
	while ((al = addresses_owned_next(addresses_of(c), instance_id(i), al)))
		if (value_use(al->spec->value) == USE_SHARED && addresses_in_use(al) &&
		    !slices_have(i->status, al->spec->value))
			return al;
	return NULL;
}

static const struct allocation *ipv4_first(const struct controller *c, const struct instance *i) {
	const struct allocation *al = NULL;
	char text[SLICE_STR_MAX];
	if (!i->status->port_slices.n)
		return NULL;
	slices_value(&i->status->port_slices.v[0], text);
	while ((al = addresses_owned_next(addresses_of(c), instance_id(i), al)))
		if (streq(al->spec->value, text))
			return al;
	return NULL;
}

static void ipv4_set_limit(const struct controller *c, struct ipv4_look *l) {
	const struct instancetype *type =
		kube_cache_get(controller_cache(c, &api_kind_instancetype), NULL, l->i->spec->type);
	const struct addresspool *pool =
		l->first ? kube_cache_get(controller_cache(c, &api_kind_addresspool), NULL, l->first->spec->pool)
			 : NULL;
	static const struct addresspool_spec standard;
	if (type && type->spec->port_slices.set) {
		l->limit = type->spec->port_slices.v;
		snprintf(l->limited_by, sizeof(l->limited_by), "portSlices of InstanceType `%.253s`", type->meta.name);
		return;
	}
	l->limit = addresspool_slices_per_instance(pool ? pool->spec : &standard);
	/* Without the object that sets the limit, the instance keeps what it has. */
	if (!type || !pool)
		l->limit = MAX(l->limit, (int64_t)l->have);
	if (pool)
		snprintf(l->limited_by, sizeof(l->limited_by), "slicesPerInstance of AddressPool `%.253s`",
		         pool->meta.name);
	else
		snprintf(l->limited_by, sizeof(l->limited_by), "the default for AddressPools");
}

/* False: OBJ is none that this concern looks after. */
static bool ipv4_look(const struct controller *c, const void *obj, struct ipv4_look *ret) {
	const struct instance *i = obj;
	if (!i || i->meta.deletion_timestamp || !instance_is_bound(i) || instance_ipv4(i->spec) != INSTANCE_IPV4_SHARED)
		return false;
	const int64_t wanted = i->status->port_slices_wanted.v;
	struct ipv4_look l = {.i = i,
	                      .first = ipv4_first(c, i),
	                      .spare = ipv4_next_spare(c, i, NULL),
	                      .have = i->status->port_slices.n,
	                      .asked = MAX(wanted, 1)};
	ipv4_set_limit(c, &l);
	const size_t may = (size_t)MIN(l.asked, l.limit);
	if (l.have)
		l.want = MAX(may, slices_pinned(i->spec, i->status));
	else
		l.want = l.spare || addresses_lacks(addresses_of(c), i, USE_SHARED);
	*ret = l;
	return true;
}

/* ---- status ---- */

/* Says in N whether it has the slices that it asks for; L says what it has in N. */
static void ipv4_set_ready(const struct ipv4_look *l, struct instance *n) {
	if (l->have >= l->want && l->asked > (int64_t)l->have && l->have)
		instance_set_condition(n, READY, "False", "LimitReached",
		                       "has %zu and asks for %lld, but %s is %lld; raise that, or create the instance "
		                       "anew with ipv4 dedicated",
		                       l->have, (long long)l->asked, l->limited_by, (long long)l->limit);
	else if (l->have >= l->want && instance_condition(n, READY))
		instance_set_condition(n, READY, "True", "Sufficient", "has as many slices of ports as it asks for");
}

/* True if there is something to write, or W has failed. */
static bool ipv4_patch(struct work *w, const struct instance *i, struct instance *n) {
	if (!instance_update_forwards(n)) {
		work_fail_oom(w);
		return true;
	}
	if (!work_patch_status(w, &api_kind_instance, i, n, WORK_NO_THEN))
		return !work_may_go_on(w);
	static const char *const types[] = {READY, "ForwardsReady"};
	for (size_t k = 0; k < ARRAY_SIZE(types); k++) {
		const struct api_condition *is = instance_condition(n, types[k]);
		if (instance_tells_more(i, n, types[k]) && streq(is->status, "False"))
			kube_event(controller_recorder(work_controller(w)), &api_kind_instance, n, KUBE_EVENT_WARNING,
			           is->reason, "%s", is->message);
	}
	return true;
}

/* ---- a slice less ---- */

static bool ipv4_is_announced(const struct endpoint *e, const char *value) {
	char text[SLICE_STR_MAX];
	for (size_t i = 0; e && i < e->spec->routes.n; i++)
		if (endpoint_route_value(&e->spec->routes.v[i], text) && streq(text, value))
			return true;
	return false;
}

/* The version of the Instance for which the server was asked. */
struct ipv4_trim {
	char instance[64];
};

WORK_THEN_DEFINE(ipv4_trim_asked, struct ipv4_trim)

static void ipv4_ask_trim(struct work *w, const struct instance *i) {
	struct ipv4_trim trim;
	char name[128];
	snprintf(trim.instance, sizeof(trim.instance), "%s", i->meta.resource_version);
	snprintf(name, sizeof(name), ENDPOINT_OF_INSTANCE "%.63s", instance_id(i));
	work_get(w, &api_kind_endpoint, NULL, name, ipv4_trim_asked_then(&trim));
}

/* The server has been asked for the Endpoint: the last slices leave the status, as far as it announces them. */
static void ipv4_trim_asked(struct work *w, const struct kube_response *r, const struct ipv4_trim *trim) {
	struct ipv4_look l;
	void *e = NULL;
	char text[SLICE_STR_MAX];
	if (r->error < 0 || !work_may_go_on(w) || !ipv4_look(work_controller(w), work_object(w), &l) ||
	    !streq(l.i->meta.resource_version, trim->instance) ||
	    kube_response_parse(r, &api_kind_endpoint, &e, NULL) < 0)
		return;
	struct instance *n = api_copy_with_status(&api_kind_instance, l.i);
	if (n) {
		while (l.have > l.want &&
		       ipv4_is_announced(e, slices_value(&n->status->port_slices.v[l.have - 1], text)))
			slices_trim(n->status, --l.have);
		ipv4_set_ready(&l, n);
		ipv4_patch(w, l.i, n);
	} else
		work_fail_oom(w);
	api_free(&api_kind_instance, n);
	api_free(&api_kind_endpoint, e);
}

/* ---- a slice that is over ---- */

/* What is about to happen with an Allocation that the status doesn't name, and to which versions that applies. */
struct ipv4_spare {
	char name[64];
	char version[64];  /* of the Allocation, before the server was asked for the Instance */
	char instance[64]; /* the Instance's, which the server has told; empty: not asked yet */
};

WORK_THEN_DEFINE(ipv4_instance_asked, struct ipv4_spare)
WORK_THEN_DEFINE(ipv4_endpoint_asked, struct ipv4_spare)
WORK_THEN_DEFINE(ipv4_marked, struct ipv4_spare)
WORK_THEN_DEFINE(ipv4_record_asked, struct ipv4_spare)

static void ipv4_ask(struct work *w, const struct ipv4_look *l) {
	struct ipv4_spare spare = {.instance = ""};
	snprintf(spare.name, sizeof(spare.name), "%s", l->spare->meta.name);
	snprintf(spare.version, sizeof(spare.version), "%s", l->spare->meta.resource_version);
	work_get(w, &api_kind_instance, l->i->meta.ns, l->i->meta.name, ipv4_instance_asked_then(&spare));
}

/*
 * Looks once more after an answer. Returns the Allocation of SPARE; NULL: it, or the Instance since the server was
 * asked for it, has changed, which causes the next look.
 */
static const struct allocation *ipv4_look_again(struct work *w, const struct kube_response *r,
                                                const struct ipv4_spare *spare, struct ipv4_look *l) {
	const struct controller *c = work_controller(w);
	const struct allocation *al = kube_cache_get(controller_cache(c, &api_kind_allocation), NULL, spare->name);
	if ((r->error < 0 && r->error != -ENOENT) || !work_may_go_on(w) || !ipv4_look(c, work_object(w), l) || !al ||
	    !streq(al->meta.resource_version, spare->version) || !addresses_in_use(al) ||
	    !streq(al->spec->owner->uid, instance_id(l->i)) || slices_have(l->i->status, al->spec->value) ||
	    (*spare->instance && !streq(l->i->meta.resource_version, spare->instance)))
		return NULL;
	return al;
}

/* The server has been asked for the AllocationRecord of an Allocation that names this version of the Instance. */
static void ipv4_record_asked(struct work *w, const struct kube_response *r, const struct ipv4_spare *spare) {
	void *record = NULL;
	struct ipv4_look l;
	const struct allocation *al = ipv4_look_again(w, r, spare, &l);
	if (!al || l.have >= l.want)
		return;
	/* A controller died when it was giving the slice back. The record would say too early an end. */
	if (r->error == 0 && kube_response_parse(r, &api_kind_allocationrecord, &record, NULL) == 0)
		work_delete(w, &api_kind_allocationrecord, api_meta(record));
	api_free(&api_kind_allocationrecord, record);
	if (r->error == 0) {
		work_again(w, 0);
		return;
	}
	struct instance *n = api_copy_with_status(&api_kind_instance, l.i);
	if (n && slices_add(n->status, al->spec->value) == 0) {
		l.have++;
		ipv4_set_ready(&l, n);
		ipv4_patch(w, l.i, n);
	} else
		work_fail_oom(w);
	api_free(&api_kind_instance, n);
}

static void ipv4_ask_record(struct work *w, const struct allocation *al, const struct ipv4_spare *spare) {
	struct ipv4_spare marked = *spare;
	char name[ALLOCATIONRECORD_NAME_MAX];
	snprintf(marked.version, sizeof(marked.version), "%s", al->meta.resource_version);
	allocationrecord_name(al, name);
	work_get(w, &api_kind_allocationrecord, NULL, name, ipv4_record_asked_then(&marked));
}

static void ipv4_marked(struct work *w, const struct kube_response *r, const struct ipv4_spare *spare) {
	const struct kube_cache *cache = controller_cache(work_controller(w), &api_kind_allocation);
	const struct allocation *al = kube_cache_get(cache, NULL, spare->name);
	if (r->error == 0 && al && al->status && streq(al->status->taken_for, spare->instance))
		ipv4_ask_record(w, al, spare);
}

/* Begins to add the slice of AL to the status of the Instance: writes its version into AL. */
static void ipv4_take_spare(struct work *w, const struct allocation *al, const struct ipv4_spare *spare) {
	if (al->status && streq(al->status->taken_for, spare->instance)) {
		ipv4_ask_record(w, al, spare);
		return;
	}
	struct allocation *n = api_copy_with_status(&api_kind_allocation, al);
	if (n && string_set(&n->status->taken_for, spare->instance) >= 0)
		work_patch_status(w, &api_kind_allocation, al, n, ipv4_marked_then(spare));
	else
		work_fail_oom(w);
	api_free(&api_kind_allocation, n);
}

/* A write that adds the slice of AL to this version of the Instance may come yet. It fails after this one. */
static void ipv4_fence(struct work *w, const struct instance *i, const struct allocation *al) {
	struct instance *n = api_copy_with_status(&api_kind_instance, i);
	if (n) {
		instance_set_condition(n, READY, "False", "GivingBack", "gives slice %s back", al->spec->value);
		work_patch_status(w, &api_kind_instance, i, n, WORK_NO_THEN);
	} else
		work_fail_oom(w);
	api_free(&api_kind_instance, n);
}

/* The server has been asked for the Instance and after that for its Endpoint. */
static void ipv4_endpoint_asked(struct work *w, const struct kube_response *r, const struct ipv4_spare *spare) {
	struct ipv4_look l;
	void *e = NULL;
	const struct allocation *al = ipv4_look_again(w, r, spare, &l);
	if (!al || (r->error == 0 && kube_response_parse(r, &api_kind_endpoint, &e, NULL) < 0))
		return;
	if (ipv4_is_announced(e, al->spec->value) || (!e && l.have >= l.want))
		; /* a change of the Endpoint causes the next look */
	else if (l.have < l.want)
		ipv4_take_spare(w, al, spare);
	else if (al->status && streq(al->status->taken_for, spare->instance))
		ipv4_fence(w, l.i, al);
	else {
		log_info("slice given back", "instance=%s slice=%s", work_key(w), al->spec->value);
		addresses_release(w, al);
	}
	api_free(&api_kind_endpoint, e);
}

static void ipv4_instance_asked(struct work *w, const struct kube_response *r, const struct ipv4_spare *spare) {
	struct ipv4_spare asked = *spare;
	struct ipv4_look l;
	char name[128];
	if (r->error < 0 || !ipv4_look_again(w, r, spare, &l))
		return;
	snprintf(asked.instance, sizeof(asked.instance), "%s", l.i->meta.resource_version);
	snprintf(name, sizeof(name), ENDPOINT_OF_INSTANCE "%.63s", instance_id(l.i));
	work_get(w, &api_kind_endpoint, NULL, name, ipv4_endpoint_asked_then(&asked));
}

/* ---- a slice that is missing ---- */

/* Begins to make an Allocation, or waits until there is room for one; then N says so. */
static void ipv4_allocate(struct work *w, const struct ipv4_look *l, struct instance *n) {
	struct controller *c = work_controller(w);
	const char *reason;
	char msg[512];
	if (addresses_allocate(addresses_of(c), w, USE_SHARED, l->i, l->first, &reason, msg, sizeof(msg)) == 0)
		return; /* the answer causes the next look */
	const struct room_want want = {.sort = ROOM_VALUES,
	                               .of = use_names[USE_SHARED],
	                               .spec = l->i->spec,
	                               .n = 1,
	                               .rank = l->have ? 0 : ROOM_RANK_FIRST_SLICE};
	room_wait(c, &concern_ipv4, &l->i->meta, &want);
	/* A pool that was just made gets ready at once; all instances that have no slice need not be told before. */
	if (l->have || streq(reason, "PoolExhausted"))
		instance_set_condition(n, READY, "False", reason, "has %zu and asks for %zu: %s", l->have, l->want,
		                       msg);
}

/* ---- a slice without an Allocation ---- */

/* A slice of the status of which the cache has no Allocation that is in use and the instance's. */
struct ipv4_bare {
	char value[SLICE_STR_MAX];
};

WORK_THEN_DEFINE(ipv4_bare_asked, struct ipv4_bare)
WORK_THEN_DEFINE(ipv4_bare_confirmed, struct ipv4_bare)

static bool ipv4_is_bare(const struct controller *c, const struct instance *i, const char *value) {
	char name[64];
	allocation_name(value, name);
	const struct allocation *al = kube_cache_get(controller_cache(c, &api_kind_allocation), NULL, name);
	return !al || !addresses_in_use(al) || !streq(al->spec->owner->uid, instance_id(i));
}

/* The server has no Allocation of such a slice, and was asked for the Instance after that. */
static void ipv4_bare_confirmed(struct work *w, const struct kube_response *r, const struct ipv4_bare *bare) {
	struct controller *c = work_controller(w);
	struct ipv4_look l;
	if (r->error < 0 || !work_may_go_on(w) || !ipv4_look(c, work_object(w), &l) ||
	    !slices_have(l.i->status, bare->value))
		return;
	log_warn("the Allocation of a slice is missing and is made anew", "instance=%s slice=%s", work_key(w),
	         bare->value);
	addresses_restore(addresses_of(c), w, bare->value, l.i);
}

static void ipv4_bare_asked(struct work *w, const struct kube_response *r, const struct ipv4_bare *bare) {
	const struct instance *i = work_object(w);
	if (r->error == -ENOENT && i)
		work_get(w, &api_kind_instance, i->meta.ns, i->meta.name, ipv4_bare_confirmed_then(bare));
}

/* True if the Allocation of a slice is missing; asks for it. */
static bool ipv4_ask_bare(struct work *w, const struct instance *i) {
	const struct controller *c = work_controller(w);
	struct ipv4_bare bare;
	char name[64];
	for (size_t k = 0; k < i->status->port_slices.n; k++)
		if (ipv4_is_bare(c, i, slices_value(&i->status->port_slices.v[k], bare.value))) {
			allocation_name(bare.value, name);
			work_get(w, &api_kind_allocation, NULL, name, ipv4_bare_asked_then(&bare));
			return true;
		}
	return false;
}

/* ---- ---- */

static void ipv4_reconcile(struct work *w, const void *obj) {
	struct ipv4_look l;
	if (!ipv4_look(work_controller(w), obj, &l))
		return;
	const bool bare = ipv4_ask_bare(w, l.i);
	/* Nothing to do for nearly all instances at nearly all times. */
	if (l.have == l.want && !l.spare && l.asked <= MAX((int64_t)l.have, 1) && !l.i->spec->forwards.n &&
	    !instance_condition(l.i, READY) && !instance_condition(l.i, "ForwardsReady"))
		return;
	struct instance *n = api_copy_with_status(&api_kind_instance, l.i);
	if (!n) {
		work_fail_oom(w);
		return;
	}
	if (l.have < l.want && !l.spare)
		ipv4_allocate(w, &l, n);
	ipv4_set_ready(&l, n);
	/* What is written causes the next look. */
	if (ipv4_patch(w, l.i, n))
		;
	else if (l.have > l.want)
		ipv4_ask_trim(w, l.i);
	else if (l.spare && !bare)
		ipv4_ask(w, &l);
	api_free(&api_kind_instance, n);
}

static void ipv4_enqueue_owner(struct controller *c, const struct api_object_ref *o) {
	if (o && streq(o->kind, "Instance") && o->ns)
		concern_enqueue(c, &concern_ipv4, o->ns, o->name);
}

static void ipv4_allocation_changed(struct controller *c, const struct kube_change *ch) {
	const struct allocation *al = ch->obj;
	if (value_use(al->spec->value) == USE_SHARED)
		ipv4_enqueue_owner(c, al->spec->owner);
}

static bool ipv4_announces_slices(const struct endpoint *e) {
	for (size_t i = 0; e && i < e->spec->routes.n; i++)
		if (endpoint_route_is_slice(&e->spec->routes.v[i]))
			return true;
	return false;
}

/* An Endpoint may announce a slice, or no longer. */
static void ipv4_endpoint_changed(struct controller *c, const struct kube_change *ch) {
	const struct endpoint *e = ch->obj;
	if (ipv4_announces_slices(e) || ipv4_announces_slices(ch->old))
		ipv4_enqueue_owner(c, e->spec->owner);
}

/* All instances are queued when the controller begins to act. */
static void ipv4_enqueue_all(struct controller *c) {
	if (controller_may_act(c))
		concern_enqueue_all(c, &concern_ipv4);
}

/* A pool with use shared came, went, or has another limit. */
static void ipv4_pool_changed(struct controller *c, const struct kube_change *ch) {
	const struct addresspool *now = ch->obj, *old = ch->old;
	if (streq(now->spec->use, use_names[USE_SHARED]) &&
	    (ch->type != KUBE_MODIFIED ||
	     addresspool_slices_per_instance(now->spec) != addresspool_slices_per_instance(old->spec)))
		ipv4_enqueue_all(c);
}

/* An InstanceType came or went with a limit, or has another one. */
static void ipv4_type_changed(struct controller *c, const struct kube_change *ch) {
	const struct instancetype *now = ch->obj, *old = ch->old;
	const struct api_i64 is = now->spec->port_slices, was = old ? old->spec->port_slices : (struct api_i64){0};
	if (ch->type == KUBE_DELETED ? is.set : is.set != was.set || is.v != was.v)
		ipv4_enqueue_all(c);
}

const struct concern concern_ipv4 = {
	.name = "ipv4",
	.kind = &api_kind_instance,
	.watches = {{.kind = &api_kind_allocation, .changed = ipv4_allocation_changed},
                    {.kind = &api_kind_addresspool, .changed = ipv4_pool_changed},
                    {.kind = &api_kind_instancetype, .changed = ipv4_type_changed},
                    {.kind = &api_kind_endpoint, .changed = ipv4_endpoint_changed}},
	.reconcile = ipv4_reconcile,
};
