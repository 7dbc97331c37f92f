/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The announcer against an API whose watch reports a write before its answer comes. The test plays the server between
 * two turns of the loop, so it decides the order.
 */

#include "base/testing.h"

#include <poll.h>
#include <sys/socket.h>

#include "base/listen.h"
#include "base/loop.h"
#include "base/util.h"
#include "fabric/announce.h"

#define PATIENCE_NS (120 * NSEC_PER_SEC)

struct api {
	sd_event *loop;
	struct kube_client *client;
	char path[64], request[4096];
	int fd, watch;
};

static int set_up(void **state) {
	static struct api a;
	struct error err = {0};
	char url[80];
	snprintf(a.path, sizeof(a.path), "/tmp/nacre-test-announce-%d", getpid());
	snprintf(url, sizeof(url), "unix:%s", a.path);
	test_claim("dir", a.path);
	assert_true(sd_event_new(&a.loop) >= 0);
	assert_int_equal(listen_socket(url, &a.fd, &err), 0);
	assert_int_equal(kube_client_new(&a.client, a.loop, url, "test", &err), 0);
	*state = &a;
	return 0;
}

static int tear_down(void **state) {
	struct api *a = *state;
	kube_client_free(a->client);
	sd_event_unref(a->loop);
	close(a->watch);
	close(a->fd);
	unlink(a->path);
	return 0;
}

/* Runs the loop until nothing is left to do. */
static void run_until_idle(struct api *a) {
	int r;
	while ((r = sd_event_run(a->loop, 0)) > 0)
		;
	assert_int_equal(r, 0);
}

static bool complete(const char *request) {
	const char *length = strcasestr(request, "Content-Length:"), *end = strstr(request, "\r\n\r\n");
	return end && strlen(end + 4) >= (length ? strtoul(length + 15, NULL, 10) : 0);
}

/* Waits for the next request, which must contain EXPECT, and returns its connection. */
static int next(struct api *a, const char *expect) {
	uint64_t deadline = now_monotonic_ns() + PATIENCE_NS;
	size_t n = 0;
	int fd = -1;
	a->request[0] = '\0';
	while (!complete(a->request)) {
		if (now_monotonic_ns() > deadline)
			fail_msg("no request with `%s`", expect);
		assert_true(sd_event_run(a->loop, 10 * USEC_PER_MSEC) >= 0);
		if (fd < 0)
			fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		ssize_t r = fd < 0 ? 0 : recv(fd, a->request + n, sizeof(a->request) - 1 - n, 0);
		n += r > 0 ? (size_t)r : 0;
		a->request[n] = '\0';
	}
	if (!strstr(a->request, expect))
		fail_msg("`%s` is not in %s", expect, a->request);
	return fd;
}

