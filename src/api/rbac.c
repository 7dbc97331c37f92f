/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rbac.h"

#include <string.h>

#include "api/access.h"
#include "base/jsonwrite.h"
#include "base/util.h"

API_DEFINE(policy_rule, POLICY_RULE)
API_DEFINE(selector_term, SELECTOR_TERM)
API_DEFINE(label_selector, LABEL_SELECTOR)
API_DEFINE(aggregation_rule, AGGREGATION_RULE)
API_DEFINE(role, ROLE)
API_DEFINE(cluster_role, CLUSTER_ROLE)
API_DEFINE(subject, SUBJECT)
API_DEFINE(role_ref, ROLE_REF)
API_DEFINE(role_binding, ROLE_BINDING)

_Static_assert(offsetof(struct role, rules) == offsetof(struct cluster_role, rules), "a ClusterRole begins as a Role");

/* ---- rules ---- */

static void api_rbac_check_rule(const struct policy_rule *p, size_t i, bool namespaced, struct api_errors *errs) {
	char path[64];
	if (!p->verbs.n) {
		snprintf(path, sizeof(path), "rules[%zu].verbs", i);
		api_errors_add(errs, API_REQUIRED, path, "Required value: verbs must contain at least one value");
	}
	if (p->urls.n) {
		_buf_free_ struct buf b = {.max = 160};
		jw_begin(&b, '[');
		for (size_t j = 0; j < p->urls.n; j++)
			jw_string(&b, p->urls.v[j]);
		jw_end(&b, ']');
		const char *urls = b.failed || !b.data ? "[…]" : b.data;
		snprintf(path, sizeof(path), "rules[%zu].nonResourceURLs", i);
		if (namespaced)
			api_errors_add(errs, API_INVALID, path,
			               "Invalid value: %s: namespaced rules cannot apply to non-resource URLs", urls);
		if (p->groups.n || p->resources.n || p->names.n)
			api_errors_add(
				errs, API_INVALID, path,
				"Invalid value: %s: rules cannot apply to both regular resources and non-resource URLs",
				urls);
		return;
	}
	if (!p->groups.n) {
		snprintf(path, sizeof(path), "rules[%zu].apiGroups", i);
		api_errors_add(errs, API_REQUIRED, path,
		               "Required value: resource rules must supply at least one api group");
	}
	if (!p->resources.n) {
		snprintf(path, sizeof(path), "rules[%zu].resources", i);
		api_errors_add(errs, API_REQUIRED, path,
		               "Required value: resource rules must supply at least one resource");
	}
}

static void role_check(const void *obj, struct api_errors *errs) {
	const struct role *r = obj;
	for (size_t i = 0; i < r->rules.n; i++)
		api_rbac_check_rule(&r->rules.v[i], i, true, errs);
}

