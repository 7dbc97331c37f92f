/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who may read the Secrets that Instances name. Agents have no right to Secrets. For each namespace and host there is a
 * Role with exactly the Secrets that the namespace's Instances on the host name, and a RoleBinding
 * (roles_secrets_name()) that grants it to the host's agent. Both exist as long as there is such an Instance. What
 * somebody changes in them is replaced. The controller never reads a Secret. A key is the namespace and the name of the
 * RoleBinding.
 *
 * A tenant may be allowed to write Roles and RoleBindings, but not to read Secrets. Kubernetes lets him bind a Role
 * only if he has all its rights at that moment; what is added to the Role later, he gets too. So the controller never
 * writes the rules of a Role that exists. It makes a new one whose name ends in 128 random bits, which nobody can bind
 * before it exists with all its rules, and no name is used twice. A Role that is found by label and annotation is used
 * only if its rules are already what they should be; whoever wrote or bound it had these rights. If they are not, it is
 * deleted first, so that nothing is granted longer than it should be, even if no new one can be made.
 *
 * The RoleBinding has a name that everybody knows, since nacre-apiserver looks there (api/account.c). Whoever takes the
 * name beforehand gains nothing: a roleRef can't be changed, so a RoleBinding to another Role is deleted. If somebody's
 * finalizer keeps it, the Instances get an Event that names it.
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
	struct kube_index *users; /* Instances that have a host and name Secrets, by key */
	struct kube_index *roles; /* Roles of ours, by key */
};

static struct secrets *secrets_of(const struct controller *c) {
	return concern_state(c, &concern_secrets);
}

/* The key of what Instance OBJ needs. NULL: it has no host, is being deleted, or names no Secret. */
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

static bool grant_is_ours(const struct api_meta *m) {
	return streq(api_map_get(&m->labels, ROLES_SECRETS_LABEL), ROLES_SECRETS_VALUE);
}

