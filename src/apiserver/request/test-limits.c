/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "api/roles.h"
#include "apiserver/request/limits.h"
#include "base/util.h"

static struct party *of_user(struct limits *l, const char *name, const char *group) {
	struct user *u = user_new(name, NULL);
	assert_non_null(u);
	assert_int_equal(user_add_group(u, group), 0);
	struct party *p = limits_user(l, u);
	assert_non_null(p);
	user_unref(u);
	return p;
}

static struct party *of_address(struct limits *l, const char *text) {
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct party *p;
	if (inet_pton(AF_INET6, text, &six.sin6_addr) == 1)
		p = limits_address(l, (struct sockaddr *)&six);
	else {
		assert_int_equal(inet_pton(AF_INET, text, &four.sin_addr), 1);
		p = limits_address(l, (struct sockaddr *)&four);
	}
	assert_non_null(p);
	return p;
}

static void test_parties(void **state) {
	struct limits *l = limits_new();
	(void)state;
	struct party *same[][2] = {
		{of_user(l, "ann", "a"), of_user(l, "ann", "b")},
		{of_user(l, "system:serviceaccount:red:a", "a"), of_user(l, "system:serviceaccount:red:b", "a")},
		{of_user(l, "x", GROUP_MASTERS), of_user(l, "y", GROUP_MASTERS)},
		{of_address(l, "2001:db8:1:2::1"), of_address(l, "2001:db8:1:2:ffff::9")},
		{of_address(l, "192.0.2.1"), of_address(l, "::ffff:192.0.2.1")},
		{of_address(l, "192.0.2.2"), of_address(l, "192.0.2.2")},
		{of_address(l, "2001:db8:1:3::1"), of_address(l, "2001:db8:1:3::1")},
		{of_user(l, "system:serviceaccount:blue:a", "a"), of_user(l, "system:serviceaccount:blue:a", "a")},
		{of_user(l, "ann", "system:nacre:hosts"), of_user(l, "ann", "system:nacre:hosts")},
	};
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		assert_ptr_equal(same[i][0], same[i][1]);
		for (size_t k = 0; k < i; k++)
			assert_ptr_not_equal(same[i][0], same[k][0]);
	}
	assert_true(party_trusted(same[2][0]) && party_trusted(same[8][0]));
	assert_false(party_trusted(same[0][0]) || party_trusted(same[1][0]) || party_trusted(same[3][0]));
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		party_unref(same[i][0]);
		party_unref(same[i][1]);
	}
	limits_free(l);
}

static size_t take_all(struct party *p, enum limit what) {
	size_t n = 0;
	while (n < 100000 && party_take(p, what))
		n++;
	return n;
}

static void test_counts(void **state) {
	struct limits *l = limits_new();
	struct party *ann = of_user(l, "ann", "a"), *root = of_user(l, "root", GROUP_MASTERS);
	struct request *r = request_new("GET", "/api");
	size_t one = 0, two = 0;
	(void)state;
	size_t n = take_all(ann, LIMIT_WATCHES);
	assert_int_equal(n, 256);
	assert_int_equal(take_all(ann, LIMIT_REQUESTS), 128);
	assert_int_equal(take_all(root, LIMIT_WATCHES), 100000);
	party_give(ann, LIMIT_WATCHES);
	assert_int_equal(take_all(ann, LIMIT_WATCHES), 1);

	/*
	 * A single request may hold any amount; then a second one may hold nothing, and holding less is always allowed.
	 */
	assert_true(party_hold(ann, &one, (size_t)1 << 30, false));
	assert_false(party_hold(ann, &two, 1, false));
	assert_true(party_hold(ann, &one, (size_t)2 << 30, false));
	assert_true(party_hold(ann, &two, 5, true));
	assert_false(party_hold(ann, &one, (size_t)3 << 30, false));
	assert_int_equal(one, (size_t)2 << 30);
	assert_true(party_hold(ann, &one, (size_t)1 << 30, false));
	assert_true(party_hold(ann, &one, 0, false));
	assert_true(party_hold(ann, &two, (size_t)1 << 30, false));
	assert_true(party_hold(ann, &two, 0, false));

	limits_refuse(r, ann, LIMIT_WATCHES);
	assert_int_equal(r->reply.code, 429);
	assert_true(r->reply.retry_after_s > 0);
	assert_non_null(strstr(r->reply.body.data, "user ann"));
	request_free(r);
	party_unref(ann);
	party_unref(root);
	limits_free(l);
}

