/* SPDX-License-Identifier: Apache-2.0 */

/* Parses JSON text into C structs and makes every check that a field declares. See api.h. */

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "api/meta.h"
#include "base/util.h"

#define DEPTH_MAX 16

/* The parser's position: a chain on the stack. It is printed ("spec.ingress[2].port") only for an error. */
struct at {
	const struct at *up;
	const char *name; /* NULL: an index */
	bool key;         /* the name is a key of data: "data[a.b]" */
	size_t index;
	unsigned depth;
};

struct parser {
	struct jr *r;
	struct api_errors *errs;
};

static void at_print(const struct at *at, struct buf *b) {
	if (!at)
		return;
	at_print(at->up, b);
	if (at->key)
		buf_printf(b, "[%s]", at->name);
	else if (at->name)
		buf_printf(b, "%s%s", b->len ? "." : "", at->name);
	else
		buf_printf(b, "[%zu]", at->index);
}

/* Adds an error at AT. Always returns -EINVAL, but parsing continues to find more errors. */
static int wrong(struct parser *p, const struct at *at, enum api_reason reason, const char *fmt, ...) {
	char msg[256];
	_buf_free_ struct buf path = {.max = 256};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	at_print(at, &path);
	api_errors_add(p->errs, reason, path.data ? path.data : "", "%s", msg);
	return -EINVAL;
}

/* The value has the wrong JSON type: adds an error and skips the value. */
static int wrong_type(struct parser *p, const struct at *at, const char *want) {
	int got = jr_peek(p->r);
	if (got < 0 || jr_skip(p->r, NULL, NULL) < 0)
		return p->r->failed;
	wrong(p, at, API_TYPE_INVALID, "must be %s, not %s", want, jr_type_name(got));
	return 0;
}

static void check_string(struct parser *p, const struct at *at, const struct api_format *f, const char *s) {
	struct error err;
	if (f->values) {
		_buf_free_ struct buf list = {.max = 200};
		for (const char *const *v = f->values; *v; v++) {
			if (strcmp(*v, s) == 0)
				return;
			buf_printf(&list, "%s`%s`", list.len ? ", " : "", *v);
		}
		wrong(p, at, API_NOT_SUPPORTED, "must be one of %s, not `%.60s`", list.data ? list.data : "", s);
	} else if (f->check && f->check(s, &err) < 0)
		wrong(p, at, API_INVALID, "%s", err.msg);
}

/* 0: *OUT is set (NULL if the value had a wrong type). Negative: the text is bad, or there is no memory. */
static int parse_str(struct parser *p, const struct at *at, const struct api_format *format, unsigned flags,
                     int64_t min, int64_t max, char **out) {
	const char *s;
	size_t n;
	if (jr_peek(p->r) != JR_STRING)
		return wrong_type(p, at, "a string");
	int r = jr_string(p->r, &s, &n);
	if (r < 0)
		return r;
	if (max == 0)
		max = API_STR_MAX;
	free(*out);
	*out = strndup(s, n);
	if (!*out)
		return -ENOMEM;
	if (n == 0 && (flags & API_REQ))
		wrong(p, at, API_REQUIRED, "must not be empty");
	else if (n > (size_t)max)
		wrong(p, at, API_TOO_LONG, "must be at most %lld bytes long", (long long)max);
	else if (n > 0 && n < (size_t)min)
		wrong(p, at, API_INVALID, "must be at least %lld bytes long", (long long)min);
	else
		check_string(p, at, format, *out);
	return 0;
}

static int parse_struct(struct parser *p, const struct at *at, const struct api_desc *d, void *out);

