/* SPDX-License-Identifier: Apache-2.0 */
#include "api/roles.h"

#include <string.h>

#include "api/rbac.h"
#include "api/schema.h"
#include "base/hash.h"
#include "base/util.h"

#define LABEL "rbac.authorization.k8s.io/aggregate-to-"

/* Lists are words. A rule for URLs has no groups and resources. */
struct rule {
	const char *groups, *resources, *verbs, *urls;
};

struct default_role {
	const char *name;
	const char *ns;            /* namespace of a Role; NULL: a ClusterRole */
	enum access_role role;     /* gets what the kinds grant to this role (for a Role: in NS); 0: nothing */
	enum access_role includes; /* gets the grants of this role, too; 0: none */
	const char *aggregated_to; /* the role that aggregates these rules, or NULL */
	const char *aggregates;    /* aggregates the rules of the roles labelled for this name, or NULL */
	const char *groups;        /* groups that are granted the role, or NULL; names with blanks are not possible */
	const char *user;
	struct rule rules[3]; /* for resources that are no kinds in api_kinds */
};

static const struct default_role nacre_roles[] = {
	/* ---- programs ---- */
	{.name = ROLES_CONTROLLER, .role = ACCESS_CONTROLLER, .user = ROLES_CONTROLLER},
	{.name = ROLES_CONTROLLER, .ns = ROLES_SYSTEM_NS, .role = ACCESS_CONTROLLER, .user = ROLES_CONTROLLER},
	/*
         * Which objects are a host's own is decided by nacre-apiserver itself; elsewhere by the policy of admission.h.
         */
	{.name = ROLES_HOSTS, .role = ACCESS_HOSTS, .groups = ROLES_HOSTS},
	{.name = ROLES_HOSTS, .ns = ROLES_SYSTEM_NS, .role = ACCESS_HOSTS, .groups = ROLES_HOSTS},
	{.name = ROLES_EDGES, .role = ACCESS_EDGES, .groups = ROLES_EDGES},
	{.name = ROLES_EDGES, .ns = ROLES_SYSTEM_NS, .role = ACCESS_EDGES, .groups = ROLES_EDGES},
	{.name = ROLES_BALANCERS, .role = ACCESS_BALANCERS, .groups = ROLES_BALANCERS},
	{.name = ROLES_BALANCERS, .ns = ROLES_SYSTEM_NS, .role = ACCESS_BALANCERS, .groups = ROLES_BALANCERS},
	/* ---- tenants ---- */
	{.name = "nacre:view", .role = ACCESS_TENANT_VIEW, .aggregated_to = "view"},
	/* This role suffices for a tenant's instances, even where no server aggregates roles. */
	{.name = "nacre:edit", .role = ACCESS_TENANT_EDIT, .includes = ACCESS_TENANT_VIEW, .aggregated_to = "edit"},
	/* The kinds from which all tenants may choose. */
	{.name = "nacre:catalog", .role = ACCESS_EVERYBODY, .groups = "system:authenticated"},
};

static const struct default_role kubernetes_roles[] = {
	{.name = "cluster-admin", .groups = "system:masters", .rules = {{"*", "*", "*"}, {NULL, NULL, "*", "*"}}},
	{.name = "admin", .aggregates = "admin"},
	{.name = "edit", .aggregates = "edit", .aggregated_to = "admin"},
	{.name = "view", .aggregates = "view", .aggregated_to = "edit"},
	{.name = "system:aggregate-to-admin",
         .role = ACCESS_KUBE_ADMIN,
         .aggregated_to = "admin",
         .rules = {{"authorization.k8s.io", "localsubjectaccessreviews", "create"}}},
	{.name = "system:aggregate-to-edit", .role = ACCESS_KUBE_EDIT, .aggregated_to = "edit"},
	{.name = "system:aggregate-to-view", .role = ACCESS_KUBE_VIEW, .aggregated_to = "view"},
	{.name = "system:discovery",
         .groups = "system:authenticated",
         .rules = {{NULL, NULL, "get",
                    "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*"},
                   /* These only show what OpenAPI shows as well. */
                   {"apiextensions.k8s.io", "customresourcedefinitions", "get list"}}},
	{.name = "system:basic-user",
         .groups = "system:authenticated",
         .rules = {{"authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", "create"},
                   {"authentication.k8s.io", "selfsubjectreviews", "create"}}},
	{.name = "system:public-info-viewer",
         .groups = "system:authenticated system:unauthenticated",
         .rules = {{NULL, NULL, "get", "/livez /readyz /healthz /version /version/"}}},
	{.name = "system:monitoring",
         .groups = "system:monitoring",
         .rules = {{NULL, NULL, "get", "/metrics /livez /livez/* /readyz /readyz/* /healthz /healthz/*"}}},
};

