/* SPDX-License-Identifier: Apache-2.0 */

/* The balancer's tables: who has a port, what is refused, and what happens when they are full. Skipped without root. */

#include "service/testtable.h"

#include <pthread.h>

static void clear(const char *s) {
	struct slice sl = slice(s);
	OK(balancer_clear(table, &sl, &error));
}

/* The number of the endpoint that a packet to this port of an address goes to; 0: it is dropped; -1: it passes. */
static int owner(const char *address, unsigned port) {
	struct packet p = udp(port), out;
	inet_pton(AF_INET, address, p.data + AT_IP_DEST);
	unsigned v = verdict(table, &p, &out);
	return v == XDP_TX     ? (int)(get16(out.data + AT_IP6_DEST + 14) | (unsigned)out.data[AT_IP6_DEST + 12] << 16)
	       : v == XDP_DROP ? 0
	                       : -1;
}

static struct balancer_stats stats(void) {
	struct balancer_stats s;
	OK(balancer_stats(table, &s, &error));
	return s;
}

static int setup(void **state) {
	own = addr("fd5c:a1ab::7");
	netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	table = new_table();
	return 0;
}

static void test_set(void **state) {
	assert_int_equal(owner("198.51.100.1", 1024), -1);
	set("198.51.100.1:1024-1535", 1);
	set("198.51.100.1:1536-2047", 2);
	set("198.51.100.2:1024-1535", 2);
	assert_int_equal(owner("198.51.100.1", 1023), 0);
	assert_int_equal(owner("198.51.100.1", 1024), 1);
	assert_int_equal(owner("198.51.100.1", 1535), 1);
	assert_int_equal(owner("198.51.100.1", 1536), 2);
	assert_int_equal(owner("198.51.100.2", 1100), 2);
	assert_int_equal(stats().hosts, 2);
	assert_int_equal(stats().groups, 3);
	/* Another owner; the endpoint that has nothing left goes. */
	set("198.51.100.1:1024-1535", 3);
	assert_int_equal(owner("198.51.100.1", 1024), 3);
	assert_int_equal(stats().hosts, 2);
	/* Large slices have several groups, a whole address too. */
	set("198.51.100.3:0-65535", 4);
	assert_int_equal(owner("198.51.100.3", 0), 4);
	assert_int_equal(owner("198.51.100.3", 65535), 4);
	set("198.51.100.3:32768-65535", 5);
	assert_int_equal(owner("198.51.100.3", 32767), 4);
	assert_int_equal(owner("198.51.100.3", 32768), 5);
	/* Not in a shared prefix: once nobody has a slice, the address isn't shared. */
	clear("198.51.100.3:0-65535");
	assert_int_equal(owner("198.51.100.3", 0), -1);
	clear("198.51.100.1:1024-1535");
	clear("198.51.100.1:1024-1535");
	assert_int_equal(owner("198.51.100.1", 1024), 0);
	assert_int_equal(owner("198.51.100.1", 1536), 2);
	clear("198.51.100.1:1536-2047");
	clear("198.51.100.2:1024-1535");
	clear("192.0.2.1:0-0");
	assert_int_equal(stats().addresses, 0);
	assert_int_equal(stats().hosts, 0);
	assert_int_equal(stats().groups, 0);
	assert_int_equal(stats().group_room, 0);
}

static void test_sizes(void **state) {
	/* Slices of all sizes beside each other on one address. */
	set("198.51.100.1:32768-65535", 1);
	for (unsigned k = 15; k-- > 0;) {
		struct addr a = addr("198.51.100.1");
		struct slice s = slice_of(&a, (uint16_t)(1U << k), 1U << k);
		struct balancer_endpoint e = endpoint(2 + k);
		OK(balancer_set(table, &s, &e, &error));
		for (unsigned i = k; i < 16; i++) {
			unsigned want = i == 15 ? 1 : 2 + i;
			assert_int_equal(owner("198.51.100.1", 1U << i), want);
			assert_int_equal(owner("198.51.100.1", (2U << i) - 1), want);
		}
		assert_int_equal(owner("198.51.100.1", (1U << k) - 1), 0);
	}
	/* A part of a slice can be taken out, or given to another. */
	set("198.51.100.2:1024-2047", 3);
	clear("198.51.100.2:1024-1087");
	set("198.51.100.2:1088-1088", 4);
	assert_int_equal(owner("198.51.100.2", 1087), 0);
	assert_int_equal(owner("198.51.100.2", 1088), 4);
	assert_int_equal(owner("198.51.100.2", 1089), 3);
	assert_int_equal(owner("198.51.100.2", 2047), 3);
	clear("198.51.100.2:0-65535");
	clear("198.51.100.1:0-65535");
	assert_int_equal(stats().hosts, 0);
	assert_int_equal(stats().groups, 0);
}