/* Calls PARSE_ELEM for each element, with a new place in a growing array. */
static int parse_list(struct parser *p, const struct at *at, const struct api_field *f, size_t elem_size,
                      int (*parse_elem)(struct parser *, const struct at *, const struct api_field *, void *),
                      void **ret_v, size_t *ret_n) {
	if (jr_peek(p->r) != JR_ARRAY)
		return wrong_type(p, at, "a list");
	int more, r = jr_array(p->r);
	if (r < 0)
		return r;
	size_t n = *ret_n, cap = *ret_n;
	bool too_many = false;
	while ((more = jr_elem(p->r)) > 0) {
		struct at elem = {.up = at, .index = n, .depth = at->depth + 1};
		if (n >= (size_t)f->max) {
			too_many = true;
			if ((r = jr_skip(p->r, NULL, NULL)) < 0)
				return r;
			continue;
		}
		if (n == cap) {
			cap = cap ? cap * 2 : 4;
			void *v = reallocarray(*ret_v, cap, elem_size);
			if (!v)
				return -ENOMEM;
			*ret_v = v;
		}
		void *slot = (char *)*ret_v + n * elem_size;
		memset(slot, 0, elem_size);
		*ret_n = ++n;
		if ((r = parse_elem(p, &elem, f, slot)) < 0)
			return r;
	}
	if (too_many)
		wrong(p, at, API_TOO_MANY, "must have at most %lld items", (long long)f->max);
	else if (more == 0 && n < (size_t)f->min)
		wrong(p, at, API_INVALID, "must have at least %lld items", (long long)f->min);
	return more;
}

static int parse_elem_struct(struct parser *p, const struct at *at, const struct api_field *f, void *slot) {
	return parse_struct(p, at, f->sub, slot);
}

static int parse_elem_str(struct parser *p, const struct at *at, const struct api_field *f, void *slot) {
	int r = parse_str(p, at, f->format, f->flags & API_MAY_BE_EMPTY ? 0 : API_REQ, 0, api_elem_max(f), slot);
	/* List elements must not be NULL, so that callers need no check. */
	if (r == 0 && !*(char **)slot && !(*(char **)slot = strdup("")))
		return -ENOMEM;
	return r;
}

/* The string by which elements of a keyed list or set are told apart; NULL: it has none. */
static const char *elem_key(const struct api_field *f, const char *elem) {
	if (f->type == API_TYPE_strs)
		return *(char *const *)elem;
	const char *key = api_list_key(f);
	for (size_t i = 0; i < f->sub->n_fields; i++)
		if (strcmp(f->sub->fields[i].name, key) == 0)
			return *(char *const *)(elem + f->sub->fields[i].offset);
	return NULL;
}

static void check_duplicates(struct parser *p, const struct at *at, const struct api_field *f, const char *v,
                             size_t n) {
	size_t size = f->type == API_TYPE_strs ? sizeof(char *) : f->sub->size;
	if (!(f->flags & (API_KEY_NAME | API_KEY_TYPE | API_SET)))
		return;
	/* This is quadratic, but lists have at most a few hundred elements. */
	for (size_t i = 1; i < n; i++)
		for (size_t j = 0; j < i; j++) {
			const char *a = elem_key(f, v + i * size), *b = elem_key(f, v + j * size);
			if (a && b && strcmp(a, b) == 0) {
				struct at elem = {.up = at, .index = i};
				wrong(p, &elem, API_DUPLICATE, "`%.80s` is there twice", a);
				j = i;
			}
		}
}

static bool is_label_value(const char *s, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && (i == 0 || i == n - 1 || !strchr("-_.", s[i])))
			return false;
	return true;
}

