/* SPDX-License-Identifier: Apache-2.0 */
#include "api/dom.h"

#include <string.h>

#include "base/util.h"

static const struct api_field *find_field(const struct api_desc *d, const char *name) {
	for (size_t i = 0; i < d->n_fields; i++)
		if (strcmp(d->fields[i].name, name) == 0)
			return &d->fields[i];
	return NULL;
}

static void drop_nulls(json_t *map) {
	const char *key;
	json_t *value;
	void *tmp;
	json_object_foreach_safe(map, tmp, key, value) {
		if (json_is_null(value))
			json_object_del(map, key);
	}
}

/* A member of the value at UP (NULL: of the object itself), or an element of it. It is printed only for errors. */
struct path {
	const struct path *up;
	const char *name; /* NULL: element INDEX */
	size_t index;
};

static void path_print(const struct path *p, struct buf *out) {
	if (!p)
		return;
	path_print(p->up, out);
	if (p->name)
		buf_printf(out, "%s%s", p->up ? "." : "", p->name);
	else
		buf_printf(out, "[%zu]", p->index);
}

static void unknown_field(struct api_errors *unknown, const struct path *up, const char *key) {
	_buf_free_ struct buf path = {.max = 512};
	if (!unknown || unknown->n == API_ERRORS_MAX)
		return;
	path_print(up, &path);
	api_errors_add(unknown, API_INVALID, "", "unknown field \"%s%s%s\"", path.len ? path.data : "",
	               path.len ? "." : "", key);
}

static void prune(const struct api_desc *d, json_t *obj, struct api_errors *unknown, const struct path *at);

static void prune_list(const struct api_field *f, json_t *value, struct api_errors *unknown, const struct path *at) {
	size_t i;
	json_t *elem;
	json_array_foreach(value, i, elem) prune(f->sub, elem, unknown, &(struct path){.up = at, .index = i});
}

static void prune(const struct api_desc *d, json_t *obj, struct api_errors *unknown, const struct path *at) {
	const char *key;
	json_t *value;
	void *tmp;
	if (!json_is_object(obj))
		return;
	json_object_foreach_safe(obj, tmp, key, value) {
		const struct api_field *f = find_field(d, key);
		const struct path here = {.up = at, .name = key};
		if (!at && (strcmp(key, "apiVersion") == 0 || strcmp(key, "kind") == 0))
			continue;
		if (!f && !d->open) {
			unknown_field(unknown, at, key);
			json_object_del(obj, key);
		} else if (json_is_null(value))
			json_object_del(obj, key);
		else if (f && (f->type == API_TYPE_obj || f->type == API_TYPE_inl))
			prune(f->sub, value, unknown, &here);
		else if (f && f->type == API_TYPE_list && json_is_array(value))
			prune_list(f, value, unknown, &here);
		else if (f && f->type == API_TYPE_map)
			drop_nulls(value);
	}
}

void api_prune(const struct api_desc *d, json_t *obj, struct api_errors *unknown) {
	prune(d, obj, unknown, NULL);
}

/* These paths have no indexes: "spec.ingress.ports". */
static void check_lengths(const struct api_desc *d, const json_t *obj, const struct path *at, struct api_errors *errs) {
	for (size_t i = 0; i < d->n_fields && errs->n < API_ERRORS_MAX; i++) {
		const struct api_field *f = &d->fields[i];
		const bool list = f->type == API_TYPE_list || f->type == API_TYPE_strs, map = f->type == API_TYPE_map;
		if (!list && !map && !f->sub)
			continue;
		const json_t *value = json_object_get(obj, f->name);
		const size_t n = list ? json_array_size(value) : map ? json_object_size(value) : 0;
		const struct path here = {.up = at, .name = f->name};
		/* Every write comes here, and for most fields there is nothing to do. */
		if (n <= (size_t)f->max && (!f->sub || !value))
			continue;
		if (n > (size_t)f->max) {
			_buf_free_ struct buf path = {.max = 512};
			path_print(&here, &path);
			api_errors_add(errs, API_TOO_MANY, path.failed ? f->name : path.data,
			               "Too many: %zu: must have at most %lld items", n, (long long)f->max);
		} else if (f->type == API_TYPE_list)
			for (size_t k = 0; k < n; k++)
				check_lengths(f->sub, json_array_get(value, k), &here, errs);
		else if (f->sub)
			check_lengths(f->sub, value, &here, errs);
	}
}

void api_check_lengths(const struct api_desc *d, const json_t *obj, struct api_errors *errs) {
	check_lengths(d, obj, NULL, errs);
}