static void test_sweep(void **state) {
	struct prefix p, q;
	OK(prefix_parse("198.51.100.0/24", &p, &error));
	OK(prefix_parse("192.0.2.0/28", &q, &error));
	OK(balancer_set_prefix(table, &p, &error));
	OK(balancer_set_prefix(table, &q, &error));
	set("198.51.100.1:1024-1535", 1);
	set("198.51.100.1:1536-2047", 2);
	set("192.0.2.1:1024-1535", 3);
	balancer_begin(table);
	OK(balancer_set_prefix(table, &p, &error));
	set("198.51.100.1:1024-1535", 1);
	set("198.51.100.1:2048-2559", 4);
	set("198.51.100.1:2560-2591", 5); /* divides the address */
	assert_int_equal(owner("198.51.100.1", 1536), 2);
	assert_int_equal(owner("192.0.2.1", 1024), 3);
	OK(balancer_end(table, &error));
	assert_int_equal(owner("198.51.100.1", 1024), 1);
	assert_int_equal(owner("198.51.100.1", 1535), 1);
	assert_int_equal(owner("198.51.100.1", 1536), 0);
	assert_int_equal(owner("198.51.100.1", 2100), 4);
	assert_int_equal(owner("198.51.100.1", 2591), 5);
	assert_int_equal(owner("192.0.2.1", 1024), -1);
	assert_int_equal(owner("192.0.2.2", 1024), -1);
	assert_int_equal(owner("198.51.100.9", 1024), 0);
	assert_int_equal(stats().prefixes, 1);
	balancer_begin(table);
	OK(balancer_end(table, &error));
	assert_int_equal(owner("198.51.100.1", 1024), -1);
	assert_int_equal(stats().prefixes + stats().addresses + stats().groups + stats().hosts, 0);
}

#define REFUSED(code, call)                                                               \
	do {                                                                              \
		struct balancer_stats s_ = stats();                                       \
		assert_int_equal(call, -(code));                                          \
		struct balancer_stats t_ = stats();                                       \
		assert_memory_equal(&s_.prefixes, &t_.prefixes, 5 * sizeof(s_.prefixes)); \
	} while (0)

static void test_refused(void **state) {
	struct slice s = slice("198.51.100.1:1024-1535");
	struct balancer_endpoint e = endpoint(1);
	struct prefix p;
	set("198.51.100.1:1024-1535", 1);
	s.last--;
	REFUSED(EINVAL, balancer_set(table, &s, &e, &error));
	assert_non_null(strstr(error.msg, "198.51.100.1:1024-1534"));
	REFUSED(EINVAL, balancer_clear(table, &s, &error));
	s = slice("198.51.100.1:1280-1791");
	REFUSED(EINVAL, balancer_set(table, &s, &e, &error));
	s.first = 2000;
	REFUSED(EINVAL, balancer_set(table, &s, &e, &error));
	s.first = 1792;
	REFUSED(EINVAL, balancer_set(table, &s, &e, &error));
	s = slice("198.51.100.1:1024-1535");
	s.addr = addr("2001:db8::1");
	REFUSED(EINVAL, balancer_set(table, &s, &e, &error));
	s.addr = addr("198.51.100.1");
	e.mac = vtep_router_mac(&e.vtep);
	REFUSED(EINVAL, balancer_set(table, &s, &e, &error));
	e.vtep = addr("192.0.2.1");
	REFUSED(EINVAL, balancer_set(table, &s, &e, &error));
	OK(prefix_parse("2001:db8::/32", &p, &error));
	REFUSED(EINVAL, balancer_set_prefix(table, &p, &error));
	clear("198.51.100.1:1024-1535");
}

static struct slice nth_slice(uint32_t address, uint32_t port, uint32_t size) {
	struct addr a = {.family = AF_INET};
	a.v4.s_addr = htonl(0x0a000000 + address);
	return slice_of(&a, (uint16_t)port, size);
}