static int parse_map(struct parser *p, const struct at *at, const struct api_field *f, struct api_map *out) {
	const char *s;
	size_t n, max = f->flags & API_MAP_DATA         ? (size_t)2 << 20
	                : f->flags & API_MAP_VALUES_ANY ? (size_t)256 << 10
	                                                : 63;
	const bool labels = !(f->flags & (API_MAP_DATA | API_MAP_VALUES_ANY));
	const struct api_format *keys = f->flags & API_MAP_DATA ? &api_format_key : &api_format_qualified;
	if (jr_peek(p->r) != JR_OBJECT)
		return wrong_type(p, at, "an object of strings");
	int more, r = jr_object(p->r);
	if (r < 0)
		return r;
	while ((more = jr_key(p->r, &s, &n)) > 0) {
		struct error err;
		if (out->n >= (size_t)f->max) {
			wrong(p, at, API_TOO_MANY, "must have at most %lld entries", (long long)f->max);
			return jr_skip(p->r, NULL, NULL) < 0 ? p->r->failed : -E2BIG;
		}
		struct api_kv *v = reallocarray(out->v, out->n + 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		out->v = v;
		v += out->n;
		*v = (struct api_kv){.key = strndup(s, n), .value = NULL};
		if (!v->key)
			return -ENOMEM;
		out->n++;
		struct at entry = {.up = at, .name = v->key, .key = f->flags & API_MAP_DATA};
		if (keys->check(v->key, &err) < 0)
			wrong(p, &entry, API_INVALID, "%s", err.msg);
		if (jr_peek(p->r) == JR_STRING) {
			if ((r = jr_string(p->r, &s, &n)) < 0)
				return r;
			if (n > max)
				wrong(p, &entry, API_TOO_LONG, "must be at most %zu bytes long", max);
			else if (labels && !is_label_value(s, n))
				wrong(p, &entry, API_INVALID,
				      "`%.*s` must be letters, digits, `-`, `_` and `.`, with a letter or digit at "
				      "both ends",
				      (int)n, s);
		} else {
			if ((r = wrong_type(p, &entry, "a string")) < 0)
				return r;
			s = "";
			n = 0;
		}
		if (!(v->value = strndup(s, n)))
			return -ENOMEM;
	}
	return more;
}

static int parse_int(struct parser *p, const struct at *at, const struct api_field *f, struct api_i64 *out) {
	if (jr_peek(p->r) != JR_NUMBER)
		return wrong_type(p, at, "a whole number");
	/* A malformed number is bad JSON. A number that is no int64 is only an error of this field. */
	struct jr before = *p->r;
	int64_t v;
	if (jr_i64(p->r, &v) < 0) {
		const char *s;
		size_t n;
		struct buf scratch = p->r->scratch;
		*p->r = before;
		p->r->scratch = scratch;
		if (jr_skip(p->r, &s, &n) < 0)
			return p->r->failed;
		wrong(p, at, API_TYPE_INVALID, "must be a whole number in 64 bits, not %.*s", (int)MIN(n, (size_t)40),
		      s);
		return 0;
	}
	if ((f->min || f->max) && (v < f->min || v > f->max)) {
		if (f->max == INT64_MAX)
			wrong(p, at, API_INVALID, "must be at least %lld, not %lld", (long long)f->min, (long long)v);
		else
			wrong(p, at, API_INVALID, "must be %lld to %lld, not %lld", (long long)f->min,
			      (long long)f->max, (long long)v);
	}
	*out = API_I64(v);
	return 0;
}

static int parse_field(struct parser *p, const struct at *at, const struct api_field *f, char *base) {
	void *m = base + f->offset;
	int r;
	switch (f->type) {
	case API_TYPE_str: return parse_str(p, at, f->format, f->flags, f->min, f->max, m);
	case API_TYPE_i64: return parse_int(p, at, f, m);
	case API_TYPE_flag:
		if (jr_peek(p->r) != JR_BOOL)
			return wrong_type(p, at, "true or false");
		((struct api_bool *)m)->set = true;
		return jr_bool(p->r, &((struct api_bool *)m)->v);
	case API_TYPE_obj:
		if (jr_peek(p->r) != JR_OBJECT)
			return wrong_type(p, at, "an object");
		if (!*(void **)m && !(*(void **)m = calloc(1, f->sub->size)))
			return -ENOMEM;
		return parse_struct(p, at, f->sub, *(void **)m);
	case API_TYPE_inl: return parse_struct(p, at, f->sub, m);
	case API_TYPE_list:
	case API_TYPE_strs: {
		struct {
			void *v;
			size_t n;
		} *l = m;
		bool strs = f->type == API_TYPE_strs;
		r = parse_list(p, at, f, strs ? sizeof(char *) : f->sub->size,
		               strs ? parse_elem_str : parse_elem_struct, &l->v, &l->n);
		if (r == 0)
			check_duplicates(p, at, f, l->v, l->n);
		return r;
	}
	case API_TYPE_map: return parse_map(p, at, f, m);
	case API_TYPE_raw: {
		const char *s;
		size_t n;
		if ((r = jr_skip(p->r, &s, &n)) < 0)
			return r;
		free(*(char **)m);
		return (*(char **)m = strndup(s, n)) ? 0 : -ENOMEM;
	}
	}
	return -EINVAL;
}

static bool is_absent(const struct api_field *f, const char *base) {
	const void *m = base + f->offset;
	switch (f->type) {
	case API_TYPE_i64: return !((const struct api_i64 *)m)->set;
	case API_TYPE_flag: return !((const struct api_bool *)m)->set;
	case API_TYPE_inl: return false;
	case API_TYPE_list:
	case API_TYPE_strs:
	case API_TYPE_map: return ((const struct api_map *)m)->n == 0;
	default: return !*(void *const *)m;
	}
}

/* Searches from the field after the last one found: members mostly come in the declared order. */
static const struct api_field *find_field(const struct api_desc *d, size_t *hint, const char *key, size_t len) {
	for (size_t i = 0; i < d->n_fields; i++) {
		size_t at = *hint + i;
		if (at >= d->n_fields)
			at -= d->n_fields;
		const char *name = d->fields[at].name;
		if (strncmp(name, key, len) == 0 && name[len] == 0) {
			*hint = at + 1 == d->n_fields ? 0 : at + 1;
			return &d->fields[at];
		}
	}
	return NULL;
}

static int parse_struct(struct parser *p, const struct at *at, const struct api_desc *d, void *out) {
	const char *key;
	size_t n, hint = 0;
	uint64_t seen = 0;
	if (at && at->depth > DEPTH_MAX)
		return wrong(p, at, API_INVALID, "nested too deeply");
	if (jr_peek(p->r) != JR_OBJECT)
		return wrong_type(p, at, "an object");
	int more, r = jr_object(p->r);
	if (r < 0)
		return r;
	while ((more = jr_key(p->r, &key, &n)) > 0) {
		const struct api_field *f = find_field(d, &hint, key, n);
		if (!f || jr_peek(p->r) == JR_NULL) {
			if ((r = jr_skip(p->r, NULL, NULL)) < 0)
				return r;
			continue;
		}
		struct at here = {.up = at, .name = f->name, .depth = at ? at->depth + 1 : 0};
		uint64_t bit = UINT64_C(1) << (f - d->fields);
		if (seen & bit) { /* parsing the second would leak the first or mix with it */
			wrong(p, &here, API_DUPLICATE, "is there twice");
			if ((r = jr_skip(p->r, NULL, NULL)) < 0)
				return r;
			continue;
		}
		seen |= bit;
		if ((r = parse_field(p, &here, f, out)) < 0)
			return r;
	}
	if (more < 0)
		return more;
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct api_field *f = &d->fields[i];
		if ((f->flags & API_REQ) && !(seen & (UINT64_C(1) << i)) && is_absent(f, out)) {
			struct at here = {.up = at, .name = f->name};
			wrong(p, &here, API_REQUIRED, "is required");
		}
	}
	return 0;
}

