/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who may read the Secrets that Instances name. Agents have no right to Secrets. For each namespace and host there is a
 * Role with exactly the Secrets that the namespace's Instances on the host name, and a RoleBinding of the same name
 * (roles_secrets_name()) that grants it to the host's agent. Both exist as long as there is such an Instance. What
 * somebody changes in them is put back. The controller never reads a Secret.
 *
 * A key is the namespace and the name of the Role. Whether the Role and RoleBinding of that name are ours to delete is
 * told by their label, so a tenant's own Role is left alone unless its name is needed.
 */

#include <stdlib.h>
#include <string.h>

#include "api/instance.h"
#include "api/rbac.h"
#include "api/roles.h"
#include "base/jsonwrite.h"
#include "base/util.h"
#include "controller/work.h"
#include "kube/index.h"

struct secrets {
	struct kube_index *users; /* Instances that have a host and name Secrets, by the key of the Role */
};

static struct secrets *secrets_of(const struct controller *c) {
	return concern_state(c, &concern_secrets);
}

/* The key of the Role that Instance OBJ needs. NULL: it has no host, is being deleted, or names no Secret. */
static const char *secrets_key(const void *obj, char buf[static KUBE_KEY_MAX]) {
	const struct instance *i = obj;
	char name[ROLES_NAME_MAX];
	struct instance_secret secret;
	bool any = false;
	for (unsigned k = 0; k < N_INSTANCE_SECRETS; k++)
		any |= instance_secret(i->spec, k, &secret);
	return any && instance_is_bound(i) && !i->meta.deletion_timestamp
	               ? kube_key(i->meta.ns, roles_secrets_name(i->status->host, name), buf)
	               : NULL;
}

/* ---- what should be ---- */

/* The Secrets that Instances name under one key, in order, each once, and the host. All strings are borrowed. */
struct grant {
	const char *host; /* NULL: there is no such Instance */
	const char **names;
	size_t n;
};

