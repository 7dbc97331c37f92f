/* SPDX-License-Identifier: Apache-2.0 */

/* What the balancer's program does with packets (BPF_PROG_TEST_RUN), and its tables. Skipped without root. */

#include "service/testing.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>

#include "base/util.h"
#include "service/balancer.h"
#include "service/testpacket.h"

#define SHARED "198.51.100.3"

static struct addr own;
static struct balancer *table;
static int netns = -1;

static struct balancer_endpoint endpoint(unsigned n) {
	struct balancer_endpoint e = {.vtep = addr("fd5c:a1ab:e::1000"), .mac = {{2, 0, 0}}};
	put16(e.vtep.bytes + 14, n);
	e.vtep.bytes[12] = (uint8_t)(n >> 16);
	put16(e.mac.bytes + 2, n);
	put16(e.mac.bytes + 4, n);
	return e;
}

static struct balancer *new_table(void) {
	struct balancer *b;
	const struct balancer_config c = {.netns_fd = netns, .vtep = own, .vni = TEST_VNI};
	OK(balancer_open(&b, &c, &error));
	return b;
}

static void set(const char *s, unsigned e) {
	struct slice sl = slice(s);
	struct balancer_endpoint ep = endpoint(e);
	OK(balancer_set(table, &sl, &ep, &error));
}

static void clear(const char *s) {
	struct slice sl = slice(s);
	OK(balancer_clear(table, &sl, &error));
}

static int setup(void **state) {
	own = addr("fd5c:a1ab::7");
	netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	table = new_table();
	struct prefix p;
	OK(prefix_parse("198.51.100.0/24", &p, &error));
	OK(balancer_set_prefix(table, &p, &error));
	set(SHARED ":1024-1535", 1);
	set(SHARED ":2048-2559", 2);
	struct slice local = slice(SHARED ":4096-4607");
	struct balancer_endpoint here = {.vtep = own, .mac = {{2, 9, 9, 9, 9, 9}}};
	OK(balancer_set(table, &local, &here, &error));
	return 0;
}

static int teardown(void **state) {
	table = balancer_free(table);
	netns = safe_close(netns);
	return 0;
}

/* Runs the program on P and puts what comes out into OUT. */
static unsigned verdict(const struct balancer *b, const struct packet *p, struct packet *out) {
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p->data, .data_size_in = p->len, .data_out = out->data,
	            .data_size_out = sizeof(out->data), .repeat = 1);
	int r = bpf_prog_test_run_opts(balancer_program(b), &o);
	if (r < 0)
		fail_msg("test run of %u bytes: %s", p->len, strerror(-r));
	out->len = o.data_size_out;
	return o.retval;
}

static uint64_t counted(enum balancer_counter c) {
	struct balancer_stats s;
	OK(balancer_stats(table, &s, &error));
	return s.packets[c];
}

/* The packet is dropped and counted under this reason. */
static void dropped_(const struct packet *p, enum balancer_counter why, int line) {
	struct packet out;
	uint64_t before = counted(why);
	unsigned v = verdict(table, p, &out);
	if (v != XDP_DROP || counted(why) != before + 1)
		fail_msg("line %d: verdict %u, `%s' counted %lu times", line, v, balancer_counter_name(why),
		         counted(why) - before);
	assert_int_equal(out.len, p->len);
	assert_memory_equal(out.data, p->data, p->len);
}
#define dropped(p, why) dropped_(p, why, __LINE__)

static void passes_(const struct packet *p, int line) {
	struct packet out;
	unsigned v = verdict(table, p, &out);
	if (v != XDP_PASS || out.len != p->len || memcmp(out.data, p->data, p->len) != 0)
		fail_msg("line %d: verdict %u", line, v);
}
#define passes(p) passes_(p, __LINE__)

