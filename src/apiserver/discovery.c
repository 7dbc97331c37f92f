/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/discovery.h"

#include <string.h>
#include <sys/utsname.h>

#include "api/api.h"
#include "base/util.h"

#define VERBS_OBJECT "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"

/* The kind's index is the first of its group (and version). */
static bool first_of_group(unsigned i, bool with_version) {
	for (unsigned j = 0; j < i; j++)
		if (streq(api_kinds[j]->group, api_kinds[i]->group) &&
		    (!with_version || streq(api_kinds[j]->version, api_kinds[i]->version)))
			return false;
	return true;
}

json_t *discovery_core_versions(void) {
	return json_pack("{s:s, s:[s], s:[]}", "kind", "APIVersions", "versions", "v1", "serverAddressByClientCIDRs");
}

static json_t *group_versions(const char *group) {
	json_t *list = json_array();
	char gv[64];
	for (unsigned i = 0; api_kinds[i]; i++) {
		if (!streq(api_kinds[i]->group, group) || !first_of_group(i, true))
			continue;
		api_kind_version(api_kinds[i], gv);
		json_array_append_new(list,
		                      json_pack("{s:s, s:s}", "groupVersion", gv, "version", api_kinds[i]->version));
	}
	return list;
}

static json_t *group_of(const char *group) {
	json_t *versions = group_versions(group);
	return json_pack("{s:s, s:o, s:O}", "name", group, "versions", versions, "preferredVersion",
	                 json_array_get(versions, 0));
}

json_t *discovery_groups(void) {
	json_t *list = json_array();
	for (unsigned i = 0; api_kinds[i]; i++)
		if (*api_kinds[i]->group && first_of_group(i, false))
			json_array_append_new(list, group_of(api_kinds[i]->group));
	return json_pack("{s:s, s:s, s:o}", "kind", "APIGroupList", "apiVersion", "v1", "groups", list);
}

json_t *discovery_group(const char *group) {
	for (unsigned i = 0; api_kinds[i]; i++)
		if (*group && streq(api_kinds[i]->group, group)) {
			json_t *g = group_of(group);
			json_object_set_new(g, "kind", json_string("APIGroup"));
			json_object_set_new(g, "apiVersion", json_string("v1"));
			return g;
		}
	return json_null();
}

static json_t *short_names(const struct api_kind *k) {
	if (!k->short_names)
		return NULL;
	json_t *list = json_array();
	for (const char *const *s = k->short_names; *s; s++)
		json_array_append_new(list, json_string(*s));
	return list;
}

/* Kinds of nacre.dev show up in `kubectl get nacre`. */
static json_t *categories(const struct api_kind *k) {
	return strchr(k->group, '.') && !strstr(k->group, ".k8s.io") ? json_pack("[s]", "nacre") : NULL;
}

static json_t *object_verbs(const struct api_kind *k) {
	return streq(k->kind, "Namespace")
	               ? json_pack("[s,s,s,s,s,s,s]", "create", "delete", "get", "list", "patch", "update", "watch")
	               : json_pack("[s,s,s,s,s,s,s,s]", VERBS_OBJECT);
}

json_t *discovery_resources(const char *group, const char *version) {
	json_t *list = json_array();
	char gv[64] = "", status[96];
	for (unsigned i = 0; api_kinds[i]; i++) {
		const struct api_kind *k = api_kinds[i];
		if (!streq(k->group, group) || !streq(k->version, version))
			continue;
		api_kind_version(k, gv);
		json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:o, s:o*, s:o*}", "name", k->plural,
		                                      "singularName", k->singular, "namespaced", k->namespaced, "kind",
		                                      k->kind, "verbs", object_verbs(k), "shortNames", short_names(k),
		                                      "categories", categories(k)));
		if (!k->has_status)
			continue;
		snprintf(status, sizeof(status), "%s/status", k->plural);
		json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:[s,s,s]}", "name", status, "singularName",
		                                      "", "namespaced", k->namespaced, "kind", k->kind, "verbs", "get",
		                                      "patch", "update"));
	}
	if (!*gv) {
		json_decref(list);
		return json_null();
	}
	return json_pack("{s:s, s:s, s:s, s:o}", "kind", "APIResourceList", "apiVersion", "v1", "groupVersion", gv,
	                 "resources", list);
}

static json_t *aggregated_resource(const struct api_kind *k) {
	json_t *kind = json_pack("{s:s, s:s, s:s}", "group", k->group, "version", k->version, "kind", k->kind);
	json_t *sub = NULL;
	if (k->has_status)
		sub = json_pack("[{s:s, s:O, s:[s,s,s]}]", "subresource", "status", "responseKind", kind, "verbs",
		                "get", "patch", "update");
	return json_pack("{s:s, s:o, s:s, s:s, s:o, s:o*, s:o*, s:o*}", "resource", k->plural, "responseKind", kind,
	                 "scope", k->namespaced ? "Namespaced" : "Cluster", "singularResource", k->singular, "verbs",
	                 object_verbs(k), "shortNames", short_names(k), "categories", categories(k), "subresources",
	                 sub);
}

static json_t *aggregated_version(const char *group, const char *version) {
	json_t *list = json_array();
	for (unsigned i = 0; api_kinds[i]; i++)
		if (streq(api_kinds[i]->group, group) && streq(api_kinds[i]->version, version))
			json_array_append_new(list, aggregated_resource(api_kinds[i]));
	return json_pack("{s:s, s:o, s:s}", "version", version, "resources", list, "freshness", "Current");
}

json_t *discovery_aggregated(bool core) {
	json_t *groups = json_array();
	for (unsigned i = 0; api_kinds[i]; i++) {
		const struct api_kind *k = api_kinds[i];
		if (core != (*k->group == '\0') || !first_of_group(i, false))
			continue;
		json_t *versions = json_array();
		for (unsigned j = i; api_kinds[j]; j++)
			if (streq(api_kinds[j]->group, k->group) && first_of_group(j, true))
				json_array_append_new(versions, aggregated_version(k->group, api_kinds[j]->version));
		json_t *meta = *k->group ? json_pack("{s:s}", "name", k->group) : json_object();
		json_array_append_new(groups, json_pack("{s:o, s:o}", "metadata", meta, "versions", versions));
	}
	return json_pack("{s:s, s:s, s:{}, s:o}", "kind", "APIGroupDiscoveryList", "apiVersion",
	                 "apidiscovery.k8s.io/v2", "metadata", "items", groups);
}

json_t *discovery_version(void) {
	struct utsname u;
	char platform[128];
	if (uname(&u) < 0)
		return NULL;
	snprintf(platform, sizeof(platform), "linux/%s", streq(u.machine, "x86_64") ? "amd64" : u.machine);
	/* Clients compare the version with their own: it is that of the Kubernetes API spoken here. */
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "major", "1", "minor", "32", "gitVersion",
	                 "v1.32.0-nacre." NACRE_VERSION, "gitCommit", "", "gitTreeState", "", "buildDate",
	                 "1970-01-01T00:00:00Z", "goVersion", "", "compiler", __VERSION__, "platform", platform);
}
