/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/selector.h"

#include <string.h>

#include "api/format.h"
#include "base/util.h"

enum op { OP_EXISTS, OP_ABSENT, OP_IN, OP_NOT_IN, OP_GREATER, OP_LESS };

struct term {
	enum op op;
	char *key;
	char **values;
	size_t n_values;
	int64_t number;        /* for OP_GREATER and OP_LESS */
	size_t key_len, first; /* the first term with the same key */
};

struct selector {
	struct term *labels, *fields;
	size_t n_labels, n_fields;
	/* The first parts of field names: "spec" of "spec.host". */
	char *heads[SELECTOR_TERMS_MAX];
	size_t n_heads;
};

static void term_clear(struct term *t) {
	for (size_t i = 0; i < t->n_values; i++)
		free(t->values[i]);
	free(t->values);
	free(t->key);
	*t = (struct term){0};
}

struct selector *selector_free(struct selector *s) {
	if (!s)
		return NULL;
	for (size_t i = 0; i < s->n_labels; i++)
		term_clear(&s->labels[i]);
	for (size_t i = 0; i < s->n_fields; i++)
		term_clear(&s->fields[i]);
	for (size_t i = 0; i < s->n_heads; i++)
		free(s->heads[i]);
	free(s->labels);
	free(s->fields);
	free(s);
	return NULL;
}

/* Adds an empty term at the end of *V. NULL: too many terms, or no memory; ERR is set. */
static struct term *add_term(struct term **v, size_t *n, struct error *err) {
	if (*n == SELECTOR_TERMS_MAX) {
		error_set(err, EINVAL, "more than %d terms", SELECTOR_TERMS_MAX);
		return NULL;
	}
	struct term *t = reallocarray(*v, *n + 1, sizeof(*t));
	if (!t) {
		error_oom(err);
		return NULL;
	}
	*v = t;
	t[*n] = (struct term){0};
	return &t[(*n)++];
}

static int add_value(struct term *t, const char *v, size_t len, struct error *err) {
	char **values = reallocarray(t->values, t->n_values + 1, sizeof(char *));
	if (!values)
		return error_oom(err);
	t->values = values;
	t->values[t->n_values] = strndup(v, len);
	if (!t->values[t->n_values])
		return error_oom(err);
	t->n_values++;
	return 0;
}

static void skip_space(const char **p) {
	*p += strspn(*p, " \t");
}

/* The length of a word: a key or a value of a label selector. */
static size_t word_len(const char *p) {
	return strcspn(p, " \t,!=<>()");
}