/* The packet goes to endpoint N, changed as it must be and in nothing else. */
static void forwarded_(const struct packet *p, unsigned n, int line) {
	struct packet out, want = *p;
	struct balancer_endpoint e = endpoint(n);
	uint64_t before = counted(BALANCER_FORWARDED);
	unsigned v = verdict(table, p, &out);
	if (v != XDP_TX)
		fail_msg("line %d: verdict %u", line, v);
	assert_int_equal(counted(BALANCER_FORWARDED), before + 1);
	memcpy(want.data + AT_OUTER_DEST, p->data + AT_OUTER_SOURCE, 6);
	memcpy(want.data + AT_OUTER_SOURCE, p->data + AT_OUTER_DEST, 6);
	memcpy(want.data + AT_IP6_SOURCE, own.bytes, 16);
	memcpy(want.data + AT_IP6_DEST, e.vtep.bytes, 16);
	memcpy(want.data + AT_INNER, e.mac.bytes, 6);
	memcpy(want.data + AT_INNER_SOURCE, p->data + AT_INNER, 6);
	want.data[AT_IP6_HOPS] = 64;
	memcpy(want.data + AT_UDP_CHECK, out.data + AT_UDP_CHECK, 2);
	assert_int_equal(out.len, want.len);
	for (uint32_t i = 0; i < want.len; i++)
		if (out.data[i] != want.data[i])
			fail_msg("line %d: byte %u is %02x, not %02x", line, i, out.data[i], want.data[i]);
	if (get16(p->data + AT_UDP_CHECK) == 0)
		assert_int_equal(get16(out.data + AT_UDP_CHECK), 0);
	else if (packet_udp_sum(&out) != packet_udp_sum(p) || get16(out.data + AT_UDP_CHECK) == 0)
		fail_msg("line %d: checksum %04x is wrong", line, get16(out.data + AT_UDP_CHECK));
}
#define forwarded(p, n) forwarded_(p, n, __LINE__)

static struct packet packet(uint8_t protocol, unsigned options, const void *payload, size_t len) {
	struct packet p;
	packet_make(&p, &own, SHARED, protocol, options, payload, len);
	return p;
}

static struct packet udp(unsigned port) {
	uint8_t d[12] = {0x12, 0x34};
	put16(d + 2, port);
	put16(d + 4, sizeof(d));
	return packet(IPPROTO_UDP, 0, d, sizeof(d));
}

static struct packet tcp(unsigned port) {
	uint8_t d[33] = {0x12, 0x34};
	put16(d + 2, port);
	return packet(IPPROTO_TCP, 0, d, sizeof(d));
}

static void test_forward(void **state) {
	struct packet p = udp(1024);
	assert_int_equal(packet_udp_sum(&p), 0xffff);
	forwarded(&p, 1);
	p = udp(1535);
	forwarded(&p, 1);
	p = tcp(2048);
	forwarded(&p, 2);
	p = udp(1023);
	dropped(&p, BALANCER_NO_OWNER);
	p = udp(1536);
	dropped(&p, BALANCER_NO_OWNER);
	p = udp(0);
	dropped(&p, BALANCER_NO_OWNER);
	p = udp(65535);
	dropped(&p, BALANCER_NO_OWNER);
	/* Options, up to the longest. */
	for (unsigned options = 4; options <= 40; options += 4) {
		uint8_t d[20] = {0x12, 0x34, 4, 0};
		p = packet(IPPROTO_TCP, options, d, sizeof(d));
		forwarded(&p, 1);
	}
	/* Padding after the inner packet, and after the outer. */
	p = udp(1100);
	p.len += 18;
	put16(p.data + AT_IP6_LENGTH, p.len - AT_UDP);
	put16(p.data + AT_UDP_LENGTH, p.len - AT_UDP);
	forwarded(&p, 1);
	p.len += 7;
	forwarded(&p, 1);
	/* In several buffers. */
	p = tcp(1100);
	p.len = 8000;
	packet_finish(&p);
	forwarded(&p, 1);
	put16(p.data + AT_IP_LENGTH, p.len - AT_IP + 1);
	dropped(&p, BALANCER_MALFORMED);
}

/* A checksum of 0 stays 0; otherwise it is right, and never 0, whatever it was. */
static void test_checksum(void **state) {
	struct packet p = udp(1024), out;
	put16(p.data + AT_UDP_CHECK, 0);
	forwarded(&p, 1);
	for (unsigned i = 0; i <= 0xffff; i++) {
		put16(p.data + AT_PAYLOAD + 8, i);
		packet_finish(&p);
		assert_int_equal(verdict(table, &p, &out), XDP_TX);
		assert_int_equal(packet_udp_sum(&out), 0xffff);
		assert_int_not_equal(get16(out.data + AT_UDP_CHECK), 0);
	}
}

