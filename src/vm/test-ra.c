/* SPDX-License-Identifier: Apache-2.0 */

/* Router advertisements: the message, which solicitations are answered, and how often. */

#include "base/testing.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/loop.h"
#include "base/proc.h"
#include "base/util.h"
#include "vm/qemu.h"
#include "vm/ra.h"

static struct error error;

static const struct mac router = {{0, 0, 0x5e, 0, 2, 1}};

static void configure(struct vm_config *c) {
	vm_config_init(c);
	OK(prefix_parse("2001:db8:1:2::/64", &c->prefix, &error));
}

static void advertisement(void **state) {
	(void)state;
	static const uint8_t want[RA_HEAD] = {134, 0, 0,  0,    64,   0xc0, 0x07, 0x08, 0, 0, 0,    0,
	                                      0,   0, 0,  0,                            /* M, O, lifetime 1800 */
	                                      1,   1, 0,  0,    0x5e, 0,    2,    1,    /* source link-layer address */
	                                      5,   1, 0,  0,    0,    0,    0x05, 0xdc, /* MTU 1500 */
	                                      3,   4, 64, 0x40, 0,    1,    0x51, 0x80, 0, 1, 0x51, 0x80,
	                                      0,   0, 0,  0,    0x20, 1,    0x0d, 0xb8, 0, 1, 0,    2};
	uint8_t msg[RA_MESSAGE_MAX];
	struct vm_config c;

	configure(&c);
	/* No resolver of this family, and no name */
	OK(addr_parse("9.9.9.9", &c.dns[c.n_dns++].address, &error));
	assert_int_equal(ra_build(&c, &router, msg), RA_HEAD);
	assert_memory_equal(msg, want, RA_HEAD);
}

static void resolvers_and_search_list(void **state) {
	(void)state;
	static const uint8_t want[] = {
		25,   5,    0,   0,    0,   0,   0x07, 0x08, /* RDNSS: two resolvers for 1800 s */
		0x26, 0x20, 0,   0xfe, 0,   0,   0,    0,    0,   0,   0, 0, 0,   0, 0,   0xfe, /* */
		0x26, 0x20, 0,   0xfe, 0,   0,   0,    0,    0,   0,   0, 0, 0,   0, 0,   0x09, /* */
		31,   4,    0,   0,    0,   0,   0x07, 0x08,                                    /* DNSSL, padded */
		1,    'a',  7,   'e',  'x', 'a', 'm',  'p',  'l', 'e', 0, 1, 'b', 7, 'e', 'x',
		'a',  'm',  'p', 'l',  'e', 0,   0,    0};
	uint8_t msg[RA_MESSAGE_MAX];
	struct vm_config c;

	configure(&c);
	OK(addr_parse("2620:fe::fe", &c.dns[c.n_dns++].address, &error));
	OK(addr_parse("9.9.9.9", &c.dns[c.n_dns++].address, &error));
	OK(addr_parse("2620:fe::9", &c.dns[c.n_dns++].address, &error));
	/* The domain comes first, and each name once. */
	strcpy(c.domain, "a.example");
	strcpy(c.search[c.n_search++].domain, "b.example");
	strcpy(c.search[c.n_search++].domain, "a.example");
	strcpy(c.search[c.n_search++].domain, "b.example");
	assert_int_equal(ra_build(&c, &router, msg), RA_HEAD + sizeof(want));
	assert_memory_equal(msg + RA_HEAD, want, sizeof(want));
	c.n_dns = 0;
	assert_int_equal(ra_build(&c, &router, msg), RA_HEAD + 32);
	assert_memory_equal(msg + RA_HEAD, want + 40, 32);
}

/* More than there is room for: the message still fits in a packet, and holds whole names. */
static void long_search_list(void **state) {
	(void)state;
	uint8_t msg[RA_MESSAGE_MAX];
	struct vm_config c;

	configure(&c);
	for (c.n_search = 0; c.n_search < VM_SEARCH_MAX; c.n_search++) {
		char *name = c.search[c.n_search].domain;
		for (size_t i = 0; i < 250; i++)
			name[i] = i % 50 == 49 ? '.' : (char)('a' + c.n_search);
		strcpy(name + 250, "end");
		assert_true(dnsname_valid(name));
	}
	while (c.n_dns < VM_DNS_MAX)
		OK(addr_parse("2620:fe::fe", &c.dns[c.n_dns++].address, &error));
	/* Four names of 255 bytes, and four bytes of padding */
	assert_int_equal(ra_build(&c, &router, msg), RA_MESSAGE_MAX);
	assert_memory_equal(msg + RA_MESSAGE_MAX - 4 - 5, "\3end\0\0\0\0\0", 9);
}

static void solicitations(void **state) {
	(void)state;
	const struct in6_addr from = {.s6_addr = {0xfe, 0x80, [15] = 2}}, nobody = {0};
	uint8_t rs[24] = {133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 5, 14, 1};

	assert_true(ra_solicitation_valid(rs, 8, &nobody, 255));
	assert_true(ra_solicitation_valid(rs, 16, &from, 255));
	assert_true(ra_solicitation_valid(rs, 24, &from, 255));
	assert_false(ra_solicitation_valid(rs, 16, &from, 254));
	assert_false(ra_solicitation_valid(rs, 16, &nobody, 255)); /* a source link-layer address without a source */
	assert_false(ra_solicitation_valid(rs, 7, &from, 255));
	assert_false(ra_solicitation_valid(rs, 15, &from, 255));
	assert_false(ra_solicitation_valid(rs, 9, &from, 255));
	rs[9] = 0;
	assert_false(ra_solicitation_valid(rs, 16, &from, 255)); /* an option without length */
	rs[9] = 3;
	assert_false(ra_solicitation_valid(rs, 16, &from, 255)); /* an option past the end */
	rs[9] = 1;
	rs[1] = 1;
	assert_false(ra_solicitation_valid(rs, 16, &from, 255));
	rs[1] = 0;
	rs[0] = 134;
	assert_false(ra_solicitation_valid(rs, 16, &from, 255));
}

