/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/schema/openapi.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "api/scale.h"
#include "api/schema.h"
#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/reply.h"
#include "apiserver/schema/openapi2.h"
#include "base/hash.h"
#include "base/util.h"

#define PAGES_MAX 16

/*
 * Clients ask for "….v2@v1.0+protobuf". Go's parser of media types refuses an @ in a Content-Type, so the answer has a
 * dot there.
 */
#define PROTOBUF_V2 "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

/* "nacre.dev/v1alpha1" -> "apis/nacre.dev/v1alpha1"; "v1" -> "api/v1" */
static void openapi_path_of(const struct api_kind *k, char out[static 96]) {
	char gv[64];
	api_kind_version(k, gv);
	snprintf(out, 96, "%s/%s", *k->group ? "apis" : "api", gv);
}

/*
 * "dev.nacre.v1alpha1.Instance", with the parts of the group in reverse; "io.k8s.api.rbac.v1.Role" for Kubernetes'
 * kinds.
 */
static void schema_name(const struct api_kind *k, char out[static 256]) {
	const char *end = k->group + strlen(k->group);
	const char *kubernetes = strstr(k->group, ".k8s.io");
	size_t n = 0;
	if (!strchr(k->group, '.') || streq(kubernetes, ".k8s.io")) {
		snprintf(out, 256, "io.k8s.api.%.*s.%s.%s", *k->group ? (int)strcspn(k->group, ".") : 4,
		         *k->group ? k->group : "core", k->version, k->kind);
		return;
	}
	while (end > k->group) {
		const char *p = end;
		while (p > k->group && p[-1] != '.')
			p--;
		n += (size_t)snprintf(out + n, 256 - n, "%.*s.", (int)(end - p), p);
		end = p > k->group ? p - 1 : k->group;
	}
	snprintf(out + n, 256 - n, "%s.%s", k->version, k->kind);
}

static json_t *gvk(const struct api_kind *k) {
	return json_pack("{s:s, s:s, s:s}", "group", k->group, "version", k->version, "kind", k->kind);
}

static json_t *reference(const struct api_kind *k, bool list) {
	char name[256];
	schema_name(k, name);
	return json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s%s", name, list ? "List" : ""));
}

/* Operations. Each query parameter has the set of operations that take it. */
enum { OP_LIST = 1, OP_GET = 2, OP_CREATE = 4, OP_UPDATE = 8, OP_PATCH = 16, OP_DELETE = 32, OP_DELETE_ALL = 64 };
#define OP_WRITES (OP_CREATE | OP_UPDATE | OP_PATCH)
#define OP_LISTS  (OP_LIST | OP_DELETE_ALL)

static const struct {
	const char *name, *type, *doc;
	unsigned ops;
} query_params[] = {
	{"dryRun", "string", "All: nothing is stored.", OP_WRITES | OP_DELETE | OP_DELETE_ALL},
	{"fieldManager", "string", "The name of the field manager that makes the change.", OP_WRITES},
	{"fieldValidation", "string", "How unknown and duplicate fields are treated: Ignore, Warn or Strict.",
         OP_WRITES},
	{"force", "boolean", "Take over fields that other managers own; only for server-side apply.", OP_PATCH},
	{"gracePeriodSeconds", "integer", "Has no effect: deletion is not delayed.", OP_DELETE | OP_DELETE_ALL},
	{"propagationPolicy", "string", "How dependents are treated: Background, Foreground or Orphan.",
         OP_DELETE | OP_DELETE_ALL},
	{"labelSelector", "string", "Only objects with these labels.", OP_LISTS},
	{"fieldSelector", "string", "Only objects with these fields.", OP_LISTS},
	{"limit", "integer", "The maximum number of objects in one answer.", OP_LISTS},
	{"continue", "string", "Where to continue: metadata.continue of the last answer.", OP_LISTS},
	{"resourceVersion", "string", "The version to read at, or to watch from.", OP_LISTS | OP_GET},
	{"resourceVersionMatch", "string", "How resourceVersion is matched: Exact or NotOlderThan.", OP_LISTS},
	{"timeoutSeconds", "integer", "How long a watch lasts, in seconds.", OP_LISTS},
	{"watch", "boolean", "Send changes as they happen.", OP_LIST},
	{"allowWatchBookmarks", "boolean", "Send BOOKMARK events from time to time.", OP_LIST},
	{"sendInitialEvents", "boolean", "Begin a watch with the existing objects.", OP_LIST},
};

static const struct {
	unsigned op;
	const char *method, *action, *id; /* ID is the beginning of the operationId, as in kube-apiserver */
} operations[] = {
	{OP_LIST, "get", "list", "list"},
	{OP_GET, "get", "get", "read"},
	{OP_CREATE, "post", "post", "create"},
	{OP_UPDATE, "put", "put", "replace"},
	{OP_PATCH, "patch", "patch", "patch"},
	{OP_DELETE, "delete", "delete", "delete"},
	{OP_DELETE_ALL, "delete", "deletecollection", "delete"},
};

