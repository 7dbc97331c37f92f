/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <stdlib.h>

#include "api/core.h"
#include "api/instance.h"
#include "apiserver/json/patch.h"
#include "apiserver/json/selector.h"
#include "apiserver/json/table.h"
#include "apiserver/json/tree.h"
#include "base/util.h"

static json_t *json(const char *text) {
	json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
	if (!j)
		fail_msg("bad JSON in the test: %s", text);
	return j;
}

/* The test cases of RFC 7396, appendix A. */
static void test_merge(void **state) {
	static const char *const cases[][3] = {
		{"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
		{"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
		{"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
		{"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
		{"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
		{"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
		{"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
		{"{\"a\":\"foo\"}", "null", "null"},
		{"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
		{"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
		{"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
		{"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *target = json(cases[i][0]), *same = json(cases[i][0]), *patch = json(cases[i][1]);
		json_t *want = json(cases[i][2]), *got = NULL;
		assert_int_equal(patch_merge(target, patch, &got), 0);
		if (!json_equal(got, want))
			fail_msg("case %zu", i);
		assert_true(json_equal(target, same));
		json_decref(target);
		json_decref(same);
		json_decref(patch);
		json_decref(want);
		json_decref(got);
	}
}

/* The test cases of RFC 6902, appendix A, and some harder ones. WANT NULL: refused with ERROR. */
static void test_json_patch(void **state) {
	static const struct {
		const char *target, *ops, *want;
		int error;
	} cases[] = {
		{"{\"foo\":\"bar\"}", "[{\"op\":\"add\",\"path\":\"/baz\",\"value\":\"qux\"}]",
	         "{\"baz\":\"qux\",\"foo\":\"bar\"}", 0},
		{"{\"foo\":[\"bar\",\"baz\"]}", "[{\"op\":\"add\",\"path\":\"/foo/1\",\"value\":\"qux\"}]",
	         "{\"foo\":[\"bar\",\"qux\",\"baz\"]}", 0},
		{"{\"baz\":\"qux\",\"foo\":\"bar\"}", "[{\"op\":\"remove\",\"path\":\"/baz\"}]", "{\"foo\":\"bar\"}",
	         0},
		{"{\"foo\":[\"bar\",\"qux\",\"baz\"]}", "[{\"op\":\"remove\",\"path\":\"/foo/1\"}]",
	         "{\"foo\":[\"bar\",\"baz\"]}", 0},
		{"{\"foo\":{\"bar\":\"baz\",\"waldo\":\"fred\"},\"qux\":{\"corge\":\"grault\"}}",
	         "[{\"op\":\"move\",\"from\":\"/foo/waldo\",\"path\":\"/qux/thud\"}]",
	         "{\"foo\":{\"bar\":\"baz\"},\"qux\":{\"corge\":\"grault\",\"thud\":\"fred\"}}", 0},
		{"{\"foo\":[\"all\",\"grass\",\"cows\",\"eat\"]}",
	         "[{\"op\":\"move\",\"from\":\"/foo/1\",\"path\":\"/foo/3\"}]",
	         "{\"foo\":[\"all\",\"cows\",\"eat\",\"grass\"]}", 0},
		{"{\"foo\":[\"bar\"]}", "[{\"op\":\"add\",\"path\":\"/foo/-\",\"value\":[\"abc\",\"def\"]}]",
	         "{\"foo\":[\"bar\",[\"abc\",\"def\"]]}", 0},
		{"{\"foo\":null}", "[{\"op\":\"replace\",\"path\":\"/foo\",\"value\":\"truthy\"}]",
	         "{\"foo\":\"truthy\"}", 0},
		{"{\"/\":9,\"~1\":10}", "[{\"op\":\"test\",\"path\":\"/~01\",\"value\":10}]", "{\"/\":9,\"~1\":10}", 0},
		{"{}", "[{\"op\":\"add\",\"path\":\"\",\"value\":[1]}]", "[1]", 0},
		{"{\"a\":{}}", "[{\"op\":\"copy\",\"from\":\"\",\"path\":\"/a/b\"}]", "{\"a\":{\"b\":{\"a\":{}}}}", 0},
		{"{\"a\":1}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a\"}]", "{\"a\":1}", 0},
		{"{\"foo\":\"bar\"}", "[{\"op\":\"test\",\"path\":\"/foo\",\"value\":\"baz\"}]", NULL, -ENOENT},
		{"{\"foo\":\"bar\"}", "[{\"op\":\"add\",\"path\":\"/baz/bat\",\"value\":\"qux\"}]", NULL, -ENOENT},
		{"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/2\",\"value\":1}]", NULL, -ENOENT},
		{"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/01\",\"value\":1}]", NULL, -ENOENT},
		{"{\"a\":[1]}", "[{\"op\":\"replace\",\"path\":\"/a/-\",\"value\":1}]", NULL, -ENOENT},
		{"{\"a\":[1]}", "[{\"op\":\"remove\",\"path\":\"/a/1\"}]", NULL, -ENOENT},
		{"{\"a\":\"x\"}", "[{\"op\":\"add\",\"path\":\"/a/b\",\"value\":1}]", NULL, -ENOENT},
		{"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b\"}]", NULL, -ENOENT},
		{"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"b\",\"value\":1}]", NULL, -EINVAL},
		{"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/~2\",\"value\":1}]", NULL, -EINVAL},
		{"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"\"}]", NULL, -ENOENT},
		{"{\"a\":{}}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a/b\"}]", NULL, -ENOENT},
		{"{\"a\":1}", "[1]", NULL, -EINVAL},
		{"{\"a\":1}", "{}", NULL, -EINVAL},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};
		json_t *target = json(cases[i].target), *same = json(cases[i].target), *ops = json(cases[i].ops);
		json_t *want = cases[i].want ? json(cases[i].want) : NULL, *got = NULL;
		int r = patch_json(target, ops, &got, &err);
		if (r != cases[i].error || (want && !json_equal(got, want)))
			fail_msg("case %zu: %d %s", i, r, err.msg);
		assert_true(json_equal(target, same));
		json_decref(target);
		json_decref(same);
		json_decref(ops);
		json_decref(want);
		json_decref(got);
	}
}

static void test_patch_growth(void **state) {
	_buf_free_ struct buf b = {0};
	json_t *got = NULL;
	struct error err = {0};
	(void)state;
	buf_puts(&b, "[");
	for (int i = 0; i < 64; i++)
		buf_printf(&b, "%s{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/b%d\"}", i ? "," : "", i);
	buf_puts(&b, "]");
	json_t *target = json("{\"a\":{\"x\":\"0123456789\"}}"), *ops = json(b.data);
	assert_int_equal(patch_json(target, ops, &got, &err), -EMSGSIZE);
	json_decref(target);
	json_decref(ops);
}

static bool selects(const struct api_kind *k, const char *labels, const char *fields, const char *text) {
	struct selector *sel = NULL;
	struct error err = {0};
	if (selector_parse(k, labels, fields, &sel, &err) < 0)
		fail_msg("%s %s: %s", labels, fields, err.msg);
	bool yes = selector_matches(sel, "ns", "x", text, strlen(text), &(size_t){0});
	selector_free(sel);
	return yes;
}

static void test_label_selectors(void **state) {
	static const char object[] =
		"{\"metadata\":{\"labels\":{\"a\":\"1\",\"b/c\":\"x.y\",\"e\":\"\"}},\"labels\":{\"no\":\"1\"}}";
	static const char *const yes[] = {"a",
	                                  "a=1",
	                                  "a==1",
	                                  "a!=2",
	                                  "a in (1)",
	                                  "a in(2,1)",
	                                  "a notin (2)",
	                                  "b/c=x.y",
	                                  "!z",
	                                  "z!=1",
	                                  "z notin (1)",
	                                  "e=",
	                                  " a = 1 , !z ",
	                                  "a>0",
	                                  "a<2",
	                                  "a in ( 1 , 3 )",
	                                  "e in (,x)",
	                                  "! z"};
	static const char *const no[] = {"!a", "a=2", "a!=1",  "z",   "z=1",  "a notin (1,2)",
	                                 "no", "a>1", "a=1,z", "e=1", "b/c>1"};
	static const char *const bad[] = {"a in", "a in (", "a in (1", "a notin 1", "=1",    "a b",       "a=1,", ",",
	                                  "a>x",  "a/b/c",  "-a",      "a=-x",      "a=1=2", "a in (1))", "()",   "!"};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (!selects(&api_kind_instance, yes[i], NULL, object))
			fail_msg("%s should match", yes[i]);
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (selects(&api_kind_instance, no[i], NULL, object))
			fail_msg("%s should not match", no[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct selector *sel = NULL;
		if (selector_parse(&api_kind_instance, bad[i], NULL, &sel, NULL) != -EINVAL)
			fail_msg("%s should be refused", bad[i]);
	}
}

static void test_field_selectors(void **state) {
	static const char object[] = "{\"metadata\":{\"name\":\"x\"},\"status\":{\"host\":\"h\\u0031\"}}";
	static const char event[] = "{\"involvedObject\":{\"name\":\"a,b\"},\"type\":\"Normal\"}";
	struct selector *sel = NULL;
	struct error err = {0};
	(void)state;
	assert_true(selects(&api_kind_instance, NULL, "metadata.name=x", object));
	assert_true(selects(&api_kind_instance, NULL, "metadata.name==x,metadata.namespace=ns", object));
	assert_false(selects(&api_kind_instance, NULL, "metadata.name!=x", object));
	assert_true(selects(&api_kind_instance, NULL, "status.host=h1", object));
	assert_false(selects(&api_kind_instance, NULL, "status.host=", object));
	assert_true(selects(&api_kind_instance, NULL, "status.host=", "{}"));
	assert_true(selects(&api_kind_instance, NULL, "status.host!=h2,", object));
	assert_true(selects(&api_kind_event, NULL, "involvedObject.name=a\\,b,type=Normal", event));
	assert_true(selects(&api_kind_event, "", "", event));
	static const char *const bad[] = {"spec.type=x",       "metadata.name",     "=x", "a",
	                                  "metadata.name=x\\", "metadata.name=x=y", "!="};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (selector_parse(&api_kind_instance, NULL, bad[i], &sel, &err) != -EINVAL)
			fail_msg("%s should be refused", bad[i]);
	assert_int_equal(selector_parse(&api_kind_instancetype, NULL, "metadata.namespace=x", &sel, &err), -EINVAL);
}

static void test_ages(void **state) {
	static const struct {
		int64_t s;
		const char *want;
	} cases[] = {{-5, "<invalid>"},   {0, "0s"},        {119, "119s"},    {120, "2m"},     {121, "2m1s"},
	             {600, "10m"},        {10799, "179m"},  {10800, "3h"},    {11000, "3h3m"}, {28800, "8h"},
	             {172799, "47h"},     {172800, "2d"},   {180000, "2d2h"}, {691200, "8d"},  {63072000, "2y"},
	             {70000000, "2y80d"}, {252288000, "8y"}};
	char out[AGE_STR_MAX];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(age_str(cases[i].s, out), cases[i].want);
}

static void test_table(void **state) {
	static const char object[] = "{\"metadata\":{\"name\":\"a\",\"creationTimestamp\":\"2026-01-01T00:00:00Z\"},"
				     "\"status\":{\"host\":\"h\"}}";
	_buf_free_ struct buf b = {0};
	const struct json_span item = {object, strlen(object)};
	uint64_t now;
	(void)state;
	assert_int_equal(time_parse("2026-01-01T00:05:00Z", &now), 0);
	table_print(&b, &api_kind_instance, &item, 7, TABLE_METADATA, now);
	json_t *t = json(b.data), *row = json_array_get(json_object_get(t, "rows"), 0),
	       *cells = json_object_get(row, "cells");
	assert_int_equal(json_array_size(cells), json_array_size(json_object_get(t, "columnDefinitions")));
	assert_string_equal(json_string_value(json_array_get(cells, 0)), "a");
	assert_string_equal(json_string_value(json_array_get(cells, json_array_size(cells) - 1)), "5m");
	json_t *obj = json_object_get(row, "object");
	assert_string_equal(json_string_value(json_object_get(obj, "kind")), "PartialObjectMetadata");
	assert_null(json_object_get(obj, "status"));
	json_decref(t);
}

/* Good texts must be read, printed and copied as jansson does it; bad ones must be refused. */
static void test_trees(void **state) {
	static const char *const good[] = {
		"{}",
		"[]",
		"null",
		" {\"a\" : [1, -0, -9223372036854775808, 9223372036854775807, true, false, null, \"\"] } ",
		"[1.5, 1e3, -2.25E-3, 1e-400, 100000000000000000000.0]",
		"{\"\":{\"\":{}},\"b\":[[],[{}]]}",
		"\"\\u0041\\ud83d\\ude00 \\b\\f\\n\\r\\t\\/\\\\\\\" \\u0001\\u001f\\u007f\xc3\xa9\xf0\x9f\x98\x80\"",
		"{\"12345678\\\"quoted\\\" key\":\"1234567\xc3\xa9 eight and \\\\ more\",\"b\\u0009\":{\"c\\n\":1}}",
		"{\"f:metadata\":{\"f:labels\":{\".\":{},\"f:app\":{}}},\"x\":\"a string of some length, for speed\"}",
	};
	static const char *const bad[] = {"",      "{",           "[1,]",        "{\"a\":1,}",
	                                  "tru",   "\"\\u0000\"", "[1] 2",       "9223372036854775808",
	                                  "1e999", "\"\xff\"",    "\"\\ud800\"", "\"12345678\t\""};
	struct error err;
	bool twice;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_buf_free_ struct buf b = {0};
		json_t *want = json(good[i]), *got = NULL;
		assert_int_equal(tree_load_foreign(good[i], strlen(good[i]), TREE_VALUES_MAX, &got, &twice, &err), 0);
		if (twice || !json_equal(got, want))
			fail_msg("read wrongly: %s", good[i]);
		json_t *copy = tree_copy(got);
		assert_true(json_equal(copy, want));
		char *text = json_dumps(want, JSON_COMPACT | JSON_ENCODE_ANY);
		tree_dump(&b, copy);
		assert_string_equal(b.data, text);
		free(text);
		json_decref(copy);
		json_decref(got);
		json_decref(want);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (tree_load(bad[i], strlen(bad[i])))
			fail_msg("taken: %s", bad[i]);
	json_t *v;
	assert_int_equal(tree_load_foreign("{\"a\":{\"b\":1,\"b\":2}}", 19, TREE_VALUES_MAX, &v, &twice, &err), 0);
	assert_true(twice);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(v, "a"), "b")), 2);
	json_decref(v);
}

static bool has_immutable(const struct api_desc *d) {
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct api_field *f = &d->fields[i];
		bool nested = f->type == API_TYPE_obj || f->type == API_TYPE_inl || f->type == API_TYPE_list;
		if ((f->flags & API_IMMUT) || (nested && has_immutable(f->sub)))
			return true;
	}
	return false;
}

/* stage.c only compares with the old state if the desired state differs. */
static void test_immutable_is_desired(void **state) {
	(void)state;
	for (unsigned k = 0; api_kinds[k]; k++)
		for (size_t i = 0; i < api_kinds[k]->desc->n_fields; i++) {
			const struct api_field *f = &api_kinds[k]->desc->fields[i];
			bool aside = streq(f->name, "metadata") || streq(f->name, "status");
			bool nested = f->type == API_TYPE_obj || f->type == API_TYPE_inl;
			if (aside && nested && has_immutable(f->sub))
				fail_msg("%s: %s has an immutable field", api_kinds[k]->kind, f->name);
		}
}

static void test_find(void **state) {
	static const char text[] =
		"{\"kind\":\"A\", \"metadata\" : {\"labels\":{\"a]\":\"\\\\\",\"b\":\"\\\"}\"},\"n\":[1,{}]},"
		"\"spec\":{\"n\":12,\"last\":null}}";
	static const struct {
		const char *path, *want;
	} cases[] = {
		{"kind", "\"A\""},     {"metadata.labels.b", "\"\\\"}\""}, {"metadata.n", "[1,{}]"}, {"spec.n", "12"},
		{"spec.last", "null"}, {"metadata.labels.c", NULL},        {"spec.n.x", NULL},       {"status", NULL}};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *v;
		size_t n;
		bool found = json_find(text, sizeof(text) - 1, cases[i].path, &v, &n);
		assert_int_equal(found, cases[i].want != NULL);
		if (found && (n != strlen(cases[i].want) || memcmp(v, cases[i].want, n) != 0))
			fail_msg("%s: %.*s", cases[i].path, (int)n, v);
	}
	/* For a text that is cut anywhere, no byte past the end is read (the sanitizers check this). */
	for (size_t len = 0; len < sizeof(text); len++) {
		const char *v;
		size_t n;
		char *part = malloc(len ? len : 1);
		memcpy(part, text, len);
		if (json_find(part, len, "spec.last", &v, &n))
			assert_true(v >= part && v + n <= part + len);
		free(part);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_json_patch),
		cmocka_unit_test(test_patch_growth),
		cmocka_unit_test(test_label_selectors),
		cmocka_unit_test(test_field_selectors),
		cmocka_unit_test(test_ages),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_trees),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_immutable_is_desired),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