static int check_label_value(const char *v, size_t len, struct error *err) {
	bool ok = len <= 63;
	for (size_t i = 0; ok && i < len; i++) {
		char c = v[i], l = (char)(c | 32);
		bool alnum = (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9');
		ok = alnum || (i > 0 && i < len - 1 && (c == '-' || c == '_' || c == '.'));
	}
	return ok ? 0 : error_set(err, EINVAL, "`%.*s` is not a label value", (int)MIN(len, 80U), v);
}

static int parse_word(const char **p, struct term *t, bool check, struct error *err) {
	skip_space(p);
	size_t n = word_len(*p);
	int r = check ? check_label_value(*p, n, err) : 0;
	if (r == 0)
		r = add_value(t, *p, n, err);
	*p += n;
	skip_space(p);
	return r;
}

static int parse_set(const char **p, struct term *t, struct error *err) {
	if (**p != '(')
		return error_set(err, EINVAL, "expected `(` at `%.40s`", *p);
	do {
		(*p)++;
		int r = parse_word(p, t, true, err);
		if (r < 0)
			return r;
	} while (**p == ',');
	if (**p != ')')
		return error_set(err, EINVAL, "expected `)` at `%.40s`", *p);
	(*p)++;
	return 0;
}

static int parse_op(const char **p, struct term *t, struct error *err) {
	if (starts_with(*p, "==") || **p == '=' || starts_with(*p, "!=")) {
		t->op = **p == '!' ? OP_NOT_IN : OP_IN;
		*p += (*p)[1] == '=' ? 2 : 1;
		return parse_word(p, t, true, err);
	}
	if (**p == '>' || **p == '<') {
		t->op = **p == '>' ? OP_GREATER : OP_LESS;
		(*p)++;
		int r = parse_word(p, t, true, err);
		return r < 0 || t->n_values == 0 ? r : parse_i64(t->values[0], INT64_MIN, INT64_MAX, &t->number, err);
	}
	size_t n = word_len(*p);
	if ((n == 2 && memcmp(*p, "in", 2) == 0) || (n == 5 && memcmp(*p, "notin", 5) == 0)) {
		t->op = n == 2 ? OP_IN : OP_NOT_IN;
		*p += n;
		skip_space(p);
		return parse_set(p, t, err);
	}
	t->op = OP_EXISTS;
	return 0;
}

static int parse_label_term(const char **p, struct term *t, struct error *err) {
	skip_space(p);
	bool absent = **p == '!';
	*p += absent;
	skip_space(p);
	size_t n = word_len(*p);
	t->key = strndup(*p, n);
	if (!t->key)
		return error_oom(err);
	int r = api_format_qualified.check(t->key, err);
	if (r < 0)
		return r;
	*p += n;
	skip_space(p);
	if (absent) {
		t->op = OP_ABSENT;
		return 0;
	}
	return parse_op(p, t, err);
}

static int parse_labels(struct selector *s, const char *text, struct error *err) {
	for (const char *p = text;; p++) {
		struct term *t = add_term(&s->labels, &s->n_labels, err);
		int r = t ? parse_label_term(&p, t, err) : -EINVAL;
		if (r < 0)
			return r;
		skip_space(&p);
		if (!*p)
			return 0;
		if (*p != ',')
			return error_set(err, EINVAL, "unexpected `%.40s`", p);
	}
}

static bool selectable(const struct api_kind *k, const char *field) {
	if (streq(field, "metadata.name") || (streq(field, "metadata.namespace") && k->namespaced))
		return true;
	for (size_t i = 0; k->selectable_fields && k->selectable_fields[i]; i++)
		if (streq(k->selectable_fields[i], field))
			return true;
	return false;
}

/* Reads a value up to the next ",". A "\" makes the character after it literal. */
static int parse_field_value(const char **p, struct term *t, struct error *err) {
	_free_ char *v = malloc(strlen(*p) + 1);
	size_t n = 0;
	if (!v)
		return error_oom(err);
	for (; **p && **p != ','; (*p)++) {
		if (**p == '=')
			return error_set(err, EINVAL, "unexpected `=`");
		if (**p == '\\' && !*++*p)
			return error_set(err, EINVAL, "`\\` at the end");
		v[n++] = **p;
	}
	return add_value(t, v, n, err);
}

static int parse_fields(const struct api_kind *k, struct selector *s, const char *text, struct error *err) {
	for (const char *p = text; *p; p += *p == ',') {
		size_t n = strcspn(p, "=!,");
		if (p[n] == ',' || !p[n] || (p[n] == '!' && p[n + 1] != '='))
			return error_set(err, EINVAL, "invalid field selector: `%.80s` has no `=`", p);
		struct term *t = add_term(&s->fields, &s->n_fields, err);
		if (!t)
			return -EINVAL;
		t->key = strndup(p, n);
		if (!t->key)
			return error_oom(err);
		if (!selectable(k, t->key))
			return error_set(err, EINVAL, "field label not supported: %.200s", t->key);
		t->op = p[n] == '!' ? OP_NOT_IN : OP_IN;
		p += n + (p[n + 1] == '=' ? 2 : 1);
		int r = parse_field_value(&p, t, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void find_same(struct term *v, size_t n) {
	for (size_t i = 0; i < n; i++) {
		v[i].key_len = strlen(v[i].key);
		while (!streq(v[v[i].first].key, v[i].key))
			v[i].first++;
	}
}

static int add_head(struct selector *s, const char *key) {
	size_t n = strcspn(key, ".");
	if (starts_with(key, "metadata."))
		return 0; /* no part of the text has to be searched: name and namespace are known */
	for (size_t i = 0; i < s->n_heads; i++)
		if (strlen(s->heads[i]) == n && memcmp(s->heads[i], key, n) == 0)
			return 0;
	char *head = strndup(key, n);
	if (!head)
		return -ENOMEM;
	s->heads[s->n_heads++] = head;
	return 0;
}

int selector_parse(const struct api_kind *k, const char *labels, const char *fields, struct selector **ret,
                   struct error *err) {
	bool has_labels = labels && *labels, has_fields = fields && *fields;
	if (!has_labels && !has_fields) {
		*ret = NULL;
		return 0;
	}
	if ((has_labels && strlen(labels) > SELECTOR_TEXT_MAX) || (has_fields && strlen(fields) > SELECTOR_TEXT_MAX))
		return error_set(err, EINVAL, "selector is longer than %zu bytes", SELECTOR_TEXT_MAX);
	_cleanup_(cleanup_selector) struct selector *s = calloc(1, sizeof(*s));
	if (!s)
		return error_oom(err);
	int r = has_labels ? parse_labels(s, labels, err) : 0;
	if (r < 0) {
		error_prefix(err, "unable to parse label selector");
		return r;
	}
	r = has_fields ? parse_fields(k, s, fields, err) : 0;
	if (r < 0)
		return r;
	find_same(s->labels, s->n_labels);
	find_same(s->fields, s->n_fields);
	for (size_t i = 0; i < s->n_fields; i++)
		if (add_head(s, s->fields[i].key) < 0)
			return error_oom(err);
	*ret = TAKE_PTR(s);
	return 0;
}

const char *selector_name(const struct selector *sel) {
	for (size_t i = 0; sel && i < sel->n_fields; i++)
		if (sel->fields[i].op == OP_IN && streq(sel->fields[i].key, "metadata.name"))
			return sel->fields[i].values[0];
	return NULL;
}

bool selector_requires(const struct selector *sel, const char *field, const char *value) {
	for (size_t i = 0; sel && i < sel->n_fields; i++)
		if (sel->fields[i].op == OP_IN && streq(sel->fields[i].key, field) &&
		    streq(sel->fields[i].values[0], value))
			return true;
	return false;
}

static bool key_is(const char *key, size_t len, const char *want, size_t want_len) {
	return len == want_len && memcmp(key, want, len) == 0;
}

/*
 * The functions below read text that this program has written. Its JSON is well-formed, so they don't check it again.
 * Even if it is not, they read no byte past END.
 */
static const char *skip_space_to(const char *p, const char *end) {
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

static const char *skip_string(const char *p, const char *end) {
	const char *quote = p + 1;
	while (quote < end && (quote = memchr(quote, '"', (size_t)(end - quote)))) {
		const char *before = quote;
		while (before > p + 1 && before[-1] == '\\')
			before--;
		quote++;
		if ((quote - 1 - before) % 2 == 0)
			return quote;
	}
	return end;
}

static const char *skip_value(const char *p, const char *end) {
	size_t depth = 0;
	do {
		switch (p < end ? *p : '\0') {
		case '"': p = skip_string(p, end); break;
		case '{':
		case '[':
			depth++;
			p++;
			break;
		case '}':
		case ']':
			depth -= depth > 0;
			p++;
			break;
		default:
			p += p < end;
			if (!depth)
				while (p < end && !strchr(",}] \t\r\n", *p))
					p++;
		}
	} while (depth && p < end);
	return p;
}

/*
 * The next member of the object that P is in (after its brace or comma). Moves P to the value. False: no more members.
 */
static bool next_key(const char **p, const char *end, struct json_span *key) {
	const char *q = skip_space_to(*p, end);
	if (q == end || *q != '"')
		return false;
	const char *key_end = skip_string(q, end);
	*key = (struct json_span){q + 1, (size_t)(key_end - q) - 2};
	q = skip_space_to(key_end, end);
	if (q == end || *q != ':')
		return false;
	*p = skip_space_to(q + 1, end);
	return true;
}

/* P is at a value; moves P past it. False: there is no value. */
static bool next_value(const char **p, const char *end, struct json_span *value) {
	const char *q = skip_value(*p, end);
	*value = (struct json_span){*p, (size_t)(q - *p)};
	q = skip_space_to(q, end);
	*p = q + (q < end && *q == ',');
	return value->len > 0;
}

static bool next_member(const char **p, const char *end, struct json_span *key, struct json_span *value) {
	return next_key(p, end, key) && next_value(p, end, value);
}

/* Returns the position after the brace that opens the object at JSON, or END. */
static const char *selector_enter(const char *json, const char *end) {
	const char *p = skip_space_to(json, end);
	return p < end && *p == '{' ? p + 1 : end;
}

/* The value of the member NAME of the object at JSON, or NULL. */
static const char *find_member(const char *json, const char *end, const char *name, size_t name_len) {
	const char *p = selector_enter(json, end);
	struct json_span key, value;
	while (next_key(&p, end, &key)) {
		if (key_is(key.text, key.len, name, name_len))
			return p;
		if (!next_value(&p, end, &value))
			break;
	}
	return NULL;
}

void json_members(const char *json, size_t len, const char *const *names, struct json_span *ret, size_t n) {
	const char *end = json + len, *p = selector_enter(json, end);
	struct json_span key, value;
	for (size_t i = 0; i < n; i++)
		ret[i] = (struct json_span){""};
	while (next_member(&p, end, &key, &value))
		for (size_t i = 0; i < n; i++)
			if (key_is(key.text, key.len, names[i], strlen(names[i])))
				ret[i] = value;
}

/* This doesn't look for the ends of the objects on the path. */
bool json_find(const char *json, size_t len, const char *path, const char **ret, size_t *ret_len) {
	const char *end = json + len;
	while (*path) {
		size_t n = strcspn(path, ".");
		if (!(json = find_member(json, end, path, n)))
			return false;
		path += n + (path[n] == '.');
	}
	*ret = json;
	*ret_len = (size_t)(skip_value(json, end) - json);
	return *ret_len > 0;
}

/* The cost of a term, and of each value that it is compared with, in bytes read. */
#define TERM_WORK  16
#define VALUE_WORK 4

/* Compares the JSON value in TEXT with the term's values: strings by their value, other types as they are written. */
static bool value_in(const struct term *t, const char *text, size_t len) {
	struct jr r;
	const char *v = text;
	size_t n = len;
	bool found = false;
	jr_init(&r, text, len);
	if (jr_peek(&r) == JR_STRING && jr_string(&r, &v, &n) < 0)
		n = 0;
	for (size_t i = 0; !found && i < t->n_values; i++)
		found = key_is(v, n, t->values[i], strlen(t->values[i]));
	jr_done(&r);
	return found;
}

static bool number_matches(const struct term *t, const char *text, size_t len) {
	char digits[32];
	int64_t v;
	if (len < 2 || len - 2 >= sizeof(digits))
		return false;
	memcpy(digits, text + 1, len - 2); /* without the quotes */
	digits[len - 2] = '\0';
	if (parse_i64(digits, INT64_MIN, INT64_MAX, &v, NULL) < 0)
		return false;
	return t->op == OP_GREATER ? v > t->number : v < t->number;
}

static bool label_matches(const struct term *t, const struct json_span *v) {
	switch (t->op) {
	case OP_EXISTS: return v->text;
	case OP_ABSENT: return !v->text;
	case OP_IN: return v->text && value_in(t, v->text, v->len);
	case OP_NOT_IN: return !v->text || !value_in(t, v->text, v->len);
	case OP_GREATER:
	case OP_LESS: return v->text && number_matches(t, v->text, v->len);
	}
	return false;
}

/* Compares all terms in one pass over the labels. */
static bool labels_match(const struct selector *sel, const char *json, size_t len, size_t *work) {
	struct json_span found[SELECTOR_TERMS_MAX] = {0}, labels = {0}, key, value;
	if (json_find(json, len, "metadata.labels", &labels.text, &labels.len)) {
		const char *end = labels.text + labels.len, *p = selector_enter(labels.text, end);
		while (next_member(&p, end, &key, &value)) {
			*work += sel->n_labels;
			for (size_t i = 0; i < sel->n_labels; i++) {
				const struct term *t = &sel->labels[i];
				if (t->first == i && key_is(key.text, key.len, t->key, t->key_len))
					found[i] = value;
			}
		}
	}
	for (size_t i = 0; i < sel->n_labels; i++) {
		*work += TERM_WORK + VALUE_WORK * sel->labels[i].n_values;
		if (!label_matches(&sel->labels[i], &found[sel->labels[i].first]))
			return false;
	}
	return true;
}

static bool field_matches(const struct term *t, const char *ns, const char *name, const struct json_span *found) {
	bool equal;
	if (streq(t->key, "metadata.name"))
		equal = streq(name, t->values[0]);
	else if (streq(t->key, "metadata.namespace"))
		equal = streq(ns, t->values[0]);
	else if (found->text)
		equal = value_in(t, found->text, found->len);
	else
		equal = *t->values[0] == '\0'; /* absent is "" */
	return equal == (t->op == OP_IN);
}

/* One pass over the object, then one pass for each different field over the top-level member that it is in. */
static bool fields_match(const struct selector *sel, const char *ns, const char *name, const char *json, size_t len,
                         size_t *work) {
	struct json_span found[SELECTOR_TERMS_MAX] = {0}, heads[SELECTOR_TERMS_MAX];
	if (sel->n_heads)
		json_members(json, len, (const char *const *)sel->heads, heads, sel->n_heads);
	for (size_t i = 0; i < sel->n_fields; i++) {
		const struct term *t = &sel->fields[i];
		size_t n = strcspn(t->key, "."), h = 0;
		while (h < sel->n_heads && (strncmp(sel->heads[h], t->key, n) != 0 || sel->heads[h][n]))
			h++;
		*work += TERM_WORK;
		if (t->first == i && h < sel->n_heads && heads[h].len) {
			*work += heads[h].len;
			if (!t->key[n])
				found[i] = heads[h];
			else if (!json_find(heads[h].text, heads[h].len, t->key + n + 1, &found[i].text, &found[i].len))
				found[i] = (struct json_span){0};
		}
		if (!field_matches(t, ns, name, &found[t->first]))
			return false;
	}
	return true;
}

bool selector_matches(const struct selector *sel, const char *ns, const char *name, const char *json, size_t len,
                      size_t *work) {
	if (!sel)
		return true;
	*work += len;
	return (!sel->n_fields || fields_match(sel, ns, name, json, len, work)) &&
	       (!sel->n_labels || labels_match(sel, json, len, work));
}
