/* SPDX-License-Identifier: Apache-2.0 */
#include "api/selector.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "api/format.h"
#include "base/util.h"

static int check_label_value(const char *s, struct error *err) {
	size_t n = strlen(s);
	bool ok = n <= 63;
	for (size_t i = 0; ok && i < n; i++)
		ok = isalnum((unsigned char)s[i]) || (i > 0 && i < n - 1 && strchr("-_.", s[i]));
	if (ok)
		return 0;
	return error_set(err, EINVAL,
	                 "`%.80s` must be at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both "
	                 "ends",
	                 s);
}

static const struct api_format api_format_label_value = {"label value", "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
                                                         NULL, NULL, check_label_value};
API_DEFINE(api_requirement, API_REQUIREMENT)
API_DEFINE(api_selector, API_SELECTOR)

static bool requirement_has_values(const struct api_requirement *r) {
	return streq(r->op, "In") || streq(r->op, "NotIn");
}

void api_selector_check(const struct api_selector *s, const char *at, struct api_errors *errs) {
	for (size_t i = 0; s && i < s->match_expressions.n; i++) {
		const struct api_requirement *r = &s->match_expressions.v[i];
		char path[128];
		snprintf(path, sizeof(path), "%.80s.matchExpressions[%zu].values", at, i);
		if (requirement_has_values(r) && !r->values.n)
			api_errors_add(errs, API_REQUIRED, path, "is required for operator %s", r->op);
		if (!requirement_has_values(r) && r->values.n)
			api_errors_add(errs, API_FORBIDDEN, path, "must not be set for operator %s", r->op);
	}
}

static bool requirement_matches(const struct api_requirement *r, const struct api_map *labels) {
	const char *value = api_map_get(labels, r->key);
	bool in = false;
	if (!requirement_has_values(r))
		return !value == streq(r->op, "DoesNotExist");
	for (size_t i = 0; value && i < r->values.n && !in; i++)
		in = streq(r->values.v[i], value);
	return in == streq(r->op, "In");
}

bool api_selector_matches(const struct api_selector *s, const struct api_map *labels) {
	for (size_t i = 0; i < s->match_labels.n; i++)
		if (!streq(api_map_get(labels, s->match_labels.v[i].key), s->match_labels.v[i].value))
			return false;
	for (size_t i = 0; i < s->match_expressions.n; i++)
		if (!requirement_matches(&s->match_expressions.v[i], labels))
			return false;
	return true;
}

/* ---- canonical text ---- */

static int text_cmp(const void *a, const void *b) {
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorts V of N and appends its different elements, separated by commas. */
static void texts_append(const char **v, size_t n, struct buf *out) {
	if (n)
		qsort(v, n, sizeof(*v), text_cmp);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || !streq(v[i], v[i - 1]))
			buf_printf(out, "%s%s", i ? "," : "", v[i]);
}

/* The text of one requirement, which the caller frees; NULL: no memory. */
static char *requirement_text(const struct api_requirement *r) {
	const char *values[API_SELECTOR_VALUES_MAX];
	struct buf out = {0};
	if (!requirement_has_values(r))
		return strf("%s%s", streq(r->op, "DoesNotExist") ? "!" : "", r->key);
	memcpy(values, r->values.v, r->values.n * sizeof(*values));
	buf_printf(&out, "%s %s (", r->key, streq(r->op, "In") ? "in" : "notin");
	texts_append(values, r->values.n, &out);
	buf_putc(&out, ')');
	if (!out.failed)
		return out.data;
	buf_free(&out);
	return NULL;
}

void api_selector_text(const struct api_selector *s, struct buf *out) {
	char *texts[API_SELECTOR_LABELS_MAX + API_SELECTOR_EXPRESSIONS_MAX];
	size_t n = 0;
	for (size_t i = 0; i < s->match_labels.n; i++)
		texts[n++] = strf("%s in (%s)", s->match_labels.v[i].key, s->match_labels.v[i].value);
	for (size_t i = 0; i < s->match_expressions.n; i++)
		texts[n++] = requirement_text(&s->match_expressions.v[i]);
	bool complete = true;
	for (size_t i = 0; i < n; i++)
		complete &= texts[i] != NULL;
	if (complete)
		texts_append((const char **)texts, n, out);
	else
		out->failed = true;
	for (size_t i = 0; i < n; i++)
		free(texts[i]);
}
