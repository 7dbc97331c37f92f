/* SPDX-License-Identifier: Apache-2.0 */

/* Sets of fields, applied configurations and strategic merge patches. tests/api/exchanges has what clients see. */

#include "base/testing.h"

#include <string.h>

#include "api/account.h"
#include "api/instance.h"
#include "apiserver/fields/apply.h"
#include "apiserver/json/strategic.h"
#include "apiserver/json/yamlread.h"
#include "base/util.h"

static json_t *json(const char *text) {
	json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
	if (!j)
		fail_msg("bad JSON in the test: %s", text);
	return j;
}

static void expect(json_t *got, const char *want) {
	json_t *w = json(want);
	_free_ char *text = got ? json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("(nothing)");
	if (!json_equal(got, w))
		fail_msg("%s, not %s", text, want);
	json_decref(w);
	json_decref(got);
}

static void test_sets(void **state) {
	_arena_free_ struct arena m = {0};
	json_t *a = json("{\"f:a\":{\".\":{},\"f:b\":{}},\"f:c\":{\"k:{\\\"y\\\":1, \\\"x\\\":2}\":{}},\"z:new\":{}}");
	json_t *b = json("{\"f:c\":{\"k:{\\\"x\\\":2,\\\"y\\\":1}\":{}},\"f:a\":{\"f:b\":{}},\"v:3\":{}}");
	const struct fields *x, *y;
	(void)state;
	assert_int_equal(fields_parse(&m, a, &x), 0);
	assert_int_equal(fields_parse(&m, b, &y), 0);
	expect(fields_print(fields_intersection(&m, x, y)),
	       "{\"f:a\":{\"f:b\":{}},\"f:c\":{\"k:{\\\"x\\\":2,\\\"y\\\":1}\":{}}}");
	expect(fields_print(fields_difference(&m, x, y)), "{\"f:a\":{}}");
	expect(fields_print(fields_union(&m, x, y)),
	       "{\"f:a\":{\".\":{},\"f:b\":{}},\"f:c\":{\"k:{\\\"x\\\":2,\\\"y\\\":1}\":{}},\"v:3\":{}}");
	expect(fields_print(fields_without(&m, y, x)), "{\"v:3\":{}}");
	json_decref(a);
	json_decref(b);
	static const char *const bad[] = {"[]",           "{\"f\":{}}",   "{\"f:a\":1}",
	                                  "{\"k:1\":{}}", "{\"v:{\":{}}", "{\"i:x\":{}}"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		json_t *j = json(bad[i]);
		if (fields_parse(&m, j, &x) != -EINVAL)
			fail_msg("%s", bad[i]);
		json_decref(j);
	}
	/* One level deeper than allowed. */
	json_t *deep = json_object();
	for (int i = 0; i < FIELDS_DEPTH_MAX; i++) {
		json_t *up = json_object();
		json_object_set_new(up, "f:x", deep);
		deep = up;
	}
	assert_int_equal(fields_parse(&m, deep, &x), -EINVAL);
	json_decref(deep);
}

static void test_merge(void **state) {
	static const char *const cases[][3] = {
		{"{\"spec\":{\"type\":\"a\"}}", "{\"spec\":{\"image\":\"b\"}}",
	         "{\"spec\":{\"type\":\"a\",\"image\":\"b\"}}"},
		{"{\"spec\":{\"ingress\":[{\"port\":1}]}}", "{\"spec\":{\"ingress\":[{\"port\":2}]}}",
	         "{\"spec\":{\"ingress\":[{\"port\":2}]}}"},
		/* Applied elements keep their order; other elements stay where they are. */
		{"{\"metadata\":{\"finalizers\":[\"a\",\"b\",\"c\"]}}",
	         "{\"metadata\":{\"finalizers\":[\"c\",\"d\",\"a\"]}}",
	         "{\"metadata\":{\"finalizers\":[\"b\",\"c\",\"d\",\"a\"]}}"},
		{"{\"status\":{\"conditions\":[{\"type\":\"x\",\"status\":\"True\"},{\"type\":\"y\"}]}}",
	         "{\"status\":{\"conditions\":[{\"type\":\"x\",\"reason\":\"r\"}]}}",
	         "{\"status\":{\"conditions\":[{\"type\":\"x\",\"status\":\"True\",\"reason\":\"r\"},{\"type\":\"y\"}]}"
	         "}"},
		{"{\"spec\":{}}", "{\"spec\":{\"hostSelector\":{}}}", "{\"spec\":{\"hostSelector\":{}}}"},
	};
	_arena_free_ struct arena m = {0};
	const struct typed t = {.kind = &api_kind_instance, .arena = &m};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *live = json(cases[i][0]), *config = json(cases[i][1]);
		expect(typed_merge(&t, live, config), cases[i][2]);
		json_decref(live);
		json_decref(config);
	}
}

