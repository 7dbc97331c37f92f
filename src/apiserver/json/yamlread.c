/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/yamlread.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <yaml.h>

#include "apiserver/json/tree.h"
#include "base/util.h"

struct reader {
	yaml_parser_t parser;
	json_t *anchors;         /* name: value */
	size_t values, repeated; /* how many values, and how many bytes of repeated values, may still come */
	bool strict;
	struct error *err;
};

static int yamlread_next(struct reader *r, yaml_event_t *e) {
	if (yaml_parser_parse(&r->parser, e))
		return 0;
	const char *what = r->parser.problem ? r->parser.problem : "out of memory";
	return error_set(r->err, EINVAL, "yaml: line %zu: %s", r->parser.problem_mark.line + 1, what);
}

static bool is_one_of(const char *s, const char *const *list) {
	for (; *list; list++)
		if (strcmp(s, *list) == 0)
			return true;
	return false;
}

/* Reads digits of BASE and ignores "_" between them. False: S is anything else, or doesn't fit. */
static bool parse_int(const char *s, json_int_t *ret) {
	char digits[72], *end;
	size_t n = 0;
	int base = 10;
	bool minus = *s == '-';
	if (*s == '-' || *s == '+')
		s++;
	if (!isdigit((unsigned char)*s))
		return false;
	if (s[0] == '0' && s[1] && s[1] != '.') {
		base = s[1] == 'x' ? 16 : s[1] == 'b' ? 2 : 8;
		s += base == 8 ? 1 + (s[1] == 'o') : 2;
	}
	if (minus)
		digits[n++] = '-';
	for (; *s; s++) {
		if (*s == '_')
			continue;
		if (!isxdigit((unsigned char)*s) || n >= sizeof(digits) - 1)
			return false;
		digits[n++] = *s;
	}
	digits[n] = '\0';
	errno = 0;
	*ret = strtoll(digits, &end, base);
	return n > minus && !*end && !errno;
}

/* The value of a plain scalar: null, a boolean or a number; otherwise a string. */
static json_t *yaml_plain(const char *s) {
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
	static const char *const yes[] = {"true", "True", "TRUE", "y",  "Y",  "yes",
	                                  "Yes",  "YES",  "on",   "On", "ON", NULL};
	static const char *const no[] = {"false", "False", "FALSE", "n",   "N",   "no",
	                                 "No",    "NO",    "off",   "Off", "OFF", NULL};
	json_int_t i;
	char *end;
	if (is_one_of(s, nulls))
		return json_null();
	if (is_one_of(s, yes))
		return json_true();
	if (is_one_of(s, no))
		return json_false();
	if (parse_int(s, &i))
		return json_integer(i);
	/* A number begins with a digit, or with a sign or point before one. Hexadecimal numbers were handled above. */
	const char *p = s + (*s == '-' || *s == '+');
	if (isdigit((unsigned char)p[*p == '.']) && p[1] != 'x' && p[1] != 'X') {
		double d = strtod(s, &end);
		if (!*end && isfinite(d))
			return json_real(d);
	}
	return json_string(s);
}

static json_t *yaml_scalar(const yaml_event_t *e) {
	const char *s = (const char *)e->data.scalar.value, *tag = (const char *)e->data.scalar.tag;
	if (strlen(s) != e->data.scalar.length)
		return NULL; /* strings with NUL are refused: no name or text may contain it */
	if (e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || streq(tag, YAML_STR_TAG))
		return json_string(s);
	return yaml_plain(s);
}

static int value(struct reader *r, yaml_event_t *e, unsigned depth, json_t **ret);

/* Adds the values up to the end of a mapping or sequence to OUT. */
static int yaml_members(struct reader *r, json_t *out, unsigned depth) {
	const bool list = json_is_array(out);
	for (;;) {
		yaml_event_t e;
		json_t *v = NULL;
		_free_ char *key = NULL;
		int n = yamlread_next(r, &e);
		if (n < 0)
			return n;
		const size_t line = e.start_mark.line + 1;
		const bool end = e.type == YAML_MAPPING_END_EVENT || e.type == YAML_SEQUENCE_END_EVENT;
		if (!end && !list) {
			if (e.type == YAML_SCALAR_EVENT)
				key = strdup((const char *)e.data.scalar.value);
			else
				n = error_set(r->err, EINVAL, "yaml: line %zu: a key must be a plain value", line);
		}
		if (end || n < 0) {
			yaml_event_delete(&e);
			return n;
		}
		if (!list) {
			yaml_event_delete(&e);
			n = key ? yamlread_next(r, &e) : error_oom(r->err);
			if (n < 0)
				return n;
		}
		if (!list && r->strict && json_object_get(out, key))
			n = error_set(r->err, EINVAL,
			              "yaml: unmarshal errors:\n  line %zu: key \"%.100s\" already set in map", line,
			              key);
		if (n == 0)
			n = value(r, &e, depth, &v);
		yaml_event_delete(&e);
		if (n == 0 && (list ? json_array_append_new(out, v) : json_object_set_new(out, key, v)) < 0)
			n = error_set(r->err, EINVAL, "yaml: line %zu: not valid UTF-8", line);
		if (n < 0)
			return n;
	}
}

