/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/rbac.h"

#include <string.h>

#include "base/tree.h"
#include "base/util.h"

struct entry {
	RB_ENTRY(entry) node;
	char *ns, *name; /* ns is "" for a ClusterRole or ClusterRoleBinding */
	const struct api_kind *kind;
	union {
		void *obj;
		struct role *role;
		struct role_binding *binding;
	};
	struct grant *grants; /* of a binding: one for each different subject */
	size_t n_grants;
};

/* A subject that has the role of a binding, in the namespace of that binding. */
struct grant {
	RB_ENTRY(grant) node;
	char *who; /* "u:NAME" or "g:NAME" */
	const struct entry *of;
	size_t index; /* index into the binding's subjects */
};

RB_HEAD(entry_tree, entry);
RB_HEAD(grant_tree, grant);

struct rbac {
	struct entry_tree roles, bindings;
	struct grant_tree grants;
};

static int entry_cmp(struct entry *a, struct entry *b) {
	int c = strcmp(a->ns, b->ns);
	return c ? c : strcmp(a->name, b->name);
}

static int grant_cmp(struct grant *a, struct grant *b) {
	int c = strcmp(a->who, b->who);
	if (c == 0)
		c = strcmp(a->of->ns, b->of->ns);
	/* Bindings to the same role are neighbours, so that the role's rules are visited only once. */
	if (c == 0)
		c = strcmp(a->of->binding->role.kind, b->of->binding->role.kind);
	if (c == 0)
		c = strcmp(a->of->binding->role.name, b->of->binding->role.name);
	/* A key without a name sorts before all others and finds the first. */
	return c ? c : strcmp(a->of->name, b->of->name);
}

RB_GENERATE_INTERNAL(entry_tree, entry, node, entry_cmp, _unused_ static)
RB_GENERATE_INTERNAL(grant_tree, grant, node, grant_cmp, _unused_ static)

/* ---- the index ---- */

static struct entry *entry_free(struct entry *e) {
	if (!e)
		return NULL;
	for (size_t i = 0; i < e->n_grants; i++)
		free(e->grants[i].who);
	free(e->grants);
	api_free(e->kind, e->obj);
	free(e->ns);
	free(e->name);
	free(e);
	return NULL;
}

static char *subject_key(const struct subject *s, const char *ns) {
	if (streq(s->kind, "User"))
		return strf("u:%s", s->name);
	if (streq(s->kind, "Group"))
		return strf("g:%s", s->name);
	return strf("u:" USER_ACCOUNT_PREFIX "%s:%s", s->ns && *s->ns ? s->ns : ns, s->name);
}

static int grant_sort(const void *a, const void *b) {
	const struct grant *x = a, *y = b;
	int c = strcmp(x->who, y->who);
	return c ? c : (x->index > y->index) - (x->index < y->index);
}

/* Makes one grant for each subject, even if the binding names it twice. */
static int make_grants(struct entry *e) {
	const struct role_binding *b = e->binding;
	e->grants = calloc(b->subjects.n + 1, sizeof(*e->grants));
	if (!e->grants)
		return -ENOMEM;
	for (size_t i = 0; i < b->subjects.n; i++) {
		struct grant *g = &e->grants[e->n_grants];
		*g = (struct grant){.who = subject_key(&b->subjects.v[i], e->ns), .of = e, .index = i};
		if (!g->who)
			return -ENOMEM;
		e->n_grants++;
	}
	qsort(e->grants, e->n_grants, sizeof(*e->grants), grant_sort);
	size_t n = 0;
	for (size_t i = 0; i < e->n_grants; i++)
		if (n && streq(e->grants[n - 1].who, e->grants[i].who))
			free(e->grants[i].who);
		else
			e->grants[n++] = e->grants[i];
	e->n_grants = n;
	return 0;
}

static bool is_role(const struct api_kind *k) {
	return k == &api_kind_role || k == &api_kind_clusterrole;
}

static bool is_binding(const struct api_kind *k) {
	return k == &api_kind_rolebinding || k == &api_kind_clusterrolebinding;
}

static void drop(struct rbac *b, const struct api_kind *k, const char *ns, const char *name) {
	struct entry want = {.ns = (char *)ns, .name = (char *)name};
	struct entry_tree *tree = is_role(k) ? &b->roles : &b->bindings;
	struct entry *e = RB_FIND(entry_tree, tree, &want);
	if (!e)
		return;
	RB_REMOVE(entry_tree, tree, e);
	for (size_t i = 0; i < e->n_grants; i++)
		RB_REMOVE(grant_tree, &b->grants, &e->grants[i]);
	entry_free(e);
}