static void check_term(const struct selector_term *t, size_t i, size_t j, struct api_errors *errs) {
	char path[160];
	bool listed = streq(t->operator, "In") || streq(t->operator, "NotIn");
	snprintf(path, sizeof(path), "aggregationRule.clusterRoleSelectors[%zu].matchExpressions[%zu].values", i, j);
	if (listed && !t->values.n)
		api_errors_add(errs, API_REQUIRED, path,
		               "Required value: must be specified when `operator` is 'In' or 'NotIn'");
	else if (!listed && t->values.n)
		api_errors_add(errs, API_FORBIDDEN, path,
		               "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
}

static void cluster_role_check(const void *obj, struct api_errors *errs) {
	const struct cluster_role *r = obj;
	for (size_t i = 0; i < r->rules.n; i++)
		api_rbac_check_rule(&r->rules.v[i], i, false, errs);
	if (!r->aggregation)
		return;
	if (!r->aggregation->selectors.n)
		api_errors_add(
			errs, API_REQUIRED, "aggregationRule.clusterRoleSelectors",
			"Required value: at least one clusterRoleSelector required if aggregationRule is non-nil");
	for (size_t i = 0; i < r->aggregation->selectors.n; i++) {
		const struct label_selector *s = &r->aggregation->selectors.v[i];
		for (size_t j = 0; j < s->terms.n; j++)
			check_term(&s->terms.v[j], i, j, errs);
	}
}

/* ---- bindings ---- */

static void unsupported(struct api_errors *errs, const char *path, const char *got, const char *supported) {
	api_errors_add(errs, API_NOT_SUPPORTED, path, "Unsupported value: \"%.80s\": supported values: %s",
	               got ? got : "", supported);
}

static void check_subject(const struct subject *s, size_t i, bool namespaced, struct api_errors *errs) {
	struct error err;
	char path[64];
	const bool account = streq(s->kind, "ServiceAccount");
	snprintf(path, sizeof(path), "subjects[%zu].name", i);
	if (!s->name || !*s->name)
		api_errors_add(errs, API_REQUIRED, path, "Required value");
	else if (account && api_format_subdomain.check(s->name, &err) < 0)
		api_errors_add(errs, API_INVALID, path, "Invalid value: \"%.80s\": %s", s->name, err.msg);
	snprintf(path, sizeof(path), "subjects[%zu].apiGroup", i);
	if (account) {
		if (s->group && *s->group)
			unsupported(errs, path, s->group, "\"\"");
		snprintf(path, sizeof(path), "subjects[%zu].namespace", i);
		if (!namespaced && (!s->ns || !*s->ns))
			api_errors_add(errs, API_REQUIRED, path, "Required value");
	} else if (streq(s->kind, "User") || streq(s->kind, "Group")) {
		if (!streq(s->group, RBAC_GROUP))
			unsupported(errs, path, s->group, "\"" RBAC_GROUP "\"");
	} else {
		snprintf(path, sizeof(path), "subjects[%zu].kind", i);
		unsupported(errs, path, s->kind, "\"ServiceAccount\", \"User\", \"Group\"");
	}
}

static void check_binding(const struct role_binding *b, bool namespaced, struct api_errors *errs) {
	struct error err;
	const struct role_ref *r = &b->role;
	if (!streq(r->group, RBAC_GROUP))
		unsupported(errs, "roleRef.apiGroup", r->group, "\"" RBAC_GROUP "\"");
	if (!streq(r->kind, "ClusterRole") && !(namespaced && streq(r->kind, "Role")))
		unsupported(errs, "roleRef.kind", r->kind,
		            namespaced ? "\"Role\", \"ClusterRole\"" : "\"ClusterRole\"");
	if (!r->name || !*r->name)
		api_errors_add(errs, API_REQUIRED, "roleRef.name", "Required value");
	else if (api_format_segment.check(r->name, &err) < 0)
		api_errors_add(errs, API_INVALID, "roleRef.name", "Invalid value: %s", err.msg);
	for (size_t i = 0; i < b->subjects.n; i++)
		check_subject(&b->subjects.v[i], i, namespaced, errs);
}

static void role_binding_check(const void *obj, struct api_errors *errs) {
	check_binding(obj, true, errs);
}

static void cluster_role_binding_check(const void *obj, struct api_errors *errs) {
	check_binding(obj, false, errs);
}

static void binding_check_update(const void *old, const void *new, struct api_errors *errs) {
	const struct role_ref *a = &((const struct role_binding *)old)->role;
	const struct role_ref *b = &((const struct role_binding *)new)->role;
	if (streq(a->group, b->group) && streq(a->kind, b->kind) && streq(a->name, b->name))
		return;
	_buf_free_ struct buf ref = {.max = 200};
	api_print_value(&api_desc_role_ref, b, &ref);
	api_errors_add(errs, API_INVALID, "roleRef", "Invalid value: %s: cannot change roleRef",
	               ref.failed ? "{…}" : ref.data);
}

/* ---- kinds ---- */

static const struct api_column role_columns[] = {
	{"Created At", "string", ".metadata.creationTimestamp", "When it was created.", 0},
	{0},
};
static const struct api_column binding_columns[] = {
	{"Role", "string", ".roleRef.kind/.roleRef.name", "The role that is granted.", 0},
	{"Age", "string", API_COLUMN_AGE, "Time since it was created.", 0},
	{"Users", "string", ".subjects", "Users who are granted the role.", 1},
	{"Groups", "string", ".subjects", "Groups that are granted the role.", 1},
	{"ServiceAccounts", "string", ".subjects", "ServiceAccounts that are granted the role.", 1},
	{0},
};

/* A tenant's admin grants rights in his namespace, as far as he has them himself (apiserver/auth/escalate.h). */
static const struct access_grant admin_grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ " create patch delete"}, /* which Secrets agents may get */
	{ACCESS_KUBE_ADMIN, ".", ACCESS_READ " " ACCESS_WRITE},
	{0},
};
static const struct api_access admin_access = {.grants = admin_grants};

const struct api_kind api_kind_role = {
	.group = RBAC_GROUP,
	.version = "v1",
	.kind = "Role",
	.plural = "roles",
	.singular = "role",
	.doc = "Rights within a namespace.",
	.namespaced = true,
	.name_format = &api_format_segment,
	.desc = &api_desc_role,
	.access = &admin_access,
	.check = role_check,
	.columns = role_columns,
};

const struct api_kind api_kind_clusterrole = {
	.group = RBAC_GROUP,
	.version = "v1",
	.kind = "ClusterRole",
	.plural = "clusterroles",
	.singular = "clusterrole",
	.doc = "Rights in all namespaces, or in the namespace of a RoleBinding that names it.",
	.name_format = &api_format_segment,
	.desc = &api_desc_cluster_role,
	.access = &access_operator,
	.check = cluster_role_check,
	.columns = role_columns,
};

const struct api_kind api_kind_rolebinding = {
	.group = RBAC_GROUP,
	.version = "v1",
	.kind = "RoleBinding",
	.plural = "rolebindings",
	.singular = "rolebinding",
	.doc = "Grants a role to subjects within a namespace.",
	.namespaced = true,
	.name_format = &api_format_segment,
	.desc = &api_desc_role_binding,
	.access = &admin_access,
	.check = role_binding_check,
	.check_update = binding_check_update,
	.columns = binding_columns,
};

const struct api_kind api_kind_clusterrolebinding = {
	.group = RBAC_GROUP,
	.version = "v1",
	.kind = "ClusterRoleBinding",
	.plural = "clusterrolebindings",
	.singular = "clusterrolebinding",
	.doc = "Grants a ClusterRole to subjects in all namespaces.",
	.name_format = &api_format_segment,
	.desc = &api_desc_role_binding,
	.access = &access_operator,
	.check = cluster_role_binding_check,
	.check_update = binding_check_update,
	.columns = binding_columns,
};
