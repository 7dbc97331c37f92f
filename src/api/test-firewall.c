/* SPDX-License-Identifier: Apache-2.0 */
#include "api/access.h"
#include "api/firewall.h"
#include "base/testing.h"
#include "base/util.h"

static struct firewall *parse(const char *json) {
	struct api_errors errs = {0};
	struct error err = {0};
	void *f = NULL;
	if (api_parse(&api_kind_firewall, json, strlen(json), &f, &errs) < 0) {
		api_errors_to_error(&errs, &err);
		fail_msg("%s: %s", json, err.msg);
	}
	return f;
}

#define FIREWALL_WITH(spec) "{\"metadata\":{\"name\":\"a\",\"namespace\":\"t\"},\"spec\":{\"instances\":{}," spec "}}"

static void expect_errors(const char *json, const char *want) {
	struct api_errors errs = {0};
	struct error err = {0};
	void *obj = NULL;
	if (api_parse(&api_kind_firewall, json, strlen(json), &obj, &errs) == 0) {
		api_free(&api_kind_firewall, obj);
		fail_msg("accepted: %s", json);
	}
	api_errors_to_error(&errs, &err);
	assert_string_equal(err.msg, want);
}

static void test_accept(void **state) {
	(void)state;
	struct firewall *f = parse(FIREWALL_WITH(
		"\"ingress\":[{\"name\":\"web\",\"protocol\":\"tcp\",\"port\":80,\"endPort\":81,\"prefixes\":"
		"[\"203.0.113.0/24\",\"2001:db8::/"
		"32\"],\"peers\":{\"matchLabels\":{\"app\":\"a\"},\"matchExpressions\":"
		"[{\"key\":\"x\",\"operator\":\"NotIn\",\"values\":[\"\",\"b\"]}]}},{\"protocol\":\"icmpv6\","
		"\"icmpType\":128,"
		"\"prefixes\":[\"2001:db8::/32\"]},{}],\"egress\":[{\"protocol\":\"icmp\",\"prefixes\":[\"192.0.2.1/"
		"32\"]}],"
		"\"defaultEgress\":\"deny\""));
	char label[FIREWALL_RULE_LABEL_MAX];
	assert_true(firewall_denies_egress(f));
	assert_int_equal(f->spec->ingress.n, 3);
	assert_string_equal(firewall_rule_label(&f->spec->ingress.v[0], 0, label), "web");
	assert_string_equal(firewall_rule_label(&f->spec->ingress.v[2], 2, label), "2");
	api_free(&api_kind_firewall, f);
}