/* Returns the first default role with the grants of ROLE. */
const char *roles_name(enum access_role role) {
	for (size_t i = 0; i < ARRAY_SIZE(nacre_roles); i++)
		if (nacre_roles[i].role == role)
			return nacre_roles[i].name;
	for (size_t i = 0; i < ARRAY_SIZE(kubernetes_roles); i++)
		if (kubernetes_roles[i].role == role)
			return kubernetes_roles[i].name;
	return "";
}

const char *roles_secrets_name(const char *host, char out[static ROLES_NAME_MAX]) {
	const size_t n = strlen(host), room = ROLES_NAME_MAX - sizeof(ROLES_SECRETS);
	if (n <= room)
		snprintf(out, ROLES_NAME_MAX, ROLES_SECRETS "%s", host);
	else
		snprintf(out, ROLES_NAME_MAX, ROLES_SECRETS "%.*s_%016llx", (int)room - 17, host,
		         (unsigned long long)fnv1a(FNV1A_BASIS, host, n));
	return out;
}

/* A list of the words; NULL if TEXT is NULL. */
static json_t *words(const char *text) {
	json_t *list = text ? json_array() : NULL;
	const char *w;
	for (size_t n; (w = access_next_word(&text, &n));)
		json_array_append_new(list, json_stringn(w, n));
	return list;
}

static json_t *metadata(const struct default_role *d, bool binding, bool all) {
	char label[96];
	json_t *labels = json_object();
	if (all)
		json_object_set_new(labels, "kubernetes.io/bootstrapping", json_string("rbac-defaults"));
	if (!binding && d->aggregated_to) {
		snprintf(label, sizeof(label), LABEL "%s", d->aggregated_to);
		json_object_set_new(labels, label, json_string("true"));
	}
	json_t *m = json_pack("{s:s, s:s*, s:{s:s}}", "name", d->name, "namespace", d->ns, "annotations",
	                      ROLES_AUTOUPDATE, "true");
	if (json_object_size(labels) && m)
		json_object_set(m, "labels", labels);
	json_decref(labels);
	return m;
}

struct granted {
	const struct default_role *role;
	json_t *rules;
};

/* Returns the rule for resources of GROUP with these verbs; resources with the same verbs share a rule. */
static json_t *rule_for(json_t *rules, const char *group, json_t *verbs) {
	size_t i;
	json_t *rule;
	json_array_foreach(rules, i, rule) {
		const char *has = json_string_value(json_array_get(json_object_get(rule, "apiGroups"), 0));
		if (has && strcmp(has, group) == 0 && json_equal(json_object_get(rule, "verbs"), verbs))
			return rule;
	}
	rule = json_pack("{s:[s], s:[], s:O}", "apiGroups", group, "resources", "verbs", verbs);
	json_array_append_new(rules, rule);
	return rule;
}

static void add_grant(const struct api_kind *k, const struct access_grant *g, void *userdata) {
	const struct granted *to = userdata;
	const struct default_role *d = to->role;
	const bool same_ns = g->ns && d->ns ? strcmp(g->ns, d->ns) == 0 : g->ns == d->ns;
	if ((g->role != d->role && g->role != d->includes) || !same_ns)
		return;
	json_t *verbs = words(g->verbs);
	json_t *rule = rule_for(to->rules, k->group, verbs);
	const char *parts = g->parts, *part;
	for (size_t n; (part = access_next_word(&parts, &n));) {
		const bool itself = n == 1 && *part == '.';
		json_array_append_new(
			json_object_get(rule, "resources"),
			json_sprintf("%s%s%.*s", k->plural, itself ? "" : "/", itself ? 0 : (int)n, part));
	}
	json_decref(verbs);
}

