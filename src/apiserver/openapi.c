/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/openapi.h"

#include <inttypes.h>
#include <string.h>

#include "api/scale.h"
#include "api/schema.h"
#include "apiserver/object.h"
#include "apiserver/reply.h"
#include "base/util.h"

/* "nacre.dev/v1alpha1" -> "apis/nacre.dev/v1alpha1"; "v1" -> "api/v1" */
static void path_of(const struct api_kind *k, char out[static 96]) {
	char gv[64];
	api_kind_version(k, gv);
	snprintf(out, 96, "%s/%s", *k->group ? "apis" : "api", gv);
}

/* "dev.nacre.v1alpha1.Instance": the group's parts in reverse. */
static void schema_name(const struct api_kind *k, char out[static 256]) {
	const char *group = *k->group ? k->group : "core.api.k8s.io", *end = group + strlen(group);
	size_t n = 0;
	while (end > group) {
		const char *p = end;
		while (p > group && p[-1] != '.')
			p--;
		n += (size_t)snprintf(out + n, 256 - n, "%.*s.", (int)(end - p), p);
		end = p > group ? p - 1 : group;
	}
	snprintf(out + n, 256 - n, "%s.%s", k->version, k->kind);
}

static json_t *gvk(const struct api_kind *k) {
	return json_pack("{s:s, s:s, s:s}", "group", k->group, "version", k->version, "kind", k->kind);
}

static json_t *query_param(const char *name, const char *doc) {
	return json_pack("{s:s, s:s, s:s, s:{s:s, s:b}}", "name", name, "in", "query", "description", doc, "schema",
	                 "type", "string", "uniqueItems", 1);
}

static json_t *path_param(const char *name) {
	return json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", name, "in", "path", "required", 1, "schema", "type",
	                 "string");
}

static json_t *operation(const struct api_kind *k, const char *action, bool writes) {
	char ref[300], name[256];
	schema_name(k, name);
	snprintf(ref, sizeof(ref), "#/components/schemas/%s", name);
	json_t *params = json_array();
	if (writes) {
		json_array_append_new(params, query_param("dryRun", "All: nothing is stored."));
		json_array_append_new(params, query_param("fieldManager", "Who makes the change."));
		json_array_append_new(params,
		                      query_param("fieldValidation",
		                                  "What is done about unknown and duplicate fields: Ignore, Warn or "
		                                  "Strict."));
	}
	return json_pack("{s:s, s:o, s:o, s:{s:{s:s, s:{s:{s:{s:s}}}}}}", "x-kubernetes-action", action,
	                 "x-kubernetes-group-version-kind", gvk(k), "parameters", params, "responses", "200",
	                 "description", "OK", "content", "application/json", "schema", "$ref", ref);
}

/* What stands for the body of a write: kubectl reads the media types of patch. */
static json_t *with_body(json_t *op, const struct api_kind *k, bool patch) {
	char ref[300], name[256];
	schema_name(k, name);
	snprintf(ref, sizeof(ref), "#/components/schemas/%s", name);
	json_t *content = json_object();
	if (patch) {
		json_object_set_new(content, "application/json-patch+json",
		                    json_pack("{s:{s:s}}", "schema", "type", "array"));
		json_object_set_new(content, "application/merge-patch+json",
		                    json_pack("{s:{s:s}}", "schema", "type", "object"));
		if (k != &api_kind_scale)
			json_object_set_new(content, "application/apply-patch+yaml",
			                    json_pack("{s:{s:s}}", "schema", "type", "object"));
	} else
		json_object_set_new(content, "application/json", json_pack("{s:{s:s}}", "schema", "$ref", ref));
	json_object_set_new(op, "requestBody", json_pack("{s:o}", "content", content));
	return op;
}

static void add_paths(json_t *paths, const struct api_kind *k) {
	char base[96], path[256];
	path_of(k, base);
	const char *ns = k->namespaced ? "namespaces/{namespace}/" : "";
	json_t *in_path = k->namespaced ? json_pack("[o]", path_param("namespace")) : json_array();
	snprintf(path, sizeof(path), "/%s/%s%s", base, ns, k->plural);
	json_object_set_new(paths, path,
	                    json_pack("{s:o, s:o, s:o, s:O}", "get", operation(k, "list", false), "post",
	                              with_body(operation(k, "post", true), k, false), "delete",
	                              operation(k, "deletecollection", true), "parameters", in_path));
	json_array_append_new(in_path, path_param("name"));
	snprintf(path, sizeof(path), "/%s/%s%s/{name}", base, ns, k->plural);
	json_t *named = json_deep_copy(in_path);
	json_object_set_new(paths, path,
	                    json_pack("{s:o, s:o, s:o, s:o, s:O}", "get", operation(k, "get", false), "put",
	                              with_body(operation(k, "put", true), k, false), "patch",
	                              with_body(operation(k, "patch", true), k, true), "delete",
	                              operation(k, "delete", true), "parameters", named));
	if (k->has_status) {
		snprintf(path, sizeof(path), "/%s/%s%s/{name}/status", base, ns, k->plural);
		json_object_set_new(paths, path,
		                    json_pack("{s:o, s:o, s:O}", "get", operation(k, "get", false), "patch",
		                              with_body(operation(k, "patch", true), k, true), "parameters", named));
	}
	if (k->scale) {
		snprintf(path, sizeof(path), "/%s/%s%s/{name}/scale", base, ns, k->plural);
		json_object_set_new(
			paths, path,
			json_pack("{s:o, s:o, s:o, s:O}", "get", operation(&api_kind_scale, "get", false), "put",
		                  with_body(operation(&api_kind_scale, "put", true), &api_kind_scale, false), "patch",
		                  with_body(operation(&api_kind_scale, "patch", true), &api_kind_scale, true),
		                  "parameters", named));
	}
	json_decref(named);
	json_array_remove(in_path, json_array_size(in_path) - 1);
	json_decref(in_path);
}