static void test_refuse(void **state) {
	(void)state;
	expect_errors("{\"metadata\":{\"name\":\"a\"},\"spec\":{}}", "spec.instances: is required");
	expect_errors(
		FIREWALL_WITH("\"egress\":[{}]"),
		"spec.egress: must only be set with defaultEgress deny: without it the rules would have no effect");
	expect_errors(FIREWALL_WITH("\"ingress\":[{},{\"port\":1}]"),
	              "spec.ingress[1].port: must only be set for protocol tcp and udp");
	expect_errors(FIREWALL_WITH("\"ingress\":[{\"protocol\":\"icmp\",\"port\":1}]"),
	              "spec.ingress[0].port: must only be set for protocol tcp and udp");
	expect_errors(FIREWALL_WITH("\"ingress\":[{\"protocol\":\"tcp\",\"endPort\":1}]"),
	              "spec.ingress[0].endPort: must only be set together with port");
	expect_errors(FIREWALL_WITH("\"ingress\":[{\"protocol\":\"tcp\",\"port\":2,\"endPort\":1}]"),
	              "spec.ingress[0].endPort: must not be less than port");
	expect_errors(FIREWALL_WITH("\"ingress\":[{\"protocol\":\"tcp\",\"icmpType\":8}]"),
	              "spec.ingress[0].icmpType: must only be set for protocol icmp and icmpv6");
	expect_errors(
		FIREWALL_WITH(
			"\"ingress\":[{\"protocol\":\"icmp\",\"prefixes\":[\"192.0.2.0/24\",\"2001:db8::/32\"]}]"),
		"spec.ingress[0].prefixes[1]: `2001:db8::/32` is IPv6, which icmp is not for");
	expect_errors(FIREWALL_WITH("\"ingress\":[{\"protocol\":\"icmpv6\",\"prefixes\":[\"192.0.2.0/24\"]}]"),
	              "spec.ingress[0].prefixes[0]: `192.0.2.0/24` is IPv4, which icmpv6 is not for");
	expect_errors(FIREWALL_WITH("\"ingress\":[{\"prefixes\":[\"192.0.2.1/24\"]}]"),
	              "spec.ingress[0].prefixes[0]: `192.0.2.1/24` is not aligned: it has host bits set; did you mean "
	              "`192.0.2.0/24`?");
	expect_errors(
		FIREWALL_WITH("\"ingress\":[{\"name\":\"1a\"}]"),
		"spec.ingress[0].name: `1a` must be at most 63 lower-case letters, digits and `-`, beginning with a "
		"letter and ending with a letter or digit");
	expect_errors(
		FIREWALL_WITH("\"ingress\":[{\"peers\":{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\"}]}}]"),
		"spec.ingress[0].peers.matchExpressions[0].values: is required for operator In");
	expect_errors("{\"metadata\":{\"name\":\"a\"},\"spec\":{\"instances\":{\"matchExpressions\":[{\"key\":\"a\","
	              "\"operator\":\"Exists\",\"values\":[\"b\"]}]}}}",
	              "spec.instances.matchExpressions[0].values: must not be set for operator Exists");
	expect_errors(
		"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"instances\":{\"matchExpressions\":[{\"key\":\"a\","
		"\"operator\":\"In\",\"values\":[\"b c\"]}]}}}",
		"spec.instances.matchExpressions[0].values[0]: `b c` must be at most 63 letters, digits, `-`, `_` and "
		"`.`, with a letter or digit at both ends");
}

/* ---- selectors ---- */

static bool matches(const char *selector, const char *labels) {
	_free_ char *firewall =
		strf("{\"metadata\":{\"name\":\"a\",\"namespace\":\"t\",\"labels\":%s},\"spec\":{\"instances\":%s}}",
	             labels, selector);
	struct firewall *f = parse(firewall);
	bool r = api_selector_matches(f->spec->instances, &f->meta.labels);
	api_free(&api_kind_firewall, f);
	return r;
}

#define EXPRESSION(key, op, values) "{\"key\":\"" key "\",\"operator\":\"" op "\",\"values\":[" values "]}"
#define EXPRESSIONS(v)              "{\"matchExpressions\":[" v "]}"

static void test_selector_matches(void **state) {
	(void)state;
	assert_true(matches("{}", "{}"));
	assert_true(matches("{}", "{\"a\":\"b\"}"));
	assert_true(matches("{\"matchLabels\":{\"a\":\"b\"}}", "{\"a\":\"b\",\"c\":\"d\"}"));
	assert_false(matches("{\"matchLabels\":{\"a\":\"b\",\"c\":\"e\"}}", "{\"a\":\"b\",\"c\":\"d\"}"));
	assert_false(matches("{\"matchLabels\":{\"a\":\"\"}}", "{}"));
	assert_true(matches(EXPRESSIONS(EXPRESSION("a", "In", "\"x\",\"b\"")), "{\"a\":\"b\"}"));
	assert_false(matches(EXPRESSIONS(EXPRESSION("a", "In", "\"x\"")), "{\"a\":\"b\"}"));
	assert_false(matches(EXPRESSIONS(EXPRESSION("a", "In", "\"\"")), "{}"));
	assert_true(matches(EXPRESSIONS(EXPRESSION("a", "NotIn", "\"x\"")), "{}"));
	assert_false(matches(EXPRESSIONS(EXPRESSION("a", "NotIn", "\"x\"")), "{\"a\":\"x\"}"));
	assert_true(matches(EXPRESSIONS(EXPRESSION("a", "Exists", "")), "{\"a\":\"\"}"));
	assert_false(matches(EXPRESSIONS(EXPRESSION("a", "Exists", "")), "{}"));
	assert_true(matches(EXPRESSIONS(EXPRESSION("a", "DoesNotExist", "")), "{}"));
	assert_false(matches(EXPRESSIONS(EXPRESSION("a", "DoesNotExist", "")), "{\"a\":\"\"}"));
	assert_false(
		matches(EXPRESSIONS(EXPRESSION("a", "Exists", "") "," EXPRESSION("b", "Exists", "")), "{\"a\":\"\"}"));
}