static json_t *parameters(unsigned op) {
	json_t *list = json_array();
	for (size_t i = 0; i < ARRAY_SIZE(query_params); i++)
		if (query_params[i].ops & op)
			json_array_append_new(list,
			                      json_pack("{s:s, s:s, s:s, s:{s:s, s:b}}", "name", query_params[i].name,
			                                "in", "query", "description", query_params[i].doc, "schema",
			                                "type", query_params[i].type, "uniqueItems", 1));
	return list;
}

static json_t *path_param(const char *name) {
	return json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", name, "in", "path", "required", 1, "schema", "type",
	                 "string");
}

/* The body of a write. For a patch kubectl reads only the media types. */
static json_t *body(const struct api_kind *k, bool patch) {
	static const char *const types[] = {"application/json-patch+json", "application/merge-patch+json",
	                                    "application/apply-patch+yaml", "application/strategic-merge-patch+json"};
	if (!patch)
		return json_pack("{s:{s:{s:o}}}", "content", "application/json", "schema", reference(k, false));
	json_t *content = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if ((k == &api_kind_scale && i >= 2) || (i == 3 && object_has_generation(k)))
			continue;
		json_object_set_new(content, types[i],
		                    json_pack("{s:{s:s}}", "schema", "type", i ? "object" : "array"));
	}
	return json_pack("{s:o}", "content", content);
}

/* "nacre.dev", "v1alpha1" -> "NacreDevV1alpha1". The common end of Kubernetes' groups (".k8s.io") is left out. */
static void camel_version(const struct api_kind *k, char out[static 128]) {
	const char *p = *k->group ? k->group : "core";
	bool upper = true;
	size_t n = 0;
	for (; *p && !streq(p, ".k8s.io") && n < 100; p++) {
		if (*p != '.')
			out[n++] = (char)(upper ? toupper((unsigned char)*p) : *p);
		upper = *p == '.';
	}
	snprintf(out + n, 128 - n, "%c%s", toupper((unsigned char)k->version[0]), k->version + 1);
}

/*
 * Adds the operations OPS on kind K to PATHS: on PLURAL, on PLURAL/{name}, or on its subresource SUB ("Status",
 * "Scale"). EVERYWHERE: the path without the namespace of a namespaced kind.
 */
static void add_path(json_t *paths, const struct api_kind *k, unsigned ops, const char *sub, bool everywhere) {
	const struct api_kind *body_kind = streq(sub, "Scale") ? &api_kind_scale : k;
	bool named = !(ops & OP_LISTS), in_ns = k->namespaced && !everywhere;
	char base[96], path[256], version[128];
	openapi_path_of(k, base);
	camel_version(k, version);
	snprintf(path, sizeof(path), "/%s/%s%s%s%s%s", base, in_ns ? "namespaces/{namespace}/" : "", k->plural,
	         named ? "/{name}" : "", *sub ? "/" : "",
	         streq(sub, "Status") ? "status"
	         : *sub               ? "scale"
	                              : "");
	json_t *item = json_object(), *in_path = json_array();
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		unsigned op = operations[i].op;
		if (!(ops & op))
			continue;
		json_t *o = json_pack("{s:o, s:s, s:o, s:o}", "operationId",
		                      json_sprintf("%s%s%s%s%s%s%s", operations[i].id, version,
		                                   op == OP_DELETE_ALL ? "Collection" : "", in_ns ? "Namespaced" : "",
		                                   k->kind, sub, everywhere ? "ForAllNamespaces" : ""),
		                      "x-kubernetes-action", operations[i].action, "x-kubernetes-group-version-kind",
		                      gvk(k), "parameters", parameters(op));
		if (op & OP_WRITES)
			json_object_set_new(o, "requestBody", body(body_kind, op == OP_PATCH));
		/*
		 * The answer to a delete is a Status, or the object if it waits for its finalizers, so it has no
		 * schema.
		 */
		json_t *ok = json_pack("{s:s}", "description", "OK");
		if (!(op & (OP_DELETE | OP_DELETE_ALL)))
			json_object_set_new(ok, "content",
			                    json_pack("{s:{s:o}}", "application/json", "schema",
			                              reference(body_kind, op == OP_LIST)));
		json_object_set_new(o, "responses", json_pack("{s:o}", op == OP_CREATE ? "201" : "200", ok));
		json_object_set_new(item, operations[i].method, o);
	}
	if (in_ns)
		json_array_append_new(in_path, path_param("namespace"));
	if (named)
		json_array_append_new(in_path, path_param("name"));
	json_object_set_new(item, "parameters", in_path);
	json_object_set_new(paths, path, item);
}

static void add_paths(json_t *paths, const struct api_kind *k) {
	add_path(paths, k, OP_LIST | OP_CREATE | OP_DELETE_ALL, "", false);
	add_path(paths, k, OP_GET | OP_UPDATE | OP_PATCH | OP_DELETE, "", false);
	if (k->namespaced)
		add_path(paths, k, OP_LIST, "", true);
	if (k->has_status)
		add_path(paths, k, OP_GET | OP_UPDATE | OP_PATCH, "Status", false);
	if (k->scale)
		add_path(paths, k, OP_GET | OP_UPDATE | OP_PATCH, "Scale", false);
}

