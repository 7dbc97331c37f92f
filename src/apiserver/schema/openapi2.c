/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/schema/openapi2.h"

#include <string.h>

#include "api/meta.h"
#include "api/schema.h"
#include "apiserver/json/tree.h"
#include "base/util.h"

#define META "io.k8s.apimachinery.pkg.apis.meta.v1."

/* The names that these have in Kubernetes. Clients look for the metadata of all kinds there. */
#define OBJECT_META META "ObjectMeta"
#define LIST_META   META "ListMeta"

/* What the server stores in addition to the declared metadata; see apiserver/fields/managed.h. */
static const char managed_fields[] =
	"{\"description\":\"Which field manager owns which field.\",\"type\":\"array\","
	"\"items\":{\"type\":\"object\",\"properties\":{"
	"\"apiVersion\":{\"type\":\"string\"},\"fieldsType\":{\"type\":\"string\"},\"fieldsV1\":{\"type\":\"object\"},"
	"\"manager\":{\"type\":\"string\"},\"operation\":{\"type\":\"string\"},\"subresource\":{\"type\":\"string\"},"
	"\"time\":{\"type\":\"string\",\"format\":\"date-time\"}}},\"x-kubernetes-list-type\":\"atomic\"}";
static const char list_meta[] =
	"{\"description\":\"Metadata of a list.\",\"type\":\"object\",\"properties\":{"
	"\"continue\":{\"description\":\"Where the next page begins; absent on the last one.\",\"type\":\"string\"},"
	"\"remainingItemCount\":{\"description\":\"How many objects come after this page.\",\"type\":\"integer\","
	"\"format\":\"int64\"},"
	"\"resourceVersion\":{\"description\":\"The version that the list shows.\",\"type\":\"string\"}}}";

/* Changes "#/components/schemas/X" to "#/definitions/X" everywhere in V. */
static int move_references(json_t *v) {
	static const char from[] = "#/components/schemas/";
	const char *key;
	json_t *child;
	size_t i;
	int r = 0;
	json_object_foreach(v, key, child) {
		const char *ref = streq(key, "$ref") ? json_string_value(child) : NULL;
		if (ref && starts_with(ref, from))
			r |= json_object_set_new(v, key, json_sprintf("#/definitions/%s", ref + strlen(from)));
		else
			r |= move_references(child);
	}
	json_array_foreach(v, i, child) {
		r |= move_references(child);
	}
	return r;
}

/*
 * Removes from the schema S what clients of v2 misread: defaults and, in objects below the top that keep unknown
 * fields, all details, because kubectl refuses fields that are not listed. PATCH: also adds how strategic merge patches
 * merge lists.
 */
static int convert_schema(json_t *s, bool patch, bool top) {
	json_t *props = json_object_get(s, "properties"), *child;
	const char *key, *list = json_string_value(json_object_get(s, "x-kubernetes-list-type"));
	int r = 0;
	json_object_del(s, "default");
	if (json_object_get(s, "x-kubernetes-preserve-unknown-fields")) {
		if (top)
			json_object_del(s, "x-kubernetes-preserve-unknown-fields");
		else {
			json_object_del(s, "type");
			json_object_del(s, "properties");
			json_object_del(s, "required");
			json_object_del(s, "items");
			return 0;
		}
	}
	if (patch && list && !streq(list, "atomic")) {
		r |= json_object_set_new(s, "x-kubernetes-patch-strategy", json_string("merge"));
		json_t *merge_key = json_array_get(json_object_get(s, "x-kubernetes-list-map-keys"), 0);
		if (merge_key)
			r |= json_object_set(s, "x-kubernetes-patch-merge-key", merge_key);
	}
	json_object_foreach(props, key, child) {
		r |= convert_schema(child, patch, false);
	}
	child = json_object_get(s, "items");
	r |= child ? convert_schema(child, patch, false) : 0;
	child = json_object_get(s, "additionalProperties");
	return r | (child ? convert_schema(child, patch, false) : 0);
}

/* The metadata of a kind is a reference, so that clients recognize it as metadata. */
static int convert_kind(json_t *definitions, const char *name, const json_t *schema) {
	json_t *s = tree_copy(schema), *props = json_object_get(s, "properties");
	json_t *meta = json_object_get(props, "metadata");
	bool list = json_object_get(props, "items") != NULL;
	int r = json_object_set_new(definitions, name, s);
	if (meta)
		r |= json_object_set_new(
			props, "metadata",
			json_pack("{s:s, s:s}", "description", "Standard object metadata.", "$ref",
		                  list ? "#/components/schemas/" LIST_META : "#/components/schemas/" OBJECT_META));
	return r | convert_schema(s, starts_with(name, "io.k8s."), true);
}