static size_t make_events(struct party *p, uint64_t now) {
	size_t n = 0;
	while (n < 100000 && party_event(p, now))
		n++;
	return n;
}

/* Allowances work from the start of the machine on, and are kept across connections. */
static void test_events(void **state) {
	struct limits *l = limits_new();
	(void)state;
	for (int i = 0; i < 2; i++) {
		const uint64_t now = i ? 1000 * NSEC_PER_SEC : 1;
		struct party *h = of_user(l, i ? "system:nacre:host:h1" : "system:nacre:host:h0", ROLES_HOSTS);
		assert_int_equal(make_events(h, now), EVENTS_BURST);
		party_unref(h);
		h = of_user(l, i ? "system:nacre:host:h1" : "system:nacre:host:h0", ROLES_HOSTS);
		assert_int_equal(make_events(h, now), 0);
		assert_int_equal(make_events(h, now + 10 * EVENTS_INTERVAL_NS), 10);
		assert_int_equal(make_events(h, now + (uint64_t)1000000 * NSEC_PER_SEC), EVENTS_BURST);
		party_unref(h);
	}
	limits_free(l);
}

/* A party that has used up its time waits until enough was given back. */
static void test_time(void **state) {
	struct limits *l = limits_new();
	struct party *ann = of_user(l, "ann", "a"), *bob = of_user(l, "bob", "a"), *host = of_user(l, "h", ROLES_HOSTS);
	struct party *root = of_user(l, "root", GROUP_MASTERS), *nobody = of_address(l, "192.0.2.1");
	const uint64_t s = NSEC_PER_SEC, now = 5 * s;
	(void)state;
	for (int i = 0; i < 199; i++)
		party_charge(ann, WORK_REQUEST, 10 * NSEC_PER_MSEC, now);
	assert_int_equal(party_wait_s(ann, now), 0);
	party_charge(ann, WORK_REQUEST, 10 * NSEC_PER_MSEC, now);
	assert_true(party_wait_s(ann, now) > 0);
	/* Other parties are not affected. */
	assert_int_equal(party_wait_s(bob, now) + party_wait_s(host, now) + party_wait_s(root, now), 0);
	/* Work that had begun is charged beyond the burst: 1 s takes 5 s to be given back. */
	party_charge(ann, WORK_REQUEST, s, now);
	assert_int_equal(party_wait_s(ann, now), 6);
	assert_true(party_wait_s(ann, now + 4 * s) > 0);
	assert_int_equal(party_wait_s(ann, now + 6 * s), 0);
	/* The debt outlives the party's references. All of it is given back in the end, but no more. */
	party_unref(ann);
	ann = of_user(l, "ann", "a");
	assert_true(party_wait_s(ann, now + 4 * s) > 0);
	party_charge(ann, WORK_REQUEST, 0, now + 1000 * s);
	party_charge(ann, WORK_REQUEST, 2 * s - 1, now + 1000 * s);
	assert_int_equal(party_wait_s(ann, now + 1000 * s), 0);
	party_charge(ann, WORK_REQUEST, 1, now + 1000 * s);
	assert_int_equal(party_wait_s(ann, now + 1000 * s), 1);
	/* A party without debt is forgotten. */
	assert_int_equal(limits_tick(l, now + 1000 * s), 5);
	party_unref(ann);
	assert_int_equal(limits_tick(l, now + 1001 * s), 5);
	assert_int_equal(limits_tick(l, now + 1011 * s), 4);
	ann = of_user(l, "ann", "a");
	/* An agent has more time, an address less, administrators are not limited. */
	party_charge(host, WORK_REQUEST, 4 * s - 1, now);
	party_charge(nobody, WORK_REQUEST, s, now);
	party_charge(root, WORK_REQUEST, 1000 * s, now);
	assert_int_equal(party_wait_s(host, now), 0);
	assert_true(party_wait_s(nobody, now) > 0);
	assert_int_equal(party_wait_s(root, now), 0);
	struct party *const all[] = {ann, bob, host, root, nobody};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		party_unref(all[i]);
	limits_free(l);
}