static void test_full_prefixes(void **state) {
	struct prefix p = {.addr.family = AF_INET, .len = 32};
	for (unsigned i = 0; i <= BALANCER_PREFIXES; i++) {
		p.addr.v4.s_addr = htonl(0x0a000000 + i);
		if (i < BALANCER_PREFIXES)
			OK(balancer_set_prefix(table, &p, &error));
	}
	REFUSED(ENOSPC, balancer_set_prefix(table, &p, &error));
	assert_non_null(strstr(error.msg, "256"));
	p.addr.v4.s_addr = htonl(0x0a000000);
	OK(balancer_set_prefix(table, &p, &error));
	balancer_begin(table);
	OK(balancer_end(table, &error));
	assert_int_equal(stats().prefixes, 0);
}

static void test_full_addresses(void **state) {
	struct balancer_endpoint e = endpoint(1);
	struct prefix p;
	OK(prefix_parse("10.0.0.0/8", &p, &error));
	OK(balancer_set_prefix(table, &p, &error));
	for (uint32_t i = 0; i < BALANCER_ADDRESSES; i++) {
		struct slice s = nth_slice(i, 1024, 512);
		OK(balancer_set(table, &s, &e, &error));
	}
	struct slice more = nth_slice(BALANCER_ADDRESSES, 1024, 512),
		     last = nth_slice(BALANCER_ADDRESSES - 1, 1024, 512);
	REFUSED(ENOSPC, balancer_set(table, &more, &e, &error));
	assert_non_null(strstr(error.msg, "16384"));
	/* There is no room to divide an address either. */
	struct slice small = nth_slice(0, 1024, 256);
	struct balancer_endpoint other = endpoint(2);
	REFUSED(ENOSPC, balancer_set(table, &small, &other, &error));
	assert_non_null(strstr(error.msg, "2097152"));
	REFUSED(ENOSPC, balancer_clear(table, &small, &error));
	assert_int_equal(owner("10.0.0.0", 1024), 1);
	/* What becomes free can be used. */
	OK(balancer_clear(table, &last, &error));
	OK(balancer_set(table, &more, &e, &error));
	assert_int_equal(owner("10.0.64.0", 1024), 1);
	assert_int_equal(owner("10.0.63.255", 1024), 0);
	balancer_begin(table);
	OK(balancer_end(table, &error));
	assert_int_equal(stats().addresses, 0);
	assert_int_equal(stats().group_room, 0);
}

static void test_full_hosts(void **state) {
	struct slice s;
	struct balancer_endpoint e;
	for (uint32_t i = 1; i <= BALANCER_HOSTS; i++) {
		s = nth_slice(i / 128, i % 128 * 512, 512);
		e = endpoint(i);
		if (i < BALANCER_HOSTS)
			OK(balancer_set(table, &s, &e, &error));
	}
	REFUSED(ENOSPC, balancer_set(table, &s, &e, &error));
	assert_non_null(strstr(error.msg, "65535"));
	s = nth_slice(3, 1024, 512);
	REFUSED(ENOSPC, balancer_set(table, &s, &e, &error));
	assert_int_equal(owner("10.0.0.3", 1024), 3 * 128 + 2);
	/* A host without slices makes room. */
	OK(balancer_clear(table, &s, &error));
	OK(balancer_set(table, &s, &e, &error));
	assert_int_equal(owner("10.0.0.3", 1024), BALANCER_HOSTS);
	assert_int_equal(stats().hosts, BALANCER_HOSTS - 1);
	balancer_begin(table);
	OK(balancer_end(table, &error));
	assert_int_equal(stats().hosts + stats().groups, 0);
}

/* Gives N addresses of 10.0.0.0/8 one slice of 64 ports each. */
static void fill_addresses(uint32_t n, const struct balancer_endpoint *e) {
	struct prefix p;
	OK(prefix_parse("10.0.0.0/8", &p, &error));
	OK(balancer_set_prefix(table, &p, &error));
	for (uint32_t i = 0; i < n; i++) {
		struct slice s = nth_slice(i, 1024, 64);
		OK(balancer_set(table, &s, e, &error));
	}
}

