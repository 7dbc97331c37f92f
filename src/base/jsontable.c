/* SPDX-License-Identifier: Apache-2.0 */
#include "base/jsontable.h"

#include <string.h>

#include "base/jsonwrite.h"
#include "base/util.h"

void jt_init(const struct jt_table *t, void *obj) {
	memset(obj, 0, t->size);
	for (size_t i = 0; i < t->n; i++) {
		const struct jt_field *f = &t->fields[i];
		void *at = (char *)obj + f->offset;
		if (f->kind == JT_I64)
			*(int64_t *)at = f->init;
		else if (f->kind == JT_OBJ)
			jt_init(f->sub, at);
	}
}

/* ---- reading ---- */

static int jt_read_i64(const struct jt_field *f, struct jr *r, int64_t *ret, struct error *err) {
	int64_t v;

	if (jr_i64(r, &v) < 0)
		return jr_error(r, err);
	if (v < f->min || v > f->max)
		return error_set(err, EINVAL, "must be %lld..%lld", (long long)f->min, (long long)f->max);
	*ret = v;
	return 0;
}

static int jt_set_text(const struct jt_field *f, const char *s, char *out, struct error *err) {
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return error_set(err, EINVAL, "control characters are not allowed");
	if (strlen(s) > (size_t)f->max)
		return error_set(err, EINVAL, "at most %lld bytes", (long long)f->max);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int jt_set_word(const struct jt_field *f, const char *s, int *out, struct error *err) {
	for (int i = 0; f->words[i]; i++)
		if (streq(f->words[i], s)) {
			*out = i;
			return 0;
		}
	return error_set(err, EINVAL, "`%.32s` is not a known value", s);
}

static int jt_read_string(const struct jt_field *f, struct jr *r, void *at, struct error *err) {
	const char *s;
	size_t len;

	if (jr_string(r, &s, &len) < 0)
		return jr_error(r, err);
	_free_ char *copy = strndup(s, len);
	if (!copy)
		return error_oom(err);
	switch (f->kind) {
	case JT_TEXT: return jt_set_text(f, copy, at, err);
	case JT_WORD: return jt_set_word(f, copy, at, err);
	case JT_MAC: return mac_parse(copy, at, err);
	case JT_ADDR: return addr_parse(copy, at, err);
	default: return prefix_parse(copy, at, err);
	}
}

static int jt_read_list(const struct jt_field *f, struct jr *r, void *at, size_t *count, struct error *err) {
	int more;

	if (jr_array(r) < 0)
		return jr_error(r, err);
	while ((more = jr_elem(r)) > 0) {
		if (*count == (size_t)f->max)
			return error_set(err, EINVAL, "at most %lld elements", (long long)f->max);
		void *element = (char *)at + *count * f->sub->size;
		jt_init(f->sub, element);
		int code = jt_read(f->sub, r, element, err);
		if (code < 0)
			return code;
		++*count;
	}
	return more < 0 ? jr_error(r, err) : 0;
}

static int jt_read_field(const struct jt_field *f, struct jr *r, void *obj, struct error *err) {
	void *at = (char *)obj + f->offset;

	switch (f->kind) {
	case JT_I64: return jt_read_i64(f, r, at, err);
	case JT_FLAG: return jr_bool(r, at) < 0 ? jr_error(r, err) : 0;
	case JT_OBJ: return jt_read(f->sub, r, at, err);
	case JT_LIST: return jt_read_list(f, r, at, (size_t *)((char *)obj + f->count_offset), err);
	default: return jt_read_string(f, r, at, err);
	}
}

static const struct jt_field *jt_find(const struct jt_table *t, const char *key, size_t len) {
	for (size_t i = 0; i < t->n; i++)
		if (strlen(t->fields[i].key) == len && memcmp(t->fields[i].key, key, len) == 0)
			return &t->fields[i];
	return NULL;
}

int jt_read(const struct jt_table *t, struct jr *r, void *obj, struct error *err) {
	uint64_t seen = 0;
	const char *key;
	size_t len;
	int more;

	if (jr_object(r) < 0)
		return jr_error(r, err);
	while ((more = jr_key(r, &key, &len)) > 0) {
		const struct jt_field *f = jt_find(t, key, len);
		if (!f)
			return error_set(err, EINVAL, "%.*s: unknown field", (int)MIN(len, (size_t)64), key);
		if (seen & (UINT64_C(1) << (f - t->fields)))
			return error_set(err, EINVAL, "%s: given twice", f->key);
		seen |= UINT64_C(1) << (f - t->fields);
		int code = jt_read_field(f, r, obj, err);
		if (code < 0) {
			(void)error_prefix(err, "%s", f->key);
			return code;
		}
	}
	return more < 0 ? jr_error(r, err) : 0;
}

/* ---- writing ---- */

static void jt_print_list(const struct jt_field *f, const void *at, size_t count, struct buf *out) {
	jw_key(out, f->key);
	jw_begin(out, '[');
	for (size_t i = 0; i < count; i++)
		jt_print(f->sub, (const char *)at + i * f->sub->size, out);
	jw_end(out, ']');
}

static void jt_print_field(const struct jt_field *f, const void *obj, struct buf *out) {
	static const struct mac no_mac;
	const void *at = (const char *)obj + f->offset;
	char text[PREFIX_STR_MAX];

	switch (f->kind) {
	case JT_TEXT:
		if (*(const char *)at)
			jw_kv_string(out, f->key, at);
		break;
	case JT_I64: jw_kv_i64(out, f->key, *(const int64_t *)at); break;
	case JT_FLAG:
		if (*(const bool *)at)
			jw_kv_bool(out, f->key, true);
		break;
	case JT_WORD: jw_kv_string(out, f->key, f->words[*(const int *)at]); break;
	case JT_MAC:
		if (memcmp(at, &no_mac, sizeof(no_mac)) != 0)
			jw_kv_string(out, f->key, mac_str(at, text));
		break;
	case JT_ADDR:
		if (((const struct addr *)at)->family)
			jw_kv_string(out, f->key, addr_str(at, text));
		break;
	case JT_PREFIX:
		if (((const struct prefix *)at)->addr.family)
			jw_kv_string(out, f->key, prefix_str(at, text));
		break;
	case JT_OBJ:
		jw_key(out, f->key);
		jt_print(f->sub, at, out);
		break;
	case JT_LIST: {
		size_t count = *(const size_t *)((const char *)obj + f->count_offset);
		if (count)
			jt_print_list(f, at, count, out);
		break;
	}
	}
}

void jt_print(const struct jt_table *t, const void *obj, struct buf *out) {
	jw_begin(out, '{');
	for (size_t i = 0; i < t->n; i++)
		jt_print_field(&t->fields[i], obj, out);
	jw_end(out, '}');
}