static int rbac_add(struct rbac *b, const struct api_kind *k, const char *ns, const char *name,
                    const struct blob *value) {
	struct api_errors errs = {0};
	struct entry *e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->kind = k;
	e->ns = strdup(ns);
	e->name = strdup(name);
	/* An object from an older server that this server can't parse grants no rights. */
	int r = e->ns && e->name ? api_parse(k, value->data, value->len, &e->obj, &errs) : -ENOMEM;
	if (r == 0 && is_binding(k))
		r = make_grants(e);
	if (r < 0) {
		entry_free(e);
		return r == -ENOMEM ? r : 0;
	}
	RB_INSERT(entry_tree, is_role(k) ? &b->roles : &b->bindings, e);
	for (size_t i = 0; i < e->n_grants; i++)
		RB_INSERT(grant_tree, &b->grants, &e->grants[i]);
	return 0;
}

bool rbac_notice(struct rbac *b, unsigned kind, const struct watch_event *e) {
	const struct api_kind *k = api_kinds[kind];
	if (!is_role(k) && !is_binding(k))
		return true;
	drop(b, k, e->ns, e->name);
	return e->type == EVENT_DELETED || rbac_add(b, k, e->ns, e->name, e->value) == 0;
}

int rbac_new(struct rbac **ret, const struct store *store, struct error *err) {
	struct rbac *b = calloc(1, sizeof(*b));
	if (!b)
		return error_oom(err);
	for (unsigned i = 0; api_kinds[i]; i++) {
		if (!is_role(api_kinds[i]) && !is_binding(api_kinds[i]))
			continue;
		for (const struct object *o = store_seek(store, i, "", ""); o; o = store_next(store, i, o))
			if (rbac_add(b, api_kinds[i], o->ns, o->name, o->value) < 0) {
				rbac_free(b);
				return error_oom(err);
			}
	}
	*ret = b;
	return 0;
}

struct rbac *rbac_free(struct rbac *b) {
	struct entry *e, *next;
	if (!b)
		return NULL;
	RB_FOREACH_SAFE (e, entry_tree, &b->bindings, next) {
		RB_REMOVE(entry_tree, &b->bindings, e);
		entry_free(e);
	}
	RB_FOREACH_SAFE (e, entry_tree, &b->roles, next) {
		RB_REMOVE(entry_tree, &b->roles, e);
		entry_free(e);
	}
	free(b);
	return NULL;
}

/* ---- rules ---- */

static bool has(char *const *v, size_t n, const char *s) {
	for (size_t i = 0; i < n; i++)
		if (streq(v[i], "*") || streq(v[i], s))
			return true;
	return false;
}

static bool resource_matches(const char *rule, const struct authz_attributes *a) {
	size_t n = strlen(a->resource);
	if (streq(rule, "*"))
		return true;
	if (!*a->subresource)
		return streq(rule, a->resource);
	if (strncmp(rule, "*/", 2) == 0)
		return streq(rule + 2, a->subresource);
	return strncmp(rule, a->resource, n) == 0 && rule[n] == '/' && streq(rule + n + 1, a->subresource);
}

static bool url_matches(const char *rule, const char *path) {
	size_t n = strlen(rule);
	if (streq(rule, path))
		return true;
	if (n == 0 || rule[n - 1] != '*')
		return false;
	while (n && rule[n - 1] == '*')
		n--;
	return strncmp(rule, path, n) == 0;
}

bool rule_allows(const struct policy_rule *p, const struct authz_attributes *a) {
	bool found = false;
	if (!has(p->verbs.v, p->verbs.n, a->verb))
		return false;
	if (a->path) {
		for (size_t i = 0; !found && i < p->urls.n; i++)
			found = url_matches(p->urls.v[i], a->path);
		return found;
	}
	if (!has(p->groups.v, p->groups.n, a->group))
		return false;
	for (size_t i = 0; !found && i < p->resources.n; i++)
		found = resource_matches(p->resources.v[i], a);
	if (!found || p->names.n == 0)
		return found;
	for (size_t i = 0; i < p->names.n; i++)
		if (streq(p->names.v[i], a->name))
			return true;
	return false;
}

/* ---- the rights of a user ---- */

const struct role *rbac_role(const struct rbac *b, const char *ns, const struct role_ref *ref) {
	struct entry want = {.ns = streq(ref->kind, "Role") ? (char *)ns : "", .name = ref->name};
	struct entry *e = RB_FIND(entry_tree, (struct entry_tree *)&b->roles, &want);
	return e ? e->role : NULL;
}

