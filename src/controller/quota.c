/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/quota.h"

#include <string.h>

#include "api/cluster.h"
#include "base/tree.h"
#include "base/util.h"
#include "controller/gang.h"
#include "controller/room.h"
#include "controller/seats.h"
#include "controller/work.h"

/* What one instance uses of the quotas, or what all members of a Cluster without a host use together. */
struct charge {
	RB_ENTRY(charge) node;
	struct resources sum;
	bool placed;
	bool outdated; /* kept only for a binding that was under way when the controller stopped acting */
	char key[];
};

static int charge_cmp(const struct charge *a, const struct charge *b) {
	return strcmp(a->key, b->key);
}

RB_HEAD(charges, charge);
RB_GENERATE_INTERNAL(charges, charge, node, charge_cmp, _unused_ static)

struct tenant {
	RB_ENTRY(tenant) node;
	struct resources used;
	char ns[];
};

static int tenant_cmp(const struct tenant *a, const struct tenant *b) {
	return strcmp(a->ns, b->ns);
}

RB_HEAD(tenants, tenant);
RB_GENERATE_INTERNAL(tenants, tenant, node, tenant_cmp, _unused_ static)

struct quotas {
	struct controller *c;
	struct charges charges;
	struct tenants tenants;
};

static struct tenant *tenant_get(struct quotas *q, const char *ns) {
	struct tenant *t = TREE_FIND_STRING(tenant, &q->tenants, node, ns, ns);
	size_t n = strlen(ns) + 1;
	if (t)
		return t;
	t = calloc(1, sizeof(*t) + n);
	if (!t)
		abort(); /* the tenant's usage would not be known */
	memcpy(t->ns, ns, n);
	RB_INSERT(tenants, &q->tenants, t);
	return t;
}

static struct charge *charge_find(const struct quotas *q, const char *key) {
	return TREE_FIND_STRING(charge, &q->charges, node, key, key);
}

static const struct tenantquota *quota_next_of(const struct quotas *q, const char *ns, const struct tenantquota *t) {
	const struct kube_cache *quotas = controller_cache(q->c, &api_kind_tenantquota);
	t = t ? kube_cache_next(quotas, t) : kube_cache_first_in(quotas, ns);
	return t && streq(t->meta.ns, ns) ? t : NULL;
}

static void quota_queue_status(struct quotas *q, const char *ns) {
	const struct tenantquota *t = NULL;
	/* After a delay, so that many changes cause one update. */
	while ((t = quota_next_of(q, ns, t)))
		concern_enqueue_after(q->c, &concern_quotas, ns, t->meta.name, 200 * USEC_PER_MSEC);
}

static bool sum_is_less(const struct resources *a, const struct resources *b) {
	RESOURCES_FOREACH (i)
		if (a->v[i] < b->v[i])
			return true;
	return false;
}

/*
 * KEY uses SUM of the namespace's quotas from now on, and is removed if SUM has no instances. See also tenant_tell().
 */
static void charge_set(struct quotas *q, const char *ns, const char *key, const struct resources *sum, bool placed) {
	struct tenant *t = tenant_get(q, ns);
	struct charge *ch = charge_find(q, key);
	size_t n = strlen(key) + 1;
	if (!ch) {
		ch = calloc(1, sizeof(*ch) + n);
		if (!ch)
			abort();
		memcpy(ch->key, key, n);
		RB_INSERT(charges, &q->charges, ch);
	}
	resources_subtract(&t->used, &ch->sum);
	resources_add(&t->used, sum);
	ch->sum = *sum;
	ch->placed = placed;
	if (sum->v[RESOURCE_instances])
		return;
	RB_REMOVE(charges, &q->charges, ch);
	free(ch);
}

static struct resources tenant_used(struct quotas *q, const char *ns) {
	return tenant_get(q, ns)->used;
}

/* The namespace used BEFORE. If it uses another sum now, queues its TenantQuotas and reports the change (room.h). */
static void tenant_tell(struct quotas *q, const char *ns, const struct resources *before) {
	struct tenant *t = tenant_get(q, ns);
	if (!resources_equal(&t->used, before)) {
		if (sum_is_less(&t->used, before))
			room_in_quota(q->c, ns);
		else
			room_reasons_changed(q->c);
		quota_queue_status(q, ns);
	}
	if (t->used.v[RESOURCE_instances])
		return;
	RB_REMOVE(tenants, &q->tenants, t);
	free(t);
}

static void charge_tell(struct quotas *q, const char *ns, const char *key, const struct resources *sum, bool placed) {
	const struct resources before = tenant_used(q, ns);
	charge_set(q, ns, key, sum, placed);
	tenant_tell(q, ns, &before);
}

static const struct resources nothing;

