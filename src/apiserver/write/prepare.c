/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/prepare.h"

#include "api/account.h"
#include "api/core.h"
#include "api/rbac.h"
#include "apiserver/json/object.h"
#include "apiserver/request/reply.h"
#include "base/base64.h"
#include "base/util.h"

static int prepare_out_of_memory(struct request *r) {
	reply_internal(r, "out of memory");
	return -ENOMEM;
}

/* For kube-apiserver the result of a patch is invalid, not the request. */
static void reply_bad_patch(struct request *r, size_t at) {
	struct api_errors errs = {0};
	api_errors_add(&errs, API_INVALID, "patch", "Invalid value: illegal base64 data at input byte %zu", at);
	const struct status_details d = {.causes = &errs};
	reply_status(&r->reply, 422, "Invalid", &d, " \"\" is invalid: patch: %s", errs.v[0].msg);
}

/* Checks values that hold bytes. Values of another type are refused later, by the check of types. */
static int check_base64(struct request *r, const struct api_kind *k, const json_t *map) {
	const char *key;
	json_t *v;
	size_t at;
	json_object_foreach((json_t *)map, key, v) {
		if (!json_is_string(v) || base64_decode(NULL, json_string_value(v), json_string_length(v), &at) == 0)
			continue;
		if (r->route.verb == VERB_PATCH)
			reply_bad_patch(r, at);
		else
			reply_bad_request(
				r,
				"%s in version \"%s\" cannot be handled as a %s: illegal base64 data at input byte %zu",
				k->kind, k->version, k->kind, at);
		return -EINVAL;
	}
	return 0;
}

static int null_to_empty(json_t *map) {
	const char *key;
	json_t *v;
	void *next;
	json_object_foreach_safe(map, next, key, v) {
		if (json_is_null(v) && json_object_set_new(map, key, json_string("")) < 0)
			return -ENOMEM;
	}
	return 0;
}

int prepare_nulls(const struct api_kind *k, json_t *obj) {
	json_t *m = object_meta(obj);
	int e = null_to_empty(json_object_get(m, "labels"));
	if (e == 0)
		e = null_to_empty(json_object_get(m, "annotations"));
	for (size_t i = 0; e == 0 && !object_has_generation(k) && i < k->desc->n_fields; i++)
		if (k->desc->fields[i].type == API_TYPE_map)
			e = null_to_empty(json_object_get(obj, k->desc->fields[i].name));
	return e;
}

static int prepare_secret(struct request *r, const struct api_kind *k, json_t *obj) {
	json_t *text = json_object_get(obj, "stringData"), *data = json_object_get(obj, "data"), *v;
	const char *key;
	if (json_is_object(text) && json_object_size(text) && !data) {
		data = json_object();
		if (json_object_set_new(obj, "data", data) < 0)
			return prepare_out_of_memory(r);
	}
	if (json_is_object(text) && json_is_object(data)) {
		json_object_foreach(text, key, v) {
			_buf_free_ struct buf b = {.max = REQUEST_BODY_MAX * 2};
			if (!json_is_string(v)) {
				reply_bad_request(
					r,
					"Secret in version \"v1\" cannot be handled as a Secret: stringData.%.63s "
					"must be a string",
					key);
				return -EINVAL;
			}
			base64_encode(&b, json_string_value(v), json_string_length(v));
			if (b.failed || json_object_set_new(data, key, json_stringn(b.data ? b.data : "", b.len)) < 0)
				return prepare_out_of_memory(r);
		}
		json_object_del(obj, "stringData");
	}
	return check_base64(r, k, data);
}

static int prepare_binding(struct request *r, json_t *obj) {
	size_t i;
	json_t *s;
	json_array_foreach(json_object_get(obj, "subjects"), i, s) {
		const char *kind = json_string_value(json_object_get(s, "kind"));
		const char *group = json_string_value(json_object_get(s, "apiGroup"));
		if ((streq(kind, "User") || streq(kind, "Group")) && (!group || !*group) &&
		    json_object_set_new(s, "apiGroup", json_string(RBAC_GROUP)) < 0)
			return prepare_out_of_memory(r);
	}
	return 0;
}

int prepare_object(struct request *r, const struct api_kind *k, json_t *obj) {
	if (k == &api_kind_lease && !json_object_get(obj, "spec") &&
	    json_object_set_new(obj, "spec", json_object()) < 0)
		return prepare_out_of_memory(r);
	if (k == &api_kind_secret)
		return prepare_secret(r, k, obj);
	if (k == &api_kind_configmap)
		return check_base64(r, k, json_object_get(obj, "binaryData"));
	if (k == &api_kind_rolebinding || k == &api_kind_clusterrolebinding)
		return prepare_binding(r, obj);
	return 0;
}
