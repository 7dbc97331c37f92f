/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/patch.h"

#include <string.h>

#include "apiserver/json/tree.h"
#include "base/util.h"

int patch_merge(const json_t *target, const json_t *patch, json_t **ret) {
	if (!json_is_object(patch)) {
		*ret = tree_copy(patch);
		return *ret ? 0 : -ENOMEM;
	}
	json_t *out = json_is_object(target) ? json_copy((json_t *)target) : json_object();
	const char *key;
	json_t *value, *merged;
	if (!out)
		return -ENOMEM;
	json_object_foreach((json_t *)patch, key, value) {
		if (json_is_null(value)) {
			json_object_del(out, key);
			continue;
		}
		if (patch_merge(json_object_get(out, key), value, &merged) < 0 ||
		    json_object_set_new(out, key, merged) < 0) {
			json_decref(out);
			return -ENOMEM;
		}
	}
	*ret = out;
	return 0;
}

/* A JSON pointer (RFC 6901) during a walk. TOKEN is the current part, decoded. */
struct pointer {
	const char *rest;
	char token[512];
};

static int pointer_next(struct pointer *p, struct error *err) {
	const char *s = p->rest + 1;
	size_t n = 0;
	for (; *s && *s != '/'; s++) {
		char c = *s;
		if (c == '~') {
			s++;
			if (*s != '0' && *s != '1')
				return error_set(err, EINVAL, "bad escape in path `%.80s`", p->rest);
			c = *s == '0' ? '~' : '/';
		}
		if (n + 1 >= sizeof(p->token))
			return error_set(err, EINVAL, "a part of a path is longer than %zu bytes",
			                 sizeof(p->token) - 1);
		p->token[n++] = c;
	}
	p->token[n] = '\0';
	p->rest = s;
	return 0;
}

/* Reads TOKEN as an array index of at most MAX. -ENOENT: TOKEN is no such index. */
static int array_index(const char *token, size_t max, size_t *ret) {
	int64_t v;
	if ((token[0] == '0' && token[1]) || token[0] == '-' || token[0] == '+' ||
	    parse_i64(token, 0, (int64_t)max, &v, NULL) < 0)
		return -ENOENT;
	*ret = (size_t)v;
	return 0;
}

/* Finds the object or list that contains what PATH names. P->token is then the last part of PATH. PATH is not "". */
static int find_parent(json_t *doc, const char *path, json_t **ret, struct pointer *p, struct error *err) {
	json_t *at = doc;
	p->rest = path;
	if (*path != '/')
		return error_set(err, EINVAL, "path `%.80s` does not begin with `/`", path);
	for (;;) {
		int r = pointer_next(p, err);
		if (r < 0)
			return r;
		if (!*p->rest)
			break;
		size_t i;
		if (json_is_array(at))
			at = array_index(p->token, json_array_size(at), &i) < 0 ? NULL : json_array_get(at, i);
		else
			at = json_object_get(at, p->token);
		if (!at)
			return error_set(err, ENOENT, "path `%.120s` does not exist", path);
	}
	if (!json_is_array(at) && !json_is_object(at))
		return error_set(err, ENOENT, "path `%.120s` does not exist", path);
	*ret = at;
	return 0;
}

static int get_value(json_t *doc, const char *path, json_t **ret, struct error *err) {
	struct pointer p;
	json_t *parent, *v = doc;
	size_t i;
	if (*path) {
		int r = find_parent(doc, path, &parent, &p, err);
		if (r < 0)
			return r;
		if (json_is_array(parent))
			v = array_index(p.token, json_array_size(parent), &i) < 0 ? NULL : json_array_get(parent, i);
		else
			v = json_object_get(parent, p.token);
	}
	if (!v)
		return error_set(err, ENOENT, "path `%.120s` does not exist", path);
	*ret = v;
	return 0;
}

static int patch_add(json_t **doc, const char *path, json_t *value, struct error *err) {
	struct pointer p;
	json_t *parent;
	size_t i;
	if (!*path) {
		json_decref(*doc);
		*doc = json_incref(value);
		return 0;
	}
	int r = find_parent(*doc, path, &parent, &p, err);
	if (r < 0)
		return r;
	if (json_is_object(parent))
		return json_object_set(parent, p.token, value) < 0 ? error_oom(err) : 0;
	if (streq(p.token, "-"))
		i = json_array_size(parent);
	else if (array_index(p.token, json_array_size(parent), &i) < 0)
		return error_set(err, ENOENT, "path `%.120s` is not in its list", path);
	return json_array_insert(parent, i, value) < 0 ? error_oom(err) : 0;
}

static int remove_at(json_t *doc, const char *path, struct error *err) {
	struct pointer p;
	json_t *parent;
	size_t i;
	if (!*path)
		return error_set(err, ENOENT, "the whole object can't be removed");
	int r = find_parent(doc, path, &parent, &p, err);
	if (r < 0)
		return r;
	bool gone;
	if (json_is_array(parent))
		gone = array_index(p.token, json_array_size(parent), &i) == 0 && json_array_remove(parent, i) == 0;
	else
		gone = json_object_del(parent, p.token) == 0;
	return gone ? 0 : error_set(err, ENOENT, "path `%.120s` does not exist", path);
}

