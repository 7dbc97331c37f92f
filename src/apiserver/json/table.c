/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/json/table.h"

#include <jansson.h>
#include <string.h>

#include "api/core.h"
#include "api/dom.h"
#include "apiserver/json/object.h"
#include "apiserver/json/selector.h"
#include "apiserver/json/tree.h"
#include "base/jsonwrite.h"
#include "base/util.h"

#define COLUMNS_MAX 24

const char *age_str(int64_t s, char out[static AGE_STR_MAX]) {
	const int64_t minute = 60, hour = 3600, day = 86400, year = 365 * day;
	struct {
		int64_t below, unit, rest;
		char name, rest_name;
	} const steps[] = {
		{2 * minute, 1, 0, 's', 0},         {10 * minute, minute, 1, 'm', 's'}, {3 * hour, minute, 0, 'm', 0},
		{8 * hour, hour, minute, 'h', 'm'}, {2 * day, hour, 0, 'h', 0},         {8 * day, day, hour, 'd', 'h'},
		{2 * year, day, 0, 'd', 0},         {8 * year, year, day, 'y', 'd'},
	};
	if (s < 0) {
		snprintf(out, AGE_STR_MAX, s < -1 ? "<invalid>" : "0s");
		return out;
	}
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (s >= steps[i].below)
			continue;
		int64_t rest = steps[i].rest ? s % steps[i].unit / steps[i].rest : 0;
		int n = snprintf(out, AGE_STR_MAX, "%lld%c", (long long)(s / steps[i].unit), steps[i].name);
		if (rest)
			snprintf(out + n, AGE_STR_MAX - (size_t)n, "%lld%c", (long long)rest, steps[i].rest_name);
		return out;
	}
	snprintf(out, AGE_STR_MAX, "%lldy", (long long)(s / year));
	return out;
}

static void print_column(struct buf *b, const char *name, const char *type, const char *format, const char *doc,
                         int priority) {
	jw_begin(b, '{');
	jw_kv_string(b, "name", name);
	jw_kv_string(b, "type", type);
	jw_kv_string(b, "format", format);
	jw_kv_string(b, "description", doc);
	jw_kv_i64(b, "priority", priority);
	jw_end(b, '}');
}

/*
 * Tables of custom resources, and of their Scales, show dates as dates and absent values as null. Other tables show
 * strings.
 */
static bool is_custom(const struct api_kind *k) {
	return object_has_generation(k) || streq(k->kind, "Scale");
}

/*
 * An Event is known by the object that it is about. Its own name and age are shown with -o wide, as in kube-apiserver.
 */
static int own_priority(const struct api_kind *k) {
	return k == &api_kind_event ? 1 : 0;
}

/* True if the kind declares a column with the age of the object. */
static bool has_age(const struct api_kind *k) {
	for (const struct api_column *c = k->columns; c && c->name; c++)
		if (streq(c->path, API_COLUMN_AGE) || streq(c->name, "Created At"))
			return true;
	return false;
}

static void print_columns(struct buf *b, const struct api_kind *k) {
	bool custom = is_custom(k);
	jw_key(b, "columnDefinitions");
	jw_begin(b, '[');
	print_column(b, "Name", "string", "name", "Name, unique in its namespace.", own_priority(k));
	for (const struct api_column *c = k->columns; c && c->name; c++)
		print_column(b, c->name, streq(c->type, "date") && !custom ? "string" : c->type, "", c->doc,
		             c->priority);
	if (!has_age(k))
		print_column(b, "Age", custom ? "date" : "string", "", "Time since it was created.", own_priority(k));
	jw_end(b, ']');
}

static void print_age(struct buf *b, const char *time, uint64_t now_us) {
	char age[AGE_STR_MAX];
	uint64_t us;
	if (time_parse(time, &us) < 0)
		jw_string(b, "<unknown>");
	else
		jw_string(b, age_str((int64_t)(now_us / USEC_PER_SEC) - (int64_t)(us / USEC_PER_SEC), age));
}

