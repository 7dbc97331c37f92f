/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/schema/discovery.h"

#include <string.h>
#include <sys/utsname.h>

#include "api/api.h"
#include "api/schema.h"
#include "apiserver/request/request.h"
#include "base/util.h"

#define CRD "CustomResourceDefinition"

#define VERBS_OBJECT "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"

/* A resource: a kind of objects, a review, or (if both are NULL) CustomResourceDefinitions. */
struct resource {
	const char *group, *version;
	const struct api_kind *kind;
	const struct review *review; /* never one that is a subresource */
};

/* Resource number I of all; false: there are no more. */
static bool resource_at(size_t i, struct resource *ret) {
	size_t kinds = 0;
	while (api_kinds[kinds])
		kinds++;
	if (i < kinds) {
		*ret = (struct resource){api_kinds[i]->group, api_kinds[i]->version, api_kinds[i], NULL};
		return true;
	}
	const struct review *v = review_kinds;
	for (i -= kinds; v->group; v++)
		if (!v->of && i-- == 0)
			break;
	*ret = v->group ? (struct resource){v->group, v->version, NULL, v}
	                : (struct resource){CRD_GROUP, CRD_VERSION, NULL, NULL};
	return v->group || i == 0;
}

static bool same_version(const struct resource *r, const char *group, const char *version) {
	return streq(r->group, group) && streq(r->version, version);
}

/* True if resource I is the first of its group, or of its version of the group. */
static bool first_of_group(size_t i, bool with_version) {
	struct resource r, other;
	if (!resource_at(i, &r))
		return false;
	for (size_t j = 0; j < i && resource_at(j, &other); j++)
		if (streq(other.group, r.group) && (!with_version || streq(other.version, r.version)))
			return false;
	return true;
}

json_t *discovery_core_versions(void) {
	return json_pack("{s:s, s:[s], s:[]}", "kind", "APIVersions", "versions", "v1", "serverAddressByClientCIDRs");
}

static json_t *group_of(const char *group) {
	json_t *list = json_array();
	struct resource r;
	for (size_t i = 0; resource_at(i, &r); i++) {
		if (!streq(r.group, group) || !first_of_group(i, true))
			continue;
		_free_ char *gv = strf("%s/%s", r.group, r.version);
		json_array_append_new(list,
		                      json_pack("{s:s, s:s}", "groupVersion", gv ? gv : "", "version", r.version));
	}
	return json_pack("{s:s, s:o, s:O}", "name", group, "versions", list, "preferredVersion",
	                 json_array_get(list, 0));
}

json_t *discovery_groups(void) {
	json_t *list = json_array();
	struct resource r;
	for (size_t i = 0; resource_at(i, &r); i++)
		if (*r.group && first_of_group(i, false))
			json_array_append_new(list, group_of(r.group));
	return json_pack("{s:s, s:s, s:o}", "kind", "APIGroupList", "apiVersion", "v1", "groups", list);
}

json_t *discovery_group(const char *group) {
	struct resource r;
	for (size_t i = 0; resource_at(i, &r); i++)
		if (*group && streq(r.group, group)) {
			json_t *g = group_of(group);
			json_object_set_new(g, "kind", json_string("APIGroup"));
			json_object_set_new(g, "apiVersion", json_string("v1"));
			return g;
		}
	return json_null();
}

/* A list of the strings; NULL if V is NULL. */
static json_t *strings(const char *const *v) {
	if (!v)
		return NULL;
	json_t *list = json_array();
	for (; *v; v++)
		json_array_append_new(list, json_string(*v));
	return list;
}

static json_t *object_verbs(const struct api_kind *k) {
	return streq(k->kind, "Namespace")
	               ? json_pack("[s,s,s,s,s,s,s]", "create", "delete", "get", "list", "patch", "update", "watch")
	               : json_pack("[s,s,s,s,s,s,s,s]", VERBS_OBJECT);
}

static json_t *kind_ref(const char *group, const char *version, const char *kind) {
	return json_pack("{s:s, s:s, s:s}", "group", group, "version", version, "kind", kind);
}

static json_t *scale_ref(void) {
	return kind_ref("autoscaling", "v1", "Scale");
}

