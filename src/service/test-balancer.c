/* SPDX-License-Identifier: Apache-2.0 */

/* What the balancer's program does with packets. Skipped without root. */

#include "service/testtable.h"

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
int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward), cmocka_unit_test(test_checksum),  cmocka_unit_test(test_local),
		cmocka_unit_test(test_passes),  cmocka_unit_test(test_protocols), cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_icmp),    cmocka_unit_test(test_quotes),    cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_random),
	};
	if (geteuid() != 0)
		return 77; /* meson: skipped */
	return cmocka_run_group_tests(tests, setup, teardown);
}
