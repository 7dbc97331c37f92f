/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/object.h"

#include <errno.h>
#include <string.h>

#include "apiserver/json/tree.h"
#include "base/util.h"

size_t object_values_max(const struct api_kind *k) {
	return k && k->max_values ? k->max_values : TREE_VALUES_MAX;
}

json_t *object_meta(const json_t *obj) {
	json_t *m = json_object_get(obj, "metadata");
	return json_is_object(m) ? m : NULL;
}

const char *object_meta_str(const json_t *obj, const char *key) {
	const char *v = json_string_value(json_object_get(object_meta(obj), key));
	return v && *v ? v : NULL;
}

int object_set_meta_str(json_t *obj, const char *key, const char *value) {
	json_t *m = object_meta(obj);
	if (!value) {
		json_object_del(m, key);
		return 0;
	}
	return json_object_set_new(m, key, json_string(value)) < 0 ? -ENOMEM : 0;
}

int object_set_meta_i64(json_t *obj, const char *key, int64_t value) {
	return json_object_set_new(object_meta(obj), key, json_integer(value)) < 0 ? -ENOMEM : 0;
}

int64_t object_generation(const json_t *obj) {
	return json_integer_value(json_object_get(object_meta(obj), "generation"));
}

size_t object_finalizers(const json_t *obj) {
	return json_array_size(json_object_get(object_meta(obj), "finalizers"));
}

bool object_has_finalizer(const json_t *obj, const char *name) {
	size_t i;
	json_t *v;
	json_array_foreach(json_object_get(object_meta(obj), "finalizers"), i, v) {
		if (streq(json_string_value(v), name))
			return true;
	}
	return false;
}

bool object_deleting(const json_t *obj) {
	return object_meta_str(obj, "deletionTimestamp") != NULL;
}

static int keep(json_t *to, const json_t *from, const char *key) {
	json_t *v = json_object_get(from, key);
	if (!v) {
		json_object_del(to, key);
		return 0;
	}
	return json_object_set(to, key, v) < 0 ? -ENOMEM : 0;
}

int object_keep_meta(json_t *obj, const json_t *old, const char *key) {
	return keep(object_meta(obj), object_meta(old), key);
}

int object_keep(json_t *obj, const json_t *old, const char *key) {
	return keep(obj, old, key);
}

bool object_has_generation(const struct api_kind *k) {
	return strchr(k->group, '.') && !strstr(k->group, ".k8s.io");
}

bool object_desired_differs(const struct api_kind *k, const json_t *a, const json_t *b) {
	const char *key;
	json_t *v;
	size_t left = json_object_size(b);
	left -= json_object_get(b, "metadata") != NULL;
	left -= k->has_status && json_object_get(b, "status");
	json_object_foreach((json_t *)a, key, v) {
		if (streq(key, "metadata") || (k->has_status && streq(key, "status")))
			continue;
		if (!json_equal(v, json_object_get(b, key)))
			return true;
		left--;
	}
	return left > 0;
}

json_t *object_ordered(const struct api_kind *k, const json_t *obj) {
	char gv[64];
	const char *key;
	json_t *v, *out = json_object();
	api_kind_version(k, gv);
	int r = json_object_set_new(out, "apiVersion", json_string(gv));
	r |= json_object_set_new(out, "kind", json_string(k->kind));
	r |= json_object_set(out, "metadata", json_object_get(obj, "metadata"));
	json_object_foreach((json_t *)obj, key, v) {
		if (!json_object_get(out, key))
			r |= json_object_set(out, key, v);
	}
	if (r == 0)
		return out;
	json_decref(out);
	return NULL;
}

/* An earlier version stored objects nested up to 2,048 levels deep. jansson can read them. */
static int read_deep(const char *json, size_t len, json_t **ret) {
	json_error_t cause;
	struct error err;
	size_t values = SIZE_MAX;
	_json_decref_ json_t *obj = json_loadb(json, len, 0, &cause);
	if (!obj)
		return json_error_code(&cause) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
	/* managedFields may be dropped. In an object of a known schema nothing else can be nested this deeply. */
	json_object_del(object_meta(obj), "managedFields");
	if (tree_charge(obj, 0, &values, NULL, &err) < 0)
		return -EBADMSG;
	*ret = TAKE_PTR(obj);
	return 0;
}

int object_read(const char *json, size_t len, json_t **ret) {
	struct error err;
	bool twice;
	int r = tree_load_foreign(json, len, SIZE_MAX, ret, &twice, &err);
	return r == -EINVAL ? read_deep(json, len, ret) : r;
}

json_t *object_load(const char *json, size_t len) {
	json_t *obj;
	return object_read(json, len, &obj) < 0 ? NULL : obj;
}
