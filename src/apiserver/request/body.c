/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request/body.h"

#include <string.h>

#include "apiserver/fields/managed.h"
#include "apiserver/json/duplicates.h"
#include "apiserver/json/object.h"
#include "apiserver/json/protobuf.h"
#include "apiserver/json/tree.h"
#include "apiserver/json/yamlread.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

#define FORMAT_TEXT "the body of the request was in an unknown format - accepted media types include: "

bool request_is_apply(const struct request *r) {
	return r->route.verb == VERB_PATCH && streq(r->content_type, TYPE_APPLY);
}

/* ---- options ---- */

static void check_manager(struct request *r, struct api_errors *errs) {
	const char *manager = request_param(r, "fieldManager");
	if (request_is_apply(r) && (!manager || !*manager))
		api_errors_add(errs, API_REQUIRED, "fieldManager", "Required value: is required for apply patch");
	if (!manager)
		return;
	if (strlen(manager) > MANAGER_NAME_MAX)
		api_errors_add(errs, API_TOO_LONG, "fieldManager", "Too long: may not be more than %d bytes",
		               MANAGER_NAME_MAX);
}

static int check_options(struct request *r) {
	static const char *const kinds[VERBS_COUNT] = {
		[VERB_CREATE] = "CreateOptions",
		[VERB_UPDATE] = "UpdateOptions",
		[VERB_PATCH] = "PatchOptions",
		[VERB_DELETE] = "DeleteOptions",
		[VERB_DELETE_COLLECTION] = "DeleteOptions",
	};
	const char *dry = request_param(r, "dryRun"), *fv = request_param(r, "fieldValidation");
	struct api_errors errs = {0};
	if (r->route.verb == VERB_PATCH && !request_is_apply(r) && request_param(r, "force"))
		api_errors_add(&errs, API_FORBIDDEN, "force", "Forbidden: may not be specified for non-apply patch");
	check_manager(r, &errs);
	if (dry && !streq(dry, "All"))
		api_errors_add(&errs, API_NOT_SUPPORTED, "dryRun",
		               "Unsupported value: [\"%.63s\"]: supported values: \"All\"", dry);
	if (fv && *fv && !streq(fv, "Strict") && !streq(fv, "Warn") && !streq(fv, "Ignore"))
		api_errors_add(&errs, API_NOT_SUPPORTED, "fieldValidation",
		               "Unsupported value: \"%.63s\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
		               fv);
	if (!errs.n)
		return 0;
	reply_invalid_as(r, "meta.k8s.io", kinds[r->route.verb], NULL, &errs);
	return -EINVAL;
}

/* ---- media types ---- */

static bool takes_strategic(const struct request *r) {
	return r->route.kind && !object_has_generation(r->route.kind);
}

static int body_check_type(struct request *r) {
	const char *type = r->content_type;
	const bool strategic = takes_strategic(r);
	if (r->route.verb == VERB_PATCH) {
		if (streq(type, TYPE_JSON_PATCH) || streq(type, TYPE_MERGE_PATCH) || streq(type, TYPE_APPLY) ||
		    (strategic && streq(type, TYPE_STRATEGIC)))
			return 0;
		reply_status(&r->reply, 415, "UnsupportedMediaType", NULL, FORMAT_TEXT "%s, %s, %s%s", TYPE_JSON_PATCH,
		             TYPE_MERGE_PATCH, strategic ? TYPE_STRATEGIC ", " : "", TYPE_APPLY);
		return -EINVAL;
	}
	if (!type || streq(type, "application/json") || streq(type, TYPE_YAML) || streq(type, PROTOBUF_TYPE))
		return 0;
	reply_status(&r->reply, 415, "UnsupportedMediaType", NULL, FORMAT_TEXT "application/json, %s, %s", TYPE_YAML,
	             PROTOBUF_TYPE);
	return -EINVAL;
}

static int parse_protobuf(struct request *r, bool options) {
	struct error err = {0};
	const struct route *rt = &r->route;
	const char *kind = options ? "DeleteOptions" : rt->review ? rt->review->kind : rt->kind->kind;
	int e = protobuf_decode(kind, r->body.data, r->body.len, &r->json, &err);
	if (e == -EOPNOTSUPP)
		reply_status(&r->reply, 415, "UnsupportedMediaType", NULL, "%s", err.msg);
	else if (e < 0)
		reply_bad_request(r, "%s", err.msg);
	buf_free(&r->body);
	return e;
}