static int grant_name_cmp(const void *a, const void *b) {
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The caller frees the names. -ENOMEM. */
static int grant_collect(const struct secrets *s, const char *key, struct grant *ret) {
	const struct instance *i;
	struct instance_secret secret;
	size_t n = 0;
	*ret = (struct grant){.host = NULL};
	for (i = kube_index_first(s->users, key); i; i = kube_index_next(s->users, key, i))
		n++;
	ret->names = calloc(n * N_INSTANCE_SECRETS + 1, sizeof(const char *));
	if (!ret->names)
		return -ENOMEM;
	for (i = kube_index_first(s->users, key); i; i = kube_index_next(s->users, key, i)) {
		ret->host = i->status->host;
		for (unsigned k = 0; k < N_INSTANCE_SECRETS; k++)
			if (instance_secret(i->spec, k, &secret))
				ret->names[ret->n++] = secret.secret;
	}
	qsort(ret->names, ret->n, sizeof(const char *), grant_name_cmp);
	n = 0;
	for (size_t k = 0; k < ret->n; k++)
		if (k == 0 || !streq(ret->names[k], ret->names[n - 1]))
			ret->names[n++] = ret->names[k];
	ret->n = n;
	return 0;
}

static void grant_print_strings(struct buf *b, const char *key, const char *const *v, size_t n) {
	jw_key(b, key);
	jw_begin(b, '[');
	for (size_t i = 0; i < n; i++)
		jw_string(b, v[i]);
	jw_end(b, ']');
}

/* A list in a rule has a limit, so there may be several rules. */
static void grant_print_rules(struct buf *b, const struct grant *g) {
	jw_key(b, "rules");
	jw_begin(b, '[');
	for (size_t at = 0; at < g->n; at += RBAC_LIST_MAX) {
		jw_begin(b, '{');
		grant_print_strings(b, "apiGroups", (const char *const[]){""}, 1);
		grant_print_strings(b, "resources", (const char *const[]){"secrets"}, 1);
		grant_print_strings(b, "resourceNames", g->names + at, MIN(g->n - at, (size_t)RBAC_LIST_MAX));
		grant_print_strings(b, "verbs", (const char *const[]){"get"}, 1);
		jw_end(b, '}');
	}
	jw_end(b, ']');
}

static void grant_print_subjects(struct buf *b, const struct grant *g) {
	_free_ char *user = strf(ROLES_HOST_PREFIX "%s", g->host);
	jw_key(b, "subjects");
	jw_begin(b, '[');
	jw_begin(b, '{');
	jw_kv_string(b, "apiGroup", RBAC_GROUP);
	jw_kv_string(b, "kind", "User");
	jw_kv_string(b, "name", user ? user : "");
	jw_end(b, '}');
	jw_end(b, ']');
	b->failed |= !user;
}

/*
 * Prints the whole Role or RoleBinding; or, if IS is the one that exists, a merge patch of it, which fails as a lost
 * race if another write came first.
 */
static void grant_print(struct buf *b, const struct api_kind *k, const char *ns, const char *name,
                        const struct grant *g, const struct api_meta *is) {
	jw_begin(b, '{');
	jw_key(b, "metadata");
	jw_begin(b, '{');
	if (is) {
		jw_kv_string(b, "uid", is->uid);
		jw_kv_string(b, "resourceVersion", is->resource_version);
	} else {
		jw_kv_string(b, "namespace", ns);
		jw_kv_string(b, "name", name);
	}
	jw_key(b, "labels");
	jw_begin(b, '{');
	jw_kv_string(b, ROLES_SECRETS_LABEL, ROLES_SECRETS_VALUE);
	jw_end(b, '}');
	jw_end(b, '}');
	if (k == &api_kind_role)
		grant_print_rules(b, g);
	else
		grant_print_subjects(b, g);
	if (k == &api_kind_rolebinding && !is) {
		jw_key(b, "roleRef");
		jw_begin(b, '{');
		jw_kv_string(b, "apiGroup", RBAC_GROUP);
		jw_kv_string(b, "kind", "Role");
		jw_kv_string(b, "name", name);
		jw_end(b, '}');
	}
	jw_end(b, '}');
}

/* ---- what is, and the difference ---- */

static bool grant_is_ours(const struct api_meta *m) {
	return streq(api_map_get(&m->labels, ROLES_SECRETS_LABEL), ROLES_SECRETS_VALUE);
}

/* True if the Role or RoleBinding IS grants what WANT, a new one, does. */
static bool grant_equals(const struct api_kind *k, const void *is, const void *want) {
	const struct role *r = is, *s = want;
	const struct role_binding *b = is, *c = want;
	bool equal = grant_is_ours(is);
	if (k == &api_kind_role) {
		equal &= r->rules.n == s->rules.n;
		for (size_t i = 0; equal && i < s->rules.n; i++)
			equal = api_equal(&api_desc_policy_rule, &r->rules.v[i], &s->rules.v[i]);
		return equal;
	}
	return equal && b->subjects.n == 1 && api_equal(&api_desc_subject, &b->subjects.v[0], &c->subjects.v[0]);
}

/* Begins to make the Role or RoleBinding what it should be. True: it is so already. */
static bool grant_ensure(struct work *w, const struct api_kind *k, const char *ns, const char *name,
                         const struct grant *g) {
	const struct api_meta *is = kube_cache_get(controller_cache(work_controller(w), k), ns, name);
	_buf_free_ struct buf whole = {0}, patch = {0};
	struct api_errors errs = {0};
	void *want = NULL;
	bool equal = false;
	grant_print(&whole, k, ns, name, g, NULL);
	if (whole.failed || api_parse(k, whole.data, whole.len, &want, &errs) < 0)
		work_fail_oom(w); /* what is printed here is valid */
	else if (!is)
		work_create(w, k, want, WORK_NO_THEN);
	else if (k == &api_kind_rolebinding && !api_equal(&api_desc_role_ref, &((const struct role_binding *)is)->role,
	                                                  &((const struct role_binding *)want)->role))
		work_delete(w, k, is); /* a roleRef can't change; the deletion causes the next look */
	else if (!(equal = grant_equals(k, is, want))) {
		grant_print(&patch, k, ns, name, g, is);
		work_patch(w, k, is, &patch);
	}
	api_free(k, want);
	return equal;
}

static void grant_remove(struct work *w, const struct api_kind *k, const char *ns, const char *name) {
	const struct api_meta *is = kube_cache_get(controller_cache(work_controller(w), k), ns, name);
	if (is && grant_is_ours(is) && !is->deletion_timestamp)
		work_delete(w, k, is);
}

static void secrets_reconcile(struct work *w, _unused_ const void *obj) {
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	struct grant g;
	kube_key_split(work_key(w), buf, &ns, &name);
	if (!starts_with(name, ROLES_SECRETS))
		return;
	if (grant_collect(secrets_of(work_controller(w)), work_key(w), &g) < 0) {
		work_fail_oom(w);
		return;
	}
	/* The server looks into the Role when the RoleBinding is written, so the Role comes first. */
	if (!g.host) {
		grant_remove(w, &api_kind_rolebinding, ns, name);
		grant_remove(w, &api_kind_role, ns, name);
	} else if (grant_ensure(w, &api_kind_role, ns, name, &g))
		grant_ensure(w, &api_kind_rolebinding, ns, name, &g);
	free(g.names);
}

/* ---- ---- */

static void secrets_enqueue(struct controller *c, const struct instance *i) {
	char key[KUBE_KEY_MAX], buf[KUBE_KEY_MAX];
	const char *ns, *name;
	if (!secrets_key(i, key))
		return;
	kube_key_split(key, buf, &ns, &name);
	concern_enqueue(c, &concern_secrets, ns, name);
}

static bool secrets_are_the_same(const struct instance *a, const struct instance *b) {
	char x[KUBE_KEY_MAX], y[KUBE_KEY_MAX];
	bool same = streq(secrets_key(a, x), secrets_key(b, y));
	for (unsigned k = 0; k < N_INSTANCE_SECRETS; k++) {
		struct instance_secret p = {.secret = NULL}, q = {.secret = NULL};
		(void)instance_secret(a->spec, k, &p);
		(void)instance_secret(b->spec, k, &q);
		same &= streq(p.secret, q.secret);
	}
	return same;
}

static void secrets_instance_changed(struct controller *c, const struct kube_change *ch) {
	if (ch->old && secrets_are_the_same(ch->old, ch->obj))
		return;
	if (ch->old)
		secrets_enqueue(c, ch->old);
	secrets_enqueue(c, ch->obj);
}

static void secrets_binding_changed(struct controller *c, const struct kube_change *ch) {
	concern_enqueue(c, &concern_secrets, ch->ns, ch->name);
}

/* All Roles are queued when the controller begins to act, but not those that are missing. */
static void secrets_started(struct controller *c) {
	const struct kube_cache *bindings = controller_cache(c, &api_kind_rolebinding);
	const struct instance *i;
	const struct api_meta *m;
	KUBE_CACHE_FOREACH(i, controller_cache(c, &api_kind_instance))
	secrets_enqueue(c, i);
	KUBE_CACHE_FOREACH(m, bindings)
	concern_enqueue(c, &concern_secrets, m->ns, m->name);
}

static int secrets_open(struct controller *c, _unused_ const struct controller_options *o, void **ret,
                        struct error *err) {
	struct secrets *s = calloc(1, sizeof(*s));
	if (!s)
		return error_oom(err);
	*ret = s;
	return kube_index_new(&s->users, controller_cache(c, &api_kind_instance), secrets_key, err);
}

static void secrets_close(void *state) {
	struct secrets *s = state;
	kube_index_free(s->users);
	free(s);
}

const struct concern concern_secrets = {
	.name = "secrets",
	.kind = &api_kind_role,
	.watches = {{.kind = &api_kind_rolebinding, .changed = secrets_binding_changed},
                    {.kind = &api_kind_instance, .changed = secrets_instance_changed}},
	.open = secrets_open,
	.reconcile = secrets_reconcile,
	.started = secrets_started,
	.close = secrets_close,
};