/* A user who reconnects again and again has no more time than one who stays connected. */
static void test_time_of_visits(void **state) {
	struct limits *l = limits_new();
	const uint64_t ms = NSEC_PER_MSEC, now = 5 * NSEC_PER_SEC;
	unsigned visits = 0;
	(void)state;
	for (bool more = true; more && visits < 100; visits += more) {
		struct party *ann = of_user(l, "ann", "a");
		more = party_wait_s(ann, now) == 0;
		party_charge(ann, WORK_REQUEST, more ? 100 * ms : 0, now);
		party_unref(ann);
		assert_int_equal(limits_tick(l, now), 1);
	}
	assert_int_equal(visits, 20);
	assert_int_equal(limits_tick(l, now + 10 * NSEC_PER_SEC), 0);
	limits_free(l);
}

/* A user takes over what an address was charged for him while he has time left. */
static void test_take_over(void **state) {
	struct limits *l = limits_new();
	struct party *ann = of_user(l, "ann", "a"), *address = of_address(l, "192.0.2.1");
	const uint64_t s = NSEC_PER_SEC, now = 5 * s;
	(void)state;
	party_charge(address, WORK_HANDSHAKE, s, now);
	assert_true(party_wait_s(address, now) > 0);
	assert_true(party_take_over(ann, address, s, now));
	assert_int_equal(party_wait_s(address, now) + party_wait_s(ann, now), 0);
	party_charge(address, WORK_HANDSHAKE, s, now);
	assert_true(party_take_over(ann, address, s, now));
	assert_true(party_wait_s(ann, now) > 0);
	party_charge(address, WORK_HANDSHAKE, s, now);
	assert_false(party_take_over(ann, address, s, now));
	assert_true(party_wait_s(address, now) > 0);
	party_unref(ann);
	party_unref(address);
	limits_free(l);
}

/* All time is charged to the party that the loop works for, except what is charged elsewhere. */
static void test_work(void **state) {
	struct limits *l = limits_new();
	struct party *ann = of_user(l, "ann", "a"), *bob = of_user(l, "bob", "a");
	uint64_t of_ann = 0, of_bob = 0, begin;
	(void)state;
	party_work(ann, WORK_REQUEST, &of_ann);
	begin = limits_settle(l);
	while (limits_settle(l) < begin + 20 * NSEC_PER_MSEC)
		;
	party_work(bob, WORK_WATCH, &of_bob);
	assert_true(of_ann >= 20 * NSEC_PER_MSEC);
	assert_int_equal(of_bob, 0);
	limits_except(l, 3600 * NSEC_PER_SEC);
	limits_idle(l);
	assert_int_equal(of_bob, 0);
	party_work(ann, WORK_REQUEST, NULL);
	/* The loop no longer works for a party whose last reference has gone. */
	party_unref(ann);
	limits_idle(l);
	party_unref(bob);
	limits_free(l);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_parties),       cmocka_unit_test(test_counts),
	                                   cmocka_unit_test(test_events),        cmocka_unit_test(test_time),
	                                   cmocka_unit_test(test_take_over),     cmocka_unit_test(test_work),
	                                   cmocka_unit_test(test_time_of_visits)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
