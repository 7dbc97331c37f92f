/* SPDX-License-Identifier: Apache-2.0 */
#include "api/account.h"

#include <string.h>

#include "api/access.h"
#include "api/rbac.h"
#include "api/roles.h"
#include "base/util.h"

API_DEFINE(configmap, CONFIGMAP)
API_DEFINE(secret, SECRET)
API_DEFINE_OPEN(account_ref, ACCOUNT_REF, true)
API_DEFINE_OPEN(serviceaccount, SERVICEACCOUNT, true)

#define IMMUTABLE_TEXT "Forbidden: field is immutable when `immutable` is set"

static size_t map_bytes(const struct api_map *m, bool base64) {
	size_t n = 0;
	for (size_t i = 0; i < m->n; i++)
		n += base64 ? strlen(m->v[i].value) / 4 * 3 : strlen(m->v[i].value);
	return n;
}

static bool map_equal(const struct api_map *a, const struct api_map *b) {
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (!streq(api_map_get(b, a->v[i].key), a->v[i].value))
			return false;
	return true;
}

static void configmap_check(const void *obj, struct api_errors *errs) {
	const struct configmap *c = obj;
	char path[128];
	for (size_t i = 0; i < c->data.n; i++)
		if (api_map_get(&c->binary, c->data.v[i].key)) {
			snprintf(path, sizeof(path), "data[%.100s]", c->data.v[i].key);
			api_errors_add(errs, API_INVALID, path,
			               "Invalid value: \"%.100s\": duplicate of key present in binaryData",
			               c->data.v[i].key);
		}
	if (map_bytes(&c->data, false) + map_bytes(&c->binary, true) > DATA_MAX)
		api_errors_add(errs, API_TOO_LONG, "", "Too long: may not be more than %zu bytes", DATA_MAX);
}

static void configmap_check_update(const void *old, const void *new, struct api_errors *errs) {
	const struct configmap *a = old, *b = new;
	if (!a->immutable.v)
		return;
	if (!b->immutable.v)
		api_errors_add(errs, API_FORBIDDEN, "immutable", IMMUTABLE_TEXT);
	if (!map_equal(&a->data, &b->data))
		api_errors_add(errs, API_FORBIDDEN, "data", IMMUTABLE_TEXT);
	if (!map_equal(&a->binary, &b->binary))
		api_errors_add(errs, API_FORBIDDEN, "binaryData", IMMUTABLE_TEXT);
}

/* Checks for the keys that Kubernetes' own types of Secrets require. Other types have no rules. */
static void account_check_type(const struct secret *s, struct api_errors *errs) {
	static const struct {
		const char *type, *keys[2];
		bool any, filled; /* any: one of the keys is enough; filled: the value must not be empty */
	} types[] = {
		{"kubernetes.io/dockercfg", {".dockercfg"}, false, false},
		{"kubernetes.io/dockerconfigjson", {".dockerconfigjson"}, false, false},
		{"kubernetes.io/basic-auth", {"username", "password"}, true, false},
		{"kubernetes.io/ssh-auth", {"ssh-privatekey"}, false, true},
		{"kubernetes.io/tls", {"tls.crt", "tls.key"}, false, false},
	};
	char path[64];
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (!streq(s->type, types[i].type))
			continue;
		const char *missing[2] = {NULL, NULL};
		size_t n = 0, keys = types[i].keys[1] ? 2 : 1;
		for (size_t j = 0; j < keys; j++) {
			const char *v = api_map_get(&s->data, types[i].keys[j]);
			if (!v || (types[i].filled && !*v))
				missing[n++] = types[i].keys[j];
		}
		for (size_t j = 0; j < n && !(types[i].any && n < keys); j++) {
			snprintf(path, sizeof(path), "data[%s]", missing[j]);
			api_errors_add(errs, API_REQUIRED, path, "Required value");
		}
	}
	const char *account = api_map_get(&s->meta.annotations, "kubernetes.io/service-account.name");
	if (streq(s->type, SECRET_TYPE_TOKEN) && (!account || !*account))
		api_errors_add(errs, API_REQUIRED, "metadata.annotations[kubernetes.io/service-account.name]",
		               "Required value");
}

static void secret_check(const void *obj, struct api_errors *errs) {
	const struct secret *s = obj;
	if (map_bytes(&s->data, true) > DATA_MAX)
		api_errors_add(errs, API_TOO_LONG, "data", "Too long: may not be more than %zu bytes", DATA_MAX);
	account_check_type(s, errs);
}

