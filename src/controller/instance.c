/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One instance, from being asked for to being gone. Each look takes it one step further: finalizer, Allocations (all
 * that are missing at once), then one status patch with addresses, placement and conditions. What a step changed comes
 * back through the caches and is the reason for the next look.
 */

#include <stdarg.h>
#include <string.h>

#include "api/cluster.h"
#include "api/endpoint.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/gang.h"
#include "controller/hosts.h"
#include "controller/placement.h"
#include "controller/quota.h"
#include "controller/room.h"

#define REASON_HOST_LOST "HostLost"

static _printf_(5, 6) void instance_set_condition(struct instance *n, const char *type, const char *status,
                                                  const char *reason, const char *fmt, ...) {
	char msg[FIT_MESSAGE_MAX + 256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	/* Without memory the condition stays as it was, and the next look sets it. */
	(void)!api_condition_set(&n->status->conditions.v, &n->status->conditions.n, type, status, reason, msg,
	                         n->meta.generation.v, now_realtime_us());
}

static const struct api_condition *instance_condition(const struct instance *i, const char *type) {
	return i->status ? api_condition_find(i->status->conditions.v, i->status->conditions.n, type) : NULL;
}

/* ---- addresses ---- */

static char **instance_status_value(struct instance_status *s, enum use use) {
	return use == USE_INSTANCE    ? &s->prefix
	       : use == USE_DELEGATED ? &s->delegated_prefix
	       : use == USE_OVERLAY   ? &s->overlay_address
	                              : &s->mac;
}

/* Begins to allocate what is missing. True if all is there already; else REASON, MSG and LACK (the use) say what stands
 * in the way, if anything. */
static bool instance_allocate(struct work *w, const struct instance *i, const char **reason, const char **lack,
                              char *msg, size_t size) {
	static struct instance_status none;
	bool complete = true;
	for (enum use u = 0; u < N_USES; u++) {
		const char *text;
		char why[512];
		if (*instance_status_value(i->status ? i->status : &none, u) ||
		    addresses_owned(addresses_of(work_controller(w)), instance_id(i), u))
			continue;
		complete = false;
		if (addresses_allocate(addresses_of(work_controller(w)), w, u, i, &text, why, sizeof(why)) < 0 &&
		    !*reason) {
			*reason = text;
			*lack = use_names[u];
			snprintf(msg, size, "%s", why);
		}
	}
	return complete;
}

/* Writes the values of I's Allocations into the status of N. False without memory. */
static bool instance_fill_addresses(struct work *w, struct instance *n) {
	for (enum use u = 0; u < N_USES; u++) {
		char **out = instance_status_value(n->status, u);
		const struct allocation *al =
			*out ? NULL : addresses_owned(addresses_of(work_controller(w)), instance_id(n), u);
		if (al && string_set(out, al->spec->value) < 0)
			return false;
	}
	if (!n->status->address && n->status->prefix && n->status->mac) {
		struct prefix p;
		struct mac m;
		char text[ADDR_STR_MAX];
		if (prefix_parse(n->status->prefix, &p, NULL) < 0 || mac_parse(n->status->mac, &m, NULL) < 0)
			return false;
		struct addr a = addr_eui64(&p.addr, &m);
		if (string_set(&n->status->address, addr_str(&a, text)) < 0)
			return false;
	}
	return true;
}

/* Allocations of this instance that are not in its status: what a controller lost that raced with another. */
static void instance_drop_surplus(struct work *w, const struct instance *i) {
	const struct allocation *al = NULL;
	while ((al = addresses_owned_next(addresses_of(work_controller(w)), instance_id(i), al))) {
		const char *have = *instance_status_value(i->status, value_use(al->spec->value));
		if (have && !streq(have, al->spec->value) && !al->meta.deletion_timestamp &&
		    work_room(w) > WORK_OPS_MAX / 2)
			work_delete(w, &api_kind_allocation, &al->meta);
	}
}

/* ---- placement ---- */

/* What the status patch decided: told and accounted for when it was answered. */
struct decision {
	char host[256];
	struct resources size;
	bool seated; /* and accounted for already, as a member of a gang */
};

/* A member of a gang that has no host yet says what its Cluster says. */
static void instance_wait_for_gang(struct work *w, struct instance *n) {
	const struct cluster *cl = gang_cluster(work_controller(w), &n->meta);
	const struct api_condition *s =
		cl && cl->status ? api_condition_find(cl->status->conditions.v, cl->status->conditions.n, "Scheduled")
				 : NULL;
	if (s && streq(s->status, "False")) {
		instance_set_condition(n, "Scheduled", "False", s->reason, "%s", s->message ? s->message : "");
		instance_set_condition(n, "Ready", "False", s->reason, "%s", s->message ? s->message : "");
	} else {
		instance_set_condition(n, "Scheduled", "False", "Gathering",
		                       "waits until all members of its Cluster can be placed");
		instance_set_condition(n, "Ready", "False", "Gathering",
		                       "waits until all members of its Cluster can be placed");
	}
}

/* The host that is kept for a member of a gang, or the one chosen for an instance of its own; -ENOSPC and WHY. */
static int instance_choose_host(struct work *w, const struct instance *n, const struct instancetype *type,
                                const char **ret_host, bool *ret_seated, char why[static FIT_MESSAGE_MAX]) {
	struct controller *c = work_controller(w);
	*ret_seated = gang_owner(&n->meta);
	if (!*ret_seated)
		return placement_choose(placement_of(c), n->spec, type, ret_host, why);
	const char *host = gangs_seat(gangs_of(c), n);
	if (!host || host_is_lost(c, host)) {
		/* A seat on a lost host is good for nothing: all that are left are found anew. */
		if (host)
			concern_enqueue(c, &concern_clusters, n->meta.ns, gang_owner(&n->meta)->name);
		return -ENOSPC;
	}
	*ret_host = host;
	return 0;
}

static void instance_place(struct work *w, struct instance *n, const struct instancetype *type, struct decision *d) {
	const char *host;
	char why[FIT_MESSAGE_MAX];
	bool gang = gang_owner(&n->meta);
	if (instance_choose_host(w, n, type, &host, &d->seated, why) < 0) {
		if (gang) {
			instance_wait_for_gang(w, n);
			return;
		}
		instance_set_condition(n, "Scheduled", "False", "Unschedulable", "%s", why);
	} else if (string_set(&n->status->host, host) >= 0) {
		snprintf(d->host, sizeof(d->host), "%s", host);
		d->size = instancetype_size(type);
		instance_set_size(n->status, &d->size);
		instance_set_condition(n, "Scheduled", "True", "Scheduled", "placed on host %s", host);
		instance_set_condition(n, "Ready", "False", "Placed", "waits for the agent of host %s to start it",
		                       host);
		return;
	}
	const struct api_condition *s = instance_condition(n, "Scheduled");
	if (s)
		instance_set_condition(n, "Ready", "False", s->reason, "%s", s->message ? s->message : "");
	const struct room_want want = {.sort = ROOM_HOSTS, .spec = n->spec, .size = type, .n = 1};
	room_wait(work_controller(w), &concern_instances, &n->meta, &want);
}

/* ---- the status patch ---- */

WORK_THEN_DEFINE(instance_bound, struct decision)

static void instance_bound(struct work *w, const struct kube_response *r, const struct decision *d) {
	struct controller *c = work_controller(w);
	char size[RESOURCES_TEXT_MAX];
	if (r->error < 0)
		room_write_failed(c, r->error);
	/* A seat goes when the binding is seen, and stays for the next try if it failed. */
	if (!d->seated)
		placement_settle(placement_of(c), work_object(w), d->host, &d->size);
	if (r->error == 0)
		log_info("instance placed", "instance=%s host=%s size=%s", work_key(w), d->host,
		         resources_print(&d->size, RESOURCES_OF_TYPES, size));
}

/* True if the condition TYPE says something else in N than in I. */
static bool instance_tells_more(const struct instance *i, const struct instance *n, const char *type) {
	const struct api_condition *a = instance_condition(i, type), *b = instance_condition(n, type);
	return b &&
	       (!a || !streq(a->status, b->status) || !streq(a->reason, b->reason) || !streq(a->message, b->message));
}

static void instance_event(struct controller *c, const struct instance *i, const struct instance *n, const char *type,
                           const char *failed) {
	const struct api_condition *s = instance_condition(n, type);
	if (!instance_tells_more(i, n, type))
		return;
	bool ok = streq(s->status, "True");
	kube_event(controller_recorder(c), &api_kind_instance, n, ok ? KUBE_EVENT_NORMAL : KUBE_EVENT_WARNING,
	           ok ? s->reason : failed, "%s", s->message ? s->message : "");
}

static void instance_patch_status(struct work *w, const struct instance *i, struct instance *n,
                                  const struct decision *d) {
	struct controller *c = work_controller(w);
	/* With the first status, so never later than the binding to a host. */
	if (!n->status->id && string_set(&n->status->id, n->meta.uid) < 0) {
		work_fail_oom(w);
		return;
	}
	if (!work_patch_status(w, &api_kind_instance, i, n, *d->host ? instance_bound_then(d) : WORK_NO_THEN))
		return;
	if (*d->host && !d->seated)
		placement_assume(placement_of(c), d->host, &d->size);
	instance_event(c, i, n, "AddressesAllocated", "FailedAllocation");
	instance_event(c, i, n, "Scheduled", "FailedScheduling");
}

/* ---- the end of an instance ---- */

/* Those of a lost host stay only as long as the instance is wanted (endpoints.c). */
static void instance_withdraw_endpoints(struct controller *c, const struct instance *i) {
	const struct endpoint *e = NULL;
	while ((e = host_endpoint_next(c, i->status->host, e)))
		if (e->spec->owner && streq(e->spec->owner->uid, instance_id(i)))
			concern_enqueue(c, &concern_endpoints, NULL, e->meta.name);
}

static void instance_finish(struct work *w, const struct instance *i) {
	struct controller *c = work_controller(w);
	const struct allocation *al = NULL;
	bool clean = true;
	bool removed = i->status && streq(i->status->phase, "Removed");
	if (!has_finalizer(&i->meta, FINALIZER_INSTANCE))
		return;
	/* As long as the VM may run and be reached, its values are not free. */
	if (instance_is_bound(i) && !removed) {
		if (!host_is_lost(c, i->status->host))
			return;
		instance_withdraw_endpoints(c, i);
	}
	while ((al = addresses_owned_next(addresses_of(c), instance_id(i), al))) {
		if ((al->status && al->status->released_at) || al->meta.deletion_timestamp)
			continue;
		clean = false;
		if (work_room(w))
			addresses_release(w, al);
	}
	/* Deletions are seen by the watch; the look after the last one gets here. */
	if (clean)
		work_patch_finalizers(w, &api_kind_instance, &i->meta, FINALIZER_INSTANCE, false);
}

/* ---- ---- */

static void instance_host_lost(struct work *w, const struct instance *i, struct instance *n) {
	if (!kube_cache_get(controller_cache(work_controller(w), &api_kind_host), NULL, i->status->host))
		instance_set_condition(n, "Ready", "Unknown", REASON_HOST_LOST, "host %s does not exist any more",
		                       i->status->host);
	else
		instance_set_condition(n, "Ready", "Unknown", REASON_HOST_LOST,
		                       "host %s does not answer; nothing is known of the instance until it does",
		                       i->status->host);
	if (instance_tells_more(i, n, "Ready"))
		kube_event(controller_recorder(work_controller(w)), &api_kind_instance, n, KUBE_EVENT_WARNING,
		           REASON_HOST_LOST, "%s", instance_condition(n, "Ready")->message);
}

/* It gets neither addresses nor a host: REASON, WHY and what it wants, or all NULL if it is a member of a gang that
 * waits. */
static void instance_hold_back(struct work *w, const struct instance *i, const char *reason, const char *why,
                               const struct room_want *want) {
	const struct decision none = {.host = ""};
	struct instance *n = api_copy(&api_kind_instance, i);
	if (n && !n->status)
		n->status = calloc(1, sizeof(*n->status));
	if (n && n->status && reason) {
		instance_set_condition(n, "Scheduled", "False", reason, "%s", why);
		instance_set_condition(n, "Ready", "False", reason, "%s", why);
		room_wait(work_controller(w), &concern_instances, &n->meta, want);
	} else if (n && n->status)
		instance_wait_for_gang(w, n);
	if (n && n->status)
		instance_patch_status(w, i, n, &none);
	else
		work_fail_oom(w);
	api_free(&api_kind_instance, n);
}

/* What can't be placed takes no addresses from others: true if I has been held back. */
static bool instance_is_held_back(struct work *w, const struct instance *i, const struct instancetype *type) {
	char msg[QUOTA_MESSAGE_MAX];
	if (!type) {
		snprintf(msg, sizeof(msg), "InstanceType `%.253s` does not exist", i->spec->type);
		const struct room_want want = {.sort = ROOM_TYPE, .spec = i->spec};
		instance_hold_back(w, i, "InstanceTypeMissing", msg, &want);
		return true;
	}
	/* Gangs are let in as one (cluster.c). */
	if (gang_owner(&i->meta)) {
		if (quotas_admitted(quotas_of(work_controller(w)), i))
			return false;
		instance_hold_back(w, i, NULL, NULL, NULL);
		return true;
	}
	if (quotas_admit(quotas_of(work_controller(w)), i, type, msg))
		return false;
	const struct room_want want = {.sort = ROOM_QUOTA, .of = i->meta.ns, .spec = i->spec, .size = type, .n = 1};
	instance_hold_back(w, i, "QuotaExceeded", msg, &want);
	return true;
}

static void instance_advance(struct work *w, const struct instance *i) {
	const char *reason = NULL, *lack = NULL;
	char msg[QUOTA_MESSAGE_MAX];
	struct decision d = {.host = ""};
	if (!has_finalizer(&i->meta, FINALIZER_INSTANCE)) {
		work_patch_finalizers(w, &api_kind_instance, &i->meta, FINALIZER_INSTANCE, true);
		return;
	}
	const struct instancetype *type =
		instance_is_bound(i) ? NULL
				     : kube_cache_get(controller_cache(work_controller(w), &api_kind_instancetype),
	                                              NULL, i->spec->type);
	if (!instance_is_bound(i) && instance_is_held_back(w, i, type))
		return;
	bool complete = instance_allocate(w, i, &reason, &lack, msg, sizeof(msg));
	if (!complete && !reason)
		return; /* the answers bring us back */
	struct instance *n = api_copy(&api_kind_instance, i);
	if (n && !n->status)
		n->status = calloc(1, sizeof(*n->status));
	if (!n || !n->status || !instance_fill_addresses(w, n)) {
		work_fail_oom(w);
		api_free(&api_kind_instance, n);
		return;
	}
	if (!complete) {
		instance_set_condition(n, "AddressesAllocated", "False", reason, "%s", msg);
		if (!instance_is_bound(n))
			instance_set_condition(n, "Ready", "False", reason, "%s", msg);
		const struct room_want want = {.sort = ROOM_VALUES, .of = lack, .spec = n->spec, .n = 1};
		room_wait(work_controller(w), &concern_instances, &n->meta, &want);
	} else {
		instance_set_condition(n, "AddressesAllocated", "True", "Allocated", "has %s and %s", n->status->prefix,
		                       n->status->delegated_prefix);
		if (!instance_is_bound(n))
			instance_place(w, n, type, &d);
		else if (host_is_lost(work_controller(w), n->status->host))
			instance_host_lost(w, i, n);
	}
	instance_patch_status(w, i, n, &d);
	if (i->status)
		instance_drop_surplus(w, i);
	api_free(&api_kind_instance, n);
}

static void instance_reconcile(struct work *w, const void *obj) {
	const struct instance *i = obj;
	if (i && i->meta.deletion_timestamp)
		instance_finish(w, i);
	else if (i)
		instance_advance(w, i);
}

static void instances_allocation_changed(struct controller *c, const struct kube_change *ch) {
	const struct api_object_ref *o = ((const struct allocation *)ch->obj)->spec->owner;
	if (streq(o->kind, "Instance") && o->ns)
		concern_enqueue(c, &concern_instances, o->ns, o->name);
}

static struct metric n_instances = METRIC_GAUGE("nacre_controller_instances", "Instances there are.");

const struct concern concern_instances = {
	.name = "instances",
	.kind = &api_kind_instance,
	.retry_on_return = true,
	.count = &n_instances,
	.watches = {{.kind = &api_kind_allocation, .changed = instances_allocation_changed},
                    {.kind = &api_kind_instancetype},
                    {.kind = &api_kind_host},
                    {.kind = &api_kind_endpoint}},
	.reconcile = instance_reconcile,
};