static void add_kind(json_t *list, const struct api_kind *k) {
	char status[96];
	json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:o, s:o*, s:o*}", "name", k->plural,
	                                      "singularName", k->singular, "namespaced", k->namespaced, "kind", k->kind,
	                                      "verbs", object_verbs(k), "shortNames", strings(k->short_names),
	                                      "categories", strings(api_kind_categories(k))));
	if (k->has_status) {
		snprintf(status, sizeof(status), "%s/status", k->plural);
		json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:[s,s,s]}", "name", status, "singularName",
		                                      "", "namespaced", k->namespaced, "kind", k->kind, "verbs", "get",
		                                      "patch", "update"));
	}
	if (k->scale) {
		json_t *scale = scale_ref();
		snprintf(status, sizeof(status), "%s/scale", k->plural);
		json_object_update_missing_new(scale, json_pack("{s:s, s:s, s:b, s:[s,s,s]}", "name", status,
		                                                "singularName", "", "namespaced", k->namespaced,
		                                                "verbs", "get", "patch", "update"));
		json_array_append_new(list, scale);
	}
	for (const struct review *v = review_kinds; v->group; v++) {
		_free_ char *name = v->of == k ? strf("%s/%s", v->plural, v->subresource) : NULL;
		if (name)
			json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:s, s:s, s:[s]}", "name", name,
			                                      "singularName", "", "namespaced", k->namespaced, "group",
			                                      v->group, "version", v->version, "kind", v->kind, "verbs",
			                                      "create"));
	}
}

json_t *discovery_resources(const char *group, const char *version) {
	json_t *list = json_array();
	struct resource r;
	_free_ char *gv = strf("%s%s%s", group, *group ? "/" : "", version);
	for (size_t i = 0; resource_at(i, &r); i++) {
		if (!same_version(&r, group, version))
			continue;
		if (r.kind)
			add_kind(list, r.kind);
		else if (!r.review)
			json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:[s,s], s:[s,s]}", "name",
			                                      CRD_PLURAL, "singularName", "customresourcedefinition",
			                                      "namespaced", 0, "kind", CRD, "verbs", "get", "list",
			                                      "shortNames", "crd", "crds"));
		else
			json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:[s]}", "name", r.review->plural,
			                                      "singularName", r.review->singular, "namespaced",
			                                      r.review->namespaced, "kind", r.review->kind, "verbs",
			                                      "create"));
	}
	if (!json_array_size(list)) {
		json_decref(list);
		return json_null();
	}
	return json_pack("{s:s, s:s, s:s, s:o}", "kind", "APIResourceList", "apiVersion", "v1", "groupVersion",
	                 gv ? gv : "", "resources", list);
}

static json_t *aggregated_resource(const struct api_kind *k) {
	json_t *kind = kind_ref(k->group, k->version, k->kind), *sub = json_array();
	if (k->has_status)
		json_array_append_new(sub, json_pack("{s:s, s:O, s:[s,s,s]}", "subresource", "status", "responseKind",
		                                     kind, "verbs", "get", "patch", "update"));
	if (k->scale)
		json_array_append_new(sub, json_pack("{s:s, s:o, s:[s,s,s]}", "subresource", "scale", "responseKind",
		                                     scale_ref(), "verbs", "get", "patch", "update"));
	for (const struct review *v = review_kinds; v->group; v++)
		if (v->of == k)
			json_array_append_new(sub, json_pack("{s:s, s:o, s:[s]}", "subresource", v->subresource,
			                                     "responseKind", kind_ref(v->group, v->version, v->kind),
			                                     "verbs", "create"));
	json_t *out = json_pack("{s:s, s:o, s:s, s:s, s:o, s:o*, s:o*}", "resource", k->plural, "responseKind", kind,
	                        "scope", k->namespaced ? "Namespaced" : "Cluster", "singularResource", k->singular,
	                        "verbs", object_verbs(k), "shortNames", strings(k->short_names), "categories",
	                        strings(api_kind_categories(k)));
	if (out && json_array_size(sub))
		json_object_set(out, "subresources", sub);
	json_decref(sub);
	return out;
}

static json_t *aggregated_review(const struct review *v) {
	return json_pack("{s:s, s:o, s:s, s:s, s:[s]}", "resource", v->plural, "responseKind",
	                 kind_ref(v->group, v->version, v->kind), "scope", v->namespaced ? "Namespaced" : "Cluster",
	                 "singularResource", v->singular, "verbs", "create");
}

static json_t *aggregated_crds(void) {
	return json_pack("{s:s, s:o, s:s, s:s, s:[s,s], s:[s,s]}", "resource", CRD_PLURAL, "responseKind",
	                 kind_ref(CRD_GROUP, CRD_VERSION, CRD), "scope", "Cluster", "singularResource",
	                 "customresourcedefinition", "verbs", "get", "list", "shortNames", "crd", "crds");
}

