/* SPDX-License-Identifier: Apache-2.0 */

/* Requests, the work queue, leases and events against a scripted server. */

#include "kube/testing.h"

#include "api/host.h"
#include "api/instance.h"
#include "kube/client.h"
#include "kube/event.h"
#include "kube/internal.h"
#include "kube/lease.h"
#include "kube/workqueue.h"

struct answer {
	int n, error, http;
	char msg[512], reason[64];
};

static void on_answer(const struct kube_response *r, void *userdata) {
	struct answer *a = userdata;
	a->n++;
	a->error = r->error;
	a->http = r->http;
	snprintf(a->msg, sizeof(a->msg), "%s", r->error ? r->err.msg : r->body);
	snprintf(a->reason, sizeof(a->reason), "%s", r->reason);
}

static void test_requests(void **state) {
	(void)state;
	static const struct step steps[] = {
		{"GET /apis/nacre.dev/v1alpha1/namespaces/t/instances/a%2Fb ", "404 Not Found",
	         "{\"kind\":\"Status\",\"reason\":\"NotFound\",\"message\":\"no such instance\",\"code\":404}"},
		{"PATCH /apis/nacre.dev/v1alpha1/hosts/h1/status ", "409 Conflict",
	         "{\"reason\":\"Conflict\",\"message\":\"old\"}"},
		{"DELETE /apis/nacre.dev/v1alpha1/hosts/h1 ", "503 Service Unavailable", "garbage"},
		{"GET /big ", NULL, "0123456789"},
		{"GET /blocking ", NULL, "{}"},
		{NULL},
	};
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(cleanup_kube_client) struct kube_client *c = NULL;
	struct server s;
	struct error err;
	struct answer a = {0};
	struct kube_request *slot = NULL;
	assert_int_equal(sd_event_new(&loop), 0);
	assert_int_equal(kube_client_new(&c, loop, "ftp://x", "test", &err), -EINVAL);
	server_start(&s, steps);
	assert_int_equal(kube_client_new(&c, loop, s.url, "test", &err), 0);
	struct kube_call *call = KUBE_CALL(on_answer, &a, &slot);

	assert_int_equal(kube_get(c, &api_kind_instance, "t", "a/b", call, &err), 0);
	assert_non_null(slot);
	run_until(loop, &a.n, 1);
	assert_null(slot);
	assert_int_equal(a.error, -ENOENT);
	assert_string_equal(a.reason, "NotFound");
	assert_string_equal(a.msg, "no such instance");

	/* A status patch holds the members that differ or vanished, and nothing else. */
	struct host_status before = {.version = (char *)"1", .boot_id = (char *)"b", .conditions = {0}};
	struct host_status after = {.version = (char *)"2"};
	struct host old = {.meta = {.name = (char *)"h1", .uid = (char *)"u", .resource_version = (char *)"7"},
	                   .status = &before};
	struct host new = old;
	/* If both are equal nothing is sent. A caller that ignores this case has a failure to retry, with a message to
	 * show. */
	assert_int_equal(kube_patch_status(c, &api_kind_host, &old, &new, call, &err), -EALREADY);
	assert_string_equal(err.msg, "Host h1: there is nothing to write, the status is the same");
	assert_null(slot);
	assert_int_equal(a.n, 1);
	new.status = &after;
	assert_int_equal(kube_patch_status(c, &api_kind_host, &old, &new, call, &err), 0);
	assert_non_null(slot);
	run_until(loop, &a.n, 2);
	assert_int_equal(a.error, -ESTALE);
	assert_non_null(strstr(s.requests[1], "\r\n\r\n{\"metadata\":{\"uid\":\"u\",\"resourceVersion\":\"7\"},"
	                                      "\"status\":{\"version\":\"2\",\"bootID\":null}}"));

	assert_int_equal(kube_delete(c, &api_kind_host, NULL, "h1", "u", call, &err), 0);
	run_until(loop, &a.n, 3);
	assert_int_equal(a.error, -EIO);
	assert_non_null(strstr(s.requests[2], "\"preconditions\":{\"uid\":\"u\"}"));

	assert_int_equal(kube_request(c, &(struct kube_spec){.method = "GET", .path = "/big", .max = 5}, call, &err),
	                 0);
	run_until(loop, &a.n, 4);
	assert_int_equal(a.error, -EMSGSIZE);

	struct kube_response resp;
	assert_int_equal(kube_perform(c, &(struct kube_spec){.method = "GET", .path = "/blocking"}, &resp), 0);
	assert_string_equal(resp.body, "{}");
	kube_response_clear(&resp);
	server_stop(&s);

	assert_int_equal(kube_get(c, &api_kind_host, NULL, "h1", call, &err), 0);
	run_until(loop, &a.n, 5);
	assert_int_equal(a.error, -ECONNREFUSED);
	assert_int_equal(a.http, 0);
	assert_non_null(
		strstr(a.msg, ": no such socket: is nacre-apiserver running here? Use --kubeconfig or $KUBECONFIG"));
	assert_int_equal(close(open(s.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	assert_true(kube_perform(c, &(struct kube_spec){.method = "GET", .path = "/"}, &resp) < 0);
	assert_non_null(strstr(resp.err.msg, ": Connection refused"));
	kube_response_clear(&resp);
	unlink(s.path);
	/* Cancelled: no callback is called, nothing leaks. */
	assert_int_equal(kube_get(c, &api_kind_host, NULL, "h1", call, &err), 0);
	kube_request_cancel(&slot);
	assert_null(slot);
	sd_event_run(loop, 10000);
	assert_int_equal(a.n, 5);
}

struct work {
	struct kube_workqueue *q;
	char log[512];
	int n;
	int result;
	bool later; /* done() is called later, by the test */
};

static void reconcile(const char *key, void *userdata) {
	struct work *w = userdata;
	size_t n = strlen(w->log);
	snprintf(w->log + n, sizeof(w->log) - n, "%s ", key);
	w->n++;
	if (!w->later)
		kube_workqueue_done(w->q, key, w->result);
}

static void test_workqueue(void **state) {
	(void)state;
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	struct work w = {0};
	struct error err;
	assert_int_equal(sd_event_new(&loop), 0);
	assert_int_equal(kube_workqueue_new(&w.q, loop, 2, reconcile, &w, &err), 0);
	kube_workqueue_add(w.q, "a");
	kube_workqueue_add(w.q, "b");
	kube_workqueue_add(w.q, "a");
	sd_event_run(loop, 1000);
	assert_int_equal(w.n, 0); /* paused */
	assert_int_equal(kube_workqueue_depth(w.q), 2);
	kube_workqueue_run(w.q, true);
	run_until(loop, &w.n, 2);
	sd_event_run(loop, 1000);
	assert_string_equal(w.log, "a b ");

	/* Two keys are active at once. A key that is added while active comes again, once, when it is done. */
	w.later = true;
	kube_workqueue_add(w.q, "c");
	kube_workqueue_add(w.q, "d");
	kube_workqueue_add(w.q, "e");
	run_until(loop, &w.n, 4);
	kube_workqueue_add(w.q, "c");
	assert_false(kube_workqueue_add_first(w.q, "c"));
	sd_event_run(loop, 1000);
	assert_int_equal(w.n, 4);
	assert_int_equal(kube_workqueue_active(w.q), 2);
	kube_workqueue_done(w.q, "c", 0);
	run_until(loop, &w.n, 5);
	kube_workqueue_done(w.q, "d", 0);
	run_until(loop, &w.n, 6);
	assert_string_equal(w.log, "a b c d e c ");
	kube_workqueue_done(w.q, "e", 0);
	kube_workqueue_done(w.q, "c", 0);

	/* Urgent keys come before waiting keys, even if the urgent key was waiting itself. */
	kube_workqueue_run(w.q, false);
	w.later = false;
	w.log[0] = 0;
	kube_workqueue_add(w.q, "x");
	kube_workqueue_add(w.q, "y");
	assert_true(kube_workqueue_add_first(w.q, "z"));
	assert_true(kube_workqueue_add_first(w.q, "y"));
	kube_workqueue_run(w.q, true);
	run_until(loop, &w.n, 9);
	assert_string_equal(w.log, "y z x ");
	w.n = 6;

	/* Failed keys come back, each time after a longer delay. */
	w.result = -EIO;
	uint64_t t = now_monotonic_ns();
	kube_workqueue_add(w.q, "f");
	run_until(loop, &w.n, 10); /* at 0, 5, 15, 35 ms */
	assert_true(now_monotonic_ns() - t >= 35 * NSEC_PER_MSEC);
	w.result = 0;
	run_until(loop, &w.n, 11);
	assert_int_equal(kube_workqueue_depth(w.q) + kube_workqueue_active(w.q), 0);

	/* A key is not retried at once if the server is too busy. */
	t = now_monotonic_ns();
	w.result = -EBUSY;
	kube_workqueue_add(w.q, "f");
	run_until(loop, &w.n, 12);
	w.result = 0;
	run_until(loop, &w.n, 13);
	assert_true(now_monotonic_ns() - t >= NSEC_PER_SEC);

	/* Only failed keys and those in work are retried; the other timers stay. */
	w.log[0] = 0;
	w.result = -EBUSY;
	kube_workqueue_add(w.q, "r");
	kube_workqueue_add_after(w.q, "s", 10000000);
	run_until(loop, &w.n, 14);
	w.result = 0;
	t = now_monotonic_ns();
	kube_workqueue_retry(w.q);
	run_until(loop, &w.n, 15);
	w.later = true;
	kube_workqueue_add(w.q, "u");
	run_until(loop, &w.n, 16);
	kube_workqueue_retry(w.q);
	kube_workqueue_done(w.q, "u", 0);
	run_until(loop, &w.n, 17);
	assert_true(now_monotonic_ns() - t < NSEC_PER_SEC);
	assert_string_equal(w.log, "r r u u ");
	w.later = false;
	kube_workqueue_done(w.q, "u", 0);
	assert_int_equal(kube_workqueue_depth(w.q) + kube_workqueue_active(w.q), 0);

	t = now_monotonic_ns();
	kube_workqueue_add_after(w.q, "g", 20000);
	kube_workqueue_add_after(w.q, "g", 10000000);
	run_until(loop, &w.n, 18);
	assert_true(now_monotonic_ns() - t >= 20 * NSEC_PER_MSEC);
	kube_workqueue_add_after(w.q, "h", 10000000);
	kube_workqueue_free(w.q);

	assert_int_equal(kube_backoff_us(1), 5000);
	assert_int_equal(kube_backoff_us(3), 20000);
	assert_int_equal(kube_backoff_us(40), 30000000);
}

static void on_leading(bool leading, const struct error *err, void *userdata) {
	assert_true(!leading || !err);
	*(int *)userdata += 1;
}

#define LEASE_JSON(rv, holder)                                                                      \
	"{\"metadata\":{\"namespace\":\"s\",\"name\":\"l\",\"uid\":\"u\",\"resourceVersion\":\"" rv \
	"\"},\"spec\":{\"holderIdentity\":\"" holder "\",\"leaseDurationSeconds\":3,\"leaseTransitions\":3}}"

static void test_elector(void **state) {
	(void)state;
	static const struct step steps[] = {
		{"GET /apis/coordination.k8s.io/v1/namespaces/s/leases/l ", NULL, LEASE_JSON("5", "other")},
		{"GET ", NULL, LEASE_JSON("6", "other"), .repeat = true}, /* alive: it changed once, then not for 3 s */
		{"PUT ", NULL, LEASE_JSON("7", "me")},
		{"PUT ", "409 Conflict", "{\"reason\":\"Conflict\"}"}, /* another client wrote it */
		{"GET ", NULL, LEASE_JSON("9", "other")},
		{NULL},
	};
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(cleanup_kube_client) struct kube_client *c = NULL;
	struct server s;
	struct error err;
	int changes = 0;
	struct kube_elector *e;
	struct kube_elector_options o = {.ns = "s",
	                                 .name = "l",
	                                 .identity = "me",
	                                 .duration_ms = 3000,
	                                 .deadline_ms = 2500,
	                                 .retry_ms = 300,
	                                 .changed = on_leading,
	                                 .userdata = &changes};
	assert_int_equal(sd_event_new(&loop), 0);
	server_start(&s, steps);
	assert_int_equal(kube_client_new(&c, loop, s.url, "test", &err), 0);
	assert_int_equal(kube_elector_new(&e, c, &o, &err), 0);
	uint64_t began = now_monotonic_ns();
	run_until(loop, &changes, 1);
	assert_true(kube_elector_leading(e));
	assert_true(now_monotonic_ns() - began >= 3 * NSEC_PER_SEC);
	assert_int_equal(s.done, 3);
	assert_non_null(strstr(s.requests[2], "\"resourceVersion\":\"6\""));
	assert_non_null(strstr(s.requests[2], "\"leaseTransitions\":4"));
	run_until(loop, &changes, 2);
	assert_false(kube_elector_leading(e));
	assert_int_equal(s.done, 5);
	kube_elector_free(e);
	server_stop(&s);
}

static void test_recorder(void **state) {
	(void)state;
	static const struct step steps[] = {
		{"POST /api/v1/namespaces/default/events ", "201 Created", "{}"},
		{"PATCH /api/v1/namespaces/default/events/h1.", NULL, "{}"},
		{NULL},
	};
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(cleanup_kube_client) struct kube_client *c = NULL;
	_cleanup_(cleanup_kube_recorder) struct kube_recorder *r = NULL;
	struct server s;
	struct error err;
	struct host h = {.meta = {.name = (char *)"h1", .uid = (char *)"u"}};
	assert_int_equal(sd_event_new(&loop), 0);
	server_start(&s, steps);
	assert_int_equal(kube_client_new(&c, loop, s.url, "test", &err), 0);
	assert_int_equal(kube_recorder_new(&r, c, "test", NULL, &err), 0);
	kube_event(r, &api_kind_host, &h, KUBE_EVENT_WARNING, "Odd", "it is %s", "odd");
	run_until(loop, &s.done, 1);
	assert_non_null(strstr(s.requests[0], "\"message\":\"it is odd\""));
	kube_event(r, &api_kind_host, &h, KUBE_EVENT_WARNING, "Odd", "it is %s", "odd");
	kube_event(r, &api_kind_host, &h, KUBE_EVENT_WARNING, "Odd", "it is %s", "odd");
	run_until(loop, &s.done, 2);
	assert_non_null(strstr(s.requests[1], "\"count\":3"));
	server_stop(&s);
}
int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_workqueue),
		cmocka_unit_test(test_elector),
		cmocka_unit_test(test_recorder),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