/* The key of a Role of ours. NULL: it isn't. */
static const char *secrets_role_key(const void *obj, char buf[static KUBE_KEY_MAX]) {
	const struct api_meta *m = obj;
	const char *host = api_map_get(&m->annotations, ROLES_SECRETS_HOST);
	char name[ROLES_NAME_MAX];
	return host && grant_is_ours(m) ? kube_key(m->ns, roles_secrets_name(host, name), buf) : NULL;
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

static void grant_print_meta(struct buf *b, const char *ns, const char *name, const char *host) {
	jw_key(b, "metadata");
	jw_begin(b, '{');
	jw_kv_string(b, "namespace", ns);
	jw_kv_string(b, "name", name);
	jw_key(b, "labels");
	jw_begin(b, '{');
	jw_kv_string(b, ROLES_SECRETS_LABEL, ROLES_SECRETS_VALUE);
	jw_end(b, '}');
	jw_key(b, "annotations");
	jw_begin(b, '{');
	jw_kv_string(b, ROLES_SECRETS_HOST, host);
	jw_end(b, '}');
	jw_end(b, '}');
}

/* Makes a new object. ROLE: the Role of a RoleBinding; NULL: a Role. Returns NULL on failure, and then W has failed. */
static void *grant_make(struct work *w, const char *ns, const char *name, const char *role, const struct grant *g) {
	_buf_free_ struct buf b = {0};
	struct api_errors errs = {0};
	void *obj = NULL;
	jw_begin(&b, '{');
	grant_print_meta(&b, ns, name, g->host);
	if (role) {
		grant_print_subjects(&b, g);
		jw_key(&b, "roleRef");
		jw_begin(&b, '{');
		jw_kv_string(&b, "apiGroup", RBAC_GROUP);
		jw_kv_string(&b, "kind", "Role");
		jw_kv_string(&b, "name", role);
		jw_end(&b, '}');
	} else
		grant_print_rules(&b, g);
	jw_end(&b, '}');
	if (b.failed || api_parse(role ? &api_kind_rolebinding : &api_kind_role, b.data, b.len, &obj, &errs) < 0)
		work_fail_oom(w); /* what is printed here is valid */
	return obj;
}

/* ---- the Role ---- */

static void *grant_make_role(struct work *w, const char *ns, const struct grant *g) {
	char name[ROLES_NAME_MAX];
	uint64_t random[2];
	random_bytes(random, sizeof(random));
	snprintf(name, sizeof(name), ROLES_SECRETS "%.200s-%016llx%016llx", g->host, (unsigned long long)random[0],
	         (unsigned long long)random[1]);
	return grant_make(w, ns, name, NULL, g);
}

static bool grant_has_rules(const struct role *is, const struct role *want) {
	bool equal = is->rules.n == want->rules.n;
	for (size_t i = 0; equal && i < is->rules.n; i++)
		equal = api_equal(&api_desc_policy_rule, &is->rules.v[i], &want->rules.v[i]);
	return equal;
}

/* A Role under the key with the rules of WANT: the one that BOUND names, if it has them. NULL: none. */
static const struct role *grant_find_role(const struct work *w, const struct role *want,
                                          const struct role_binding *bound) {
	const struct kube_index *roles = secrets_of(work_controller(w))->roles;
	const struct role *r, *found = NULL;
	for (r = kube_index_first(roles, work_key(w)); r; r = kube_index_next(roles, work_key(w), r))
		if (!r->meta.deletion_timestamp && grant_has_rules(r, want) &&
		    (!found || (bound && streq(r->meta.name, bound->role.name))))
			found = r;
	return found;
}

/* Deletes all other Roles under the key, a few at a time. */
static void grant_remove_roles(struct work *w, const struct role *but) {
	const struct kube_index *roles = secrets_of(work_controller(w))->roles;
	const struct role *r;
	for (r = kube_index_first(roles, work_key(w)); r; r = kube_index_next(roles, work_key(w), r)) {
		if (r == but || r->meta.deletion_timestamp)
			continue;
		if (work_room(w) <= 2) {
			work_again(w, 0);
			return;
		}
		work_delete(w, &api_kind_role, &r->meta);
	}
}

/* ---- the RoleBinding ---- */

static void grant_say_blocked(struct work *w, const struct role_binding *b) {
	struct controller *c = work_controller(w);
	const struct kube_index *users = secrets_of(c)->users;
	const struct instance *i;
	for (i = kube_index_first(users, work_key(w)); i; i = kube_index_next(users, work_key(w), i))
		kube_event(controller_recorder(c), &api_kind_instance, i, KUBE_EVENT_WARNING, "SecretForbidden",
		           "the host's agent can't be allowed to get the Secrets: RoleBinding `%s`, which is being "
		           "deleted, is kept by a finalizer: remove the finalizer",
		           b->meta.name);
}

static void grant_patch_binding(struct work *w, const struct role_binding *is, const struct grant *g) {
	_buf_free_ struct buf patch = {0};
	jw_begin(&patch, '{');
	jw_key(&patch, "metadata");
	jw_begin(&patch, '{');
	jw_kv_string(&patch, "uid", is->meta.uid);
	jw_kv_string(&patch, "resourceVersion", is->meta.resource_version); /* another write makes this a lost race */
	jw_key(&patch, "labels");
	jw_begin(&patch, '{');
	jw_kv_string(&patch, ROLES_SECRETS_LABEL, ROLES_SECRETS_VALUE);
	jw_end(&patch, '}');
	jw_end(&patch, '}');
	grant_print_subjects(&patch, g);
	jw_end(&patch, '}');
	work_patch(w, &api_kind_rolebinding, &is->meta, &patch);
}

static void grant_bind(struct work *w, const struct role_binding *is, const struct role_binding *want,
                       const struct grant *g) {
	if (!is)
		work_create(w, &api_kind_rolebinding, want, WORK_NO_THEN);
	else if (is->meta.deletion_timestamp)
		grant_say_blocked(w, is);
	else if (!api_equal(&api_desc_role_ref, &is->role, &want->role))
		work_delete(w, &api_kind_rolebinding, &is->meta); /* the deletion causes the next look */
	else if (!grant_is_ours(&is->meta) || is->subjects.n != 1 ||
	         !api_equal(&api_desc_subject, &is->subjects.v[0], &want->subjects.v[0]))
		grant_patch_binding(w, is, g);
}

static void grant_ensure(struct work *w, const char *ns, const char *name, const struct role_binding *is,
                         const struct grant *g) {
	struct role *want = grant_make_role(w, ns, g);
	if (!want)
		return;
	const struct role *role = grant_find_role(w, want, is);
	grant_remove_roles(w, role);
	if (role) {
		struct role_binding *binding = grant_make(w, ns, name, role->meta.name, g);
		if (binding)
			grant_bind(w, is, binding, g);
		api_free(&api_kind_rolebinding, binding);
	} else /* the server looks into the Role when the RoleBinding is written, so the Role comes first */
		work_create(w, &api_kind_role, want, WORK_NO_THEN);
	api_free(&api_kind_role, want);
}

static void secrets_reconcile(struct work *w, const void *obj) {
	const struct api_meta *is = obj;
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
	if (g.host) {
		grant_ensure(w, ns, name, obj, &g);
	} else {
		if (is && grant_is_ours(is) && !is->deletion_timestamp)
			work_delete(w, &api_kind_rolebinding, is);
		grant_remove_roles(w, NULL);
	}
	free(g.names);
}

/* ---- ---- */

/* KEY may be NULL. */
static void secrets_enqueue_key(struct controller *c, const char *key) {
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	if (!key)
		return;
	kube_key_split(key, buf, &ns, &name);
	concern_enqueue(c, &concern_secrets, ns, name);
}

static void secrets_enqueue(struct controller *c, const struct instance *i) {
	char key[KUBE_KEY_MAX];
	secrets_enqueue_key(c, secrets_key(i, key));
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

static void secrets_role_changed(struct controller *c, const struct kube_change *ch) {
	char key[KUBE_KEY_MAX];
	if (ch->old)
		secrets_enqueue_key(c, secrets_role_key(ch->old, key));
	if (ch->obj)
		secrets_enqueue_key(c, secrets_role_key(ch->obj, key));
}

/* All RoleBindings are queued when the controller begins to act, but not those that are missing. */
static void secrets_started(struct controller *c) {
	char key[KUBE_KEY_MAX];
	const struct instance *i;
	const struct role *r;
	KUBE_CACHE_FOREACH(i, controller_cache(c, &api_kind_instance))
	secrets_enqueue(c, i);
	KUBE_CACHE_FOREACH(r, controller_cache(c, &api_kind_role))
	secrets_enqueue_key(c, secrets_role_key(r, key));
}

static int secrets_open(struct controller *c, _unused_ const struct controller_options *o, void **ret,
                        struct error *err) {
	struct secrets *s = calloc(1, sizeof(*s));
	if (!s)
		return error_oom(err);
	*ret = s;
	int r = kube_index_new(&s->users, controller_cache(c, &api_kind_instance), secrets_key, err);
	return r < 0 ? r : kube_index_new(&s->roles, controller_cache(c, &api_kind_role), secrets_role_key, err);
}

static void secrets_close(void *state) {
	struct secrets *s = state;
	kube_index_free(s->users);
	kube_index_free(s->roles);
	free(s);
}

const struct concern concern_secrets = {
	.name = "secrets",
	.kind = &api_kind_rolebinding,
	.watches = {{.kind = &api_kind_role, .changed = secrets_role_changed},
                    {.kind = &api_kind_instance, .changed = secrets_instance_changed}},
	.open = secrets_open,
	.reconcile = secrets_reconcile,
	.started = secrets_started,
	.close = secrets_close,
};