/* The result for the caller: 0 only if there was no error at all. */
static int api_parse_finish(struct parser *p, int r, size_t errors_before) {
	if (p->r->failed) {
		struct error err;
		jr_error(p->r, &err);
		api_errors_add(p->errs, API_TYPE_INVALID, "", "%s", err.msg);
		return -EINVAL;
	}
	if (r == -ENOMEM)
		api_errors_add(p->errs, API_INVALID, "", "out of memory");
	return r < 0 ? r : p->errs->n > errors_before ? -EINVAL : 0;
}

int api_parse_value(const struct api_desc *d, struct jr *r, void *out, struct api_errors *errs) {
	struct parser p = {.r = r, .errs = errs};
	size_t before = errs->n;
	int rc = api_parse_finish(&p, parse_struct(&p, NULL, d, out), before);
	if (rc < 0)
		api_clear(d, out);
	return rc;
}

int api_parse_part(const struct api_desc *d, struct jr *r, void *out) {
	struct api_errors errs = {0};
	struct parser p = {.r = r, .errs = &errs};
	int rc = parse_struct(&p, NULL, d, out);
	if (!r->failed && rc != -ENOMEM)
		return 0;
	api_clear(d, out);
	return r->failed ? -EINVAL : rc;
}

/* Checks that apiVersion and kind, if present, are those of K. */
static int api_parse_check_type(const struct api_kind *k, const char *json, size_t len, struct api_errors *errs) {
	struct jr r;
	const char *key, *s;
	size_t n;
	char version[64];
	int rc = 0;
	api_kind_version(k, version);
	jr_init(&r, json, len);
	if (jr_object(&r) == 0)
		while (rc == 0 && jr_key(&r, &key, &n) > 0) {
			bool is_version = n == 10 && memcmp(key, "apiVersion", 10) == 0;
			bool is_kind = n == 4 && memcmp(key, "kind", 4) == 0;
			if (!is_version && !is_kind) {
				/*
				 * Normally these two come first. A member before them only costs the time to skip it.
				 */
				if (jr_skip(&r, NULL, NULL) < 0)
					break;
				continue;
			}
			const char *want = is_version ? version : k->kind, *name = is_version ? "apiVersion" : "kind";
			if (jr_peek(&r) != JR_STRING || jr_string(&r, &s, &n) < 0 || n != strlen(want) ||
			    memcmp(s, want, n) != 0) {
				api_errors_add(errs, API_INVALID, name, "must be `%s`", want);
				rc = -EINVAL;
			} else if (is_kind)
				break;
		}
	jr_done(&r);
	return rc;
}

