/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One Instance, from its creation until it is gone. Each look takes it one step further: finalizer; quota; a seat,
 * which is room on a host and a promise of addresses (seats.h); the missing Allocations, all at once; then one status
 * patch with addresses, host and conditions. What a step changed comes back through the caches and causes the next
 * look. An instance that waits for quota, room or values has no seat, and gives back what it has taken.
 */

#include <stdarg.h>
#include <string.h>

#include "api/cluster.h"
#include "api/endpoint.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/dns.h"
#include "controller/gang.h"
#include "controller/hosts.h"
#include "controller/instance.h"
#include "controller/placement.h"
#include "controller/quota.h"
#include "controller/room.h"
#include "controller/seats.h"
#include "controller/slices.h"

#define REASON_HOST_LOST  "HostLost"
#define REASON_GIVES_BACK "GivingBack"

void instance_set_condition(struct instance *n, const char *type, const char *status, const char *reason,
                            const char *fmt, ...) {
	char msg[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	(void)!api_condition_set(&n->status->conditions.v, &n->status->conditions.n, type, status, reason, msg,
	                         n->meta.generation.v, now_realtime_us());
}

const struct api_condition *instance_condition(const struct instance *i, const char *type) {
	return i->status ? api_condition_find(i->status->conditions.v, i->status->conditions.n, type) : NULL;
}

/* ---- addresses ---- */

/* Where the status has its value of a use; slices of ports are in a list (slices.h). */
static char **instance_status_value(struct instance_status *s, enum use use) {
	return use == USE_INSTANCE    ? &s->prefix
	       : use == USE_DELEGATED ? &s->delegated_prefix
	       : use == USE_OVERLAY   ? &s->overlay_address
	       : use == USE_MAC       ? &s->mac
	                              : &s->public_ipv4;
}

/*
 * Begins to allocate the missing values, but no slice of ports for an instance that has a host: it gets that later
 * (ipv4.c). True if none is missing. If a value can't be allocated, REASON, MSG and LACK
 * (its use) say why; otherwise they are not written.
 */
static bool instance_allocate(struct work *w, const struct instance *i, const char **reason, const char **lack,
                              char *msg, size_t size) {
	struct addresses *a = addresses_of(work_controller(w));
	bool complete = true;
	for (enum use u = 0; u < N_USES; u++) {
		const char *text;
		char why[512];
		if (!addresses_lacks(a, i, u) || (u == USE_SHARED && instance_is_bound(i)))
			continue;
		complete = false;
		seats_spend(seats_of(work_controller(w)), i, u);
		if (addresses_allocate(a, w, u, i, NULL, &text, why, sizeof(why)) < 0 && !*reason) {
			*reason = text;
			*lack = use_names[u];
			snprintf(msg, size, "%s", why);
		}
	}
	return complete;
}

/* Writes the values of I's Allocations, and the DNS, into the status of N. False without memory. */
static bool instance_fill_addresses(struct work *w, struct instance *n) {
	for (enum use u = 0; u < N_USES; u++) {
		char **out = instance_status_value(n->status, u);
		const struct allocation *al =
			*out ? NULL : addresses_owned(addresses_of(work_controller(w)), instance_id(n), u);
		if (al &&
		    (u == USE_SHARED ? slices_add(n->status, al->spec->value) : string_set(out, al->spec->value)) < 0)
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
	return dns_fill(work_controller(w), n) == 0;
}

/*
 * Releases Allocations of this instance that are not in its status: the controller that made them lost a race. The
 * instance never had them, so there is no record of them. Slices of ports are looked after in ipv4.c.
 */
static void instance_drop_surplus(struct work *w, const struct instance *i) {
	const struct allocation *al = NULL;
	while ((al = addresses_owned_next(addresses_of(work_controller(w)), instance_id(i), al))) {
		const enum use use = value_use(al->spec->value);
		const char *have = use == USE_SHARED ? NULL : *instance_status_value(i->status, use);
		if (have && !streq(have, al->spec->value) && !al->meta.deletion_timestamp &&
		    work_room(w) > WORK_OPS_MAX / 2)
			work_delete(w, &api_kind_allocation, &al->meta);
	}
}

/* ---- placement ---- */

/* The host and the size that a status patch writes; an empty host: none. */
struct decision {
	char host[256];
	struct resources size;
};

/* Why an instance waits, and for what. Without a reason it waits for its gang. */
struct hindrance {
	const char *reason;
	char msg[QUOTA_MESSAGE_MAX];
	struct room_want want;
};
_Static_assert(QUOTA_MESSAGE_MAX >= FIT_MESSAGE_MAX, "msg holds what either says");

/*
 * What its Cluster says about the gang is not repeated here: each change of it would be a write for each member, of
 * which there may be a thousand.
 */
static void instance_wait_for_gang(struct instance *n) {
	char message[CLUSTER_NAME_MAX + 160];
	snprintf(message, sizeof(message),
	         "waits until all members of Cluster %.*s can be placed; condition Scheduled of the Cluster says what "
	         "they wait for",
	         CLUSTER_NAME_MAX, gang_owner(&n->meta)->name);
	instance_set_condition(n, "Scheduled", "False", "Gathering", "%s", message);
	instance_set_condition(n, "Ready", "False", "Gathering", "%s", message);
}

/* Finds and keeps a seat for an instance that belongs to no gang. NULL: there is none, and H says why. */
static const char *instance_find_seat(struct work *w, const struct instance *i, const struct instancetype *type,
                                      struct hindrance *h) {
	struct controller *c = work_controller(w);
	const char *host;
	if (placement_choose(placement_of(c), i->spec, type, &host, h->msg) < 0) {
		h->reason = "Unschedulable";
		h->want = (struct room_want){.sort = ROOM_HOSTS, .spec = i->spec, .size = type, .n = 1};
		return NULL;
	}
	for (enum use u = 0; u < N_USES; u++)
		if (addresses_lacks(addresses_of(c), i, u) && !addresses_room(addresses_of(c), use_names[u])) {
			h->reason = addresses_explain(addresses_of(c), u, h->msg, sizeof(h->msg));
			h->want = (struct room_want){.sort = ROOM_VALUES,
			                             .of = use_names[u],
			                             .spec = i->spec,
			                             .n = 1,
			                             .rank = u == USE_SHARED ? ROOM_RANK_NO_HOST : 0};
			return NULL;
		}
	seats_keep(seats_of(c), i, host, type);
	return host;
}

/* The host of the instance's seat. NULL: it has no seat, and H says why. */
static const char *instance_seat(struct work *w, const struct instance *i, const struct instancetype *type,
                                 struct hindrance *h) {
	struct controller *c = work_controller(w);
	const char *host = seats_host(seats_of(c), i, type);
	const struct api_owner_ref *gang = gang_owner(&i->meta);
	if (host)
		return host;
	/*
	 * A seat may be there and of no use. The Cluster finds new seats for all members of a gang at once, but not at
	 * once again and again if they are of no use, either.
	 */
	if (gang && seats_has(seats_of(c), i))
		concern_enqueue_after(c, &concern_clusters, i->meta.ns, gang->name, USEC_PER_SEC);
	/* Its room counts as free in the search for another one. */
	seats_drop(seats_of(c), i);
	return gang ? NULL : instance_find_seat(w, i, type, h);
}

/* ---- the status patch ---- */

/* The cache says whether the instance of W was bound: the server has told. */
static void instance_bind_ended(struct work *w) {
	struct controller *c = work_controller(w);
	const struct instance *i = work_object(w);
	const struct api_owner_ref *gang = i ? gang_owner(&i->meta) : NULL;
	/* Its Cluster has waited for this to find seats for all members anew. */
	if (i && seats_bind_ended(seats_of(c), i) && gang)
		concern_enqueue(c, &concern_clusters, i->meta.ns, gang->name);
}

/* The instance has another version than the one that was to be bound, so that patch can't be applied any more. */
static void instance_got(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	if (r->error == 0 || r->error == -ENOENT)
		instance_bind_ended(w);
}

/* A conflict: another write came first, which was the binding or makes it fail. */
static void instance_get(struct work *w) {
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	kube_key_split(work_key(w), buf, &ns, &name);
	work_get(w, &api_kind_instance, ns, name, WORK_THEN(instance_got));
}

WORK_THEN_DEFINE(instance_bound, struct decision)

static void instance_bound(struct work *w, const struct kube_response *r, const struct decision *d) {
	char size[RESOURCES_TEXT_MAX];
	if (r->error == 0) {
		log_info("instance placed", "instance=%s host=%s size=\"%s\"", work_key(w), d->host,
		         resources_print(&d->size, RESOURCES_OF_TYPES, size));
		return;
	}
	room_write_failed(work_controller(w), r->error);
	/*
	 * Only a refusal says that the instance was not bound. A conflict may be that of a repeated request. If no
	 * answer came, or the server has failed, perhaps after it had written, the next look finds out.
	 */
	if (r->http == 409)
		instance_get(w);
	else if (r->http >= 400 && r->http < 500)
		instance_bind_ended(w);
}

bool instance_tells_more(const struct instance *i, const struct instance *n, const char *type) {
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
	/* The id is written with the first status, so it is there no later than the binding to a host. */
	if (!n->status->id && string_set(&n->status->id, n->meta.uid) < 0) {
		work_fail_oom(w);
		return;
	}
	if (!work_patch_status(w, &api_kind_instance, i, n, *d->host ? instance_bound_then(d) : WORK_NO_THEN))
		return;
	if (*d->host)
		seats_bind_begun(seats_of(c), i);
	instance_event(c, i, n, "AddressesAllocated", "FailedAllocation");
	instance_event(c, i, n, "Scheduled", "FailedScheduling");
}

/* ---- the end of an instance ---- */

/* Queues the instance's Endpoints on a lost host, which stay only as long as the instance is wanted (endpoints.c). */
static void instance_withdraw_endpoints(struct controller *c, const struct instance *i) {
	const struct endpoint *e = NULL;
	while ((e = host_endpoint_next(c, i->status->host, e)))
		if (e->spec->owner && streq(e->spec->owner->uid, instance_id(i)))
			concern_enqueue(c, &concern_endpoints, NULL, e->meta.name);
}

/* Releases the values of an instance that can't be reached any more. */
static void instance_release(struct work *w, const struct instance *i) {
	const struct controller *c = work_controller(w);
	const struct allocation *al = NULL;
	bool clean = true;
	unsigned begun = 0;
	while ((al = addresses_owned_next(addresses_of(c), instance_id(i), al))) {
		if (!addresses_in_use(al))
			continue;
		clean = false;
		if (begun++ < (WORK_OPS_MAX - 1) / ADDRESSES_RELEASE_OPS)
			addresses_release(w, al);
	}
	/* The watch shows each deletion; the look after the last deletion gets here. */
	if (clean)
		work_patch_finalizers(w, &api_kind_instance, &i->meta, FINALIZER_INSTANCE, false);
}

/* The server has been asked for the Endpoint of an instance whose host is lost. */
static void instance_endpoint_asked(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	const struct instance *i = work_object(w);
	if (r->error == -ENOENT && i && i->meta.deletion_timestamp && has_finalizer(&i->meta, FINALIZER_INSTANCE) &&
	    work_may_go_on(w))
		instance_release(w, i);
	else if (r->error == 0 && i)
		instance_withdraw_endpoints(work_controller(w), i); /* its deletion causes the next look */
}

static void instance_finish(struct work *w, const struct instance *i) {
	char name[128];
	if (!has_finalizer(&i->meta, FINALIZER_INSTANCE))
		return;
	/* As long as the VM may run and be reached, its values are not free. */
	if (!instance_is_bound(i) || streq(i->status->phase, "Removed"))
		instance_release(w, i);
	else if (host_is_lost(work_controller(w), i->status->host)) {
		snprintf(name, sizeof(name), ENDPOINT_OF_INSTANCE "%.63s", instance_id(i));
		work_get(w, &api_kind_endpoint, NULL, name, WORK_THEN(instance_endpoint_asked));
	}
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

/* The instance has no place: corrects its condition AddressesAllocated if that gives another reason. */
static void instance_set_not_placed(struct instance *n) {
	const struct api_condition *a = instance_condition(n, "AddressesAllocated");
	if (a && !streq(a->status, "True"))
		instance_set_condition(n, "AddressesAllocated", "False", "NotPlaced",
		                       "takes addresses when there is a place for it");
}

/*
 * An instance that waits may have Allocations: for a seat that it has lost, or from a controller that was killed. Such
 * a controller's patch may still be under way and bind the instance to these values. So the status says first that the
 * instance gives them back: the patch names the version that it is based on, and fails after that. As long as the
 * status says so, no controller looks for a place for the instance, and its Allocations are deleted. It ends when the
 * cache shows that they are gone, so that none is used that is gone already.
 */
static bool instance_gives_back(const struct instance *i) {
	const struct api_condition *a = instance_condition(i, "AddressesAllocated");
	return a && streq(a->reason, REASON_GIVES_BACK);
}

/* An Allocation for USE that I has taken and that its status doesn't name; NULL: none. */
static const struct allocation *instance_spare(const struct controller *c, const struct instance *i, enum use use) {
	return i->status && *instance_status_value(i->status, use)
	               ? NULL
	               : addresses_owned(addresses_of(c), instance_id(i), use);
}

/* A gang that waits gives back what all its members have (cluster.c). */
static bool instance_must_give_back(const struct controller *c, const struct instance *i) {
	bool spare = false;
	for (enum use u = 0; u < N_USES; u++)
		spare |= instance_spare(c, i, u) != NULL;
	return spare && !gang_owner(&i->meta);
}

static void instance_give_back(struct work *w, const struct instance *i) {
	const struct decision none = {.host = ""};
	struct controller *c = work_controller(w);
	bool clean = true;
	for (enum use u = 0; u < N_USES; u++) {
		const struct allocation *al = instance_spare(c, i, u);
		clean &= !al;
		if (al && work_room(w))
			work_delete(w, &api_kind_allocation, &al->meta);
	}
	if (!clean)
		return; /* the watch shows each deletion, which causes the next look */
	struct instance *n = api_copy_with_status(&api_kind_instance, i);
	if (n) {
		instance_set_not_placed(n);
		instance_patch_status(w, i, n, &none);
	} else
		work_fail_oom(w);
	api_free(&api_kind_instance, n);
}

/*
 * The instance gets neither addresses nor a host: its seat is given back, and its status says why. If it has
 * Allocations, the next looks give them back.
 */
static void instance_hold_back(struct work *w, const struct instance *i, const struct hindrance *h) {
	const struct decision none = {.host = ""};
	struct instance *n = api_copy_with_status(&api_kind_instance, i);
	seats_drop(seats_of(work_controller(w)), i);
	if (!n) {
		work_fail_oom(w);
		api_free(&api_kind_instance, n);
		return;
	}
	if (h->reason && instance_must_give_back(work_controller(w), i))
		instance_set_condition(n, "AddressesAllocated", "False", REASON_GIVES_BACK,
		                       "gives its addresses back, because there is no place for it");
	else if (h->reason && h->want.sort == ROOM_VALUES)
		instance_set_condition(n, "AddressesAllocated", "False", h->reason, "%s", h->msg);
	else
		instance_set_not_placed(n);
	if (h->reason) {
		instance_set_condition(n, "Scheduled", "False", h->reason, "%s", h->msg);
		instance_set_condition(n, "Ready", "False", h->reason, "%s", h->msg);
		room_wait(work_controller(w), &concern_instances, &n->meta, &h->want);
	} else
		instance_wait_for_gang(n);
	instance_patch_status(w, i, n, &none);
	api_free(&api_kind_instance, n);
}

/*
 * True if the quotas of its namespace admit the instance; else H says why not. Gangs are admitted as a whole
 * (cluster.c).
 */
static bool instance_is_admitted(struct work *w, const struct instance *i, const struct instancetype *type,
                                 struct hindrance *h) {
	struct quotas *q = quotas_of(work_controller(w));
	if (!type) {
		quotas_release(q, i);
		h->reason = "InstanceTypeMissing";
		snprintf(h->msg, sizeof(h->msg), "InstanceType `%.253s` does not exist", i->spec->type);
		h->want = (struct room_want){.sort = ROOM_TYPE, .spec = i->spec};
		return false;
	}
	if (gang_owner(&i->meta) || quotas_admit(q, i, type, h->msg))
		return true;
	h->reason = "QuotaExceeded";
	h->want = (struct room_want){.sort = ROOM_QUOTA, .of = i->meta.ns, .spec = i->spec, .size = type, .n = 1};
	return false;
}

bool instance_update_forwards(struct instance *n) {
	char why[FORWARDS_MESSAGE_MAX] = "";
	if (!n->spec->forwards.n && !instance_condition(n, "ForwardsReady"))
		return true;
	int r = forwards_update(n, why);
	if (r >= 0)
		instance_set_condition(n, "ForwardsReady", r ? "True" : "False", r ? "Ready" : "NoPort", "%s", why);
	return r >= 0;
}

/* The instance has all its addresses. Writes them into its status, and the host of D if D names one. */
static void instance_settle(struct work *w, const struct instance *i, const struct decision *d) {
	struct instance *n = api_copy_with_status(&api_kind_instance, i);
	if (!n || !instance_fill_addresses(w, n) ||
	    (*d->host && (string_set(&n->status->host, d->host) < 0 || !instance_update_forwards(n)))) {
		work_fail_oom(w);
		api_free(&api_kind_instance, n);
		return;
	}
	instance_set_condition(n, "AddressesAllocated", "True", "Allocated", "has %s and %s", n->status->prefix,
	                       n->status->delegated_prefix);
	if (*d->host) {
		instance_set_size(n->status, &d->size);
		instance_set_condition(n, "Scheduled", "True", "Scheduled", "placed on host %s", d->host);
		instance_set_condition(n, "Ready", "False", "Placed", "waits for the agent of host %s to start it",
		                       d->host);
	} else if (host_is_lost(work_controller(w), n->status->host))
		instance_host_lost(w, i, n);
	instance_patch_status(w, i, n, d);
	api_free(&api_kind_instance, n);
}

static void instance_place(struct work *w, const struct instance *i) {
	struct controller *c = work_controller(w);
	const struct instancetype *type =
		kube_cache_get(controller_cache(c, &api_kind_instancetype), NULL, i->spec->type);
	struct hindrance h = {.reason = NULL};
	const char *lack = NULL;
	const char *host = instance_is_admitted(w, i, type, &h) ? instance_seat(w, i, type, &h) : NULL;
	if (!host) {
		instance_hold_back(w, i, &h);
		return;
	}
	struct decision d = {.size = instancetype_size(type)};
	snprintf(d.host, sizeof(d.host), "%s", host);
	if (instance_allocate(w, i, &h.reason, &lack, h.msg, sizeof(h.msg))) {
		instance_settle(w, i, &d);
		return;
	}
	if (!h.reason)
		return; /* the answers cause the next look */
	/* The promised values are not there: a pool is gone, or another controller allocates, too. */
	h.want = (struct room_want){.sort = ROOM_VALUES, .of = lack, .spec = i->spec, .n = 1};
	const struct api_owner_ref *gang = gang_owner(&i->meta);
	if (gang) {
		h.reason = NULL;
		concern_enqueue(c, &concern_clusters, i->meta.ns, gang->name);
	}
	instance_hold_back(w, i, &h);
}

/* The instance has a host. One that was moved here from another server may still lack addresses. */
static void instance_keep(struct work *w, const struct instance *i) {
	const struct decision none = {.host = ""};
	const char *reason = NULL, *lack = NULL;
	char msg[QUOTA_MESSAGE_MAX];
	if (instance_allocate(w, i, &reason, &lack, msg, sizeof(msg))) {
		instance_settle(w, i, &none);
		return;
	}
	if (!reason)
		return; /* the answers cause the next look */
	struct instance *n = api_copy_with_status(&api_kind_instance, i);
	if (!n || !instance_fill_addresses(w, n)) {
		work_fail_oom(w);
		api_free(&api_kind_instance, n);
		return;
	}
	instance_set_condition(n, "AddressesAllocated", "False", reason, "%s", msg);
	const struct room_want want = {.sort = ROOM_VALUES, .of = lack, .spec = n->spec, .n = 1};
	room_wait(work_controller(w), &concern_instances, &n->meta, &want);
	instance_patch_status(w, i, n, &none);
	api_free(&api_kind_instance, n);
}

static void instance_reconcile(struct work *w, const void *obj);

/* The instance has a new version, so the patch that may have bound it can't be applied any more. */
static void instance_asked(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	if (r->http == 409)
		instance_get(w);
	if (r->error)
		return; /* the next look goes on */
	instance_bind_ended(w);
	const struct instance *i = work_object(w);
	if (i && work_may_go_on(w))
		instance_reconcile(w, i);
}

/*
 * The instance may be bound already, or later: the server may answer a read before a patch that it got earlier. So this
 * asks by a write to the same version. If it succeeds, the patch can't be applied any more. The message makes the write
 * differ from what is stored.
 */
static void instance_ask(struct work *w, const struct instance *i) {
	struct instance *n = api_copy_with_status(&api_kind_instance, i);
	if (n) {
		instance_set_condition(n, "Scheduled", "False", "BindingUnknown",
		                       "the server has not said whether it has bound version %s to a host",
		                       i->meta.resource_version);
		work_patch_status(w, &api_kind_instance, i, n, WORK_THEN(instance_asked));
	} else
		work_fail_oom(w);
	api_free(&api_kind_instance, n);
}

static void instance_advance(struct work *w, const struct instance *i) {
	if (!has_finalizer(&i->meta, FINALIZER_INSTANCE)) {
		work_patch_finalizers(w, &api_kind_instance, &i->meta, FINALIZER_INSTANCE, true);
		return;
	}
	if (instance_is_bound(i))
		instance_keep(w, i);
	else if (seats_is_binding(seats_of(work_controller(w)), i)) {
		instance_ask(w, i);
		return;
	} else if (instance_gives_back(i))
		instance_give_back(w, i);
	else
		instance_place(w, i);
	if (i->status)
		instance_drop_surplus(w, i);
}

static void instance_reconcile(struct work *w, const void *obj) {
	const struct instance *i = obj;
	if (i && i->meta.deletion_timestamp)
		instance_finish(w, i);
	else if (i)
		instance_advance(w, i);
}

/*
 * If a write fails for more than a lost race or an overloaded server, the instance gives its seat back, so that it
 * keeps the place from nobody while it tries again; if it may be bound, as soon as it is known not to be. A member of a
 * gang keeps its seat: without it the gang would fall apart.
 */
static void instances_failed(struct controller *c, const void *obj, int error) {
	bool soon = error == -ESTALE || error == -EEXIST || error == -EBUSY;
	if (obj && !soon && !gang_owner(obj))
		seats_drop(seats_of(c), obj);
}

static void instances_allocation_changed(struct controller *c, const struct kube_change *ch) {
	const struct api_object_ref *o = ((const struct allocation *)ch->obj)->spec->owner;
	if (streq(o->kind, "Instance") && o->ns)
		concern_enqueue(c, &concern_instances, o->ns, o->name);
}

/* The Endpoint of an instance that is being deleted is gone. */
static void instances_endpoint_changed(struct controller *c, const struct kube_change *ch) {
	const struct api_object_ref *o = ((const struct endpoint *)ch->obj)->spec->owner;
	if (ch->type == KUBE_DELETED && o && streq(o->kind, "Instance") && o->ns)
		concern_enqueue(c, &concern_instances, o->ns, o->name);
}

static struct metric n_instances = METRIC_GAUGE("nacre_controller_instances", "Instances there are.");

const struct concern concern_instances = {
	.name = "instances",
	.kind = &api_kind_instance,
	.count = &n_instances,
	.watches = {{.kind = &api_kind_allocation, .changed = instances_allocation_changed},
                    {.kind = &api_kind_instancetype},
                    {.kind = &api_kind_host},
                    {.kind = &api_kind_endpoint, .changed = instances_endpoint_changed}},
	.reconcile = instance_reconcile,
	.failed = instances_failed,
};