/* Prints "instance/web". No JSON path can produce this. */
static void print_involved(struct buf *b, const json_t *event) {
	char text[400], *p = text;
	const json_t *ref = json_object_get(event, "involvedObject");
	const char *kind = json_string_value(json_object_get(ref, "kind"));
	const char *name = json_string_value(json_object_get(ref, "name"));
	for (; kind && *kind && p < text + 100; kind++)
		*p++ = (char)(*kind >= 'A' && *kind <= 'Z' ? *kind | 32 : *kind);
	snprintf(p, sizeof(text) - 100, "/%s", name ? name : "");
	jw_string(b, text);
}

/*
 * Prints the subjects of the kind that the column is named after: "alice, bob". ServiceAccounts have their namespaces.
 */
static void print_subjects(struct buf *b, const json_t *binding, const char *column) {
	_buf_free_ struct buf list = {.max = 8192};
	size_t i;
	const json_t *s;
	json_array_foreach(json_object_get(binding, "subjects"), i, s) {
		const char *kind = json_string_value(json_object_get(s, "kind"));
		const char *name = json_string_value(json_object_get(s, "name"));
		const char *ns = json_string_value(json_object_get(s, "namespace"));
		if (kind && *kind && starts_with(column, kind))
			buf_printf(&list, "%s%s%s%s", list.len ? ", " : "", ns ? ns : "", ns ? "/" : "",
			           name ? name : "");
	}
	jw_string(b, list.data ? list.data : "");
}

static const char *created_of(const json_t *obj) {
	const char *t = json_string_value(json_object_get(json_object_get(obj, "metadata"), "creationTimestamp"));
	return t ? t : "";
}

static void print_cell(struct buf *b, const struct api_kind *k, const struct api_column *c, const json_t *obj,
                       uint64_t now_us) {
	int64_t n = 0;
	if (k == &api_kind_event && streq(c->path, ".involvedObject.name")) {
		print_involved(b, obj);
		return;
	}
	if (streq(c->path, API_COLUMN_AGE)) {
		print_age(b, created_of(obj), now_us);
		return;
	}
	if (starts_with(c->path, API_COLUMN_COUNT)) {
		const json_t *v = json_object_get(obj, c->path + strlen(API_COLUMN_COUNT "."));
		jw_i64(b, (int64_t)(json_is_array(v) ? json_array_size(v) : json_object_size(v)));
		return;
	}
	if (streq(c->path, ".roleRef.kind/.roleRef.name")) {
		const json_t *ref = json_object_get(obj, "roleRef");
		_free_ char *role = strf("%s/%s", json_string_value(json_object_get(ref, "kind")),
		                         json_string_value(json_object_get(ref, "name")));
		jw_string(b, role ? role : "");
		return;
	}
	if (streq(c->path, ".subjects")) {
		print_subjects(b, obj, c->name);
		return;
	}
	bool is_integer = false;
	_free_ char *text = api_jsonpath(obj, c->path, &n, &is_integer);
	if (!text)
		b->failed = true;
	else if (!*text && !is_integer && is_custom(k))
		jw_null(b);
	else if (!*text && !is_integer)
		jw_string(b, "");
	else if (is_integer)
		jw_i64(b, n);
	else if (streq(c->type, "date"))
		print_age(b, text, now_us);
	else
		jw_string(b, text);
}

void partial_print(struct buf *b, const char *json, size_t n) {
	const char *meta;
	size_t len;
	jw_begin(b, '{');
	jw_kv_string(b, "kind", "PartialObjectMetadata");
	jw_kv_string(b, "apiVersion", "meta.k8s.io/v1");
	if (json_find(json, n, "metadata", &meta, &len)) {
		jw_key(b, "metadata");
		jw_raw(b, meta, len);
	}
	jw_end(b, '}');
}

static void print_row_object(struct buf *b, const struct json_span *item, enum table_include include) {
	jw_key(b, "object");
	if (include == TABLE_NONE)
		jw_null(b);
	else if (include == TABLE_OBJECT)
		jw_raw(b, item->text, item->len);
	else
		partial_print(b, item->text, item->len);
}