static void expect_text(const char *selector, const char *want) {
	_free_ char *firewall = strf("{\"metadata\":{\"name\":\"a\"},\"spec\":{\"instances\":%s}}", selector);
	_buf_free_ struct buf text = {0};
	struct firewall *f = parse(firewall);
	api_selector_text(f->spec->instances, &text);
	assert_false(text.failed);
	assert_string_equal(text.len ? text.data : "", want);
	api_free(&api_kind_firewall, f);
}

static void test_selector_text(void **state) {
	(void)state;
	expect_text("{}", "");
	expect_text("{\"matchLabels\":{\"b\":\"2\",\"a\":\"1\"}}", "a in (1),b in (2)");
	expect_text("{\"matchLabels\":{\"b\":\"2\"},\"matchExpressions\":[" EXPRESSION("a", "In", "\"1\"") "]}",
	            "a in (1),b in (2)");
	expect_text(
		EXPRESSIONS(
			EXPRESSION("z", "In", "\"b\",\"a\",\"b\"") "," EXPRESSION("y", "NotIn", "\"\"") "," EXPRESSION(
				"x", "DoesNotExist", "") "," EXPRESSION("w", "Exists", "") "," EXPRESSION("w", "Exists",
	                                                                                                  "")),
		"!x,w,y notin (),z in (a,b)");
}

/* ---- groups and limits ---- */

static void test_group_id(void **state) {
	struct firewall *f = parse(FIREWALL_WITH("\"ingress\":[{\"peers\":{\"matchLabels\":{\"app\":\"web\"}}},"
	                                         "{\"peers\":{}}]"));
	char id[FIREWALL_GROUP_ID_MAX];
	(void)state;
	/* printf 't\napp in (web)' | sha256sum */
	assert_int_equal(firewall_group_id("t", f->spec->ingress.v[0].peers, id), 0);
	assert_string_equal(id, "27659cc6744c7c2570ee710a678d57f6");
	/* printf 't\n' | sha256sum */
	assert_int_equal(firewall_group_id("t", f->spec->ingress.v[1].peers, id), 0);
	assert_string_equal(id, "fe8edeeb98cc6d3b93cf2d57000254b8");
	api_free(&api_kind_firewall, f);
}

static void test_measure(void **state) {
	struct firewall *f = parse(FIREWALL_WITH(
		"\"ingress\":[{},{\"protocol\":\"icmp\"},{\"prefixes\":[\"192.0.2.0/24\",\"2001:db8::/32\",\"::/0\"]},"
		"{\"peers\":{}},{\"peers\":{\"matchLabels\":{\"a\":\"b\"}},\"prefixes\":[\"192.0.2.0/24\"]}],"
		"\"egress\":[{\"peers\":{\"matchExpressions\":[" EXPRESSION("a", "In",
	                                                                    "\"b\"") "]}}],"
										     "\"defaultEgress\":\"deny\""));
	struct firewall_size s;
	(void)state;
	assert_int_equal(firewall_measure(f, &s), 0);
	assert_int_equal(s.ingress, 2 + 1 + 3 + 1 + 2);
	assert_int_equal(s.egress, 1);
	assert_int_equal(s.n_groups, 2);
	assert_true(strcmp(s.groups[0].id, s.groups[1].id) < 0);
	firewall_size_clear(&s);
	assert_null(s.groups);
	api_free(&api_kind_firewall, f);
}

