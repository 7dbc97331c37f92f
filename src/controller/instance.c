/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One instance, from being asked for to being gone. Each look takes it one step further: finalizer, Allocations (all
 * that are missing at once), then one status patch with addresses, placement and conditions. What a step changed comes
 * back through the caches and is the reason for the next look.
 */

#include <stdarg.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/gang.h"
#include "controller/placement.h"
#include "controller/quota.h"

#define REASON_HOST_LOST "HostLost"

static bool set(char **out, const char *s) {
	char *v = strdup(s);
	if (!v)
		return false;
	free(*out);
	*out = v;
	return true;
}

static _printf_(5, 6) void set_condition(struct instance *n, const char *type, const char *status, const char *reason,
                                         const char *fmt, ...) {
	char msg[FIT_MESSAGE_MAX + 256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	/* Without memory the condition stays as it was, and the next look sets it. */
	(void)!api_condition_set(&n->status->conditions.v, &n->status->conditions.n, type, status, reason, msg,
	                         n->meta.generation.v, now_realtime_us());
}

static const struct api_condition *condition(const struct instance *i, const char *type) {
	return i->status ? api_condition_find(i->status->conditions.v, i->status->conditions.n, type) : NULL;
}

/* ---- addresses ---- */

static char **status_value(struct instance_status *s, enum use use) {
	return use == USE_INSTANCE    ? &s->prefix
	       : use == USE_DELEGATED ? &s->delegated_prefix
	       : use == USE_OVERLAY   ? &s->overlay_address
	                              : &s->mac;
}

/* Begins to allocate what is missing. True if all is there already; else REASON and MSG say what stands in the way, if
 * anything. */
static bool allocate(struct work *w, const struct instance *i, const char **reason, char *msg, size_t size) {
	static struct instance_status none;
	bool complete = true;
	for (enum use u = 0; u < N_USES; u++) {
		const char *text;
		char why[512];
		if (*status_value(i->status ? i->status : &none, u) ||
		    addresses_owned(w->c->addresses, instance_id(i), u))
			continue;
		complete = false;
		if (addresses_allocate(w->c->addresses, w, u, i, &text, why, sizeof(why)) < 0 && !*reason) {
			*reason = text;
			snprintf(msg, size, "%s", why);
		}
	}
	return complete;
}

/* Writes the values of I's Allocations into the status of N. False without memory. */
static bool fill_addresses(struct work *w, struct instance *n) {
	for (enum use u = 0; u < N_USES; u++) {
		char **out = status_value(n->status, u);
		const struct allocation *al = *out ? NULL : addresses_owned(w->c->addresses, instance_id(n), u);
		if (al && !set(out, al->spec->value))
			return false;
	}
	if (!n->status->address && n->status->prefix && n->status->mac) {
		struct prefix p;
		struct mac m;
		char text[ADDR_STR_MAX];
		if (prefix_parse(n->status->prefix, &p, NULL) < 0 || mac_parse(n->status->mac, &m, NULL) < 0)
			return false;
		struct addr a = addr_eui64(&p.addr, &m);
		if (!set(&n->status->address, addr_str(&a, text)))
			return false;
	}
	return true;
}

/* Allocations of this instance that are not in its status: what a controller lost that raced with another. */
static void drop_surplus(struct work *w, const struct instance *i) {
	const struct allocation *al = NULL;
	while ((al = addresses_owned_next(w->c->addresses, instance_id(i), al))) {
		const char *have = *status_value(i->status, value_use(al->spec->value));
		if (have && !streq(have, al->spec->value) && !al->meta.deletion_timestamp &&
		    w->n_ops < WORK_OPS_MAX / 2)
			work_delete(w, &api_kind_allocation, &al->meta);
	}
}

/* ---- placement ---- */

/* What the status patch decided: told and accounted for when it was answered. */
struct decision {
	char host[256];
	int64_t vcpus, memory_mib;
	bool seated; /* and accounted for already, as a member of a gang */
};

/* A member of a gang that has no host yet says what its Cluster says. */
static void wait_for_gang(struct work *w, struct instance *n) {
	const struct cluster *cl = gang_cluster(w->c, &n->meta);
	const struct api_condition *s =
		cl && cl->status ? api_condition_find(cl->status->conditions.v, cl->status->conditions.n, "Scheduled")
				 : NULL;
	if (s && streq(s->status, "False")) {
		set_condition(n, "Scheduled", "False", s->reason, "%s", s->message ? s->message : "");
		set_condition(n, "Ready", "False", s->reason, "%s", s->message ? s->message : "");
	} else {
		set_condition(n, "Scheduled", "False", "Gathering",
		              "waits until all members of its Cluster can be placed");
		set_condition(n, "Ready", "False", "Gathering", "waits until all members of its Cluster can be placed");
	}
}

/* The host that is kept for a member of a gang, or the one chosen for an instance of its own; -ENOSPC and WHY. */
static int choose(struct work *w, const struct instance *n, const struct instancetype *type, const char **ret_host,
                  bool *ret_seated, char why[static FIT_MESSAGE_MAX]) {
	*ret_seated = gang_owner(&n->meta);
	if (!*ret_seated)
		return placement_choose(w->c->placement, n->spec, type, ret_host, why);
	const char *host = gangs_seat(w->c->gangs, n);
	if (!host || host_is_lost(w->c, host)) {
		/* A seat on a lost host is good for nothing: all that are left are found anew. */
		if (host)
			enqueue(w->c, QUEUE_CLUSTERS, n->meta.ns, gang_owner(&n->meta)->name);
		return -ENOSPC;
	}
	*ret_host = host;
	return 0;
}

static void place(struct work *w, struct instance *n, const struct instancetype *type, struct decision *d) {
	const char *host;
	char why[FIT_MESSAGE_MAX];
	bool gang = gang_owner(&n->meta);
	if (choose(w, n, type, &host, &d->seated, why) < 0) {
		if (gang) {
			wait_for_gang(w, n);
			return;
		}
		set_condition(n, "Scheduled", "False", "Unschedulable", "%s", why);
	} else if (set(&n->status->host, host)) {
		snprintf(d->host, sizeof(d->host), "%s", host);
		d->vcpus = type->spec->vcpus.v;
		d->memory_mib = type->spec->memory_mib.v;
		n->status->vcpus = API_I64(d->vcpus);
		n->status->memory_mib = API_I64(d->memory_mib);
		set_condition(n, "Scheduled", "True", "Scheduled", "placed on host %s", host);
		set_condition(n, "Ready", "False", "Placed", "waits for the agent of host %s to start it", host);
		return;
	}
	const struct api_condition *s = condition(n, "Scheduled");
	if (s)
		set_condition(n, "Ready", "False", s->reason, "%s", s->message ? s->message : "");
	wait_for_room(w->c, QUEUE_INSTANCES, &n->meta, false);
}

/* ---- the status patch ---- */

static void status_done(struct op *op, const struct kube_response *r) {
	struct controller *c = op->work->c;
	const char *space = strchr(op->arg, ' ');
	char host[256];
	long long vcpus, memory;
	if (!space || sscanf(op->arg, "%255s %lld %lld", host, &vcpus, &memory) != 3)
		return;
	/* A seat goes when the binding is seen, and stays for the next try if it failed. */
	if (!op->index)
		placement_assume(c->placement, host, -vcpus, -memory);
	if (r->error == 0)
		log_info("instance placed", "instance=%s host=%s vcpus=%lld memory_mib=%lld", op->work->key, host,
		         vcpus, memory);
}

/* True if the condition TYPE says something else in N than in I. */
static bool changed(const struct instance *i, const struct instance *n, const char *type) {
	const struct api_condition *a = condition(i, type), *b = condition(n, type);
	return b &&
	       (!a || !streq(a->status, b->status) || !streq(a->reason, b->reason) || !streq(a->message, b->message));
}

static void tell(struct controller *c, const struct instance *i, const struct instance *n, const char *type,
                 const char *failed) {
	const struct api_condition *s = condition(n, type);
	if (!changed(i, n, type))
		return;
	bool ok = streq(s->status, "True");
	kube_event(c->recorder, &api_kind_instance, n, ok ? KUBE_EVENT_NORMAL : KUBE_EVENT_WARNING,
	           ok ? s->reason : failed, "%s", s->message ? s->message : "");
}

static void patch_status(struct work *w, const struct instance *i, struct instance *n, const struct decision *d) {
	struct controller *c = w->c;
	struct error err = {0};
	/* With the first status, so never later than the binding to a host. */
	if (!n->status->id && !set(&n->status->id, n->meta.uid)) {
		work_sent(w, error_oom(&err), &err);
		return;
	}
	struct op *op = work_op(w, c->instances);
	struct kube_call call = op_call(op);
	int r = kube_patch_status(c->client, &api_kind_instance, i, n, &call, &err);
	if (r == -EALREADY)
		return;
	if (r == 0) {
		if (*d->host) {
			snprintf(op->arg, sizeof(op->arg), "%s %lld %lld", d->host, (long long)d->vcpus,
			         (long long)d->memory_mib);
			op->then = status_done;
			op->index = d->seated;
			if (!d->seated)
				placement_assume(c->placement, d->host, d->vcpus, d->memory_mib);
		}
		tell(c, i, n, "AddressesAllocated", "FailedAllocation");
		tell(c, i, n, "Scheduled", "FailedScheduling");
	}
	work_sent(w, r, &err);
}

/* ---- the end of an instance ---- */

/* Those of a lost host stay only as long as the instance is wanted (gc.c). */
static void withdraw(struct controller *c, const struct instance *i) {
	const struct endpoint *e;
	KUBE_CACHE_FOREACH(e, c->endpoints)
	if (e->spec->owner && streq(e->spec->owner->uid, instance_id(i)))
		enqueue(c, QUEUE_ENDPOINTS, NULL, e->meta.name);
}

static void finish(struct work *w, const struct instance *i) {
	struct controller *c = w->c;
	const struct allocation *al = NULL;
	bool clean = true;
	bool removed = i->status && streq(i->status->phase, "Removed");
	if (!has_finalizer(&i->meta, FINALIZER_INSTANCE))
		return;
	/* As long as the VM may run and be reached, its values are not free. */
	if (instance_is_bound(i) && !removed) {
		if (!host_is_lost(c, i->status->host))
			return;
		withdraw(c, i);
	}
	while ((al = addresses_owned_next(c->addresses, instance_id(i), al))) {
		if ((al->status && al->status->released_at) || al->meta.deletion_timestamp)
			continue;
		clean = false;
		if (w->n_ops < WORK_OPS_MAX)
			addresses_release(w, al);
	}
	/* Deletions are seen by the watch; the look after the last one gets here. */
	if (clean)
		work_patch_finalizers(w, c->instances, &i->meta, FINALIZER_INSTANCE, false);
}

/* ---- ---- */

static void host_lost(struct work *w, const struct instance *i, struct instance *n) {
	if (!kube_cache_get(w->c->hosts, NULL, i->status->host))
		set_condition(n, "Ready", "Unknown", REASON_HOST_LOST, "host %s does not exist any more",
		              i->status->host);
	else
		set_condition(n, "Ready", "Unknown", REASON_HOST_LOST,
		              "host %s does not answer; nothing is known of the instance until it does",
		              i->status->host);
	if (changed(i, n, "Ready"))
		kube_event(w->c->recorder, &api_kind_instance, n, KUBE_EVENT_WARNING, REASON_HOST_LOST, "%s",
		           condition(n, "Ready")->message);
}

/* It gets neither addresses nor a host: REASON and WHY, or both NULL if it is a member of a gang that waits. */
static void hold_back(struct work *w, const struct instance *i, const char *reason, const char *why) {
	struct error err = {0};
	const struct decision none = {.host = ""};
	struct instance *n = clone(&api_kind_instance, i);
	if (n && !n->status)
		n->status = calloc(1, sizeof(*n->status));
	if (n && n->status && reason) {
		set_condition(n, "Scheduled", "False", reason, "%s", why);
		set_condition(n, "Ready", "False", reason, "%s", why);
		wait_for_room(w->c, QUEUE_INSTANCES, &n->meta, false);
	} else if (n && n->status)
		wait_for_gang(w, n);
	if (n && n->status)
		patch_status(w, i, n, &none);
	else
		work_sent(w, error_oom(&err), &err);
	api_free(&api_kind_instance, n);
}

/* What can't be placed takes no addresses from others: true if I has been held back. */
static bool held_back(struct work *w, const struct instance *i, const struct instancetype *type) {
	char msg[QUOTA_MESSAGE_MAX];
	if (!type) {
		snprintf(msg, sizeof(msg), "InstanceType `%.253s` does not exist", i->spec->type);
		hold_back(w, i, "InstanceTypeMissing", msg);
		return true;
	}
	/* Gangs are let in as one (cluster.c). */
	if (gang_owner(&i->meta)) {
		if (quotas_admitted(w->c->quota, i))
			return false;
		hold_back(w, i, NULL, NULL);
		return true;
	}
	if (quotas_admit(w->c->quota, i, type, msg))
		return false;
	hold_back(w, i, "QuotaExceeded", msg);
	return true;
}

static void advance(struct work *w, const struct instance *i) {
	const char *reason = NULL;
	char msg[QUOTA_MESSAGE_MAX];
	struct decision d = {.host = ""};
	struct error err = {0};
	if (!has_finalizer(&i->meta, FINALIZER_INSTANCE)) {
		work_patch_finalizers(w, w->c->instances, &i->meta, FINALIZER_INSTANCE, true);
		return;
	}
	const struct instancetype *type =
		instance_is_bound(i) ? NULL : kube_cache_get(w->c->types, NULL, i->spec->type);
	if (!instance_is_bound(i) && held_back(w, i, type))
		return;
	bool complete = allocate(w, i, &reason, msg, sizeof(msg));
	if (!complete && !reason)
		return; /* the answers bring us back */
	struct instance *n = clone(&api_kind_instance, i);
	if (n && !n->status)
		n->status = calloc(1, sizeof(*n->status));
	if (!n || !n->status || !fill_addresses(w, n)) {
		work_sent(w, error_oom(&err), &err);
		api_free(&api_kind_instance, n);
		return;
	}
	if (!complete) {
		set_condition(n, "AddressesAllocated", "False", reason, "%s", msg);
		if (!instance_is_bound(n))
			set_condition(n, "Ready", "False", reason, "%s", msg);
		wait_for_room(w->c, QUEUE_INSTANCES, &n->meta, false);
	} else {
		set_condition(n, "AddressesAllocated", "True", "Allocated", "has %s and %s", n->status->prefix,
		              n->status->delegated_prefix);
		if (!instance_is_bound(n))
			place(w, n, type, &d);
		else if (host_is_lost(w->c, n->status->host))
			host_lost(w, i, n);
	}
	patch_status(w, i, n, &d);
	if (i->status)
		drop_surplus(w, i);
	api_free(&api_kind_instance, n);
}

void instance_reconcile(const char *key, void *userdata) {
	struct controller *c = userdata;
	struct work *w = work_new(c, QUEUE_INSTANCES, key);
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	kube_key_split(key, buf, &ns, &name);
	const struct instance *i = kube_cache_get(c->instances, ns, name);
	if (i && work_may_go_on(w)) {
		if (i->meta.deletion_timestamp)
			finish(w, i);
		else
			advance(w, i);
	}
	work_close(w);
}
