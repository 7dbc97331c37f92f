/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A hostile guest: random and malformed packets out of its port, and what is seen of them elsewhere. Each of three
 * guests of a host is the sender in its test. Among the packets are some that are permitted; each of these has to
 * arrive.
 *
 * NACRE_TEST_ALL=1: a million packets in all, instead of 20,000. The seed is printed; NACRE_SPOOF_SEED=N repeats a run,
 * and NACRE_SPOOF_BATCH=1 looks after each packet, so that the one that was sent last is the one that is to blame.
 */

#include "base/testing.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "node/test-spoof-watch.h"

#define CHAPTER    20000 /* packets, after which what they left is looked at */
#define BATCH_MAX  64
#define PATIENCE_S 120
/* So many packets leave room for fragments: the kernel holds 4 MiB of packets whose fragments are not complete, for a
 * minute (docs/instances.md, "Fragments"). */
#define WHOLE_FRAGMENTS 5000

static struct world world;
static struct error error;
static uint64_t seed;
static size_t packets = 20000, batch_size = BATCH_MAX;

struct expected {
	uint32_t tag;
	enum arrival where;
	bool arrived;
};

struct run {
	struct watch watch;
	struct maker maker;
	uint32_t tags; /* used so far */
	size_t sent, permitted;
	struct expected expected[BATCH_MAX + 1];
	size_t n_expected, failed_cases;
	struct burst burst;
};

static void run_arrived(void *userdata, enum arrival where, uint32_t tag) {
	struct run *r = userdata;

	for (size_t i = 0; i < r->n_expected; i++)
		r->expected[i].arrived |= r->expected[i].tag == tag && r->expected[i].where == where;
}

/* The tap refuses headers of virtio-net that make no sense, and frames that are too short. */
static void send_burst(struct run *r) {
	for (size_t i = 0; i < r->burst.n; i++)
		if (write(r->maker.from->tap, r->burst.frames[i].data, r->burst.frames[i].len) < 0)
			assert_true(errno == EINVAL || errno == EMSGSIZE || errno == ENOBUFS);
	r->sent += r->burst.n;
	if (r->burst.arrival != NOWHERE)
		r->expected[r->n_expected++] = (struct expected){r->tags, r->burst.arrival, false};
}

static void blame(const struct run *r) {
	fprintf(stderr, "the last packet sent was:\n");
	for (size_t k = 0; k < r->burst.n; k++) {
		for (size_t i = 0; i < r->burst.frames[k].len; i++)
			fprintf(stderr, "%02x%s", r->burst.frames[k].data[i], i == VNET_LEN - 1 ? " " : "");
		fprintf(stderr, "\n");
	}
	fail_msg("after packet %zu of the run with NACRE_SPOOF_SEED=%llu", r->sent, (unsigned long long)seed);
}

/* All frames pass through the same queues, so when a marker has arrived, nothing that was sent before is on its way. */
static void await_marker(struct run *r) {
	const struct expected *marker = &r->expected[r->n_expected];
	uint64_t end = now_monotonic_ns() + PATIENCE_S * NSEC_PER_SEC;

	make_marker(&r->maker, ++r->tags, &r->burst);
	send_burst(r);
	do
		watch_look(&r->watch);
	while (!marker->arrived && now_monotonic_ns() < end);
}

static void await_arrivals(struct run *r) {
	const struct burst last = r->burst;

	await_marker(r);
	r->burst = last;
	for (size_t i = 0; i < r->n_expected; i++)
		if (!r->expected[i].arrived) {
			fprintf(stderr, "the permitted packet %u has not arrived %s\n", r->expected[i].tag,
			        r->expected[i].where == AT_EDGE ? "at the edge" : "at the other guest");
			r->watch.wrong = true;
		}
	r->permitted += r->n_expected;
	r->n_expected = 0;
	if (r->watch.wrong)
		blame(r);
}

static void send_batch(struct run *r) {
	for (size_t i = 0; i < batch_size; i++) {
		unsigned kind = (unsigned)(r->maker.random % 100);
		if (kind >= 22)
			make_any(&r->maker, &r->burst);
		else if (kind >= 15)
			make_question(&r->maker, &r->burst);
		else
			make_permitted(&r->maker, ++r->tags, r->sent < WHOLE_FRAGMENTS, &r->burst);
		send_burst(r);
	}
	await_arrivals(r);
}

/* Nothing but the stated rates. */
static void check_rates(const struct watch *w, double seconds) {
	static const struct {
		const char *what;
		double rate, burst;
	} limits[N_LIMITED] = {[ARP_REPLIES] = {"answers by ARP", 20, 5},
	                       [ECHO_REQUESTS] = {"echo requests", 200, 10}, /* of both families */
	                       [DHCP4_REQUESTS] = {"requests of DHCPv4", 50, 5},
	                       [DHCP6_REQUESTS] = {"requests of DHCPv6", 50, 5},
	                       [DISCOVERY] = {"messages of neighbour discovery", 100, 50}};

	for (size_t i = 0; i < N_LIMITED; i++)
		if (w->counts[i] > limits[i].rate * seconds + limits[i].burst)
			fail_msg("%u %s in %.2f s; NACRE_SPOOF_SEED=%llu", w->counts[i], limits[i].what, seconds,
			         (unsigned long long)seed);
}

