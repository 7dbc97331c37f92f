/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/tree.h"

#include <string.h>

#include "base/jsonwrite.h"
#include "base/util.h"

/* ---- bounds ---- */

int tree_charge(const json_t *v, size_t depth, size_t *values, size_t *bytes, struct error *err) {
	const bool list = json_is_array(v), object = json_is_object(v);
	json_t *members = (json_t *)v;
	int r = 0;

	if (!*values)
		return error_set(err, EMSGSIZE,
		                 "too many values: a body or a patch may have %d, an object %zu, unless its "
		                 "kind may have more",
		                 TREE_VALUES_MAX, OBJECT_VALUES_MAX);
	--*values;
	if ((object || list) && depth >= TREE_DEPTH_MAX)
		return error_set(err, EMSGSIZE, "nested more than %d levels deep", TREE_DEPTH_MAX);
	if (bytes) {
		size_t size = json_is_string(v) ? json_string_length(v) + 2 : 4;
		for (void *it = json_object_iter(members); it; it = json_object_iter_next(members, it))
			size += json_object_iter_key_len(it) + 4;
		if (size > *bytes)
			return error_set(err, EMSGSIZE, "too large");
		*bytes -= size;
	}
	if (object)
		for (void *it = json_object_iter(members); it && r >= 0; it = json_object_iter_next(members, it))
			r = tree_charge(json_object_iter_value(it), depth + 1, values, bytes, err);
	else if (list)
		for (size_t i = 0; i < json_array_size(v) && r >= 0; i++)
			r = tree_charge(json_array_get(v, i), depth + 1, values, bytes, err);
	return r;
}

/* ---- from text ---- */

struct loader {
	struct jr jr;
	size_t values; /* how many values may still come */
	bool twice, many;
};

static json_t *tree_load_value(struct loader *l);

static json_t *load_object(struct loader *l) {
	struct jr *r = &l->jr;
	_json_decref_ json_t *out = json_object();
	const char *key;
	size_t n, members = 0;
	int more;
	if (!out || jr_object(r) < 0)
		return NULL;
	while ((more = jr_key(r, &key, &n)) > 0) {
		/* jr_key() keeps a key with escapes in the reader's own memory, which the value below reuses. */
		char copy[256];
		_free_ char *large = NULL;
		if (r->scratch.data == key) {
			if (n > sizeof(copy) && !(large = malloc(n)))
				return NULL;
			key = memcpy(large ? large : copy, key, n);
		}
		json_t *v = tree_load_value(l);
		if (!v || json_object_setn_new_nocheck(out, key, n, v) < 0)
			return NULL;
		members++;
	}
	if (more < 0)
		return NULL;
	if (members != json_object_size(out))
		l->twice = true;
	return TAKE_PTR(out);
}

static json_t *load_array(struct loader *l) {
	_json_decref_ json_t *out = json_array();
	int more;
	if (!out || jr_array(&l->jr) < 0)
		return NULL;
	while ((more = jr_elem(&l->jr)) > 0)
		if (json_array_append_new(out, tree_load_value(l)) < 0)
			return NULL;
	return more < 0 ? NULL : TAKE_PTR(out);
}

static json_t *out_of_range(struct jr *r) {
	jr_fail(r, "a number out of range");
	return NULL;
}

/* jansson reads fractions, since it also rounds and prints them. */
static json_t *load_number(struct jr *r) {
	const char *s;
	size_t n;
	if (jr_skip(r, &s, &n) < 0)
		return NULL;
	if (memchr(s, '.', n) || memchr(s, 'e', n) || memchr(s, 'E', n)) {
		json_t *real = json_loadb(s, n, JSON_DECODE_ANY, NULL);
		return real ? real : out_of_range(r);
	}
	bool minus = *s == '-';
	int64_t v = 0;
	for (size_t i = minus; i < n; i++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    (minus ? __builtin_sub_overflow(v, s[i] - '0', &v) : __builtin_add_overflow(v, s[i] - '0', &v)))
			return out_of_range(r);
	return json_integer(v);
}

static json_t *tree_load_value(struct loader *l) {
	struct jr *r = &l->jr;
	const char *s;
	size_t n;
	bool flag;
	if (!l->values) {
		l->many = true;
		return NULL;
	}
	l->values--;
	switch (jr_peek(r)) {
	case JR_OBJECT: return load_object(l);
	case JR_ARRAY: return load_array(l);
	case JR_STRING: return jr_string(r, &s, &n) < 0 ? NULL : json_stringn_nocheck(s, n);
	case JR_NUMBER: return load_number(r);
	case JR_BOOL: return jr_bool(r, &flag) < 0 ? NULL : json_boolean(flag);
	case JR_NULL: return jr_null(r) < 0 ? NULL : json_null();
	default: return NULL;
	}
}

