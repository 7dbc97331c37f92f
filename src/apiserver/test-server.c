/* SPDX-License-Identifier: Apache-2.0 */

/* Requests to a server in memory, without HTTP. What clients see of it is tested in tests/api. */

#include "base/testing.h"

#include "apiserver/reply.h"
#include "apiserver/server.h"
#include "apiserver/watch.h"
#include "base/util.h"

#define G "/apis/nacre.dev/v1alpha1"
#define A G "/namespaces/default/instances/a"
#define INSTANCE                                                                                                \
	"{\"apiVersion\":\"nacre.dev/v1alpha1\",\"kind\":\"Instance\",\"metadata\":{\"name\":\"a\"},\"spec\":{" \
	"\"type\":\"t\",\"image\":\"i\"}}"

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

/* The request, answered. */
static struct request *ask(struct server *s, const char *method, const char *target, const char *type,
                           const char *body) {
	struct request *r = request_new(method, target);
	assert_non_null(r);
	assert_int_equal(request_set_content_type(r, type), 0);
	r->user = user_new_admin();
	if (body)
		buf_puts(&r->body, body);
	assert_true(server_handle(s, r));
	assert_int_not_equal(r->reply.code, 0);
	return r;
}

static void expect(struct server *s, const char *method, const char *target, const char *body, unsigned code) {
	struct request *r =
		ask(s, method, target, streq(method, "PATCH") ? "application/merge-patch+json" : NULL, body);
	if (r->reply.code != code)
		fail_msg("%s %s: %u %s", method, target, r->reply.code, r->reply.body.data ? r->reply.body.data : "");
	request_free(r);
}

static void test_life(void **state) {
	struct server *s = *state;
	expect(s, "GET", A, NULL, 404);
	expect(s, "POST", G "/namespaces/default/instances", INSTANCE, 201);
	expect(s, "POST", G "/namespaces/default/instances", INSTANCE, 409);
	expect(s, "GET", A, NULL, 200);
	expect(s, "PATCH", A, "{\"spec\":{\"running\":false}}", 200);
	expect(s, "PATCH", A, "{\"spec\":{\"running\":1}}", 422);
	expect(s, "DELETE", A, NULL, 200);
	expect(s, "GET", A, NULL, 404);
}

static void test_odd_targets(void **state) {
	static const struct {
		const char *method, *target;
		unsigned code;
	} cases[] = {
		{"GET", "", 400},
		{"GET", "x", 400},
		{"GET", "*", 400},
		{"GET", "/", 404},
		{"GET", "//", 404},
		{"GET", "/%", 400},
		{"GET", "/%0", 400},
		{"GET", "/%00", 400},
		{"GET", "/api", 200},
		{"GET", "/api/", 200},
		{"GET", "/apis//", 404},
		{"POST", "/api", 405},
		{"GET", "/api/v1/namespaces/default/status", 200},
		{"GET", "/api/v1/namespaces/default/finalize", 404},
		{"GET", "/api/v1/namespaces/default/x", 404},
		{"GET", "/api/v1/namespaces/default/events/a/b/c", 404},
		{"GET", "/api/v1/a/b/c/d/e/f/g/h/i/j/k", 404},
		{"GET", G "/namespaces/default/images", 404},
		{"GET", G "/instances/a/b/c", 404},
		{"GET", G "/images?watch=junk", 200},
		{"GET", G "/images?&&=&a", 200},
		{"DELETE", G "/instances", 404},
		{"PUT", G "/images", 400},
		{"DELETE", A "/status", 405},
		{"GET", "/healthz?verbose", 200},
		{"GET", "/openapi/v3/apis/nacre.dev/v1alpha1?hash=x", 200},
		{"GET", "/openapi/v3/../x", 404},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect(*state, cases[i].method, cases[i].target, NULL, cases[i].code);
}

static void count_wake(void *userdata) {
	++*(int *)userdata;
}

static void test_watch(void **state) {
	struct server *s = *state;
	char buf[4096];
	int woken = 0;
	struct request *r = ask(s, "GET", G "/instances?watch=1&labelSelector=!x", NULL, NULL);
	struct watch *w = r->reply.watch;
	assert_non_null(w);
	watch_set_wake(w, count_wake, NULL, &woken);
	assert_int_equal(watch_read(w, buf, sizeof(buf)), 0);
	expect(s, "POST", G "/namespaces/default/instances", INSTANCE, 201);
	assert_int_equal(woken, 1);
	/* In the smallest of steps. */
	size_t n = 0;
	while (watch_read(w, buf + n, 1) == 1)
		n++;
	buf[n] = '\0';
	assert_memory_equal(buf, "{\"type\":\"ADDED\",\"object\":{", 26);
	assert_string_equal(buf + n - 3, "}}\n");
	/* What it doesn't select wakes nobody. */
	expect(s, "PATCH", A, "{\"metadata\":{\"labels\":{\"x\":\"1\"}}}", 200);
	assert_int_equal(woken, 2);
	assert_true(watch_read(w, buf, sizeof(buf)) > 0);
	assert_memory_equal(buf, "{\"type\":\"DELETED\"", 17);
	assert_int_equal(watch_read(w, buf, sizeof(buf)), 0);
	expect(s, "PATCH", A, "{\"metadata\":{\"labels\":{\"x\":\"2\"}}}", 200);
	assert_int_equal(woken, 2);
	server_stop(s);
	assert_int_equal(woken, 3);
	assert_int_equal(watch_read(w, buf, sizeof(buf)), -1);
	request_free(r);
	expect(s, "GET", G "/instances?watch=1", NULL, 503);
}

static void test_collector(void **state) {
	struct server *s = *state;
	expect(s, "POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"t\"}}", 201);
	for (int i = 0; i < 600; i++) {
		_free_ char *body = strf("{\"metadata\":{\"name\":\"e%d\"},\"involvedObject\":{}}", i);
		expect(s, "POST", "/api/v1/namespaces/t/events", body, 201);
	}
	expect(s, "DELETE", "/api/v1/namespaces/t", NULL, 200);
	expect(s, "GET", "/api/v1/namespaces/t", NULL, 404);
	expect(s, "GET", "/api/v1/namespaces/t/events/e0", NULL, 404);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_odd_targets, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_watch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_collector, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
