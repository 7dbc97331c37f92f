/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/strategic.h"

#include <string.h>

#include "apiserver/json/tree.h"
#include "base/util.h"

#define ORDER  "$setElementOrder/"
#define DELETE "$deleteFromPrimitiveList/"

static const struct api_field *strategic_declared(const struct api_desc *d, const char *name) {
	for (size_t i = 0; d && i < d->n_fields; i++)
		if (strcmp(d->fields[i].name, name) == 0)
			return &d->fields[i];
	return NULL;
}

/* True if A and B are the same element: their members KEY are equal, or, if KEY is NULL, the values themselves. */
static bool alike(const char *key, const json_t *a, const json_t *b) {
	if (!key)
		return json_equal(a, b);
	const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
	return x && y && json_equal(x, y);
}

/* The index in LIST of the same element as V, or -1. */
static ssize_t strategic_find(const json_t *list, const char *key, const json_t *v) {
	size_t i;
	json_t *e;
	json_array_foreach((json_t *)list, i, e) {
		if (alike(key, e, v))
			return (ssize_t)i;
	}
	return -1;
}

/* Finding elements is linear. So a patch may not hold a longer list than the field F allows. */
static int too_long(const struct api_field *f, const json_t *list, struct error *err) {
	return json_array_size(list) <= (size_t)f->max
	               ? 0
	               : error_set(err, EMSGSIZE,
	                           "list %.100s of the patch: Too many: %zu: must have at most %lld items", f->name,
	                           json_array_size(list), (long long)f->max);
}

/* A copy without directives and nulls, for a member that the target doesn't have. */
static json_t *strategic_plain(const json_t *v) {
	const char *key;
	json_t *child, *out;
	size_t i;
	int r = 0;
	if (json_is_object(v)) {
		out = json_object();
		json_object_foreach((json_t *)v, key, child) {
			if (key[0] != '$' && !json_is_null(child))
				r |= json_object_set_new(out, key, strategic_plain(child));
		}
	} else if (json_is_array(v)) {
		out = json_array();
		json_array_foreach((json_t *)v, i, child) {
			/* An element with a directive only asks for a deletion; it is not added. */
			if (!json_object_get(child, "$patch"))
				r |= json_array_append_new(out, strategic_plain(child));
		}
	} else
		return json_incref((json_t *)v); /* scalars are shared: nobody changes them in place */
	if (r == 0)
		return out;
	json_decref(out);
	return NULL;
}

static int merge_object(const struct api_desc *d, json_t *target, const json_t *patch, struct error *err);