static void test_local(void **state) {
	struct packet p = udp(4096), out, want = p;
	uint64_t before = counted(BALANCER_LOCAL);
	assert_int_equal(verdict(table, &p, &out), XDP_PASS);
	assert_int_equal(counted(BALANCER_LOCAL), before + 1);
	assert_int_equal(packet_udp_sum(&out), 0xffff);
	memcpy(want.data + AT_INNER, "\x02\x09\x09\x09\x09\x09", 6);
	memcpy(want.data + AT_UDP_CHECK, out.data + AT_UDP_CHECK, 2);
	assert_memory_equal(out.data, want.data, want.len);
}

static void test_passes(void **state) {
	static const struct {
		unsigned at;
		uint8_t flip;
	} changes[] = {
		{AT_OUTER_TYPE, 1},   {AT_IP6, 0x20},         {AT_IP6_NEXT, 1},         {AT_IP6_DEST, 1},
		{AT_IP6_DEST + 7, 1}, {AT_IP6_DEST + 8, 1},   {AT_IP6_DEST + 15, 0x80}, {AT_UDP_PORT, 1},
		{AT_UDP_PORT + 1, 1}, {AT_VXLAN, 8},          {AT_VXLAN, 0x80},         {AT_VXLAN + 3, 1},
		{AT_VNI, 1},          {AT_VNI + 2, 1},        {AT_VNI + 3, 1},          {AT_INNER, 4},
		{AT_INNER + 5, 1},    {AT_INNER_TYPE + 1, 6}, {AT_IP_DEST, 1},          {AT_IP_DEST + 1, 1},
		{AT_IP_DEST + 2, 1},
	};
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		struct packet p = udp(1024);
		p.data[changes[i].at] ^= changes[i].flip;
		passes(&p);
	}
	/* An address of a shared prefix that nobody has a slice of. */
	struct packet p = udp(1024);
	p.data[AT_IP_DEST + 3] ^= 1;
	dropped(&p, BALANCER_NO_OWNER);
}

static void test_protocols(void **state) {
	for (unsigned i = 0; i < 256; i++) {
		uint8_t d[20] = {4, 0, 4, 0};
		struct packet p = packet((uint8_t)i, 0, d, sizeof(d));
		if (i != IPPROTO_TCP && i != IPPROTO_UDP && i != IPPROTO_ICMP)
			dropped(&p, BALANCER_PROTOCOL);
	}
}

static void test_fragments(void **state) {
	for (unsigned bit = 0; bit < 16; bit++) {
		struct packet p = udp(1024);
		put16(p.data + AT_IP_FRAGMENT, 1U << bit);
		if (bit < 14)
			dropped(&p, BALANCER_FRAGMENT);
		else
			forwarded(&p, 1); /* "don't fragment", and the reserved bit */
	}
	struct packet p = udp(1024);
	put16(p.data + AT_IP_FRAGMENT, 100);
	p.len = AT_PAYLOAD + 3; /* the last fragment may be short */
	packet_finish(&p);
	dropped(&p, BALANCER_FRAGMENT);
}

/* An ICMP message of TYPE that quotes a packet of PROTOCOL with the source port (or identifier) PORT. */
static struct packet icmp_error(uint8_t type, uint8_t protocol, unsigned options, unsigned port) {
	uint8_t d[8 + 60 + 8] = {type, 1}, *quote = d + 8, *q = quote + 20 + options;
	quote[0] = (uint8_t)(0x45 + options / 4);
	put16(quote + 2, 1400);
	quote[9] = protocol;
	inet_pton(AF_INET, SHARED, quote + 12);
	inet_pton(AF_INET, "203.0.113.9", quote + 16);
	if (protocol == IPPROTO_ICMP) {
		q[0] = 8;
		put16(q + 4, port);
	} else {
		put16(q, port);
		put16(q + 2, 443);
	}
	return packet(IPPROTO_ICMP, 0, d, 8 + 20 + options + 8);
}