/*
 * Copies V, to be placed inside DEPTH containers, and charges it: copies of copies can neither explode nor nest deeper.
 */
static int repeat(struct reader *r, const json_t *v, size_t depth, size_t line, json_t **ret) {
	struct error why;
	if (tree_charge(v, depth, &r->values, &r->repeated, &why) < 0)
		return error_set(r->err, EINVAL, "yaml: line %zu: document contains excessive aliasing: %s", line,
		                 why.msg);
	*ret = tree_copy(v);
	return *ret ? 0 : error_oom(r->err);
}

static int alias(struct reader *r, const char *name, unsigned depth, json_t **ret, size_t line) {
	json_t *v = json_object_get(r->anchors, name);
	if (!v)
		return error_set(r->err, EINVAL, "yaml: unknown anchor '%.100s' referenced", name);
	return repeat(r, v, depth, line, ret);
}

/* Reads the value that begins with event E. */
static int value(struct reader *r, yaml_event_t *e, unsigned depth, json_t **ret) {
	const size_t line = e->start_mark.line + 1;
	const char *anchor = NULL;
	json_t *v = NULL;
	int n = 0;
	if (depth >= TREE_DEPTH_MAX && e->type != YAML_SCALAR_EVENT)
		return error_set(r->err, EINVAL, "yaml: line %zu: nested more than %d levels deep", line,
		                 TREE_DEPTH_MAX);
	if (!r->values)
		return error_set(r->err, EINVAL, "yaml: line %zu: more than %d values", line, TREE_VALUES_MAX);
	r->values--;
	switch (e->type) {
	case YAML_ALIAS_EVENT: return alias(r, (const char *)e->data.alias.anchor, depth, ret, line);
	case YAML_SCALAR_EVENT:
		anchor = (const char *)e->data.scalar.anchor;
		v = yaml_scalar(e);
		if (!v)
			return error_set(r->err, EINVAL, "yaml: line %zu: a string is not UTF-8 or contains NUL", line);
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = (const char *)e->data.mapping_start.anchor;
		v = json_object();
		n = v ? yaml_members(r, v, depth + 1) : error_oom(r->err);
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = (const char *)e->data.sequence_start.anchor;
		v = json_array();
		n = v ? yaml_members(r, v, depth + 1) : error_oom(r->err);
		break;
	default: return error_set(r->err, EINVAL, "yaml: line %zu: a value is missing", line);
	}
	/* Keep a copy: a change of the value at its place must not change where an alias repeats it. */
	if (n == 0 && anchor) {
		json_t *kept;
		n = repeat(r, v, depth, line, &kept);
		if (n == 0 && json_object_set_new(r->anchors, anchor, kept) < 0)
			n = error_oom(r->err);
	}
	if (n == 0)
		*ret = v;
	else
		json_decref(v);
	return n;
}

static int yaml_document(struct reader *r, json_t **ret) {
	yaml_event_t e;
	json_t *v = NULL;
	int n = yamlread_next(r, &e);
	while (n == 0 && (e.type == YAML_STREAM_START_EVENT || e.type == YAML_DOCUMENT_START_EVENT)) {
		yaml_event_delete(&e);
		n = yamlread_next(r, &e);
	}
	if (n < 0)
		return n;
	if (e.type == YAML_STREAM_END_EVENT)
		v = json_null();
	else
		n = value(r, &e, 0, &v);
	yaml_event_delete(&e);
	for (bool end = json_is_null(v); n == 0 && !end;) {
		n = yamlread_next(r, &e);
		if (n < 0)
			break;
		end = e.type == YAML_STREAM_END_EVENT;
		if (e.type == YAML_DOCUMENT_START_EVENT)
			n = error_set(r->err, EINVAL, "yaml: line %zu: only one document is allowed",
			              e.start_mark.line + 1);
		yaml_event_delete(&e);
	}
	if (n == 0)
		*ret = v;
	else
		json_decref(v);
	return n;
}

int yaml_parse(const char *text, size_t len, bool strict, json_t **ret, struct error *err) {
	struct reader r = {.strict = strict,
	                   .err = err,
	                   .anchors = json_object(),
	                   .values = TREE_VALUES_MAX,
	                   .repeated = YAML_REPEATED_MAX};
	if (!r.anchors || !yaml_parser_initialize(&r.parser)) {
		json_decref(r.anchors);
		return error_oom(err);
	}
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	int n = yaml_document(&r, ret);
	yaml_parser_delete(&r.parser);
	json_decref(r.anchors);
	return n;
}