static int load_text(const char *text, size_t len, size_t values_max, json_t **ret, bool *ret_twice,
                     struct error *err) {
	struct loader l = {.values = values_max};
	int r = 0;
	jr_init(&l.jr, text, len);
	_json_decref_ json_t *v = tree_load_value(&l);
	if (l.many)
		r = error_set(err, EINVAL, "more than %zu values", values_max);
	else if (!v || jr_end(&l.jr) < 0)
		r = l.jr.failed ? jr_error(&l.jr, err) : error_oom(err);
	jr_done(&l.jr);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(v);
	*ret_twice = l.twice;
	return 0;
}

json_t *tree_load(const char *text, size_t len) {
	struct error err;
	json_t *v;
	bool twice;
	return load_text(text, len, SIZE_MAX, &v, &twice, &err) < 0 ? NULL : v;
}

int tree_load_foreign(const char *text, size_t len, size_t values_max, json_t **ret, bool *ret_twice,
                      struct error *err) {
	return load_text(text, len, values_max, ret, ret_twice, err);
}

/* ---- to text ---- */

static void dump_real(struct buf *b, const json_t *v) {
	_free_ char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	if (text)
		buf_puts(b, text);
	else
		b->failed = true;
}

static void dump_integer(struct buf *b, int64_t v) {
	char text[24], *p = text + sizeof(text);
	uint64_t left = v < 0 ? -(uint64_t)v : (uint64_t)v;
	do
		*--p = (char)('0' + left % 10);
	while (left /= 10);
	if (v < 0)
		*--p = '-';
	buf_add(b, p, (size_t)(text + sizeof(text) - p));
}

/* Prints V, which is inside DEPTH containers. */
static void dump(struct buf *b, const json_t *v, size_t depth, struct tree_size *size);

static void dump_object(struct buf *b, json_t *o, size_t depth, struct tree_size *size) {
	char before = '{';
	size->depth = MAX(size->depth, depth);
	for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
		buf_putc(b, before);
		jw_quote(b, json_object_iter_key(it), json_object_iter_key_len(it));
		buf_putc(b, ':');
		dump(b, json_object_iter_value(it), depth, size);
		before = ',';
	}
	buf_puts(b, before == '{' ? "{}" : "}");
}

static void dump_array(struct buf *b, const json_t *list, size_t depth, struct tree_size *size) {
	buf_putc(b, '[');
	size->depth = MAX(size->depth, depth);
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (i)
			buf_putc(b, ',');
		dump(b, json_array_get(list, i), depth, size);
	}
	buf_putc(b, ']');
}

static void dump(struct buf *b, const json_t *v, size_t depth, struct tree_size *size) {
	size->values++;
	switch (json_typeof(v)) {
	case JSON_OBJECT: dump_object(b, (json_t *)v, depth + 1, size); break;
	case JSON_ARRAY: dump_array(b, v, depth + 1, size); break;
	case JSON_STRING: jw_quote(b, json_string_value(v), json_string_length(v)); break;
	case JSON_INTEGER: dump_integer(b, json_integer_value(v)); break;
	case JSON_REAL: dump_real(b, v); break;
	case JSON_TRUE: buf_puts(b, "true"); break;
	case JSON_FALSE: buf_puts(b, "false"); break;
	case JSON_NULL: buf_puts(b, "null"); break;
	}
}

struct tree_size tree_dump(struct buf *b, const json_t *v) {
	struct tree_size size = {0};
	dump(b, v, 0, &size);
	return size;
}

/* ---- copies ---- */

json_t *tree_copy(const json_t *v) {
	_json_decref_ json_t *out = NULL;
	if (json_is_object(v)) {
		json_t *from = (json_t *)v;
		out = json_object();
		for (void *it = json_object_iter(from); out && it; it = json_object_iter_next(from, it))
			if (json_object_setn_new_nocheck(out, json_object_iter_key(it), json_object_iter_key_len(it),
			                                 tree_copy(json_object_iter_value(it))) < 0)
				return NULL;
	} else if (json_is_array(v)) {
		out = json_array();
		for (size_t i = 0; out && i < json_array_size(v); i++)
			if (json_array_append_new(out, tree_copy(json_array_get(v, i))) < 0)
				return NULL;
	} else
		out = json_incref((json_t *)v); /* scalars are shared: nobody changes them in place */
	return TAKE_PTR(out);
}
