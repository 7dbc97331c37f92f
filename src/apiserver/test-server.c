/* SPDX-License-Identifier: Apache-2.0 */

/* Requests to a server in memory, without HTTP. tests/api tests what clients see. */

#include "base/testing.h"

#include "apiserver/read/watch.h"
#include "apiserver/request/reply.h"
#include "apiserver/server.h"
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

/* Sends a request and returns it with its answer. */
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
		{"GET", "/", 200},
		{"GET", "/x", 404},
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
		{"GET", "/readyz/database?exclude=ping", 200},
		{"GET", "/livez/database", 404},
		{"GET", "/livezz", 404},
		{"GET", "/openapi/v3/apis/nacre.dev/v1alpha1?hash=x", 200},
		{"GET", "/openapi/v3/../x", 404},
		{"GET", "/openapi/v3", 200},
		{"GET", "/openapi/v2", 200},
		{"GET", "/openapi/v2/", 200},
		{"GET", "/openapi/v1", 404},
		{"POST", "/openapi/v2", 405},
		{"GET", "/apis/apiextensions.k8s.io/v1", 200},
		{"GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", 200},
		{"GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/hosts.nacre.dev", 200},
		{"GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x", 404},
		{"PUT", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/hosts.nacre.dev", 405},
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
	/* Byte by byte. */
	size_t n = 0;
	while (watch_read(w, buf + n, 1) == 1)
		n++;
	buf[n] = '\0';
	assert_memory_equal(buf, "{\"type\":\"ADDED\",\"object\":{", 26);
	assert_string_equal(buf + n - 3, "}}\n");
	expect(s, "PATCH", A, "{\"metadata\":{\"labels\":{\"x\":\"1\"}}}", 200);
	assert_int_equal(woken, 2);
	assert_true(watch_read(w, buf, sizeof(buf)) > 0);
	assert_memory_equal(buf, "{\"type\":\"DELETED\"", 17);
	assert_int_equal(watch_read(w, buf, sizeof(buf)), 0);
	/* A change of an object that isn't selected is not sent. */
	expect(s, "PATCH", A, "{\"metadata\":{\"labels\":{\"x\":\"2\"}}}", 200);
	assert_int_equal(woken, 3);
	assert_false(watch_due(w));
	server_stop(s);
	assert_int_equal(woken, 4);
	assert_true(watch_due(w));
	assert_int_equal(watch_read(w, buf, sizeof(buf)), -1);
	request_free(r);
	expect(s, "GET", G "/instances?watch=1", NULL, 503);
}

/* Reads about N bytes from W in small pieces, and applies the events to SEEN (key: name, value: object). */
static void follow(struct watch *w, struct buf *line, json_t *seen, size_t n) {
	char c;
	for (size_t i = 0; i < n && watch_read(w, &c, 1) == 1; i++) {
		if (c != '\n') {
			buf_putc(line, c);
			continue;
		}
		json_t *e = json_loadb(line->data, line->len, 0, NULL);
		assert_non_null(e);
		json_t *obj = json_object_get(e, "object");
		const char *type = json_string_value(json_object_get(e, "type"));
		const char *name = json_string_value(json_object_get(json_object_get(obj, "metadata"), "name"));
		/* ADDED is only sent for objects that were not there, the other events only for objects that were. */
		assert_int_equal(streq(type, "ADDED"), !json_object_get(seen, name));
		if (streq(type, "DELETED"))
			json_object_del(seen, name);
		else
			json_object_set(seen, name, obj);
		json_decref(e);
		buf_reset(line);
	}
}

/* Gives the same numbers in every run. */
static int below(int n) {
	return (int)(random() % n);
}