/* Parses the members NAMES of the object at JSON and adds them to OBJ. */
static void load_members(json_t *obj, const char *json, size_t len, const char *const *names, size_t n) {
	struct json_span spans[COLUMNS_MAX];
	json_members(json, len, names, spans, n);
	for (size_t i = 0; i < n; i++)
		if (spans[i].len)
			json_object_set_new(obj, names[i], tree_load(spans[i].text, spans[i].len));
}

/* Parses only the parts of an object that its row shows. */
static json_t *load_columns(const struct api_kind *k, const struct json_span *item) {
	static const char *const meta_names[] = {"name", "creationTimestamp"};
	char heads[COLUMNS_MAX][32];
	const char *names[COLUMNS_MAX], *text;
	size_t n = 0, len;
	json_t *obj = json_object(), *meta = json_object();
	for (const struct api_column *c = k->columns; c && c->name && n < COLUMNS_MAX; c++) {
		const char *head = c->path + strcspn(c->path, ".");
		if (!*head || starts_with(head, ".metadata."))
			continue;
		snprintf(heads[n], sizeof(heads[n]), "%.*s", (int)strcspn(head + 1, ".[/"), head + 1);
		size_t i = 0;
		while (i < n && !streq(heads[i], heads[n]))
			i++;
		if (i == n) {
			names[n] = heads[n];
			n++;
		}
	}
	load_members(obj, item->text, item->len, names, n);
	if (json_find(item->text, item->len, "metadata", &text, &len))
		load_members(meta, text, len, meta_names, ARRAY_SIZE(meta_names));
	json_object_set_new(obj, "metadata", meta);
	return obj;
}

void table_row(struct buf *b, const struct item_style *style, const struct json_span *item) {
	const struct api_kind *k = style->kind;
	json_t *obj = load_columns(k, item);
	const json_t *meta = json_object_get(obj, "metadata");
	const char *name = json_string_value(json_object_get(meta, "name")), *text;
	size_t len;
	jw_begin(b, '{');
	jw_key(b, "cells");
	jw_begin(b, '[');
	/* An object of an earlier version may be nested too deeply to be parsed. Its row shows only the name. */
	if (!obj && json_find(item->text, item->len, "metadata.name", &text, &len))
		jw_raw(b, text, len);
	else
		jw_string(b, name ? name : "");
	for (const struct api_column *c = k->columns; c && c->name; c++)
		print_cell(b, k, c, obj, style->now_us);
	if (!has_age(k))
		print_age(b, created_of(obj), style->now_us);
	jw_end(b, ']');
	print_row_object(b, item, style->include);
	jw_end(b, '}');
	json_decref(obj);
}

void partial_item(struct buf *b, _unused_ const struct item_style *style, const struct json_span *item) {
	partial_print(b, item->text, item->len);
}

void table_begin(struct buf *b, const struct api_kind *k, int64_t version, const char *cont, int64_t remaining) {
	char rv[24];
	snprintf(rv, sizeof(rv), "%lld", (long long)version);
	jw_begin(b, '{');
	jw_kv_string(b, "kind", "Table");
	jw_kv_string(b, "apiVersion", "meta.k8s.io/v1");
	jw_key(b, "metadata");
	jw_begin(b, '{');
	jw_kv_string(b, "resourceVersion", rv);
	if (*cont)
		jw_kv_string(b, "continue", cont);
	if (remaining)
		jw_kv_i64(b, "remainingItemCount", remaining);
	jw_end(b, '}');
	print_columns(b, k);
	jw_key(b, "rows");
	jw_begin(b, '[');
}

void table_print(struct buf *b, const struct api_kind *k, const struct json_span *item, int64_t version,
                 enum table_include include, uint64_t now_us) {
	const struct item_style style = {table_row, k, include, now_us};
	table_begin(b, k, version, "", 0);
	table_row(b, &style, item);
	jw_end(b, ']');
	jw_end(b, '}');
}