/*
 * Adds the members of metadata, which a CRD may not declare, for `kubectl explain`. Only for custom resources: for
 * other kinds kubectl would take from it how to merge lists, which is not declared here.
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
	if (k == &api_kind_scale)
		return;
	_free_ char *list_name = strf("%sList", name), *list_kind = strf("%sList", k->kind);
	if (!list_name || !list_kind)
		return;
	json_t *list = json_pack("{s:s, s:[s], s:{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s, s:o}}, s:[{s:s, s:s, s:s}]}",
	                         "type", "object", "required", "items", "properties", "apiVersion", "type", "string",
	                         "kind", "type", "string", "metadata", "type", "object", "items", "type", "array",
	                         "items", reference(k, false), "x-kubernetes-group-version-kind", "group", k->group,
	                         "version", k->version, "kind", list_kind);
	json_object_set_new(list, "description", json_sprintf("A list of %s.", k->plural));
	json_object_set_new(schemas, list_name, list);
}

/* The document of one group and version: "apis/nacre.dev/v1alpha1". NULL: there is none. */
static json_t *document(const char *of) {
	char path[96];
	json_t *paths = NULL, *schemas = NULL;
	for (unsigned i = 0; api_kinds[i]; i++) {
		openapi_path_of(api_kinds[i], path);
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

/*
 * All pages. They are made at the first request for one of them, since the kinds don't change while the server runs.
 * Either all pages exist or none.
 */
static struct page {
	char *path;
	const char *type;
	struct buf body;
	char etag[24];
} pages[PAGES_MAX];
static size_t n_pages;

/* Takes PATH and the content of TEXT. False: no memory. */
static bool page_add(char *path, const char *type, struct buf *text) {
	struct page *p = &pages[n_pages];
	if (!path || text->failed || n_pages == PAGES_MAX) {
		free(path);
		buf_free(text);
		return false;
	}
	*p = (struct page){.path = path, .type = type, .body = *text};
	snprintf(p->etag, sizeof(p->etag), "\"%016" PRIX64 "\"", fnv1a(FNV1A_BASIS, text->data, text->len));
	n_pages++;
	return true;
}

static bool page_add_json(char *path, const json_t *doc) {
	struct buf text = {0};
	if (doc)
		tree_dump(&text, doc);
	else
		text.failed = true;
	return page_add(path, "application/json", &text);
}

static struct page *page_find(const char *path, const char *type) {
	for (size_t i = 0; i < n_pages; i++)
		if (streq(pages[i].path, path) && streq(pages[i].type, type))
			return &pages[i];
	return NULL;
}

static bool add_v2(const json_t *v3) {
	_json_decref_ json_t *doc = openapi2_document(v3);
	struct buf wire = {0};
	if (!doc || !page_add_json(strdup("/openapi/v2"), doc))
		return false;
	openapi2_encode(&wire, doc);
	return page_add(strdup("/openapi/v2"), PROTOBUF_V2, &wire);
}

static bool make_pages(void) {
	_json_decref_ json_t *paths = json_object(), *docs = json_array(), *root = NULL;
	char of[96];
	for (unsigned i = 0; api_kinds[i]; i++) {
		openapi_path_of(api_kinds[i], of);
		if (json_object_get(paths, of))
			continue;
		json_t *doc = document(of);
		if (!page_add_json(strf("/openapi/v3/%s", of), doc) || json_array_append_new(docs, doc) < 0)
			return false;
		const char *etag = pages[n_pages - 1].etag;
		json_t *url = json_sprintf("/openapi/v3/%s?hash=%.*s", of, (int)strlen(etag) - 2, etag + 1);
		if (json_object_set_new(paths, of, json_pack("{s:o}", "serverRelativeURL", url)) < 0)
			return false;
	}
	root = json_pack("{s:O}", "paths", paths);
	return page_add_json(strdup("/openapi/v3"), root) && add_v2(docs);
}

void openapi_handle(struct request *r) {
	if (n_pages == 0 && !make_pages()) {
		while (n_pages > 0) {
			n_pages--;
			free(pages[n_pages].path);
			buf_free(&pages[n_pages].body);
		}
		reply_internal(r, "out of memory");
		return;
	}
	const struct page *p = page_find(r->path, r->accept == MEDIA_OPENAPI_V2 ? PROTOBUF_V2 : "application/json");
	if (!p)
		p = page_find(r->path, "application/json");
	if (!p) {
		reply_route_not_found(r);
		return;
	}
	bool same = r->if_none_match && streq(r->if_none_match, p->etag);
	reply_text(&r->reply, same ? 304 : 200, "");
	if (!same) {
		buf_add(&r->reply.body, p->body.data, p->body.len);
		r->reply.content_type = p->type;
	}
	snprintf(r->reply.etag, sizeof(r->reply.etag), "%s", p->etag);
	if (r->reply.body.failed)
		reply_internal(r, "out of memory");
}
