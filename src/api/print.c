/* SPDX-License-Identifier: Apache-2.0 */

/* Prints C structs as JSON text, and compares and frees them, by the same tables. */

#include <string.h>

#include "api/meta.h"
#include "base/jsonwrite.h"
#include "base/util.h"

struct any_list {
	char *v;
	size_t n;
};

static void print_members(const struct api_desc *d, const char *base, struct buf *out);

static void print_struct(const struct api_desc *d, const void *value, struct buf *out) {
	jw_begin(out, '{');
	print_members(d, value, out);
	jw_end(out, '}');
}

static void print_field(const struct api_field *f, const void *m, struct buf *out) {
	const struct any_list *l = m;
	switch (f->type) {
	case API_TYPE_str: jw_kv_string(out, f->name, *(char *const *)m); return;
	case API_TYPE_i64:
		if (((const struct api_i64 *)m)->set)
			jw_kv_i64(out, f->name, ((const struct api_i64 *)m)->v);
		return;
	case API_TYPE_flag:
		if (((const struct api_bool *)m)->set)
			jw_kv_bool(out, f->name, ((const struct api_bool *)m)->v);
		return;
	case API_TYPE_obj:
		if (!*(void *const *)m)
			return;
		jw_key(out, f->name);
		print_struct(f->sub, *(void *const *)m, out);
		return;
	case API_TYPE_inl:
		jw_key(out, f->name);
		print_struct(f->sub, m, out);
		return;
	case API_TYPE_list:
	case API_TYPE_strs:
		if (!l->n)
			return;
		jw_key(out, f->name);
		jw_begin(out, '[');
		for (size_t i = 0; i < l->n; i++)
			if (f->type == API_TYPE_strs)
				jw_string(out, ((char *const *)(const void *)l->v)[i]);
			else
				print_struct(f->sub, l->v + i * f->sub->size, out);
		jw_end(out, ']');
		return;
	case API_TYPE_map: {
		const struct api_map *map = m;
		if (!map->n)
			return;
		jw_key(out, f->name);
		jw_begin(out, '{');
		for (size_t i = 0; i < map->n; i++)
			jw_kv_string(out, map->v[i].key, map->v[i].value);
		jw_end(out, '}');
		return;
	}
	case API_TYPE_raw:
		if (!*(char *const *)m)
			return;
		jw_key(out, f->name);
		jw_raw(out, *(char *const *)m, strlen(*(char *const *)m));
		return;
	}
}

static void print_members(const struct api_desc *d, const char *base, struct buf *out) {
	for (size_t i = 0; i < d->n_fields; i++)
		print_field(&d->fields[i], base + d->fields[i].offset, out);
}

void api_print_value(const struct api_desc *d, const void *value, struct buf *out) {
	print_struct(d, value, out);
}

void api_print(const struct api_kind *k, const void *obj, struct buf *out) {
	char version[64];
	api_kind_version(k, version);
	jw_begin(out, '{');
	jw_kv_string(out, "apiVersion", version);
	jw_kv_string(out, "kind", k->kind);
	print_members(k->desc, obj, out);
	jw_end(out, '}');
}

static bool equal_map(const struct api_map *a, const struct api_map *b) {
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const char *v = api_map_get(b, a->v[i].key);
		if (!v || strcmp(v, a->v[i].value) != 0)
			return false;
	}
	return true;
}

static bool equal_field(const struct api_field *f, const void *a, const void *b) {
	const struct any_list *la = a, *lb = b;
	switch (f->type) {
	case API_TYPE_str:
	case API_TYPE_raw: return streq(*(char *const *)a, *(char *const *)b);
	case API_TYPE_i64: {
		const struct api_i64 *x = a, *y = b;
		return x->set == y->set && (!x->set || x->v == y->v);
	}
	case API_TYPE_flag: {
		const struct api_bool *x = a, *y = b;
		return x->set == y->set && (!x->set || x->v == y->v);
	}
	case API_TYPE_obj: {
		const void *x = *(void *const *)a, *y = *(void *const *)b;
		return x && y ? api_equal(f->sub, x, y) : x == y;
	}
	case API_TYPE_inl: return api_equal(f->sub, a, b);
	case API_TYPE_list:
		if (la->n != lb->n)
			return false;
		for (size_t i = 0; i < la->n; i++)
			if (!api_equal(f->sub, la->v + i * f->sub->size, lb->v + i * f->sub->size))
				return false;
		return true;
	case API_TYPE_strs:
		if (la->n != lb->n)
			return false;
		for (size_t i = 0; i < la->n; i++)
			if (!streq(((char *const *)(const void *)la->v)[i], ((char *const *)(const void *)lb->v)[i]))
				return false;
		return true;
	case API_TYPE_map: return equal_map(a, b);
	}
	return false;
}

bool api_equal(const struct api_desc *d, const void *a, const void *b) {
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct api_field *f = &d->fields[i];
		if (!equal_field(f, (const char *)a + f->offset, (const char *)b + f->offset))
			return false;
	}
	return true;
}

static void clear_field(const struct api_field *f, void *m) {
	struct any_list *l = m;
	switch (f->type) {
	case API_TYPE_str:
	case API_TYPE_raw: free(*(char **)m); return;
	case API_TYPE_i64:
	case API_TYPE_flag: return;
	case API_TYPE_obj:
		if (*(void **)m)
			api_clear(f->sub, *(void **)m);
		free(*(void **)m);
		return;
	case API_TYPE_inl: api_clear(f->sub, m); return;
	case API_TYPE_list:
		for (size_t i = 0; i < l->n; i++)
			api_clear(f->sub, l->v + i * f->sub->size);
		free(l->v);
		return;
	case API_TYPE_strs:
		for (size_t i = 0; i < l->n; i++)
			free(((char **)(void *)l->v)[i]);
		free(l->v);
		return;
	case API_TYPE_map: {
		struct api_map *map = m;
		for (size_t i = 0; i < map->n; i++) {
			free(map->v[i].key);
			free(map->v[i].value);
		}
		free(map->v);
		return;
	}
	}
}

void api_clear(const struct api_desc *d, void *value) {
	for (size_t i = 0; i < d->n_fields; i++)
		clear_field(&d->fields[i], (char *)value + d->fields[i].offset);
	memset(value, 0, d->size);
}

void *api_new(const struct api_kind *k) {
	return calloc(1, k->desc->size);
}

void api_free(const struct api_kind *k, void *obj) {
	if (!obj)
		return;
	api_clear(k->desc, obj);
	free(obj);
}

const char *api_map_get(const struct api_map *m, const char *key) {
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->v[i].key, key) == 0)
			return m->v[i].value;
	return NULL;
}
