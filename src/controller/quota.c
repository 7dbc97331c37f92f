/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/quota.h"

#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "controller/room.h"
#include "controller/work.h"

/* An instance that counts, and with what. */
struct charge {
	RB_ENTRY(charge) node;
	struct resources sum;
	bool placed;
	char type[256];
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
	struct tenant *t = RB_ROOT(&q->tenants);
	size_t n = strlen(ns) + 1;
	int c;
	while (t && (c = strcmp(ns, t->ns)))
		t = c < 0 ? RB_LEFT(t, node) : RB_RIGHT(t, node);
	if (t)
		return t;
	t = calloc(1, sizeof(*t) + n);
	if (!t)
		abort(); /* what a tenant has would not be known */
	memcpy(t->ns, ns, n);
	RB_INSERT(tenants, &q->tenants, t);
	return t;
}

static struct charge *charge_find(const struct quotas *q, const char *key) {
	struct charge *ch = RB_ROOT(&q->charges);
	int c;
	while (ch && (c = strcmp(key, ch->key)))
		ch = c < 0 ? RB_LEFT(ch, node) : RB_RIGHT(ch, node);
	return ch;
}

static const struct tenantquota *quota_next_of(const struct quotas *q, const char *ns, const struct tenantquota *t) {
	const struct kube_cache *quotas = controller_cache(q->c, &api_kind_tenantquota);
	t = t ? kube_cache_next(quotas, t) : kube_cache_first_in(quotas, ns);
	return t && streq(t->meta.ns, ns) ? t : NULL;
}

static void quota_queue_status(struct quotas *q, const char *ns) {
	const struct tenantquota *t = NULL;
	/* Not with every single one of many. */
	while ((t = quota_next_of(q, ns, t)))
		concern_enqueue_after(q->c, &concern_quotas, ns, t->meta.name, 200 * USEC_PER_MSEC);
}

static void charge_drop(struct quotas *q, struct charge *ch) {
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	kube_key_split(ch->key, buf, &ns, &name);
	struct tenant *t = tenant_get(q, ns);
	resources_subtract(&t->used, &ch->sum);
	room_in_quota(q->c, ns);
	/* Values were kept for it, too. */
	if (!ch->placed)
		room_of_all_values(q->c);
	quota_queue_status(q, ns);
	if (!t->used.v[RESOURCE_instances]) {
		RB_REMOVE(tenants, &q->tenants, t);
		free(t);
	}
	RB_REMOVE(charges, &q->charges, ch);
	free(ch);
}

static void charge_add(struct quotas *q, const char *ns, const char *key, const char *type, const struct resources *sum,
                       bool placed) {
	size_t n = strlen(key) + 1;
	struct charge *ch = calloc(1, sizeof(*ch) + n);
	if (!ch)
		abort();
	memcpy(ch->key, key, n);
	ch->sum = *sum;
	ch->placed = placed;
	snprintf(ch->type, sizeof(ch->type), "%s", type);
	RB_INSERT(charges, &q->charges, ch);
	resources_add(&tenant_get(q, ns)->used, sum);
	room_reasons_changed(q->c);
	quota_queue_status(q, ns);
}

static void quotas_instance_changed(struct controller *c, const struct kube_change *chg) {
	struct quotas *q = quotas_of(c);
	char key[KUBE_KEY_MAX];
	const struct instance *i = chg->obj;
	struct charge *ch = charge_find(q, kube_key(chg->ns, chg->name, key));
	if (chg->type == KUBE_DELETED) {
		if (ch)
			charge_drop(q, ch);
		return;
	}
	if (!instance_is_bound(i) || (ch && ch->placed))
		return;
	const struct resources s = instance_size(i->status);
	if (ch && resources_equal(&ch->sum, &s)) {
		ch->placed = true;
		return;
	}
	if (ch)
		charge_drop(q, ch);
	charge_add(q, i->meta.ns, key, i->spec->type, &s, true);
}

static void quotas_type_changed(struct controller *c, const struct kube_change *chg) {
	struct quotas *q = quotas_of(c);
	struct charge *ch, *next;
	if (chg->type == KUBE_MODIFIED)
		return; /* sizes can't be changed */
	RB_FOREACH_SAFE (ch, charges, &q->charges, next) {
		if (!ch->placed && streq(ch->type, chg->name))
			charge_drop(q, ch); /* of what size it is now is seen when it is looked at again */
	}
}

/* True if the namespace may have WANT more. */
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

bool quotas_admit(struct quotas *q, const struct instance *i, const struct instancetype *type,
                  char msg[static QUOTA_MESSAGE_MAX]) {
	char key[KUBE_KEY_MAX];
	if (charge_find(q, kube_key(i->meta.ns, i->meta.name, key)))
		return true;
	const struct resources want = instancetype_size(type);
	if (!quota_fits(q, &tenant_get(q, i->meta.ns)->used, i->meta.ns, &want, msg))
		return false;
	charge_add(q, i->meta.ns, key, i->spec->type, &want, false);
	return true;
}