static int replace(json_t **doc, const char *path, json_t *value, struct error *err) {
	struct pointer p;
	json_t *parent, *old;
	size_t i;
	int r = get_value(*doc, path, &old, err);
	if (r < 0 || !*path)
		return r < 0 ? r : patch_add(doc, path, value, err);
	r = find_parent(*doc, path, &parent, &p, err);
	if (r < 0)
		return r;
	if (json_is_object(parent))
		return json_object_set(parent, p.token, value) < 0 ? error_oom(err) : 0;
	r = array_index(p.token, json_array_size(parent), &i);
	return r < 0 ? r : json_array_set(parent, i, value) < 0 ? error_oom(err) : 0;
}

/* What the operations of one patch may still add. */
struct budget {
	size_t values, bytes;
};

/* Charges a value that an operation adds, so that copies of copies can neither grow nor nest without a limit. */
static int pay(struct budget *b, const json_t *value, const char *path, struct error *err) {
	size_t depth = 0;
	for (const char *p = path; *p; p++)
		depth += *p == '/';
	int r = tree_charge(value, depth, &b->values, &b->bytes, err);
	return r < 0 ? error_prefix(err, "the value for `%.80s`", path) : 0;
}

static int patch_move(json_t **doc, const char *from, const char *path, struct budget *budget, struct error *err) {
	json_t *value;
	size_t n = strlen(from);
	if (strncmp(path, from, n) == 0 && path[n] == '/')
		return error_set(err, ENOENT, "`%.80s` can't be moved into itself", from);
	int r = get_value(*doc, from, &value, err);
	if (r == 0)
		r = pay(budget, value, path, err);
	if (r < 0 || streq(from, path))
		return r;
	json_incref(value);
	r = remove_at(*doc, from, err);
	if (r == 0)
		r = patch_add(doc, path, value, err);
	json_decref(value);
	return r;
}

static int apply_op(json_t **doc, const json_t *op, struct budget *budget, struct error *err) {
	const char *name = json_string_value(json_object_get(op, "op"));
	const char *path = json_string_value(json_object_get(op, "path"));
	const char *from = json_string_value(json_object_get(op, "from"));
	json_t *value = json_object_get(op, "value"), *copy = NULL;
	int r;
	if (!json_is_object(op))
		return error_set(err, EINVAL, "an operation must be an object");
	if (!name || !path)
		return error_set(err, ENOENT, "each operation needs `op` and `path`");
	if (streq(name, "remove"))
		return remove_at(*doc, path, err);
	bool with_from = streq(name, "move") || streq(name, "copy");
	bool with_value = streq(name, "add") || streq(name, "replace") || streq(name, "test");
	if (!with_from && !with_value)
		return error_set(err, ENOENT, "unknown operation `%.40s`", name);
	if (with_from && !from)
		return error_set(err, ENOENT, "operation %s needs `from`", name);
	if (with_value && !value)
		return error_set(err, ENOENT, "operation %s needs `value`", name);
	if (streq(name, "move"))
		return patch_move(doc, from, path, budget, err);
	if (streq(name, "test")) {
		json_t *there;
		r = get_value(*doc, path, &there, err);
		if (r < 0)
			return r;
		return json_equal(there, value) ? 0 : error_set(err, ENOENT, "test of path `%.120s` failed", path);
	}
	if (with_from && (r = get_value(*doc, from, &value, err)) < 0)
		return r;
	if ((r = pay(budget, value, path, err)) < 0)
		return r;
	if (!(copy = tree_copy(value)))
		return error_oom(err);
	r = streq(name, "replace") ? replace(doc, path, copy, err) : patch_add(doc, path, copy, err);
	json_decref(copy);
	return r;
}

int patch_json(const json_t *target, const json_t *ops, json_t **ret, struct error *err) {
	struct budget budget = {.values = TREE_VALUES_MAX, .bytes = PATCH_GROWTH_MAX};
	size_t i;
	json_t *op;
	if (!json_is_array(ops))
		return error_set(err, EINVAL, "a JSON patch must be a list of operations");
	if (json_array_size(ops) > PATCH_OPS_MAX)
		return error_set(err, E2BIG, "The allowed maximum operations in a JSON patch is %d, got %zu",
		                 PATCH_OPS_MAX, json_array_size(ops));
	json_t *doc = tree_copy(target);
	if (!doc)
		return error_oom(err);
	json_array_foreach((json_t *)ops, i, op) {
		int r = apply_op(&doc, op, &budget, err);
		if (r < 0) {
			json_decref(doc);
			error_prefix(err, "operation %zu", i);
			return r;
		}
	}
	*ret = doc;
	return 0;
}