static int add_meta(json_t *definitions) {
	json_t *meta = api_schema(&api_desc_api_meta);
	int r = json_object_set_new(definitions, OBJECT_META, meta);
	r |= json_object_set_new(json_object_get(meta, "properties"), "managedFields",
	                         json_loads(managed_fields, 0, NULL));
	r |= json_object_set_new(definitions, LIST_META, json_loads(list_meta, 0, NULL));
	return r | convert_schema(meta, true, true);
}

/* In v2 the schema of a parameter is part of the parameter. */
static json_t *convert_parameters(const json_t *v3) {
	json_t *list = json_array(), *p;
	size_t i;
	json_array_foreach((json_t *)v3, i, p) {
		json_t *copy = tree_copy(p);
		json_object_update(copy, json_object_get(copy, "schema"));
		json_object_del(copy, "schema");
		if (json_array_append_new(list, copy) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* The media types of a body become "consumes", and its schema becomes a parameter. */
static int convert_body(json_t *op, json_t *params) {
	json_t *content = json_object_get(json_object_get(op, "requestBody"), "content"), *media, *consumes;
	const char *type;
	int r = 0;
	if (!content)
		return json_object_set_new(op, "consumes", json_pack("[s]", "application/json"));
	consumes = json_array();
	json_object_foreach(content, type, media) {
		r |= json_array_append_new(consumes, json_string(type));
	}
	bool patch = json_array_size(consumes) > 1;
	media = json_object_iter_value(json_object_iter(content));
	r |= json_array_append_new(
		params,
		json_pack("{s:s, s:s, s:b, s:o}", "name", "body", "in", "body", "required", 1, "schema",
	                  patch ? json_pack("{s:s}", "type", "object") : tree_copy(json_object_get(media, "schema"))));
	json_object_del(op, "requestBody");
	return r | json_object_set_new(op, "consumes", consumes);
}

static int convert_operation(json_t *paths, const char *path, const char *method, const json_t *v3) {
	json_t *op = tree_copy(v3), *params = convert_parameters(json_object_get(v3, "parameters")), *answer;
	json_t *kind = json_object_get(v3, "x-kubernetes-group-version-kind");
	const char *code;
	int r = json_object_set_new(json_object_get(paths, path), method, op);
	r |= json_object_set_new(op, "parameters", params);
	r |= convert_body(op, params);
	r |= json_object_set_new(op, "produces", json_pack("[s]", "application/json"));
	r |= json_object_set_new(op, "schemes", json_pack("[s]", "https"));
	r |= json_object_set_new(
		op, "tags",
		json_pack("[o]", json_sprintf("%s_%s", json_string_value(json_object_get(kind, "group")),
	                                      json_string_value(json_object_get(kind, "version")))));
	json_object_foreach(json_object_get(op, "responses"), code, answer) {
		json_t *media = json_object_get(json_object_get(answer, "content"), "application/json");
		if (media)
			r |= json_object_set(answer, "schema", json_object_get(media, "schema"));
		json_object_del(answer, "content");
	}
	return r;
}

static int convert_path(json_t *paths, const char *path, const json_t *v3) {
	const char *method;
	json_t *op;
	int r = json_object_set_new(paths, path, json_object());
	json_object_foreach((json_t *)v3, method, op) {
		if (streq(method, "parameters"))
			r |= json_object_set_new(json_object_get(paths, path), method, convert_parameters(op));
		else
			r |= convert_operation(paths, path, method, op);
	}
	return r;
}

json_t *openapi2_document(const json_t *v3) {
	json_t *paths = json_object(), *definitions = json_object(), *doc, *v;
	const char *key;
	size_t i;
	int r = add_meta(definitions);
	json_t *out = json_pack("{s:s, s:{s:s, s:s}, s:o, s:o}", "swagger", "2.0", "info", "title", "Nacre", "version",
	                        NACRE_VERSION, "paths", paths, "definitions", definitions);
	json_array_foreach((json_t *)v3, i, doc) {
		json_object_foreach(json_object_get(doc, "paths"), key, v) {
			r |= convert_path(paths, key, v);
		}
		json_object_foreach(json_object_get(json_object_get(doc, "components"), "schemas"), key, v) {
			r |= convert_kind(definitions, key, v);
		}
	}
	if (!out || (r | move_references(out)) < 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}
