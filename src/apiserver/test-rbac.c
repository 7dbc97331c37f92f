/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <stdlib.h>

#include "apiserver/auth/authz.h"
#include "apiserver/json/protobuf.h"
#include "apiserver/server.h"
#include "base/util.h"

#define RBAC "/apis/rbac.authorization.k8s.io/v1"

static int set_up(void **state) {
	struct server *s = NULL;
	struct error err = {0};
	if (server_new(&s, NULL, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	*state = s;
	return 0;
}

static int tear_down(void **state) {
	server_free(*state);
	return 0;
}

static void post(struct server *s, const char *target, const char *body) {
	struct request *r = request_new("POST", target);
	assert_non_null(r);
	r->user = user_new_admin();
	buf_puts(&r->body, body);
	assert_true(server_handle(s, r));
	if (r->reply.code != 201)
		fail_msg("%s: %u %s", target, r->reply.code, r->reply.body.data);
	request_free(r);
}

static void test_rules(void **state) {
	(void)state;
	static const struct {
		const char *verb, *group, *resource, *name, *url; /* of the rule; NAME NULL: all objects */
		struct authz_attributes a;
		bool allows;
	} cases[] = {
		{"get", "", "pods", NULL, NULL, {"get", "", "pods", "", "n", "x", NULL}, true},
		{"get", "", "pods", NULL, NULL, {"list", "", "pods", "", "n", "", NULL}, false},
		{"get", "", "pods", NULL, NULL, {"get", "g", "pods", "", "n", "x", NULL}, false},
		{"get", "", "pods", NULL, NULL, {"get", "", "pods", "status", "n", "x", NULL}, false},
		{"*", "*", "*", NULL, NULL, {"get", "g", "pods", "status", "n", "x", NULL}, true},
		{"*", "*", "*", NULL, NULL, {"get", "", "", "", "", "", "/metrics"}, false},
		{"get", "", "pods/status", NULL, NULL, {"get", "", "pods", "status", "n", "x", NULL}, true},
		{"get", "", "pods/status", NULL, NULL, {"get", "", "pods", "", "n", "x", NULL}, false},
		{"get", "", "pods/status", NULL, NULL, {"get", "", "pod", "s/status", "n", "x", NULL}, false},
		{"get", "", "*/status", NULL, NULL, {"get", "", "pods", "status", "n", "x", NULL}, true},
		{"get", "", "*/status", NULL, NULL, {"get", "", "pods", "scale", "n", "x", NULL}, false},
		{"get", "", "pods", "x", NULL, {"get", "", "pods", "", "n", "x", NULL}, true},
		{"get", "", "pods", "x", NULL, {"get", "", "pods", "", "n", "y", NULL}, false},
		{"get", "", "pods", "x", NULL, {"get", "", "pods", "", "n", "", NULL}, false},
		{"get", NULL, NULL, NULL, "/a/*", {"get", "", "", "", "", "", "/a/b/c"}, true},
		{"get", NULL, NULL, NULL, "/a/*", {"get", "", "", "", "", "", "/a"}, false},
		{"get", NULL, NULL, NULL, "/a", {"get", "", "", "", "", "", "/a/b"}, false},
		{"get", NULL, NULL, NULL, "*", {"get", "", "", "", "", "", "/x"}, true},
		{"get", NULL, NULL, NULL, "*", {"get", "", "pods", "", "", "", NULL}, false},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *verb = (char *)cases[i].verb, *group = (char *)cases[i].group, *url = (char *)cases[i].url;
		char *resource = (char *)cases[i].resource, *name = (char *)cases[i].name;
		const struct policy_rule p = {.verbs = {&verb, 1},
		                              .groups = {&group, group != NULL},
		                              .resources = {&resource, resource != NULL},
		                              .names = {&name, name != NULL},
		                              .urls = {&url, url != NULL}};
		if (rule_allows(&p, &cases[i].a) != cases[i].allows)
			fail_msg("case %zu", i);
	}
}

static bool may(struct server *s, const char *user, const char *group, const char *verb, const char *ns) {
	struct user *u = user_new(user, NULL);
	const struct authz_attributes a = {verb, "nacre.dev", "instances", "", ns, "", NULL};
	assert_non_null(u);
	if (group)
		assert_int_equal(user_add_group(u, group), 0);
	bool allowed = authz_check(s->auth.rbac, u, &a, NULL);
	user_unref(u);
	return allowed;
}

static void test_bindings(void **state) {
	struct server *s = *state;
	post(s, "/api/v1/namespaces", "{\"metadata\":{\"name\":\"n\"}}");
	post(s, RBAC "/namespaces/n/roles",
	     "{\"metadata\":{\"name\":\"r\"},\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"nacre.dev\"],"
	     "\"resources\":[\"instances\"]}]}");
	assert_false(may(s, "u", NULL, "get", "n"));
	post(s, RBAC "/namespaces/n/rolebindings",
	     "{\"metadata\":{\"name\":\"b\"},\"roleRef\":{\"kind\":\"Role\",\"name\":\"r\"},\"subjects\":["
	     "{\"kind\":\"User\",\"name\":\"u\"},{\"kind\":\"User\",\"name\":\"u\"},{\"kind\":\"Group\",\"name\":\"g\"}"
	     ","
	     "{\"kind\":\"ServiceAccount\",\"name\":\"robot\"}]}");
	assert_true(may(s, "u", NULL, "get", "n"));
	assert_true(may(s, "x", "g", "get", "n"));
	assert_true(may(s, "system:serviceaccount:n:robot", NULL, "get", "n"));
	assert_false(may(s, "system:serviceaccount:o:robot", NULL, "get", "n"));
	assert_false(may(s, "u", NULL, "delete", "n"));
	assert_false(may(s, "u", NULL, "get", "default"));
	assert_false(may(s, "u", NULL, "get", ""));
	/* A user and a group with the same name are different subjects. */
	assert_false(may(s, "g", "u", "get", "n"));
	assert_true(may(s, "anybody", "system:masters", "delete", ""));
	/* A binding whose role doesn't exist grants nothing until it does. */
	post(s, RBAC "/clusterrolebindings",
	     "{\"metadata\":{\"name\":\"c\"},\"roleRef\":{\"kind\":\"ClusterRole\",\"name\":\"late\"},\"subjects\":["
	     "{\"kind\":\"User\",\"name\":\"v\"}]}");
	assert_false(may(s, "v", NULL, "list", "n"));
	post(s, RBAC "/clusterroles",
	     "{\"metadata\":{\"name\":\"late\"},\"rules\":[{\"verbs\":[\"list\"],\"apiGroups\":[\"*\"],"
	     "\"resources\":[\"instances\"]}]}");
	assert_true(may(s, "v", NULL, "list", "n"));
	assert_true(may(s, "v", NULL, "list", ""));
}

/* A Secret as kubectl sends it: type meta, then a message with bytes in a map. */
static void test_protobuf(void **state) {
	static const char secret[] = "k8s\0"
				     "\x0a\x0c\x0a\x02v1\x12\x06Secret"
				     "\x12\x17\x0a\x03\x0a\x01n"
				     "\x12\x08\x0a\x01"
				     "a\x12\x03\x00\x01\xff"
				     "\x1a\x06Opaque";
	struct error err = {0};
	json_t *got = NULL;
	(void)state;
	if (protobuf_decode("Secret", secret, sizeof(secret) - 1, &got, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(json_string_value(json_object_get(json_object_get(got, "data"), "a")), "AAH/");
	assert_string_equal(json_string_value(json_object_get(got, "type")), "Opaque");
	json_decref(got);
	assert_int_equal(protobuf_decode("Role", secret, sizeof(secret) - 1, &got, &err), -EINVAL);
	assert_int_equal(protobuf_decode("Instance", secret, sizeof(secret) - 1, &got, &err), -EOPNOTSUPP);
	for (size_t n = 0; n < sizeof(secret) - 1; n++)
		assert_int_equal(protobuf_decode("Secret", secret, n, &got, &err), -EINVAL);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test_setup_teardown(test_bindings, set_up, tear_down),
		cmocka_unit_test(test_protobuf),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