static void test_icmp(void **state) {
	for (unsigned type = 0; type < 256; type++) {
		uint8_t d[8] = {(uint8_t)type, 0, 0, 0, 8, 3}; /* identifier 2051 */
		struct packet p = packet(IPPROTO_ICMP, 0, d, sizeof(d));
		if (type == 0)
			forwarded(&p, 2);
		else if (type == 3 || type == 11 || type == 12)
			dropped(&p, BALANCER_QUOTE); /* it quotes nothing */
		else
			dropped(&p, BALANCER_ICMP_TYPE);
	}
	static const uint8_t types[] = {3, 11, 12}, protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP};
	for (size_t t = 0; t < 3; t++)
		for (size_t i = 0; i < 3; i++)
			for (unsigned options = 0; options <= 40; options += 4) {
				struct packet p = icmp_error(types[t], protocols[i], options, 1100);
				forwarded(&p, 1);
				p = icmp_error(types[t], protocols[i], options, 3000);
				dropped(&p, BALANCER_NO_OWNER);
			}
}

static void test_quotes(void **state) {
	const unsigned quote = AT_PAYLOAD + 8;
	static const struct {
		unsigned at;
		uint8_t value;
	} changes[] = {
		{0, 0x65}, /* IPv6 */
		{0, 0x44}, /* a header of 16 bytes */
		{0, 0x46}, /* longer than what is quoted */
		{0, 0x4f}, /* longer than what is quoted */
		{6, 0x1f}, /* a later fragment has no ports */
		{7, 1},    /* likewise */
		{9, 132},  /* SCTP */
		{12, 199}, /* from another address */
		{15, 4},   /* from another address */
	};
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		struct packet p = icmp_error(3, IPPROTO_UDP, 0, 1100);
		p.data[quote + changes[i].at] = changes[i].value;
		dropped(&p, BALANCER_QUOTE);
	}
	/* The first fragment has ports. */
	struct packet p = icmp_error(3, IPPROTO_UDP, 0, 1100);
	p.data[quote + 6] = 0x20;
	forwarded(&p, 1);
	/* Of ICMP only an echo request can have come from a slice and be answered with an error. */
	p = icmp_error(3, IPPROTO_ICMP, 0, 1100);
	for (unsigned type = 0; type < 256; type++) {
		p.data[quote + 20] = (uint8_t)type;
		if (type != 8)
			dropped(&p, BALANCER_QUOTE);
	}
	/* Cut, with lengths that agree. */
	p = icmp_error(11, IPPROTO_TCP, 8, 1100);
	for (p.len--; p.len >= AT_PAYLOAD + 8; p.len--) {
		packet_finish(&p);
		dropped(&p, BALANCER_QUOTE);
	}
}

static void test_truncated(void **state) {
	struct packet whole[] = {udp(1100), tcp(1100), icmp_error(3, IPPROTO_UDP, 12, 1100),
	                         icmp_error(3, IPPROTO_ICMP, 0, 1100)};
	for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
		for (uint32_t len = 14; len < whole[i].len; len++) {
			struct packet p = whole[i];
			p.len = len;
			/* The lengths in the headers are still those of the whole packet. */
			if (len < AT_PAYLOAD) {
				passes(&p);
				continue;
			}
			dropped(&p, BALANCER_MALFORMED);
			/* Those of the outer packet are right. */
			put16(p.data + AT_IP6_LENGTH, p.len - AT_UDP);
			put16(p.data + AT_UDP_LENGTH, p.len - AT_UDP);
			dropped(&p, BALANCER_MALFORMED);
		}
	}
	/* All lengths are right; the header above IPv4 isn't whole. */
	struct packet p = tcp(1100);
	for (p.len = AT_PAYLOAD; p.len < AT_PAYLOAD + 20; p.len++) {
		packet_finish(&p);
		dropped(&p, BALANCER_MALFORMED);
	}
	p = udp(1100);
	for (p.len = AT_PAYLOAD; p.len < AT_PAYLOAD + 8; p.len++) {
		packet_finish(&p);
		dropped(&p, BALANCER_MALFORMED);
	}
	/* Lengths that contradict each other. */
	static const unsigned lengths[] = {AT_IP6_LENGTH, AT_UDP_LENGTH};
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		for (int d = -1; d <= 1; d += 2) {
			p = tcp(1100);
			put16(p.data + lengths[i], get16(p.data + lengths[i]) + (unsigned)d);
			dropped(&p, BALANCER_MALFORMED);
		}
	for (unsigned i = 0; i < 16; i++) {
		p = tcp(1100);
		p.data[AT_IP] = (uint8_t)(i << 4 | 5);
		if (i != 4)
			dropped(&p, BALANCER_MALFORMED);
		p = udp(1100); /* of 32 bytes */
		p.data[AT_IP] = (uint8_t)(0x40 | i);
		if (i < 5 || i > 6)
			dropped(&p, BALANCER_MALFORMED);
	}
}