int api_default(const struct api_desc *d, json_t *obj) {
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct api_field *f = &d->fields[i];
		json_t *value = json_object_get(obj, f->name), *elem;
		size_t n;
		int r = 0;
		if (!value && f->def) {
			if (json_object_set_new(obj, f->name, json_loads(f->def, JSON_DECODE_ANY, NULL)) < 0)
				return -ENOMEM;
		} else if (json_is_object(value) && (f->type == API_TYPE_obj || f->type == API_TYPE_inl))
			r = api_default(f->sub, value);
		else if (json_is_array(value) && f->type == API_TYPE_list)
			json_array_foreach(value, n, elem) if (json_is_object(elem) && r == 0) r =
				api_default(f->sub, elem);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Compares only field F, as a type with one field. */
static bool field_equal(const struct api_field *f, const void *a, const void *b) {
	const struct api_desc one = {.fields = f, .n_fields = 1};
	return api_equal(&one, a, b);
}

/*
 * True if field F of type D is the same in OLD and NEW. An object that was stored by a version without the field counts
 * as having the default, which the next write adds to it.
 */
static bool immutable_is_kept(const struct api_desc *d, const struct api_field *f, const void *old, const void *new) {
	const struct api_desc one = {.name = d->name, .size = d->size, .fields = f, .n_fields = 1};
	struct api_errors errs = {0};
	_buf_free_ struct buf text = {0};
	struct jr r;
	if (field_equal(f, old, new))
		return true;
	void *standard = f->def ? calloc(1, d->size) : NULL;
	if (!standard || !field_equal(f, old, standard)) {
		free(standard);
		return false;
	}
	buf_printf(&text, "{\"%s\":%s}", f->name, f->def);
	jr_init(&r, text.data, text.len);
	bool kept = !text.failed && api_parse_value(&one, &r, standard, &errs) == 0 && field_equal(f, standard, new);
	jr_done(&r);
	api_clear(&one, standard);
	free(standard);
	return kept;
}

bool api_equal_immutable(const struct api_desc *d, const void *a, const void *b) {
	for (size_t i = 0; i < d->n_fields; i++)
		if ((d->fields[i].flags & API_IMMUT) && !immutable_is_kept(d, &d->fields[i], a, b) &&
		    !immutable_is_kept(d, &d->fields[i], b, a))
			return false;
	return true;
}

static void check_immutable(const struct api_desc *d, const void *old, const void *new, const char *path,
                            struct api_errors *errs) {
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct api_field *f = &d->fields[i];
		_free_ char *here = strf("%s%s%s", path, *path ? "." : "", f->name);
		if (!here)
			return;
		if (f->flags & API_IMMUT) {
			if (!immutable_is_kept(d, f, old, new))
				api_errors_add(errs, API_INVALID, here, "field is immutable");
		} else if (f->type == API_TYPE_obj) {
			const void *a = *(void *const *)((const char *)old + f->offset);
			const void *b = *(void *const *)((const char *)new + f->offset);
			if (a && b)
				check_immutable(f->sub, a, b, here, errs);
		}
	}
}

void api_check_update(const struct api_kind *k, const void *old, const void *new, struct api_errors *errs) {
	check_immutable(k->desc, old, new, "", errs);
	if (k->check_update)
		k->check_update(old, new, errs);
}

/* ---- JSONPath ---- */

struct match {
	struct buf out;
	size_t count;
	int64_t integer;
	bool is_integer;
};

static void add_match(struct match *m, const json_t *v) {
	char num[32];
	if (!v || json_is_null(v) || json_is_object(v) || json_is_array(v))
		return;
	if (m->count++)
		buf_putc(&m->out, ',');
	m->is_integer = m->count == 1 && json_is_integer(v);
	if (json_is_string(v))
		buf_add(&m->out, json_string_value(v), json_string_length(v));
	else if (json_is_integer(v)) {
		m->integer = json_integer_value(v);
		snprintf(num, sizeof(num), "%lld", (long long)m->integer);
		buf_puts(&m->out, num);
	} else if (json_is_boolean(v))
		buf_puts(&m->out, json_is_true(v) ? "true" : "false");
	else {
		snprintf(num, sizeof(num), "%.15g", json_real_value(v));
		buf_puts(&m->out, num);
	}
}

static void walk(struct match *m, const json_t *v, const char *path);

/* Evaluates `?(@.KEY=="VALUE")` up to the closing bracket, and walks on from each element that fits. */
static void walk_filter(struct match *m, const json_t *v, const char *expr, const char *close) {
	char key[64], want[128];
	size_t i;
	json_t *elem;
	if (sscanf(expr, "?(@.%63[^=]==\"%127[^\"]\")", key, want) != 2)
		return;
	json_array_foreach(v, i, elem) {
		const char *s = json_string_value(json_object_get(elem, key));
		if (s && strcmp(s, want) == 0)
			walk(m, elem, close + 1);
	}
}

static void walk(struct match *m, const json_t *v, const char *path) {
	if (!v || !*path) {
		add_match(m, v);
		return;
	}
	if (*path == '[') {
		const char *close = strchr(path, ']');
		size_t i;
		json_t *elem;
		if (!close)
			return;
		if (path[1] == '*')
			json_array_foreach(v, i, elem) walk(m, elem, close + 1);
		else if (path[1] == '?')
			walk_filter(m, v, path + 1, close);
		else if (path[1] == '"' && close - path > 3) {
			_free_ char *key = strndup(path + 2, (size_t)(close - path - 3));
			walk(m, key ? json_object_get(v, key) : NULL, close + 1);
		} else
			walk(m, json_array_get(v, strtoul(path + 1, NULL, 10)), close + 1);
		return;
	}
	path += *path == '.';
	size_t n = strcspn(path, ".[");
	_free_ char *key = strndup(path, n);
	walk(m, key ? json_object_get(v, key) : NULL, path + n);
}

char *api_jsonpath(const json_t *obj, const char *path, int64_t *ret_integer, bool *ret_is_integer) {
	struct match m = {.out = {.max = 64 << 10}};
	walk(&m, obj, path);
	if (ret_integer)
		*ret_integer = m.integer;
	if (ret_is_integer)
		*ret_is_integer = m.count == 1 && m.is_integer;
	m.out.failed = false;
	char *s = buf_steal(&m.out);
	buf_free(&m.out);
	return s;
}