/* A full table refuses thousands of slices in no time, and finds what becomes free. */
static void test_full_again(void **state) {
	enum { ADDRESSES = BALANCER_OWNERS / 1024, MORE = 4096 };
	struct balancer_endpoint e = endpoint(1);
	fill_addresses(ADDRESSES, &e);
	for (uint32_t round = 0; round < 3; round++) {
		const uint64_t begin = now_monotonic_ns();
		for (uint32_t i = 0; i < MORE; i++) {
			struct slice s = nth_slice(ADDRESSES + i, 1024, 64);
			e = endpoint(100 + i);
			assert_int_equal(balancer_set(table, &s, &e, &error), -ENOSPC);
		}
		const uint64_t took = now_monotonic_ns() - begin;
		if (took > 5 * NSEC_PER_SEC)
			fail_msg("%u slices are refused in %llu ms", MORE, (unsigned long long)(took / NSEC_PER_MSEC));
		assert_int_equal(stats().addresses, ADDRESSES);
		/* An address becomes free, and is taken for another one. */
		struct slice gone = nth_slice(round, 1024, 64), other_slice = nth_slice(ADDRESSES, 1024, 64);
		OK(balancer_clear(table, &gone, &error));
		other_slice.addr.v4.s_addr = htonl(0x0a800000 + round);
		e = endpoint(1);
		OK(balancer_set(table, &other_slice, &e, &error));
	}
	balancer_begin(table);
	OK(balancer_end(table, &error));
	assert_int_equal(stats().hosts + stats().groups + stats().addresses + stats().group_room, 0);
}

/* The first address from FROM on whose search begins where that of ADDRESS does. */
static uint32_t rival_of(uint32_t address, uint32_t from) {
	const uint32_t base = 0x0a000000;
	while (balancer_bucket_of(base + from) != balancer_bucket_of(base + address) ||
	       balancer_way_of(base + from) != balancer_way_of(base + address))
		from++;
	return from;
}

/* An address is found although the one behind which it has its place makes room for it in a full table. */
static void test_full_place(void **state) {
	enum { ADDRESSES = BALANCER_OWNERS / 1024 };
	struct balancer_endpoint e = endpoint(1);
	fill_addresses(ADDRESSES, &e);
	for (uint32_t i = 0; i < 16; i++) {
		char text[ADDR_STR_MAX];
		struct slice gone = nth_slice(i, 1024, 64), rival = nth_slice(rival_of(i, ADDRESSES), 1024, 64);
		OK(balancer_clear(table, &gone, &error));
		OK(balancer_set(table, &rival, &e, &error));
		assert_int_equal(owner(addr_str(&rival.addr, text), 1024), 1);
	}
	balancer_begin(table);
	OK(balancer_end(table, &error));
	assert_int_equal(stats().addresses, 0);
}

/* As many addresses as there may be are found, however they are chosen. */
static void test_addresses(void **state) {
	static const uint32_t strides[] = {1, 8, 256, 65536, 0x9e3779b1};
	for (size_t k = 0; k < ARRAY_SIZE(strides); k++) {
		char text[ADDR_STR_MAX];
		struct balancer_endpoint e = endpoint(1);
		balancer_begin(table);
		OK(balancer_end(table, &error));
		for (uint32_t i = 0; i < BALANCER_ADDRESSES; i++) {
			struct slice s = nth_slice(i * strides[k], 1024, 512);
			OK(balancer_set(table, &s, &e, &error));
		}
		assert_int_equal(stats().addresses, BALANCER_ADDRESSES);
		for (uint32_t i = 0; i < BALANCER_ADDRESSES; i += 3) {
			struct slice s = nth_slice(i * strides[k], 1024, 512);
			OK(balancer_clear(table, &s, &error));
		}
		for (uint32_t i = 0; i < BALANCER_ADDRESSES; i++) {
			struct slice s = nth_slice(i * strides[k], 1024, 512);
			assert_int_equal(owner(addr_str(&s.addr, text), 1024), i % 3 ? 1 : -1);
		}
	}
	balancer_begin(table);
	OK(balancer_end(table, &error));
	assert_int_equal(stats().addresses, 0);
}