/*
 * What metadata consists of, which a CRD may not say, for `kubectl explain`. Of custom resources alone: for other kinds
 * kubectl would take from it how their lists are merged, which is not said here.
 */
static void add_metadata(json_t *schema, const struct api_kind *k) {
	for (size_t i = 0; object_has_generation(k) && i < k->desc->n_fields; i++) {
		const struct api_field *f = &k->desc->fields[i];
		json_t *meta = streq(f->name, "metadata") ? api_schema(f->sub) : NULL;
		if (meta && json_object_set_new(meta, "description", json_string(f->doc)) == 0)
			json_object_set(json_object_get(schema, "properties"), f->name, meta);
		json_decref(meta);
	}
}

static void add_schema(json_t *schemas, const struct api_kind *k) {
	char name[256];
	json_t *schema = api_kind_schema(k);
	add_metadata(schema, k);
	schema_name(k, name);
	json_object_set_new(schema, "x-kubernetes-group-version-kind", json_pack("[o]", gvk(k)));
	json_object_set_new(schemas, name, schema);
}

/* The document of one group and version: "apis/nacre.dev/v1alpha1". NULL if there is none. */
static json_t *document(const char *of) {
	char path[96];
	json_t *paths = NULL, *schemas = NULL;
	for (unsigned i = 0; api_kinds[i]; i++) {
		path_of(api_kinds[i], path);
		if (!streq(path, of))
			continue;
		if (!paths) {
			paths = json_object();
			schemas = json_object();
		}
		add_paths(paths, api_kinds[i]);
		add_schema(schemas, api_kinds[i]);
		if (api_kinds[i]->scale)
			add_schema(schemas, &api_kind_scale);
	}
	return paths ? json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o}}", "openapi", "3.0.0", "info", "title", "Nacre",
	                         "version", NACRE_VERSION, "paths", paths, "components", "schemas", schemas)
	             : NULL;
}

/* FNV-1a: names a version of a document, guards nothing. */
static uint64_t hash(const char *s) {
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return h;
}

static json_t *root(void) {
	char path[96], url[160];
	json_t *paths = json_object();
	for (unsigned i = 0; api_kinds[i]; i++) {
		path_of(api_kinds[i], path);
		if (json_object_get(paths, path))
			continue;
		json_t *doc = document(path);
		_free_ char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
		json_decref(doc);
		snprintf(url, sizeof(url), "/openapi/v3/%s?hash=%016" PRIX64, path, hash(text ? text : ""));
		json_object_set_new(paths, path, json_pack("{s:s}", "serverRelativeURL", url));
	}
	return json_pack("{s:o}", "paths", paths);
}

void openapi_handle(struct request *r) {
	json_t *doc = NULL;
	if (streq(r->path, "/openapi/v2")) {
		/* An empty message is a valid document, without any definition. */
		reply_text(&r->reply, 200, "");
		r->reply.content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
		return;
	}
	if (streq(r->path, "/openapi/v3"))
		doc = root();
	else if (starts_with(r->path, "/openapi/v3/"))
		doc = document(r->path + strlen("/openapi/v3/"));
	if (!doc) {
		reply_route_not_found(r);
		return;
	}
	reply_dom(&r->reply, 200, doc);
	json_decref(doc);
	if (r->reply.body.data)
		snprintf(r->reply.etag, sizeof(r->reply.etag), "\"%016" PRIX64 "\"", hash(r->reply.body.data));
	if (r->if_none_match && streq(r->if_none_match, r->reply.etag)) {
		char etag[sizeof(r->reply.etag)];
		memcpy(etag, r->reply.etag, sizeof(etag));
		reply_text(&r->reply, 304, "");
		memcpy(r->reply.etag, etag, sizeof(etag));
	}
}