/* Changes objects before and behind the reader's position while the initial objects are read. */
static void test_watch_of_a_slow_reader(void **state) {
	struct server *s = *state;
	char path[128], body[512];
	for (int round = 0; round < 20; round++) {
		_buf_free_ struct buf line = {0};
		json_t *seen = json_object();
		const char *query = round % 2 ? "&labelSelector=x%3D1" : "";
		snprintf(path, sizeof(path), G "/namespaces/default/instances?watch=1%s", query);
		struct request *r = NULL;
		for (int i = 0; i < 150; i++) {
			int n = below(30);
			const char *method = i < 40 || below(3) == 0 ? "POST" : below(2) ? "PATCH" : "DELETE";
			if (i == 40)
				r = ask(s, "GET", path, NULL, NULL);
			char at[16] = "";
			if (!streq(method, "POST"))
				snprintf(at, sizeof(at), "/i%02d", n);
			char target[128];
			snprintf(target, sizeof(target), G "/namespaces/default/instances%s", at);
			snprintf(body, sizeof(body),
			         "{\"apiVersion\":\"nacre.dev/v1alpha1\",\"kind\":\"Instance\",\"metadata\":{\"name\":"
			         "\"i%02d\",\"labels\":{\"x\":\"%d\",\"n\":\"%d\"}},\"spec\":{\"type\":\"a\",\"image\":"
			         "\"b\"}}",
			         n, below(2), i);
			const bool patch = streq(method, "PATCH"), gone = streq(method, "DELETE");
			struct request *w = ask(s, method, target, patch ? "application/merge-patch+json" : NULL,
			                        gone ? NULL : body);
			assert_true(w->reply.code < 500);
			request_free(w);
			if (r)
				follow(r->reply.watch, &line, seen, (size_t)below(800));
		}
		follow(r->reply.watch, &line, seen, SIZE_MAX);
		assert_int_equal(line.len, 0);
		request_free(r);
		snprintf(path, sizeof(path), G "/namespaces/default/instances?%s", *query ? query + 1 : "");
		r = ask(s, "GET", path, NULL, NULL);
		assert_int_equal(r->reply.n_items, json_object_size(seen));
		for (size_t i = 0; i < r->reply.n_items; i++) {
			json_t *obj = json_loadb(r->reply.items[i]->data, r->reply.items[i]->len, 0, NULL);
			const char *name = json_string_value(json_object_get(json_object_get(obj, "metadata"), "name"));
			assert_true(json_equal(obj, json_object_get(seen, name)));
			json_decref(obj);
		}
		request_free(r);
		json_decref(seen);
	}
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

/* Expired Events are deleted some at a time. */
static void test_expiry(void **state) {
	struct server *s = *state;
	unsigned kind = 0;
	while (!streq(api_kinds[kind]->plural, "events"))
		kind++;
	server_tick(s);
	for (int i = 0; i < 4200; i++) {
		_free_ char *body = strf("{\"metadata\":{\"name\":\"e%d\"},\"involvedObject\":{}}", i);
		expect(s, "POST", "/api/v1/namespaces/default/events", body, 201);
	}
	for (const struct object *o = store_seek(s->store, kind, "", ""); o; o = store_next(s->store, kind, o))
		if (!streq(o->name, "e7"))
			((struct object *)o)->written_s = 0;
	/* A round begins once a minute. */
	for (int i = 0; i < 59; i++)
		server_tick(s);
	assert_int_equal(store_count(s->store, kind), 4200);
	server_tick(s);
	assert_int_equal(store_count(s->store, kind), 4200 - 4096 + 1);
	server_tick(s);
	assert_int_equal(store_count(s->store, kind), 1);
}

/* A write that waits until the last Event is deleted, and counts how many are deleted between two of its turns. */
struct onlooker {
	struct write write; /* first */
	unsigned kind;
	size_t last, most, turns;
	bool done;
};

static enum write_result look(struct queue *q, struct write *w) {
	struct onlooker *o = (struct onlooker *)w;
	const size_t n = store_count(q->store, o->kind);
	o->most = MAX(o->most, o->last - n);
	o->last = n;
	o->turns++;
	return n ? WRITE_LATER : WRITE_DONE;
}

static void looked(_unused_ struct queue *q, struct write *w, int r, _unused_ const struct error *cause) {
	assert_int_equal(r, 0);
	((struct onlooker *)w)->done = true;
}

static void test_deletecollection_in_batches(void **state) {
	struct server *s = *state;
	struct onlooker o = {.write = {.run = look, .done = looked}, .last = 600};
	while (!streq(api_kinds[o.kind]->plural, "events"))
		o.kind++;
	for (int i = 0; i < 600; i++) {
		_free_ char *body = strf("{\"metadata\":{\"name\":\"e%d\"},\"involvedObject\":{}}", i);
		expect(s, "POST", "/api/v1/namespaces/default/events", body, 201);
	}
	queue_write(&s->queue, &o.write);
	struct request *r = ask(s, "DELETE", "/api/v1/namespaces/default/events", NULL, NULL);
	assert_int_equal(r->reply.code, 200);
	assert_int_equal(r->reply.n_items, 600);
	request_free(r);
	expect(s, "DELETE", "/api/v1/namespaces/default/events", NULL, 200);
	assert_true(o.done);
	assert_in_range(o.most, 1, 256);
	assert_true(o.turns > 600 / 256);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_odd_targets, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_watch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_watch_of_a_slow_reader, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_collector, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_deletecollection_in_batches, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_expiry, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