/* Random slices of all sizes, compared with an array of ports. */
static void test_model(void **state) {
	enum { ADDRESSES = 6, ROUNDS = 2000 };
	static uint16_t model[ADDRESSES][65536];
	static bool marked[ADDRESSES][65536];
	bool sweeping = false;
	unsigned seed = (unsigned)now_realtime_us();
	srandom(seed);
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint32_t a = (uint32_t)random() % ADDRESSES, size = 1U << random() % 17;
		struct slice s = nth_slice(a, (uint32_t)random() & 0xffff, size);
		unsigned n = random() % 3 ? 1 + (unsigned)random() % 5 : 0;
		if (random() % 50 == 0) {
			if (sweeping)
				OK(balancer_end(table, &error));
			for (uint32_t i = 0; sweeping && i < ADDRESSES * 65536; i++)
				if (!marked[i >> 16][i & 0xffff])
					model[i >> 16][i & 0xffff] = 0;
			sweeping = !sweeping;
			if (sweeping)
				balancer_begin(table);
			memset(marked, 0, sizeof(marked));
		}
		struct balancer_endpoint e = endpoint(n);
		OK(n ? balancer_set(table, &s, &e, &error) : balancer_clear(table, &s, &error));
		for (uint32_t port = s.first; port <= s.last; port++) {
			model[a][port] = (uint16_t)n;
			marked[a][port] = true;
		}
		for (int i = 0; i < 20; i++) {
			/* The ends of the slice and their neighbours, and others. */
			const uint16_t ports[] = {s.first, s.last, (uint16_t)(s.first - 1), (uint16_t)(s.last + 1)};
			uint32_t b = i < 4 ? a : (uint32_t)random() % ADDRESSES;
			unsigned port = i < 4 ? ports[i] : (unsigned)random() & 0xffff;
			char text[ADDR_STR_MAX];
			struct slice one = nth_slice(b, port, 1);
			int got = owner(addr_str(&one.addr, text), port);
			if (MAX(got, 0) != model[b][port])
				fail_msg("seed %u, round %u: %s:%u has %d, not %u", seed, round, text, port, got,
				         model[b][port]);
		}
	}
	balancer_begin(table);
	OK(balancer_end(table, &error));
	assert_int_equal(stats().hosts + stats().groups + stats().addresses + stats().group_room, 0);
}

static void *look(void *stop) {
	static struct packet p, out;
	uint64_t packets = 0;
	p = udp(1024);
	while (!*(volatile bool *)stop) {
		struct balancer_endpoint e;
		if (verdict(table, &p, &out) != XDP_TX)
			return NULL;
		e = endpoint(get16(out.data + AT_IP6_DEST + 14));
		if (memcmp(out.data + AT_IP6_DEST, e.vtep.bytes, 16) != 0 ||
		    memcmp(out.data + AT_INNER, e.mac.bytes, 6) != 0 || packet_udp_sum(&out) != 0xffff)
			return NULL;
		packets++;
	}
	return packets > 100 ? stop : NULL;
}

/* While its owner changes, and its host, and the size of its group, a packet goes to one or the other, and never to a
 * mixture of both. */
static void test_concurrent(void **state) {
	bool stop = false;
	pthread_t thread;
	set(SHARED ":1024-1535", 1);
	assert_int_equal(pthread_create(&thread, NULL, look, &stop), 0);
	for (unsigned i = 0; i < 30000; i++) {
		set(SHARED ":1024-1535", 1 + i % 60000);
		if (i % 1000 == 0) {
			set(SHARED ":2048-2048", 1);
			clear(SHARED ":2048-2048");
		}
	}
	stop = true;
	void *well;
	assert_int_equal(pthread_join(thread, &well), 0);
	assert_non_null(well);
	clear(SHARED ":1024-1535");
}

static void test_names(void **state) {
	for (unsigned i = 0; i < BALANCER_COUNTERS; i++)
		assert_non_null(balancer_counter_name(i));
}
int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),           cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_sweep),         cmocka_unit_test(test_refused),
		cmocka_unit_test(test_full_prefixes), cmocka_unit_test(test_full_addresses),
		cmocka_unit_test(test_full_hosts),    cmocka_unit_test(test_full_again),
		cmocka_unit_test(test_full_place),    cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_model),         cmocka_unit_test(test_concurrent),
		cmocka_unit_test(test_names),
	};
	if (geteuid() != 0)
		return 77; /* meson: skipped */
	return cmocka_run_group_tests(tests, setup, teardown);
}