/* The work of looking up the role of a binding. */
#define ROLE_WORK 8

struct visit {
	const struct rbac *rbac;
	bool (*rule)(const struct policy_rule *p, const struct rbac_source *from, void *userdata);
	void *userdata;
	struct buf *missing;
	size_t *work;
};

static bool visit_grant(const struct visit *v, const struct grant *g) {
	const struct role_binding *b = g->of->binding;
	const struct rbac_source from = {b, g->of->ns, &b->subjects.v[g->index]};
	const struct role *r = rbac_role(v->rbac, g->of->ns, &b->role);
	*v->work += ROLE_WORK;
	if (!r) {
		if (v->missing)
			buf_printf(v->missing, "%s%s.%s \"%s\" not found", v->missing->len ? ", " : "",
			           streq(b->role.kind, "Role") ? "role" : "clusterrole", RBAC_GROUP, b->role.name);
		return false;
	}
	for (size_t i = 0; i < r->rules.n && ++*v->work <= RBAC_WORK_MAX; i++)
		if (v->rule(&r->rules.v[i], &from, v->userdata))
			return true;
	return false;
}

static bool same_role(const struct grant *a, const struct grant *b) {
	const struct role_ref *x = &a->of->binding->role, *y = &b->of->binding->role;
	return streq(x->kind, y->kind) && streq(x->name, y->name);
}

static bool visit_subject(const struct visit *v, const char *type, const char *name, const char *ns) {
	_free_ char *who = strf("%s%s", type, name);
	struct role_binding none = {.role = {.kind = "", .name = ""}};
	const struct entry first = {.ns = (char *)ns, .name = "", .binding = &none};
	struct grant want = {.who = who, .of = &first};
	struct grant *g = who ? RB_NFIND(grant_tree, (struct grant_tree *)&v->rbac->grants, &want) : NULL;
	const struct grant *last = NULL;
	for (; g && streq(g->who, who) && streq(g->of->ns, ns) && ++*v->work <= RBAC_WORK_MAX;
	     g = RB_NEXT(grant_tree, NULL, g)) {
		if (!(last && same_role(last, g)) && visit_grant(v, g))
			return true;
		last = g;
	}
	return false;
}

bool rbac_visit(const struct rbac *b, const struct user *u, const char *ns,
                bool (*rule)(const struct policy_rule *p, const struct rbac_source *from, void *userdata),
                void *userdata, struct buf *missing, size_t *work) {
	const struct visit v = {b, rule, userdata, missing, work};
	const char *const scopes[] = {"", ns};
	for (size_t i = 0; i < (*ns ? 2 : 1); i++) {
		if (visit_subject(&v, "u:", u->name, scopes[i]))
			return true;
		for (size_t j = 0; j < u->n_groups; j++)
			if (visit_subject(&v, "g:", u->groups[j], scopes[i]))
				return true;
	}
	return false;
}

struct check {
	const struct authz_attributes *a;
	struct buf *why;
	size_t work;
};

size_t rule_size(const struct policy_rule *p) {
	return p->verbs.n + p->groups.n + p->resources.n + p->names.n + p->urls.n;
}

static bool check_rule(const struct policy_rule *p, const struct rbac_source *from, void *userdata) {
	struct check *c = userdata;
	c->work += rule_size(p);
	if (!rule_allows(p, c->a))
		return false;
	const struct subject *s = from->subject;
	const struct role_ref *r = &from->binding->role;
	bool account = streq(s->kind, "ServiceAccount");
	if (c->why) {
		c->why->len = 0;
		buf_printf(c->why, "RBAC: allowed by %s \"%s%s%s\" of %s \"%s\" to %s \"%s%s%s\"",
		           *from->ns ? "RoleBinding" : "ClusterRoleBinding", from->binding->meta.name,
		           *from->ns ? "/" : "", from->ns, r->kind, r->name, s->kind, s->name, account ? "/" : "",
		           !account          ? ""
		           : s->ns && *s->ns ? s->ns
		                             : from->ns);
	}
	return true;
}

bool rbac_allows(const struct rbac *b, const struct user *u, const struct authz_attributes *a, struct buf *why) {
	_buf_free_ struct buf missing = {.max = 1024};
	struct check c = {a, why, 0};
	if (rbac_visit(b, u, a->path ? "" : a->ns, check_rule, &c, why ? &missing : NULL, &c.work))
		return true;
	if (c.work > RBAC_WORK_MAX && why) {
		buf_puts(why, RBAC_TOO_MUCH);
		return false;
	}
	if (missing.len)
		buf_printf(why, "RBAC: %s", missing.data);
	return false;
}