/* For lists with keys: elements that exist are merged, new ones are appended. */
static int merge_elements(const struct api_field *f, json_t *target, const json_t *patch, struct error *err) {
	const char *key = api_list_key(f);
	size_t i;
	json_t *e;
	bool replace = false;
	json_array_foreach((json_t *)patch, i, e) {
		const char *directive = json_string_value(json_object_get(e, "$patch"));
		if (!json_is_object(e))
			return error_set(err, EINVAL, "elements of list %s must be objects", f->name);
		if (streq(directive, "replace"))
			replace = true;
		else if (directive && !streq(directive, "delete"))
			return error_set(err, EINVAL, "unknown $patch `%.40s` in list %s", directive, f->name);
		else if (!json_object_get(e, key))
			return error_set(err, ENOKEY, "an element of list %s does not contain declared merge key: %s",
			                 f->name, key);
	}
	if (replace)
		json_array_clear(target);
	json_array_foreach((json_t *)patch, i, e) {
		const json_t *directive = json_object_get(e, "$patch");
		ssize_t at = strategic_find(target, key, e);
		int r = 0;
		if (streq(json_string_value(directive), "delete")) {
			for (; at >= 0; at = strategic_find(target, key, e))
				json_array_remove(target, (size_t)at);
		} else if (at >= 0 && !directive)
			r = merge_object(f->sub, json_array_get(target, (size_t)at), e, err);
		else if (!directive && json_array_append_new(target, strategic_plain(e)) < 0)
			r = error_oom(err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int strategic_unite(const struct api_field *f, json_t *target, const json_t *patch, struct error *err) {
	size_t i;
	json_t *e;
	json_array_foreach((json_t *)patch, i, e) {
		if (json_is_object(e) || json_is_array(e))
			return error_set(err, EINVAL, "list %s must hold plain values", f->name);
		if (strategic_find(target, NULL, e) < 0 && json_array_append(target, e) < 0)
			return error_oom(err);
	}
	return 0;
}

/*
 * Reorders a list. Elements that ORDER names get the order of ORDER. Each other element is inserted, at or after the
 * place of the one inserted before it, in front of the first element that followed it in WAS, or else at the end.
 */
static int put_in_order(const struct api_field *f, json_t *parent, const json_t *was, const json_t *order,
                        struct error *err) {
	const char *key = api_list_key(f);
	json_t *list = json_object_get(parent, f->name), *out = json_array(), *e;
	size_t i, from = 0;
	int r = out ? 0 : -1;
	json_array_foreach((json_t *)order, i, e) {
		ssize_t at = strategic_find(list, key, e);
		if (at >= 0 && strategic_find(out, key, e) < 0)
			r |= json_array_append(out, json_array_get(list, (size_t)at));
	}
	json_array_foreach(list, i, e) {
		if (strategic_find(order, key, e) >= 0)
			continue;
		ssize_t mine = strategic_find(was, key, e);
		for (; from < json_array_size(out); from++)
			if (mine >= 0 && strategic_find(was, key, json_array_get(out, from)) > mine)
				break;
		r |= json_array_insert(out, from++, e);
	}
	if (r < 0 || json_object_set(parent, f->name, out) < 0)
		r = error_oom(err);
	json_decref(out);
	return r;
}

/* Merges a list. The elements of PATCH come first, in the order of PATCH. */
static int merge_list(const struct api_field *f, json_t *parent, const json_t *patch, struct error *err) {
	json_t *list = json_object_get(parent, f->name), *was = json_copy(list);
	int r = was ? too_long(f, patch, err) : error_oom(err);
	if (r == 0)
		r = api_list_key(f) ? merge_elements(f, list, patch, err) : strategic_unite(f, list, patch, err);
	if (r == 0)
		r = put_in_order(f, parent, was, patch, err);
	json_decref(was);
	return r;
}

/*
 * Finds the field that the directive KEY ("$setElementOrder/finalizers") names. *RET is NULL unless the field is a list
 * that is merged.
 */
static int field_of(const struct api_desc *d, const char *key, const json_t *value, const struct api_field **ret,
                    struct error *err) {
	const struct api_field *f = strategic_declared(d, strchr(key, '/') + 1);
	if (!json_is_array(value))
		return error_set(err, EINVAL, "directive %.100s must be a list", key);
	*ret = f && (f->flags & (API_KEYS | API_SET)) ? f : NULL;
	return *ret ? too_long(f, value, err) : 0;
}

static int retain(json_t *target, const json_t *patch, const json_t *keys, struct error *err) {
	const char *key;
	json_t *v, *kept = json_object();
	void *tmp;
	size_t i;
	int r = kept ? 0 : error_oom(err);
	if (r == 0 && !json_is_array(keys))
		r = error_set(err, EINVAL, "directive $retainKeys must be a list");
	json_array_foreach((json_t *)keys, i, v) {
		if (r == 0 && json_is_string(v) && json_object_set_new(kept, json_string_value(v), json_true()) < 0)
			r = error_oom(err);
	}
	json_object_foreach((json_t *)patch, key, v) {
		if (r == 0 && key[0] != '$' && !json_is_null(v) && !json_object_get(kept, key))
			r = error_set(err, EBADMSG, "directive $retainKeys lacks `%.100s`, which the patch holds", key);
	}
	json_object_foreach_safe(target, tmp, key, v) {
		if (r == 0 && !json_object_get(kept, key))
			json_object_del(target, key);
	}
	json_decref(kept);
	return r;
}

static int merge_member(const struct api_desc *d, json_t *target, const char *key, const json_t *v, struct error *err) {
	const struct api_field *f = strategic_declared(d, key);
	json_t *there = json_object_get(target, key);
	if (json_is_null(v)) {
		json_object_del(target, key);
		return 0;
	}
	if (json_is_object(there) && json_is_object(v)) {
		bool nested = f && (f->type == API_TYPE_obj || f->type == API_TYPE_inl);
		return merge_object(nested ? f->sub : NULL, there, v, err);
	}
	if (f && (f->flags & (API_KEYS | API_SET)) && json_is_array(v) && json_is_array(there))
		return merge_list(f, target, v, err);
	json_t *keys = json_object_get(v, "$retainKeys");
	int r = keys ? retain(NULL, v, keys, err) : 0;
	if (r == 0 && json_object_set_new(target, key, strategic_plain(v)) < 0)
		r = error_oom(err);
	return r;
}

static int merge_object(const struct api_desc *d, json_t *target, const json_t *patch, struct error *err) {
	const json_t *directive = json_object_get(patch, "$patch"), *keys = json_object_get(patch, "$retainKeys");
	const struct api_field *f;
	const char *key;
	json_t *v, *was, *e;
	size_t i;
	int r = 0;
	if (directive) {
		const char *what = json_string_value(directive);
		if (!streq(what, "replace") && !streq(what, "delete"))
			return error_set(err, EINVAL, "unknown $patch `%.40s`", what ? what : "");
		json_t *now = streq(what, "replace") ? strategic_plain(patch) : json_object();
		json_object_clear(target);
		r = now && json_object_update(target, now) == 0 ? 0 : error_oom(err);
		json_decref(now);
		return r;
	}
	/* Remember the order of each list before the merge. Shallow copies suffice: a merge keeps an element's key. */
	was = json_object();
	if (!was)
		return error_oom(err);
	json_object_foreach((json_t *)patch, key, v) {
		const json_t *list = starts_with(key, ORDER) ? json_object_get(target, strchr(key, '/') + 1) : NULL;
		if (r == 0 && list && json_object_set_new(was, strchr(key, '/') + 1, json_copy((json_t *)list)) < 0)
			r = error_oom(err);
	}
	if (r == 0 && keys)
		r = retain(target, patch, keys, err);
	json_object_foreach((json_t *)patch, key, v) {
		if (r < 0)
			break;
		if (key[0] != '$')
			r = merge_member(d, target, key, v, err);
		else if (starts_with(key, DELETE) && (r = field_of(d, key, v, &f, err)) == 0 && f) {
			json_t *list = json_object_get(target, f->name);
			json_array_foreach(v, i, e) {
				for (ssize_t at = strategic_find(list, NULL, e); at >= 0;
				     at = strategic_find(list, NULL, e))
					json_array_remove(list, (size_t)at);
			}
		} else if (r == 0 && !streq(key, "$retainKeys") && !starts_with(key, DELETE) &&
		           !starts_with(key, ORDER))
			r = error_set(err, EINVAL, "unknown directive `%.100s`", key);
	}
	json_object_foreach((json_t *)patch, key, v) {
		if (r == 0 && starts_with(key, ORDER) && (r = field_of(d, key, v, &f, err)) == 0 && f &&
		    json_is_array(json_object_get(target, f->name)))
			r = put_in_order(f, target, json_object_get(was, f->name), v, err);
	}
	json_decref(was);
	return r;
}

int strategic_merge(const struct api_desc *d, const json_t *target, const json_t *patch, json_t **ret,
                    struct error *err) {
	if (!json_is_object(patch))
		return error_set(err, EINVAL, "a strategic merge patch must be an object");
	json_t *out = tree_copy(target);
	int r = out ? merge_object(d, out, patch, err) : error_oom(err);
	if (r == 0)
		*ret = out;
	else
		json_decref(out);
	return r;
}