static void run_guest(size_t number) {
	struct run *r = calloc(1, sizeof(*r));
	const struct guest *from = &world.guests[number];

	assert_non_null(r);
	r->watch = (struct watch){.world = &world, .from = from, .arrived = run_arrived, .userdata = r};
	r->maker = (struct maker){.world = &world, .from = from, .random = seed + number};
	OK(forget_connections(&world, &error));
	OK(watch_start(&r->watch, &error));
	uint64_t start = now_monotonic_ns();
	for (size_t chapter = CHAPTER; r->sent < packets / GUESTS;) {
		send_batch(r);
		if (r->sent < chapter && r->sent < packets / GUESTS)
			continue;
		chapter += CHAPTER;
		bool good = watch_neighbours(&r->watch);
		good &= watch_connections(&r->watch);
		if (!good)
			blame(r);
		OK(forget_connections(&world, &error));
	}
	double seconds = (double)(now_monotonic_ns() - start) / NSEC_PER_SEC;
	assert_int_equal(watch_lost(&r->watch), 0);
	check_rates(&r->watch, seconds);
	print_message("%zu packets in %.1f s, %zu of them permitted; seen at the places:", r->sent, seconds,
	              r->permitted);
	for (size_t i = 0; i < N_PLACES; i++)
		print_message(" %llu", (unsigned long long)r->watch.seen[i]);
	print_message("; ARP, echo, DHCPv4, DHCPv6, discovery: %u %u %u %u %u\n", r->watch.counts[ARP_REPLIES],
	              r->watch.counts[ECHO_REQUESTS], r->watch.counts[DHCP4_REQUESTS], r->watch.counts[DHCP6_REQUESTS],
	              r->watch.counts[DISCOVERY]);
	watch_end(&r->watch);
	free(r);
}

/* One after the other, so that a failure has a name. */
static void run_cases(size_t number) {
	struct run *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->watch =
		(struct watch){.world = &world, .from = &world.guests[number], .arrived = run_arrived, .userdata = r};
	r->maker = (struct maker){.world = &world, .from = r->watch.from, .random = seed};
	OK(watch_start(&r->watch, &error));
	for (size_t i = 0; i < n_cases(); i++) {
		if (!make_case(&r->maker, i, ++r->tags, &r->burst))
			continue;
		const uint64_t before = r->watch.seen[UPLINK];
		r->watch.wrong = false;
		send_burst(r);
		await_marker(r);
		r->n_expected = 0;
		if (r->watch.wrong || r->watch.seen[UPLINK] != before + 1) {
			r->failed_cases++;
			fprintf(stderr, "it has left the container: %s\n", case_name(i));
		}
	}
	for (size_t i = 0; i < 100; i++) {
		make_complaint(&r->maker, true, &r->burst);
		send_burst(r);
	}
	for (size_t i = 0; i < 10; i++) {
		make_complaint(&r->maker, false, &r->burst);
		send_burst(r);
	}
	await_marker(r);
	r->failed_cases += !watch_neighbours(&r->watch) + r->watch.wrong;
	watch_end(&r->watch);
	size_t failed = r->failed_cases;
	free(r);
	assert_int_equal(failed, 0);
}

static void cases_that_may_not_leave(void **state) {
	(void)state;
	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < GUESTS; i++)
		run_cases(i);
}

static void guest_that_shares_an_address(void **state) {
	(void)state;
	if (geteuid() != 0)
		skip();
	run_guest(0);
}

static void guest_with_its_own_address(void **state) {
	(void)state;
	if (geteuid() != 0)
		skip();
	run_guest(1);
}

static void guest_without_ipv4(void **state) {
	(void)state;
	if (geteuid() != 0)
		skip();
	run_guest(2);
}

static int spoof_teardown(void **state) {
	(void)state;
	if (geteuid() == 0)
		world_remove(&world);
	return 0;
}

/* On one processor, whose queues keep the order of frames. */
static int stay_on_one_processor(void) {
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	return sched_setaffinity(0, sizeof(one), &one);
}

static int spoof_setup(void **state) {
	(void)state;
	const char *text = getenv("NACRE_SPOOF_SEED"), *batch = getenv("NACRE_SPOOF_BATCH");

	if (geteuid() != 0)
		return 0;
	random_bytes(&seed, sizeof(seed));
	seed = text ? strtoull(text, NULL, 10) : seed >> 1;
	if (batch && strtoul(batch, NULL, 10) == 1)
		batch_size = 1;
	if (getenv("NACRE_TEST_ALL"))
		packets = 1000000;
	print_message("NACRE_SPOOF_SEED=%llu\n", (unsigned long long)seed);
	if (stay_on_one_processor() == 0 && world_make(&world, &error) >= 0)
		return 0;
	print_error("%s\n", error.msg);
	world_remove(&world);
	return -1;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cases_that_may_not_leave),
		cmocka_unit_test(guest_that_shares_an_address),
		cmocka_unit_test(guest_with_its_own_address),
		cmocka_unit_test(guest_without_ipv4),
	};
	return cmocka_run_group_tests_name("spoof", tests, spoof_setup, spoof_teardown);
}