static json_t *role_of(const struct default_role *d, bool all) {
	char label[96];
	json_t *rules = json_array(), *aggregation = NULL;
	struct granted to = {d, rules};
	for (const struct api_kind *const *k = api_kinds; *k; k++)
		access_each_grant(*k, add_grant, &to);
	for (size_t i = 0; i < ARRAY_SIZE(d->rules) && d->rules[i].verbs; i++) {
		const struct rule *r = &d->rules[i];
		json_array_append_new(rules, json_pack("{s:o*, s:o*, s:o*, s:o*}", "apiGroups", words(r->groups),
		                                       "resources", words(r->resources), "nonResourceURLs",
		                                       words(r->urls), "verbs", words(r->verbs)));
	}
	if (d->aggregates) {
		snprintf(label, sizeof(label), LABEL "%s", d->aggregates);
		aggregation = json_pack("{s:[{s:{s:s}}]}", "clusterRoleSelectors", "matchLabels", label, "true");
	}
	return json_pack("{s:s, s:s, s:o, s:o*, s:o}", "apiVersion", RBAC_GROUP "/v1", "kind",
	                 d->ns ? "Role" : "ClusterRole", "metadata", metadata(d, false, all), "aggregationRule",
	                 aggregation, "rules", rules);
}

static json_t *binding_of(const struct default_role *d, bool all) {
	size_t i;
	json_t *subjects = json_array(), *groups = words(d->groups), *g;
	json_array_foreach(groups, i, g) json_array_append_new(
		subjects, json_pack("{s:s, s:s, s:O}", "apiGroup", RBAC_GROUP, "kind", "Group", "name", g));
	if (d->user)
		json_array_append_new(subjects, json_pack("{s:s, s:s, s:s}", "apiGroup", RBAC_GROUP, "kind", "User",
		                                          "name", d->user));
	json_decref(groups);
	return json_pack("{s:s, s:s, s:o, s:{s:s, s:s, s:s}, s:o}", "apiVersion", RBAC_GROUP "/v1", "kind",
	                 d->ns ? "RoleBinding" : "ClusterRoleBinding", "metadata", metadata(d, true, all), "roleRef",
	                 "apiGroup", RBAC_GROUP, "kind", d->ns ? "Role" : "ClusterRole", "name", d->name, "subjects",
	                 subjects);
}

static int add_roles(json_t *list, const struct default_role *v, size_t n, bool all) {
	int r = 0;
	for (size_t i = 0; i < n; i++) {
		r |= json_array_append_new(list, role_of(&v[i], all));
		if (v[i].groups || v[i].user)
			r |= json_array_append_new(list, binding_of(&v[i], all));
	}
	return r;
}

json_t *roles_defaults(bool all) {
	json_t *list = json_array();
	int r = list ? add_roles(list, nacre_roles, ARRAY_SIZE(nacre_roles), all) : -1;
	if (r == 0 && all)
		r = add_roles(list, kubernetes_roles, ARRAY_SIZE(kubernetes_roles), all);
	if (r == 0)
		return list;
	json_decref(list);
	return NULL;
}

int roles_yaml(struct buf *out, struct error *err) {
	size_t i;
	json_t *v, *list = roles_defaults(false);
	if (!list || json_array_insert_new(list, 0,
	                                   json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Namespace",
	                                             "metadata", "name", ROLES_SYSTEM_NS)) < 0) {
		json_decref(list);
		return error_oom(err);
	}
	buf_puts(out, "# Made by `nacre rbac`: the rights of Nacre's programs and tenants on a Kubernetes API.\n");
	json_array_foreach(list, i, v) {
		buf_puts(out, "---\n");
		api_yaml(out, v);
	}
	json_decref(list);
	return buf_error(out, "the roles", err);
}