static void answer(int fd, const char *status, const char *body) {
	dprintf(fd, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n%s", status, body);
	close(fd);
}

static void tell(struct api *a, const char *type, const char *object) {
	dprintf(a->watch, "{\"type\":\"%s\",\"object\":%s}\n", type, object);
	run_until_idle(a);
}

#define META(rv) "{\"metadata\":{\"name\":\"edge-e1\",\"uid\":\"u" rv "\",\"resourceVersion\":\"" rv "\"},"
#define SPEC     "\"spec\":{\"host\":\"e1\",\"vtep\":\"fd00::1\",\"ip\":\"2001:db8::1\",\"mac\":\"02:00:00:00:00:01\""
#define ROUTE6   ",\"routes\":[{\"prefix\":\"::/0\"}]}}"

static struct announcer *start(struct api *a) {
	struct announcer *an;
	struct error err = {0};
	assert_int_equal(announcer_new(&an, a->client, "edge-e1", NULL, NULL, &err), 0);
	answer(next(a, "GET /apis/nacre.dev/v1alpha1/endpoints?"), "200 OK",
	       "{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[]}");
	a->watch = next(a, "watch=true");
	dprintf(a->watch, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n");
	run_until_idle(a);
	return an;
}

static void want(struct announcer *an, size_t n_routes) {
	struct endpoint_route routes[] = {{.prefix = (char *)"::/0"}, {.prefix = (char *)"0.0.0.0/0"}};
	struct endpoint_spec spec = {.host = (char *)"e1",
	                             .vtep = (char *)"fd00::1",
	                             .ip = (char *)"2001:db8::1",
	                             .mac = (char *)"02:00:00:00:00:01"};
	struct error err = {0};
	spec.routes.v = routes;
	spec.routes.n = n_routes;
	assert_int_equal(announcer_want(an, n_routes ? &spec : NULL, &err), 0);
}

/* The default route of the second family is learnt while the first one is being written. */
static void test_wanted_meanwhile(void **state) {
	struct api *a = *state;
	struct announcer *an = start(a);
	want(an, 1);
	int post = next(a, "POST ");
	want(an, 2);
	tell(a, "ADDED", META("2") SPEC ROUTE6);
	answer(post, "201 Created", META("2") SPEC ROUTE6);
	answer(next(a, "PATCH "), "200 OK",
	       META("3") SPEC ",\"routes\":[{\"prefix\":\"::/0\"},{\"prefix\":\"0.0.0.0/0\"}]}}");
	assert_non_null(strstr(a->request, "0.0.0.0/0"));
	announcer_free(an);
}

/* Somebody deletes the object: the watch reports it, then the write finds no object. It is created again. */
static void test_deleted_meanwhile(void **state) {
	struct api *a = *state;
	struct announcer *an = start(a);
	want(an, 1);
	answer(next(a, "POST "), "201 Created", META("2") SPEC ROUTE6);
	run_until_idle(a);
	want(an, 2);
	int patch = next(a, "PATCH ");
	tell(a, "DELETED", META("4") SPEC ROUTE6);
	answer(patch, "404 Not Found", "{\"kind\":\"Status\",\"reason\":\"NotFound\",\"code\":404}");
	close(next(a, "POST "));
	announcer_free(an);
}

/* Without an event of the watch a failed write is not repeated again and again. */
static void test_no_loop(void **state) {
	struct api *a = *state;
	struct announcer *an = start(a);
	want(an, 1);
	answer(next(a, "POST "), "409 Conflict", "{\"kind\":\"Status\",\"reason\":\"AlreadyExists\",\"code\":409}");
	uint64_t deadline = now_monotonic_ns() + 300 * NSEC_PER_MSEC;
	while (now_monotonic_ns() < deadline)
		assert_true(sd_event_run(a->loop, 10 * USEC_PER_MSEC) >= 0);
	assert_int_equal(poll(&(struct pollfd){.fd = a->fd, .events = POLLIN}, 1, 0), 0);
	tell(a, "ADDED", META("2") SPEC "}}");
	close(next(a, "PATCH "));
	announcer_free(an);
}

/* An object that is not understood is neither created again nor changed, but deleted when it is not wanted any more. */
static void test_not_understood(void **state) {
	struct api *a = *state;
	struct announcer *an = start(a);
	want(an, 1);
	int post = next(a, "POST ");
	tell(a, "ADDED", META("2") "\"spec\":{\"host\":7}}");
	answer(post, "409 Conflict", "{\"kind\":\"Status\",\"reason\":\"AlreadyExists\",\"code\":409}");
	run_until_idle(a);
	want(an, 2);
	run_until_idle(a);
	assert_int_equal(poll(&(struct pollfd){.fd = a->fd, .events = POLLIN}, 1, 0), 0);
	want(an, 0);
	answer(next(a, "DELETE "), "200 OK", META("2") "\"spec\":{\"host\":7}}");
	tell(a, "DELETED", META("3") "\"spec\":{\"host\":7}}");
	want(an, 1);
	answer(next(a, "POST "), "201 Created", META("4") SPEC ROUTE6);
	tell(a, "MODIFIED", META("5") "\"spec\":{\"host\":7}}");
	want(an, 2);
	run_until_idle(a);
	assert_int_equal(poll(&(struct pollfd){.fd = a->fd, .events = POLLIN}, 1, 0), 0);
	tell(a, "MODIFIED", META("6") SPEC ROUTE6);
	close(next(a, "PATCH "));
	announcer_free(an);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_wanted_meanwhile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_deleted_meanwhile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_loop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_understood, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