/* The key of what all members of a Cluster without a host use. No instance has such a name. */
static const char *gang_key(const char *ns, const char *cluster, char key[static KUBE_KEY_MAX]) {
	snprintf(key, KUBE_KEY_MAX, "%s/%s/", ns, cluster);
	return key;
}

/*
 * Member I has a host now and is charged by itself, so its gang is charged for one member less: by the gang's size of a
 * member, which may be another than I's if the InstanceType was made anew.
 */
static void gang_charge_less(struct quotas *q, const struct instance *i) {
	const struct api_owner_ref *o = gang_owner(&i->meta);
	char key[KUBE_KEY_MAX];
	const struct charge *gang = o ? charge_find(q, gang_key(i->meta.ns, o->name, key)) : NULL;
	const struct api_meta *cluster =
		gang ? kube_cache_get(controller_cache(q->c, &api_kind_cluster), i->meta.ns, o->name) : NULL;
	if (!cluster || !streq(cluster->uid, o->uid))
		return;
	struct resources left = gang->sum;
	RESOURCES_FOREACH (r)
		left.v[r] -= gang->sum.v[r] / gang->sum.v[RESOURCE_instances];
	charge_set(q, i->meta.ns, key, &left, false);
}

static void quotas_instance_changed(struct controller *c, const struct kube_change *chg) {
	struct quotas *q = quotas_of(c);
	char key[KUBE_KEY_MAX];
	const struct instance *i = chg->obj;
	struct charge *ch = charge_find(q, kube_key(chg->ns, chg->name, key));
	if (chg->type == KUBE_DELETED) {
		if (ch)
			charge_tell(q, chg->ns, key, &nothing, false);
		return;
	}
	if (!instance_is_bound(i) || (ch && ch->placed))
		return;
	const struct resources size = instance_size(i->status), s = instance_charge(i->spec, &size);
	const struct resources before = tenant_used(q, chg->ns);
	charge_set(q, chg->ns, key, &s, true);
	/* What was admitted by itself is not part of the gang's charge. */
	if (!ch)
		gang_charge_less(q, i);
	tenant_tell(q, chg->ns, &before);
}

/* True if the quotas allow the namespace to use WANT beside USED; else MSG says what is exceeded. */
static bool quota_fits(const struct quotas *q, const struct resources *used, const char *ns,
                       const struct resources *want, char msg[static QUOTA_MESSAGE_MAX]) {
	const struct tenantquota *t = quota_next_of(q, ns, NULL);
	if (!t) {
		t = kube_cache_get(controller_cache(q->c, &api_kind_tenantquota), TENANTQUOTA_DEFAULT_NS,
		                   TENANTQUOTA_DEFAULT);
		return !t || !tenantquota_exceeded(TENANTQUOTA_DEFAULT_TEXT, t->spec, used, want, msg);
	}
	for (; t; t = quota_next_of(q, ns, t))
		if (tenantquota_exceeded(t->meta.name, t->spec, used, want, msg))
			return false;
	return true;
}

/* True if the instance that is charged, or a member of the gang, may be bound already. */
static bool charge_is_binding(const struct quotas *q, const struct charge *ch) {
	const struct seats *s = seats_of(q->c);
	const struct instance *i = NULL;
	char buf[KUBE_KEY_MAX], cluster[KUBE_KEY_MAX];
	const char *ns, *name;
	kube_key_split(ch->key, buf, &ns, &name);
	if (!strchr(name, '/')) {
		i = kube_cache_get(controller_cache(q->c, &api_kind_instance), ns, name);
		return i && seats_is_binding(s, i);
	}
	snprintf(cluster, sizeof(cluster), "%.*s", (int)strcspn(name, "/"), name);
	while ((i = gangs_member_next(gangs_of(q->c), ns, cluster, i)))
		if (seats_is_binding(s, i))
			return true;
	return false;
}

/* Charges KEY with WANT in place of its charge so far. False: WANT exceeds what MSG says, and KEY has no charge. */
static bool charge_admit(struct quotas *q, const char *ns, const char *key, const struct resources *want,
                         char msg[static QUOTA_MESSAGE_MAX]) {
	struct charge *ch = charge_find(q, key);
	/* What was admitted stays admitted, even if less is allowed now. */
	bool admitted = ch && !(ch->outdated && !charge_is_binding(q, ch)) && !sum_is_less(&ch->sum, want);
	struct resources others = tenant_used(q, ns);
	if (ch)
		resources_subtract(&others, &ch->sum);
	if (!admitted && !quota_fits(q, &others, ns, want, msg)) {
		if (ch)
			charge_tell(q, ns, key, &nothing, false);
		return false;
	}
	if (ch && !admitted)
		ch->outdated = false;
	charge_tell(q, ns, key, want, false);
	return true;
}