/* What a range of ports costs the kernel counts. */
static void test_measure_ranges(void **state) {
	static const struct {
		const char *ports;
		size_t want;
	} cases[] = {{"\"port\":80", 1},
	             {"\"port\":32768,\"endPort\":65535", 1},
	             {"\"port\":1,\"endPort\":15", 1},      /* 1, 2-3, 4-7, 8-15 */
	             {"\"port\":1,\"endPort\":16", 2},      /* and 16 */
	             {"\"port\":8000,\"endPort\":8999", 2}, /* 6 blocks */
	             {"\"port\":1,\"endPort\":65534", 8}};  /* 30 blocks */
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_free_ char *json = strf(
			FIREWALL_WITH("\"ingress\":[{\"protocol\":\"tcp\",%s,\"prefixes\":[\"::/0\",\"0.0.0.0/0\"]}]"),
			cases[i].ports);
		struct firewall *f = parse(json);
		struct firewall_size s;
		assert_int_equal(firewall_measure(f, &s), 0);
		assert_int_equal(s.ingress, 2 * cases[i].want);
		firewall_size_clear(&s);
		api_free(&api_kind_firewall, f);
	}
}

static void test_measure_too_many_groups(void **state) {
	_buf_free_ struct buf json = {0};
	struct firewall_size s;
	(void)state;
	buf_puts(&json, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"t\"},\"spec\":{\"instances\":{},\"ingress\":[");
	for (unsigned i = 0; i < 100; i++)
		buf_printf(&json, "%s{\"peers\":{\"matchLabels\":{\"a\":\"%u\"}}}", i ? "," : "", i % 50);
	buf_puts(&json, "]}}");
	struct firewall *f = parse(json.data);
	assert_int_equal(firewall_measure(f, &s), 0);
	assert_int_equal(s.n_groups, 50);
	assert_null(s.groups);
	const struct firewall_size *v[] = {&s};
	struct firewall_verdict verdict;
	firewall_judge(v, 1, &verdict);
	assert_int_equal(verdict.limit, FIREWALL_OVER_GROUPS);
	assert_int_equal(verdict.figure, 50);
	firewall_size_clear(&s);
	api_free(&api_kind_firewall, f);
}

/* N groups with ids from FIRST on. */
static struct firewall_size with_groups(size_t n, unsigned first) {
	struct firewall_size s = {.n_groups = n, .groups = calloc(n, sizeof(*s.groups))};
	assert_non_null(s.groups);
	for (size_t i = 0; i < n; i++)
		snprintf(s.groups[i].id, sizeof(s.groups[i].id), "%032x", first + (unsigned)i);
	return s;
}

static void test_judge(void **state) {
	struct firewall_size sizes[] = {{.ingress = 15000},  {.ingress = 5001},  {.ingress = 5000, .egress = 20000},
	                                {.egress = 1},       with_groups(20, 0), with_groups(20, 10),
	                                with_groups(13, 25), with_groups(12, 20)};
	static const struct firewall_verdict want[] = {{FIREWALL_FITS, 0},         {FIREWALL_OVER_INGRESS, 20001},
	                                               {FIREWALL_FITS, 0},         {FIREWALL_OVER_EGRESS, 20001},
	                                               {FIREWALL_FITS, 0},         {FIREWALL_FITS, 0},
	                                               {FIREWALL_OVER_GROUPS, 38}, {FIREWALL_FITS, 0}};
	const struct firewall_size *v[ARRAY_SIZE(sizes)];
	struct firewall_verdict got[ARRAY_SIZE(sizes)];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		v[i] = &sizes[i];
	firewall_judge(v, ARRAY_SIZE(v), got);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (got[i].limit != want[i].limit || got[i].figure != want[i].figure)
			fail_msg("%zu: %d %zu", i, (int)got[i].limit, got[i].figure);
		firewall_size_clear(&sizes[i]);
	}
}

