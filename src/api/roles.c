/* SPDX-License-Identifier: Apache-2.0 */
#include "api/roles.h"

#include <string.h>

#include "api/rbac.h"
#include "api/schema.h"
#include "base/util.h"

#define READ  "get list watch"
#define WRITE "create update patch delete deletecollection"
#define NACRE "nacre.dev"
#define TENANT_READS \
	"instances instances/status clusters clusters/status clusters/scale tenantquotas tenantquotas/status"
#define LABEL "rbac.authorization.k8s.io/aggregate-to-"

/* Lists are words; the core group is "core". A rule of URLs has no groups and resources. */
struct rule {
	const char *groups, *resources, *verbs, *urls;
};

struct default_role {
	const char *name;
	const char *ns;            /* a Role there; NULL: a ClusterRole */
	const char *aggregated_to; /* the role that takes these rules in, or NULL */
	const char *aggregates;    /* takes in the rules of roles made for this one, or NULL */
	const char *groups;        /* whom it is given, or NULL; a name with blanks there is none */
	const char *user;
	struct rule rules[10];
};

static const struct default_role nacre_roles[] = {
	/* ---- programs ---- */
	{.name = ROLES_CONTROLLER,
         .user = ROLES_CONTROLLER,
         .rules = {{NACRE, "instances clusters allocations addresspools instancetypes hosts endpoints tenantquotas",
                    READ},
                   {NACRE, "instances clusters addresspools", "update patch"}, /* finalizers */
                   {NACRE, "instances/finalizers clusters/finalizers addresspools/finalizers", "update"},
                   {NACRE, "instances", "create delete"}, /* members of clusters */
                   {NACRE, "allocations", "create update patch delete"},
                   {NACRE, "endpoints", "delete"},
                   {NACRE,
                    "instances/status clusters/status allocations/status addresspools/status hosts/status "
                    "tenantquotas/status",
                    "get update patch"},
                   {"core", "events", "create update patch"}}},
	{.name = ROLES_CONTROLLER,
         .ns = ROLES_SYSTEM_NS,
         .user = ROLES_CONTROLLER,
         .rules = {{"coordination.k8s.io", "leases", READ " create update patch delete"}}},
	/* What of these is a host's own is told by its name: nacre-apiserver itself, deploy/admission.yaml elsewhere.
         */
	{.name = ROLES_HOSTS,
         .groups = ROLES_HOSTS,
         .rules = {{NACRE, "instances images", READ},
                   {NACRE, "instances/status", "get update patch"},
                   {NACRE, "hosts", READ " create update patch"},
                   {NACRE, "hosts/status", "get update patch"},
                   {NACRE, "endpoints", READ " create update patch delete"},
                   {"core", "events", "create update patch"}}},
	{.name = ROLES_HOSTS,
         .ns = ROLES_SYSTEM_NS,
         .groups = ROLES_HOSTS,
         .rules = {{"coordination.k8s.io", "leases", "get create update patch"}}},
	{.name = ROLES_EDGES,
         .groups = ROLES_EDGES,
         .rules = {{NACRE, "edgepeers addresspools", READ},
                   {NACRE, "edgepeers/status", "get update patch"},
                   {NACRE, "hosts", READ " create update patch"},
                   {NACRE, "hosts/status", "get update patch"},
                   {NACRE, "endpoints", READ " create update patch delete"},
                   {"core", "events", "create update patch"}}},
	{.name = ROLES_EDGES,
         .ns = ROLES_SYSTEM_NS,
         .groups = ROLES_EDGES,
         .rules = {{"coordination.k8s.io", "leases", "get create update patch"}}},
	/* ---- tenants ---- */
	{.name = "nacre:view", .aggregated_to = "view", .rules = {{NACRE, TENANT_READS, READ}}},
	/* By itself it is all that a tenant needs for instances, also where nobody aggregates roles. */
	{.name = "nacre:edit",
         .aggregated_to = "edit",
         .rules = {{NACRE, TENANT_READS, READ},
                   {NACRE, "instances clusters", WRITE},
                   {NACRE, "clusters/scale", "update patch"},
                   {"core", "events", READ}}},
	/* What all tenants may choose from. */
	{.name = "nacre:catalog", .groups = "system:authenticated", .rules = {{NACRE, "instancetypes images", READ}}},
};

static const struct default_role kubernetes_roles[] = {
	{.name = "cluster-admin", .groups = "system:masters", .rules = {{"*", "*", "*"}, {NULL, NULL, "*", "*"}}},
	{.name = "admin", .aggregates = "admin"},
	{.name = "edit", .aggregates = "edit", .aggregated_to = "admin"},
	{.name = "view", .aggregates = "view", .aggregated_to = "edit"},
	{.name = "system:aggregate-to-admin",
         .aggregated_to = "admin",
         .rules = {{"authorization.k8s.io", "localsubjectaccessreviews", "create"},
                   {RBAC_GROUP, "roles rolebindings", READ " " WRITE}}},
	{.name = "system:aggregate-to-edit",
         .aggregated_to = "edit",
         .rules = {{"core", "secrets", READ},
                   {"core", "serviceaccounts", "impersonate"},
                   {"core", "configmaps secrets serviceaccounts events", WRITE},
                   {"core", "serviceaccounts/token", "create"},
                   {"coordination.k8s.io", "leases", READ " " WRITE}}},
	{.name = "system:aggregate-to-view",
         .aggregated_to = "view",
         .rules = {{"core", "configmaps serviceaccounts events namespaces namespaces/status", READ}}},
	{.name = "system:discovery",
         .groups = "system:authenticated",
         .rules = {{NULL, NULL, "get",
                    "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*"},
                   /* Here they say no more than OpenAPI does. */
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

/* NULL: absent. */
static json_t *words(const char *text) {
	json_t *list = text ? json_array() : NULL;
	while (text && *text) {
		size_t n = strcspn(text, " ");
		bool core = n == 4 && strncmp(text, "core", 4) == 0;
		json_array_append_new(list, json_stringn(core ? "" : text, core ? 0 : n));
		text += n + (text[n] == ' ');
	}
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

static json_t *role_of(const struct default_role *d, bool all) {
	char label[96];
	json_t *rules = json_array(), *aggregation = NULL;
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
	buf_puts(out, "# Made by `nacre rbac`: what Nacre's programs and tenants may do on a Kubernetes API.\n");
	json_array_foreach(list, i, v) {
		buf_puts(out, "---\n");
		api_yaml(out, v);
	}
	json_decref(list);
	return buf_error(out, "the roles", err);
}