static json_t *aggregated_version(const char *group, const char *version) {
	json_t *list = json_array();
	struct resource r;
	for (size_t i = 0; resource_at(i, &r); i++)
		if (same_version(&r, group, version))
			json_array_append_new(list, r.kind     ? aggregated_resource(r.kind)
			                            : r.review ? aggregated_review(r.review)
			                                       : aggregated_crds());
	return json_pack("{s:s, s:o, s:s}", "version", version, "resources", list, "freshness", "Current");
}

json_t *discovery_aggregated(bool core) {
	json_t *groups = json_array();
	struct resource r, other;
	for (size_t i = 0; resource_at(i, &r); i++) {
		if (core != (*r.group == '\0') || !first_of_group(i, false))
			continue;
		json_t *versions = json_array();
		for (size_t j = i; resource_at(j, &other); j++)
			if (streq(other.group, r.group) && first_of_group(j, true))
				json_array_append_new(versions, aggregated_version(r.group, other.version));
		json_t *meta = *r.group ? json_pack("{s:s}", "name", r.group) : json_object();
		json_array_append_new(groups, json_pack("{s:o, s:o}", "metadata", meta, "versions", versions));
	}
	return json_pack("{s:s, s:s, s:{}, s:o}", "kind", "APIGroupDiscoveryList", "apiVersion",
	                 "apidiscovery.k8s.io/v2", "metadata", "items", groups);
}

/* The kinds are built in, so their CRDs are always established. */
static json_t *established_crd(const struct api_kind *k) {
	json_t *crd = api_crd(k), *spec = json_object_get(crd, "spec");
	json_t *status = json_pack("{s:O, s:[s], s:[{s:s, s:s, s:s}]}", "acceptedNames", json_object_get(spec, "names"),
	                           "storedVersions", k->version, "conditions", "type", "Established", "status", "True",
	                           "reason", "BuiltIn");
	if (json_object_set_new(crd, "status", status) == 0)
		return crd;
	json_decref(crd);
	return NULL;
}

json_t *discovery_crd(const char *name) {
	for (size_t i = 0; api_kinds[i]; i++) {
		_free_ char *own = strf("%s.%s", api_kinds[i]->plural, api_kinds[i]->group);
		if (streq(api_kinds[i]->group, "nacre.dev") && streq(own, name))
			return established_crd(api_kinds[i]);
	}
	return json_null();
}

json_t *discovery_crds(const char *only) {
	json_t *list = json_array();
	for (size_t i = 0; api_kinds[i]; i++) {
		_free_ char *own = strf("%s.%s", api_kinds[i]->plural, api_kinds[i]->group);
		if (!streq(api_kinds[i]->group, "nacre.dev") || (only && !streq(own, only)))
			continue;
		if (json_array_append_new(list, established_crd(api_kinds[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return json_pack("{s:s, s:s, s:{s:s}, s:o}", "kind", CRD "List", "apiVersion", CRD_GROUP "/" CRD_VERSION,
	                 "metadata", "resourceVersion", "1", "items", list);
}

json_t *discovery_paths(void) {
	static const char *const others[] = {"/healthz",    "/livez",  "/metrics", "/openapi/v2",
	                                     "/openapi/v3", "/readyz", "/version"};
	json_t *list = json_pack("[s, s, s]", "/api", "/api/v1", "/apis");
	struct resource r;
	for (size_t i = 0; resource_at(i, &r); i++) {
		if (!*r.group || !first_of_group(i, true))
			continue;
		if (first_of_group(i, false))
			json_array_append_new(list, json_sprintf("/apis/%s", r.group));
		json_array_append_new(list, json_sprintf("/apis/%s/%s", r.group, r.version));
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		json_array_append_new(list, json_string(others[i]));
	return json_pack("{s:o}", "paths", list);
}

json_t *discovery_version(void) {
	struct utsname u;
	char platform[128];
	if (uname(&u) < 0)
		return NULL;
	snprintf(platform, sizeof(platform), "linux/%s", streq(u.machine, "x86_64") ? "amd64" : u.machine);
	/* Clients compare this version with their own, so it is that of the Kubernetes API that is served here. */
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "major", "1", "minor", "35", "gitVersion",
	                 "v1.35.0-nacre." NACRE_VERSION, "gitCommit", "", "gitTreeState", "", "buildDate",
	                 "1970-01-01T00:00:00Z", "goVersion", "", "compiler", __VERSION__, "platform", platform);
}