static void test_judge_attached(void **state) {
	static const struct firewall_size none;
	const struct firewall_size *v[FIREWALL_ATTACHED_MAX + 2];
	struct firewall_verdict got[ARRAY_SIZE(v)];
	char msg[FIREWALL_MESSAGE_MAX];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		v[i] = &none;
	firewall_judge(v, ARRAY_SIZE(v), got);
	assert_int_equal(got[FIREWALL_ATTACHED_MAX - 1].limit, FIREWALL_FITS);
	assert_int_equal(got[FIREWALL_ATTACHED_MAX].limit, FIREWALL_OVER_ATTACHED);
	assert_string_equal(firewall_verdict_message(&got[FIREWALL_ATTACHED_MAX], msg),
	                    "34 Firewalls select it, and the first 32 in order of name are applied; put the rules of "
	                    "several into one");
}

static void test_endpoint_groups(void **state) {
	static const char json[] =
		"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"host\":\"h\",\"vtep\":\"fd00::1\",\"ip\":"
		"\"fd00::2\",\"mac\":\"02:00:00:00:00:01\"},\"status\":{\"groups\":[\"%s\"]}}";
	static const char *const bad[] = {"x", "0123456789abcdef0123456789abcdeF", "0123456789abcdef0123456789abcdef0"};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct api_errors errs = {0};
		void *e = NULL;
		char text[512];
		snprintf(text, sizeof(text), json, bad[i]);
		assert_int_equal(api_parse(&api_kind_endpoint, text, strlen(text), &e, &errs), -EINVAL);
		assert_string_equal(errs.v[0].path, "status.groups[0]");
	}
}

/*
 * The largest Endpoint of an instance that its agent writes: with all its slices and groups it must be within the limit
 * of what agents write, or nothing of it could be changed any more. The server's metadata takes up to 2 KiB.
 */
static void test_endpoint_room(void **state) {
	_buf_free_ struct buf json = {0};
	const char uid[] = "01234567-89ab-cdef-0123-456789abcdef";
	(void)state;
	buf_printf(&json,
	           "{\"apiVersion\":\"nacre.dev/"
	           "v1alpha1\",\"kind\":\"Endpoint\",\"metadata\":{\"name\":\"i-%s\"},\"spec\":{"
	           "\"host\":\"%s\",\"vtep\":\"%s\",\"ip\":\"%s\",\"mac\":\"02:00:00:00:00:01\",\"owner\":{\"kind\":"
	           "\"Instance\",\"namespace\":\"%.63s\",\"name\":\"%s\",\"uid\":\"%s\"},\"routes\":[",
	           uid, uid, uid, uid, uid, uid, uid);
	for (unsigned i = 0; i < ADDRESSPOOL_SLICES_MAX + 2; i++)
		buf_printf(&json, "%s{\"prefix\":\"203.0.113.213/32\",\"firstPort\":65024,\"lastPort\":65535}",
		           i ? "," : "");
	buf_puts(&json, "]},\"status\":{\"groups\":[");
	for (unsigned i = 0; i < ENDPOINT_GROUPS_MAX; i++)
		buf_printf(&json, "%s\"%032x\"", i ? "," : "", i);
	buf_puts(&json, "]}}");
	assert_false(json.failed);
	assert_true(json.len + 2048 <= api_kind_endpoint.access->agents.max_bytes);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_refuse),
		cmocka_unit_test(test_selector_matches),
		cmocka_unit_test(test_selector_text),
		cmocka_unit_test(test_group_id),
		cmocka_unit_test(test_measure),
		cmocka_unit_test(test_measure_ranges),
		cmocka_unit_test(test_measure_too_many_groups),
		cmocka_unit_test(test_judge),
		cmocka_unit_test(test_judge_attached),
		cmocka_unit_test(test_endpoint_groups),
		cmocka_unit_test(test_endpoint_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