static void secret_check_update(const void *old, const void *new, struct api_errors *errs) {
	const struct secret *a = old, *b = new;
	if (!streq(a->type, b->type))
		api_errors_add(errs, API_INVALID, "type", "Invalid value: \"%.100s\": field is immutable",
		               b->type ? b->type : "");
	if (!a->immutable.v)
		return;
	if (!b->immutable.v)
		api_errors_add(errs, API_FORBIDDEN, "immutable", IMMUTABLE_TEXT);
	if (!map_equal(&a->data, &b->data))
		api_errors_add(errs, API_FORBIDDEN, "data", IMMUTABLE_TEXT);
}

static const char *const configmap_short[] = {"cm", NULL};
static const char *const account_short[] = {"sa", NULL};
static const char *const secret_selectable[] = {"type", NULL};
static const struct api_column configmap_columns[] = {
	{"Data", "integer", API_COLUMN_COUNT ".data", "Number of keys.", 0},
	{0},
};
static const struct api_column secret_columns[] = {
	{"Type", "string", ".type", "Type of the Secret.", 0},
	{"Data", "integer", API_COLUMN_COUNT ".data", "Number of keys.", 0},
	{0},
};
static const struct api_column account_columns[] = {
	{"Secrets", "integer", API_COLUMN_COUNT ".secrets", "Number of Secrets that belong to it.", 0},
	{0},
};

static const struct access_grant configmap_grants[] = {
	{ACCESS_KUBE_VIEW, ".", ACCESS_READ},
	{ACCESS_KUBE_EDIT, ".", ACCESS_WRITE},
	{0},
};
static const struct api_access configmap_access = {.grants = configmap_grants};

const struct api_kind api_kind_configmap = {
	.group = "",
	.version = "v1",
	.kind = "ConfigMap",
	.plural = "configmaps",
	.singular = "configmap",
	.short_names = configmap_short,
	.doc = "Keys and values for programs.",
	.namespaced = true,
	.desc = &api_desc_configmap,
	.access = &configmap_access,
	.check = configmap_check,
	.check_update = configmap_check_update,
	.columns = configmap_columns,
};

/*
 * The Role that the host's RoleBinding names has the Secret. Both can be written by whoever may grant these rights, not
 * only by the controller.
 */
static bool secret_is_seen(const struct access_read *r) {
	char name[ROLES_NAME_MAX];
	json_t *binding = r->load(r->store, &api_kind_rolebinding, r->ns, roles_secrets_name(r->agent->host, name));
	const json_t *ref = json_object_get(binding, "roleRef");
	const char *role_name = json_string_value(json_object_get(ref, "name"));
	bool is_role = streq(json_string_value(json_object_get(ref, "kind")), "Role");
	json_t *role = is_role ? r->load(r->store, &api_kind_role, r->ns, role_name) : NULL;
	size_t i, j;
	json_t *rule, *v;
	bool seen = false;
	json_array_foreach(json_object_get(role, "rules"), i, rule) {
		json_array_foreach(json_object_get(rule, "resourceNames"), j, v) {
			seen |= streq(json_string_value(v), r->name);
		}
	}
	json_decref(role);
	json_decref(binding);
	return seen;
}

static const struct access_grant secret_grants[] = {
	{ACCESS_CONTROLLER, ".", "get"}, /* which it never uses: nobody grants rights that he doesn't have */
	{ACCESS_KUBE_EDIT, ".", ACCESS_READ " " ACCESS_WRITE},
	{0},
};
static const struct api_access secret_access = {
	.grants = secret_grants,
	.agents = {.whose = ACCESS_OF_HOST,
                   .sees = secret_is_seen,
                   .sees_only =
                           "the Secrets of a namespace that the Role has which RoleBinding " ROLES_SECRETS
                           "HOST names there; the controller writes both for the Secrets that Instances on the host "
                           "name, and whoever may grant these rights can"},
};

const struct api_kind api_kind_secret = {
	.group = "",
	.version = "v1",
	.kind = "Secret",
	.plural = "secrets",
	.singular = "secret",
	.doc = "Keys and values that only few users may read.",
	.namespaced = true,
	.desc = &api_desc_secret,
	.access = &secret_access,
	.check = secret_check,
	.check_update = secret_check_update,
	.columns = secret_columns,
	.selectable_fields = secret_selectable,
};

static const struct access_grant account_grants[] = {
	{ACCESS_KUBE_VIEW, ".", ACCESS_READ},
	{ACCESS_KUBE_EDIT, ".", "impersonate " ACCESS_WRITE},
	{ACCESS_KUBE_EDIT, "token", "create"},
	{0},
};
static const struct api_access account_access = {.grants = account_grants};

const struct api_kind api_kind_serviceaccount = {
	.group = "",
	.version = "v1",
	.kind = "ServiceAccount",
	.plural = "serviceaccounts",
	.singular = "serviceaccount",
	.short_names = account_short,
	.doc = "A user account for programs of the tenant.",
	.namespaced = true,
	.desc = &api_desc_serviceaccount,
	.access = &account_access,
	.columns = account_columns,
};