/* Makes a frame with an ICMPv6 message from a host to all routers; SPOIL is added to the checksum. */
static size_t frame(uint8_t *out, const uint8_t *msg, size_t len, uint8_t hop_limit, uint16_t spoil) {
	static const uint8_t head[] = {0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 0, 5, 0x86, 0xdd, 0x60, 0, 0, 0};
	static const uint8_t addresses[32] = {0xfe, 0x80, [15] = 5, [16] = 0xff, 2, [31] = 2};
	uint32_t sum = 58 + (uint32_t)len;

	memcpy(out, head, sizeof(head));
	out[18] = 0;
	out[19] = (uint8_t)len;
	out[20] = 58;
	out[21] = hop_limit;
	memcpy(out + 22, addresses, 32);
	memcpy(out + 54, msg, len);
	for (size_t i = 22; i < 54 + len; i += 2)
		sum += (uint32_t)out[i] << 8 | (i + 1 < 54 + len ? out[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = (~sum & 0xffff) ^ spoil;
	out[56] = (uint8_t)(sum >> 8);
	out[57] = (uint8_t)sum;
	return 54 + len;
}

/* Waits for LEAST advertisements, and then until none has come for 100 ms. Returns how many have come. */
static int advertisements(sd_event *loop, int fd, int least) {
	uint64_t deadline = now_monotonic_ns() + 60 * NSEC_PER_SEC;
	uint8_t got[2048];
	int n = 0;
	for (int quiet = 0; quiet < 10 || (n < least && now_monotonic_ns() < deadline); quiet++) {
		sd_event_run(loop, 10000);
		for (ssize_t len; (len = recv(fd, got, sizeof(got), MSG_DONTWAIT)) > 0;)
			if (len == 54 + RA_HEAD && got[54] == 134 && got[21] == 255) {
				n++;
				quiet = 0;
			}
	}
	return n;
}

static void command(const char *const *argv) {
	OK(proc_run(&(struct proc_spec){.argv = argv}, NULL, &error));
}

/* This test comes last: it leaves the process in a network namespace of its own. */
static void solicitations_are_answered(void **state) {
	(void)state;
	static const uint8_t rs[] = {133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 5},
			     no_length[] = {133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 5},
			     cut[] = {133, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 5}, advert[16] = {134};
	const char *const make[] = {"ip", "link", "add", "tap", "type", "veth", "peer", "name", "guest", NULL},
			  *const address[] = {"ip", "addr", "add", "fe80::1/64", "dev", "tap", "nodad", NULL},
			  *const up_a[] = {"ip", "link", "set", "tap", "up", NULL}, *const up_b[] = {"ip",  "link",
	                                                                                             "set", "guest",
	                                                                                             "up",  NULL};
	struct vm_config c;
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IPV6)};
	uint8_t out[256];
	sd_event *loop;
	struct ra *ra;
	int ra_fd;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		skip();
	command(make);
	command(address);
	command(up_b);
	command(up_a);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IPV6));
	sa.sll_ifindex = (int)if_nametoindex("guest");
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	OK(sd_event_new(&loop));
	configure(&c);
	OK(ra_open("tap", &ra_fd, &error));
	OK(ra_new(&ra, loop, ra_fd, &c, &router, &error));
	assert_int_equal(advertisements(loop, fd, 1), 1); /* unasked for */
	assert_int_equal(send(fd, out, frame(out, rs, sizeof(rs), 255, 0), 0), 54 + sizeof(rs));
	assert_int_equal(advertisements(loop, fd, 1), 1);
	send(fd, out, frame(out, rs, sizeof(rs), 254, 0), 0);
	send(fd, out, frame(out, rs, sizeof(rs), 255, 1), 0);
	send(fd, out, frame(out, rs, 7, 255, 0), 0);
	send(fd, out, frame(out, no_length, sizeof(no_length), 255, 0), 0);
	send(fd, out, frame(out, cut, sizeof(cut), 255, 0), 0);
	send(fd, out, frame(out, advert, sizeof(advert), 255, 0), 0);
	assert_int_equal(advertisements(loop, fd, 0), 0);
	for (int i = 0; i < 200; i++)
		send(fd, out, frame(out, rs, sizeof(rs), 255, 0), 0);
	assert_in_range(advertisements(loop, fd, 1), 1, RA_BURST);
	ra_free(ra);
	sd_event_unref(loop);
	close(fd);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(advertisement),
		cmocka_unit_test(resolvers_and_search_list),
		cmocka_unit_test(long_search_list),
		cmocka_unit_test(solicitations),
		cmocka_unit_test(solicitations_are_answered),
	};
	return cmocka_run_group_tests_name("vm-ra", tests, NULL, NULL);
}