bool quotas_admit(struct quotas *q, const struct instance *i, const struct instancetype *type,
                  char msg[static QUOTA_MESSAGE_MAX]) {
	const struct resources size = instancetype_size(type), want = instance_charge(i->spec, &size);
	char key[KUBE_KEY_MAX];
	return charge_admit(q, i->meta.ns, kube_key(i->meta.ns, i->meta.name, key), &want, msg);
}

void quotas_release(struct quotas *q, const struct instance *i) {
	char key[KUBE_KEY_MAX];
	if (charge_find(q, kube_key(i->meta.ns, i->meta.name, key)))
		charge_tell(q, i->meta.ns, key, &nothing, false);
}

bool quotas_admit_gang(struct quotas *q, const struct cluster *cl, const struct instancetype *type, size_t n,
                       char msg[static QUOTA_MESSAGE_MAX]) {
	const struct api_meta *cluster = &cl->meta;
	const struct resources size = instancetype_size(type), one = instance_charge(cl->spec->template, &size);
	const struct resources want = resources_times(&one, (int64_t)n);
	char key[KUBE_KEY_MAX];
	return charge_admit(q, cluster->ns, gang_key(cluster->ns, cluster->name, key), &want, msg);
}

void quotas_release_gang(struct quotas *q, const struct api_meta *cluster) {
	char key[KUBE_KEY_MAX];
	if (charge_find(q, gang_key(cluster->ns, cluster->name, key)))
		charge_tell(q, cluster->ns, key, &nothing, false);
}

/* ---- status ---- */

static int quota_set_status(struct tenantquota *n, const struct resources *used) {
	if (!n->status->used && !(n->status->used = calloc(1, sizeof(*n->status->used))))
		return -ENOMEM;
	tenantquota_set_used(n->status->used, used);
	const struct resources limits = tenantquota_limits(n->spec);
	bool over = resources_short(&limits, used) < N_RESOURCES;
	return api_condition_set(
		&n->status->conditions.v, &n->status->conditions.n, "WithinLimits", over ? "False" : "True",
		over ? "Exceeded" : "Within",
		over ? "more is in use than the limits allow, which were set later; nothing is taken away" : "",
		n->meta.generation.v, now_realtime_us());
}

static void quota_reconcile(struct work *w, const void *obj) {
	struct quotas *q = quotas_of(work_controller(w));
	const struct tenantquota *t = obj;
	if (!t || t->meta.deletion_timestamp)
		return;
	struct tenantquota *n = api_copy_with_status(&api_kind_tenantquota, t);
	if (n && quota_set_status(n, &tenant_get(q, t->meta.ns)->used) >= 0)
		work_patch_status(w, &api_kind_tenantquota, t, n, WORK_NO_THEN);
	else
		work_fail_oom(w);
	api_free(&api_kind_tenantquota, n);
}

/* ---- ---- */

/*
 * Another controller may admit others now. What is not placed is admitted anew when this one acts again; if a patch of
 * this one may still bind it, it is charged until the patch's fate is known.
 */
static void quotas_stopped(struct controller *c) {
	struct quotas *q = quotas_of(c);
	struct charge *next;
	for (struct charge *ch = RB_MIN(charges, &q->charges); ch; ch = next) {
		char ns[KUBE_KEY_MAX];
		next = RB_NEXT(charges, &q->charges, ch);
		snprintf(ns, sizeof(ns), "%.*s", (int)strcspn(ch->key, "/"), ch->key);
		if (ch->placed)
			continue;
		if (charge_is_binding(q, ch))
			ch->outdated = true;
		else
			charge_tell(q, ns, ch->key, &nothing, false);
	}
}

static int quotas_open(struct controller *c, _unused_ const struct controller_options *o, void **ret,
                       struct error *err) {
	struct quotas *q = calloc(1, sizeof(*q));
	if (!q)
		return error_oom(err);
	q->c = c;
	RB_INIT(&q->charges);
	RB_INIT(&q->tenants);
	*ret = q;
	return 0;
}

static void quotas_close(void *state) {
	struct quotas *q = state;
	struct charge *ch;
	struct tenant *t;
	while ((ch = RB_MIN(charges, &q->charges))) {
		RB_REMOVE(charges, &q->charges, ch);
		free(ch);
	}
	while ((t = RB_MIN(tenants, &q->tenants))) {
		RB_REMOVE(tenants, &q->tenants, t);
		free(t);
	}
	free(q);
}

const struct concern concern_quotas = {
	.name = "tenantquotas",
	.kind = &api_kind_tenantquota,
	.watches = {{.kind = &api_kind_instance, .changed = quotas_instance_changed}},
	.open = quotas_open,
	.stopped = quotas_stopped,
	.reconcile = quota_reconcile,
	.close = quotas_close,
};