/* A client may send a whole object as it read it, with managedFields, which have up to TREE_VALUES_MAX values again. */
static int check_values(const json_t *body, size_t max, struct error *err) {
	size_t values = max, managed = max + TREE_VALUES_MAX;
	struct error ignored;
	const json_t *list = json_object_get(object_meta(body), "managedFields");
	/* This is cheap: the body has no more values than that. */
	if (list && tree_charge(list, 2, &managed, NULL, &ignored) == 0)
		values += max + TREE_VALUES_MAX - managed;
	return tree_charge(body, 0, &values, NULL, err) == 0
	               ? 0
	               : error_set(err, EINVAL, "more than %zu values besides metadata.managedFields", max);
}

static int parse_json(struct request *r, bool yaml, struct error *err) {
	const char *text = r->body.data ? r->body.data : "";
	const bool whole = (r->route.verb == VERB_CREATE || r->route.verb == VERB_UPDATE) && !r->route.review;
	const size_t max = object_values_max(r->route.kind);
	bool twice;
	int e = tree_load_foreign(text, r->body.len, whole ? max + TREE_VALUES_MAX : max, &r->json, &twice, err);
	/* A value takes at least two bytes, so a shorter body has few enough. */
	if (e == 0 && whole && r->body.len / 2 >= max)
		e = check_values(r->json, max, err);
	if (e == 0 && twice && yaml)
		e = error_set(err, EINVAL, "an object has a member twice");
	if (e < 0) {
		json_decref(r->json);
		r->json = NULL;
		return error_prefix(err, "the body can't be read");
	}
	if (!twice)
		return 0;
	/* fieldValidation decides whether that is an error; see prune_object(). */
	r->duplicates = calloc(1, sizeof(*r->duplicates));
	return r->duplicates && json_duplicates(text, r->body.len, r->duplicates) == 0 ? 0 : error_oom(err);
}

/* A body that begins with { is first read as JSON, which is YAML as well and is read much faster. */
static int parse_yaml(struct request *r, bool strict, struct error *err) {
	const char *text = r->body.data ? r->body.data : "";
	const bool json = text[strspn(text, " \t\r\n")] == '{';
	int e = json ? parse_json(r, true, err) : -EINVAL;
	if (e == 0)
		return 0;
	/*
	 * If that failed and the body is not too long for the YAML reader, the YAML reader reports the fault, for
	 * example a repeated key, in Kubernetes' words.
	 */
	if (json && r->body.len > YAML_TEXT_MAX)
		return e;
	if (r->body.len > YAML_TEXT_MAX)
		return error_set(err, EMSGSIZE,
		                 "a body in YAML may have at most %zu bytes, not %zu; a body in JSON may have %zu",
		                 YAML_TEXT_MAX, r->body.len, REQUEST_BODY_MAX);
	e = yaml_parse(text, r->body.len, strict, &r->json, err);
	if (e == 0)
		return 0;
	bool twice = strstr(err->msg, "already set in map") != NULL;
	error_prefix(err, "error converting YAML to JSON");
	return error_prefix(err, "error %sdecoding YAML", twice ? "strict " : "");
}

int body_parse(struct request *r) {
	struct error err = {0};
	const bool optional = r->route.verb == VERB_DELETE || r->route.verb == VERB_DELETE_COLLECTION;
	const bool strict = streq(request_param(r, "fieldValidation"), "Strict");
	if (!optional && body_check_type(r) < 0)
		return -EINVAL;
	if (check_options(r) < 0)
		return -EINVAL;
	if (r->body.len == 0 && optional)
		return 0;
	if (body_check_type(r) < 0)
		return -EINVAL;
	if (r->route.verb != VERB_PATCH && streq(r->content_type, PROTOBUF_TYPE))
		return parse_protobuf(r, optional);
	bool yaml = streq(r->content_type, TYPE_YAML) || request_is_apply(r);
	int e = yaml ? parse_yaml(r, strict, &err) : parse_json(r, false, &err);
	if (e == -EMSGSIZE)
		reply_status(&r->reply, 413, "RequestEntityTooLarge", NULL, "%s", err.msg);
	else if (e < 0)
		reply_bad_request(r, "%s", err.msg);
	if (e < 0)
		return -EINVAL;
	if (optional && json_is_null(r->json)) {
		json_decref(r->json);
		r->json = NULL;
		return 0;
	}
	if ((r->route.verb != VERB_PATCH || request_is_apply(r)) && !json_is_object(r->json)) {
		reply_bad_request(r, "the body must be an object");
		return -EINVAL;
	}
	buf_free(&r->body);
	return 0;
}