/* Random packets, and valid ones with some bytes changed: nothing but the permitted bytes ever changes. */
static void test_random(void **state) {
	struct packet seeds[] = {udp(1100), tcp(2100), icmp_error(3, IPPROTO_UDP, 12, 1100),
	                         icmp_error(11, IPPROTO_ICMP, 0, 2100), udp(4100)};
	unsigned seed = (unsigned)now_realtime_us(), verdicts[5] = {0};
	srandom(seed);
	for (unsigned i = 0; i < 100000; i++) {
		struct packet p = seeds[(unsigned)random() % ARRAY_SIZE(seeds)], out, want;
		bool wild = random() % 16 == 0;
		/* Mostly in what the program looks at, once it has seen that the packet is for it. */
		uint32_t from = wild ? 0 : random() % 4 ? AT_IP : AT_UDP;
		for (long n = wild ? 200 : random() % 4; n > 0; n--)
			p.data[from + (uint32_t)random() % (p.len - from)] = (uint8_t)random();
		if (random() % 8 == 0)
			p.len = 14 + (uint32_t)random() % (p.len - 13);
		want = p;
		unsigned v = verdict(table, &p, &out);
		assert_in_range(v, XDP_DROP, XDP_TX);
		verdicts[v]++;
		if (out.len != p.len)
			fail_msg("seed %u, packet %u: length %u became %u", seed, i, p.len, out.len);
		if (v == XDP_TX) {
			memcpy(want.data, out.data, 12);
			memcpy(want.data + AT_INNER_SOURCE, p.data + AT_INNER, 6);
			want.data[AT_IP6_HOPS] = 64;
			memcpy(want.data + AT_IP6_SOURCE, own.bytes, 16);
			memcpy(want.data + AT_IP6_DEST, endpoint(out.data[AT_IP6_DEST + 15]).vtep.bytes, 16);
		}
		if (v == XDP_TX ||
		    (v == XDP_PASS && p.len >= AT_PAYLOAD && memcmp(out.data + AT_INNER, p.data + AT_INNER, 6) != 0)) {
			memcpy(want.data + AT_INNER, out.data + AT_INNER, 6);
			memcpy(want.data + AT_UDP_CHECK, out.data + AT_UDP_CHECK, 2);
			if (get16(p.data + AT_UDP_CHECK) && packet_udp_sum(&out) != packet_udp_sum(&p))
				fail_msg("seed %u, packet %u: checksum %04x, the sum %x became %x", seed, i,
				         get16(out.data + AT_UDP_CHECK), packet_udp_sum(&p), packet_udp_sum(&out));
		}
		if (memcmp(out.data, want.data, p.len) != 0)
			fail_msg("seed %u, packet %u: other bytes changed", seed, i);
	}
	for (unsigned v = XDP_DROP; v <= XDP_TX; v++)
		assert_true(verdicts[v] > 1000);
}

/* -- tables -- */

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

static int table_setup(void **state) {
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
	const struct CMUnitTest packets[] = {
		cmocka_unit_test(test_forward), cmocka_unit_test(test_checksum),  cmocka_unit_test(test_local),
		cmocka_unit_test(test_passes),  cmocka_unit_test(test_protocols), cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_icmp),    cmocka_unit_test(test_quotes),    cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_random),
	};
	const struct CMUnitTest tables[] = {
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
	return cmocka_run_group_tests(packets, setup, teardown) + cmocka_run_group_tests(tables, table_setup, teardown);
}