static int api_parse_check_name(const struct api_kind *k, const char *name, struct api_errors *errs) {
	const struct api_format *f = k->name_format ? k->name_format : &api_format_subdomain;
	struct error err;
	if (!name || !*name || f->check(name, &err) == 0)
		return 0;
	api_errors_add(errs, API_INVALID, "metadata.name", "%s", err.msg);
	return -EINVAL;
}

int api_parse(const struct api_kind *k, const char *json, size_t len, void **ret, struct api_errors *errs) {
	struct jr r;
	int rc = api_parse_check_type(k, json, len, errs);
	if (rc < 0)
		return rc;
	void *obj = api_new(k);
	if (!obj)
		return -ENOMEM;
	jr_init(&r, json, len);
	rc = api_parse_value(k->desc, &r, obj, errs);
	if (rc == 0 && jr_end(&r) < 0) {
		struct error err;
		jr_error(&r, &err);
		api_errors_add(errs, API_TYPE_INVALID, "", "%s", err.msg);
		rc = -EINVAL;
	}
	jr_done(&r);
	if (rc == 0)
		rc = api_parse_check_name(k, api_meta(obj)->name, errs);
	if (rc == 0 && k->check) {
		size_t before = errs->n;
		k->check(obj, errs);
		if (errs->n > before)
			rc = -EINVAL;
	}
	if (rc < 0) {
		api_free(k, obj);
		return rc;
	}
	*ret = obj;
	return 0;
}

void *api_copy(const struct api_kind *k, const void *obj) {
	_buf_free_ struct buf b = {0};
	struct api_errors errs = {0};
	void *copy = NULL;
	api_print(k, obj, &b);
	if (buf_error(&b, k->kind, NULL) < 0 || api_parse(k, b.data, b.len, &copy, &errs) < 0)
		return NULL;
	return copy;
}

void *api_copy_with_status(const struct api_kind *k, const void *obj) {
	char *copy = api_copy(k, obj);
	for (size_t i = 0; copy && i < k->desc->n_fields; i++) {
		const struct api_field *f = &k->desc->fields[i];
		if (!streq(f->name, "status"))
			continue;
		void **status = (void **)(copy + f->offset);
		if (!*status && !(*status = calloc(1, f->sub->size))) {
			api_free(k, copy);
			return NULL;
		}
	}
	return copy;
}