static void test_strategic(void **state) {
#define LIST(x) "{\"metadata\":{\"finalizers\":[" x "]}}"
	static const struct {
		const char *target, *patch, *want;
		int error;
	} cases[] = {
		{"{\"data\":{\"a\":\"1\"}}", "{\"data\":{\"a\":null,\"b\":\"2\"}}", "{\"data\":{\"b\":\"2\"}}", 0},
		{"{\"data\":{\"a\":\"1\"}}", "{\"data\":{\"$patch\":\"replace\",\"b\":\"2\"}}",
	         "{\"data\":{\"b\":\"2\"}}", 0},
		{"{\"data\":{\"a\":\"1\"}}", "{\"data\":{\"$patch\":\"delete\"}}", "{\"data\":{}}", 0},
		{"{\"data\":{\"a\":\"1\",\"b\":\"2\"}}", "{\"data\":{\"$retainKeys\":[\"b\"]}}",
	         "{\"data\":{\"b\":\"2\"}}", 0},
		{LIST("\"a\",\"b\""), LIST("\"c\""), LIST("\"c\",\"a\",\"b\""), 0},
		{LIST("\"a\",\"b\""), "{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"a\"]}}", LIST("\"b\""),
	         0},
		{LIST("\"a\",\"b\""), "{\"metadata\":{\"$setElementOrder/finalizers\":[\"b\",\"a\"]}}",
	         LIST("\"b\",\"a\""), 0},
		{"{}", LIST("\"a\""), LIST("\"a\""), 0},
		{"{\"data\":{}}", "{\"data\":{\"$patch\":\"x\"}}", NULL, -EINVAL},
		{"{\"data\":{}}", "{\"data\":{\"$what\":1}}", NULL, -EINVAL},
		{"{\"data\":{}}", "{\"data\":{\"$retainKeys\":[],\"a\":\"1\"}}", NULL, -EBADMSG},
		{LIST("\"a\""), "{\"metadata\":{\"$setElementOrder/finalizers\":1}}", NULL, -EINVAL},
		{"{}", "[]", NULL, -EINVAL},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};
		json_t *target = json(cases[i].target), *patch = json(cases[i].patch), *got = NULL;
		int r = strategic_merge(&api_desc_configmap, target, patch, &got, &err);
		if (r != cases[i].error)
			fail_msg("case %zu: %d %s", i, r, err.msg);
		if (cases[i].want)
			expect(got, cases[i].want);
		json_decref(target);
		json_decref(patch);
	}
}

static void test_yaml(void **state) {
	static const char *const cases[][2] = {
		{"a: 1\nb: [x, 'y', \"z\"]\n", "{\"a\":1,\"b\":[\"x\",\"y\",\"z\"]}"},
		{"{n: ~, t: yes, f: off, o: 010, h: 0x1f, r: 1.5, s: 1.2.3, q: \"1\", d: 2026-01-01}",
	         "{\"n\":null,\"t\":true,\"f\":false,\"o\":8,\"h\":31,\"r\":1.5,\"s\":\"1.2.3\",\"q\":\"1\",\"d\":"
	         "\"2026-01-01\"}"},
		{"a: &x {b: 1}\nc: *x\n", "{\"a\":{\"b\":1},\"c\":{\"b\":1}}"},
		{"--- |\n  text\n", "\"text\\n\""},
	};
	/* Aliases that would expand to a billion values. */
	static const char laughs[] =
		"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
		"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e]\n";
	static const char *const bad[] = {
		"a: [", "a: b: c", "a: *x", "a: 1\n---\nb: 2\n", "a: \"\\0\"", "? [a]\n: b", "a: 1\na: 2", laughs,
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};
		json_t *got = NULL;
		if (yaml_parse(cases[i][0], strlen(cases[i][0]), true, &got, &err) < 0)
			fail_msg("case %zu: %s", i, err.msg);
		expect(got, cases[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = {0};
		json_t *got = NULL;
		if (yaml_parse(bad[i], strlen(bad[i]), true, &got, &err) == 0)
			fail_msg("bad case %zu was taken", i);
		assert_true(err.msg[0]);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_strategic),
		cmocka_unit_test(test_yaml),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