bool quotas_admitted(const struct quotas *q, const struct instance *i) {
	char key[KUBE_KEY_MAX];
	return charge_find(q, kube_key(i->meta.ns, i->meta.name, key));
}

/* What is kept for a cluster. No instance has such a name. */
static struct charge *charge_kept_for(const struct quotas *q, const struct api_meta *cluster,
                                      char key[static KUBE_KEY_MAX + 1]) {
	snprintf(key, KUBE_KEY_MAX + 1, "%s/%s/", cluster->ns, cluster->name);
	return charge_find(q, key);
}

static bool charge_is_kept(const struct charge *ch) {
	return ch->key[strlen(ch->key) - 1] == '/';
}

uint64_t quotas_kept(const struct quotas *q) {
	struct charge *ch;
	uint64_t n = 0;
	RB_FOREACH (ch, charges, (struct charges *)&q->charges)
		n += charge_is_kept(ch) ? (uint64_t)ch->sum.v[RESOURCE_instances] : 0;
	return n;
}

void quotas_release_gang(struct quotas *q, const struct api_meta *cluster, const struct instance *const *v, size_t n) {
	char key[KUBE_KEY_MAX + 1];
	struct charge *ch = charge_kept_for(q, cluster, key);
	if (ch)
		charge_drop(q, ch);
	for (size_t i = 0; i < n; i++) {
		ch = charge_find(q, kube_key(cluster->ns, v[i]->meta.name, key));
		if (ch && !ch->placed)
			charge_drop(q, ch);
	}
}

bool quotas_admit_gang(struct quotas *q, const struct api_meta *cluster, const struct instancetype *type,
                       const struct instance *const *v, size_t n, size_t missing, char msg[static QUOTA_MESSAGE_MAX]) {
	char rest[KUBE_KEY_MAX + 1], key[KUBE_KEY_MAX];
	const struct charge *kept = charge_kept_for(q, cluster, rest);
	size_t in = 0;
	for (size_t i = 0; i < n; i++)
		in += quotas_admitted(q, v[i]);
	if (in == n && (kept ? (size_t)kept->sum.v[RESOURCE_instances] : 0) == missing)
		return true;
	quotas_release_gang(q, cluster, v, n);
	const struct resources one = instancetype_size(type);
	const struct resources want = resources_times(&one, (int64_t)(n + missing));
	const struct resources later = resources_times(&one, (int64_t)missing);
	if (!quota_fits(q, &tenant_get(q, cluster->ns)->used, cluster->ns, &want, msg))
		return false;
	for (size_t i = 0; i < n; i++)
		charge_add(q, cluster->ns, kube_key(cluster->ns, v[i]->meta.name, key), type->meta.name, &one, false);
	if (missing)
		charge_add(q, cluster->ns, rest, type->meta.name, &later, false);
	return true;
}

/* ---- status ---- */

static int quota_set_status(struct tenantquota *n, const struct resources *used) {
	if (!n->status)
		n->status = calloc(1, sizeof(*n->status));
	if (n->status && !n->status->used)
		n->status->used = calloc(1, sizeof(*n->status->used));
	if (!n->status || !n->status->used)
		return -ENOMEM;
	tenantquota_set_used(n->status->used, used);
	const struct resources limits = tenantquota_limits(n->spec);
	bool over = resources_short(&limits, used) < N_RESOURCES;
	return api_condition_set(
		&n->status->conditions.v, &n->status->conditions.n, "WithinLimits", over ? "False" : "True",
		over ? "Exceeded" : "Within",
		over ? "more is in use than the limits, which were set later, allow; nothing is taken away" : "",
		n->meta.generation.v, now_realtime_us());
}

static void quota_reconcile(struct work *w, const void *obj) {
	struct quotas *q = quotas_of(work_controller(w));
	const struct tenantquota *t = obj;
	if (!t || t->meta.deletion_timestamp)
		return;
	struct tenantquota *n = api_copy(&api_kind_tenantquota, t);
	if (n && quota_set_status(n, &tenant_get(q, t->meta.ns)->used) >= 0)
		work_patch_status(w, &api_kind_tenantquota, t, n, WORK_NO_THEN);
	else
		work_fail_oom(w);
	api_free(&api_kind_tenantquota, n);
}

/* ---- ---- */

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
	.watches = {{.kind = &api_kind_instance, .changed = quotas_instance_changed},
                    {.kind = &api_kind_instancetype, .changed = quotas_type_changed}},
	.open = quotas_open,
	.reconcile = quota_reconcile,
	.close = quotas_close,
};
