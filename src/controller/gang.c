/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/gang.h"

#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "kube/index.h"

struct refusal {
	RB_ENTRY(refusal) node;
	unsigned times;
	uint64_t until_us; /* monotonic */
	char why[512];
	char key[];
};

static int refusal_cmp(const struct refusal *a, const struct refusal *b) {
	return strcmp(a->key, b->key);
}

RB_HEAD(refusals, refusal);
RB_GENERATE_INTERNAL(refusals, refusal, node, refusal_cmp, _unused_ static)

struct gangs {
	struct refusals refusals;
	struct kube_index *members; /* Instances by the key of their Cluster */
};

const struct api_owner_ref *gang_owner(const struct api_meta *m) {
	for (size_t i = 0; i < m->owner_refs.n; i++) {
		const struct api_owner_ref *o = &m->owner_refs.v[i];
		if (o->controller.v && streq(o->kind, "Cluster") && starts_with(o->api_version, "nacre.dev/"))
			return o;
	}
	return NULL;
}

static const char *member_cluster(const void *obj, char buf[static KUBE_KEY_MAX]) {
	const struct api_meta *m = obj;
	const struct api_owner_ref *o = gang_owner(m);
	return o ? kube_key(m->ns, o->name, buf) : NULL;
}

const struct instance *gangs_member_next(const struct gangs *g, const char *ns, const char *cluster,
                                         const struct instance *prev) {
	char key[KUBE_KEY_MAX];
	kube_key(ns, cluster, key);
	return prev ? kube_index_next(g->members, key, prev) : kube_index_first(g->members, key);
}

/* ---- refusals ---- */

static struct refusal *refusal_find(const struct gangs *g, const char *key) {
	return TREE_FIND_STRING(refusal, &g->refusals, node, key, key);
}

void gangs_refuse(struct gangs *g, const char *key, const char *why) {
	struct refusal *f = refusal_find(g, key);
	uint64_t left;
	if (gangs_refused(g, key, &left))
		return; /* several creates were in flight; the first refusal counts */
	if (!f) {
		size_t n = strlen(key) + 1;
		f = calloc(1, sizeof(*f) + n);
		if (!f)
			abort();
		memcpy(f->key, key, n);
		RB_INSERT(refusals, &g->refusals, f);
	}
	uint64_t wait = f->times < 6 ? USEC_PER_SEC << f->times++ : 60 * USEC_PER_SEC;
	f->until_us = now_monotonic_ns() / 1000 + wait;
	snprintf(f->why, sizeof(f->why), "%s", why);
}

const char *gangs_refused(const struct gangs *g, const char *key, uint64_t *ret_left_us) {
	const struct refusal *f = refusal_find(g, key);
	uint64_t now = now_monotonic_ns() / 1000;
	if (!f || f->until_us <= now)
		return NULL;
	*ret_left_us = f->until_us - now;
	return f->why;
}

static void refusal_remove(struct gangs *g, struct refusal *f) {
	RB_REMOVE(refusals, &g->refusals, f);
	free(f);
}

void gangs_forget_refusal(struct gangs *g, const char *key) {
	struct refusal *f = refusal_find(g, key);
	if (f)
		refusal_remove(g, f);
}

/* ---- ---- */

static int gangs_open(struct controller *c, _unused_ const struct controller_options *o, void **ret,
                      struct error *err) {
	struct gangs *g = calloc(1, sizeof(*g));
	if (!g)
		return error_oom(err);
	RB_INIT(&g->refusals);
	*ret = g;
	return kube_index_new(&g->members, controller_cache(c, &api_kind_instance), member_cluster, err);
}

static void gangs_close(void *state) {
	struct gangs *g = state;
	struct refusal *f;
	while ((f = RB_MIN(refusals, &g->refusals)))
		refusal_remove(g, f);
	kube_index_free(g->members);
	free(g);
}

const struct concern concern_gangs = {
	.name = "gangs",
	.watches = {{.kind = &api_kind_instance}},
	.open = gangs_open,
	.close = gangs_close,
};
