/* SPDX-License-Identifier: Apache-2.0 */

/* DHCPv4: which messages are answered, with what, and where the reply goes. */

#include "base/testing.h"

#include <arpa/inet.h>

#include "base/util.h"
#include "vm/bucket.h"
#include "vm/dhcp4.h"

enum { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM };

#define FILE_AT    108
#define SNAME_AT   44
#define OPTIONS_AT 240

static struct error error;
static struct vm_config config;
static uint8_t msg[2048], out[DHCP4_MESSAGE_MAX];
static size_t msg_len, out_len;
static struct in_addr to;

static struct in_addr ip(const char *text) {
	struct addr a;

	OK(addr_parse(text, &a, &error));
	return a.v4;
}

static int setup(void **state) {
	(void)state;
	vm_config_init(&config);
	OK(mac_parse("02:4e:01:00:00:05", &config.mac, &error));
	OK(addr_parse("192.0.0.2", &config.ipv4, &error));
	OK(addr_parse("169.254.0.1", &config.ipv4_router, &error));
	OK(addr_parse("9.9.9.9", &config.dns[0].address, &error));
	OK(addr_parse("2620:fe::fe", &config.dns[1].address, &error));
	OK(addr_parse("149.112.112.112", &config.dns[2].address, &error));
	config.n_dns = 3;
	config.mtu = 1400;
	strcpy(config.hostname, "web");
	strcpy(config.domain, "a.example");
	strcpy(config.search[0].domain, "a.example");
	strcpy(config.search[1].domain, "b.example");
	config.n_search = 2;
	return 0;
}

/* Overwrites a part of the message. */
static void set(size_t at, const void *bytes, size_t len) {
	memcpy(msg + at, bytes, len);
}

static void option(uint8_t code, const void *value, size_t len) {
	msg[msg_len++] = code;
	msg[msg_len++] = (uint8_t)len;
	memcpy(msg + msg_len, value, len);
	msg_len += len;
}

static void option_ip(uint8_t code, const char *text) {
	struct in_addr a = ip(text);

	option(code, &a, 4);
}

/* Begins a message of the guest without options, or with its type. */
static void begin(uint8_t type) {
	memset(msg, 0, sizeof(msg));
	msg[0] = 1;
	msg[1] = 1;
	msg[2] = 6;
	set(4, "\x12\x34\x56\x78", 4);
	memcpy(msg + 28, &config.mac, 6);
	set(236, "\x63\x82\x53\x63", 4);
	msg_len = OPTIONS_AT;
	if (type)
		option(53, &type, 1);
}

static void from_ciaddr(const char *text) {
	struct in_addr a = ip(text);

	memcpy(msg + 12, &a, 4);
}

static bool get(uint8_t code, const uint8_t **value, uint8_t *len) {
	for (size_t at = OPTIONS_AT; out[at] != 255; at += 2U + out[at + 1]) {
		assert_true(at + 2U + out[at + 1] < out_len);
		if (out[at] == code) {
			*value = out + at + 2;
			*len = out[at + 1];
			return true;
		}
	}
	return false;
}

static bool has(uint8_t code) {
	const uint8_t *value;
	uint8_t len;

	return get(code, &value, &len);
}

static void has_value(uint8_t code, const void *want, size_t len) {
	const uint8_t *value;
	uint8_t n;

	if (!get(code, &value, &n) || n != len || memcmp(value, want, len) != 0)
		fail_msg("option %d is missing or has another value", code);
}

/* Ends the message and returns the type of the reply, 0 if there is none. */
static uint8_t ask(void) {
	msg[msg_len++] = 255;
	out_len = dhcp4_answer(&config, msg, msg_len, out, &to);
	if (!out_len)
		return 0;
	assert_in_range(out_len, 300, sizeof(out));
	assert_memory_equal(out, "\x02\x01\x06\x00\x12\x34\x56\x78", 8);
	assert_memory_equal(out + 28, &config.mac, 6);
	assert_memory_equal(out + 236, "\x63\x82\x53\x63", 4);
	/* The type comes first. */
	assert_int_equal(out[OPTIONS_AT], 53);
	return out[OPTIONS_AT + 2];
}

static void goes_to(const char *text) {
	char got[INET_ADDRSTRLEN];

	assert_string_equal(inet_ntop(AF_INET, &to, got, sizeof(got)), text);
}

static void yields(const char *ciaddr, const char *yiaddr) {
	struct in_addr c = ip(ciaddr), y = ip(yiaddr);

	assert_memory_equal(out + 12, &c, 4);
	assert_memory_equal(out + 16, &y, 4);
}

static void offer(void **state) {
	(void)state;
	static const uint8_t asked[] = {1, 121, 3, 26, 6, 12, 15, 119, 42};

	begin(DISCOVER);
	option_ip(50, "10.0.0.9"); /* a hint */
	option(61, "\xff\x01", 2);
	option(55, asked, sizeof(asked));
	assert_int_equal(ask(), OFFER);
	goes_to("192.0.0.2");
	yields("0.0.0.0", "192.0.0.2");
	has_value(1, "\xff\xff\xff\xff", 4);
	has_value(3, "\xa9\xfe\x00\x01", 4);
	has_value(54, "\xa9\xfe\x00\x01", 4);
	has_value(121, "\x20\xa9\xfe\x00\x01\0\0\0\0\0\xa9\xfe\x00\x01", 14);
	has_value(26, "\x05\x78", 2);
	has_value(6, "\x09\x09\x09\x09\x95\x70\x70\x70", 8);
	has_value(12, "web", 3);
	has_value(15, "a.example", 9);
	has_value(119, "\001a\007example\0\001b\007example", 22);
	has_value(51, "\x00\x00\x0e\x10", 4);
	has_value(58, "\x00\x00\x07\x08", 4);
	has_value(59, "\x00\x00\x0c\x4e", 4);
	has_value(61, "\xff\x01", 2);
	assert_false(has(42));
	assert_false(has(50));
}

static void only_what_is_asked_for(void **state) {
	(void)state;
	static const uint8_t dns = 6, routes = 121;

	begin(DISCOVER);
	option(55, &dns, 1);
	assert_int_equal(ask(), OFFER);
	assert_true(has(6) && has(1) && has(51));
	assert_false(has(3) || has(121) || has(26) || has(12) || has(15) || has(119) || has(61));
	/* A list in two parts, and each option once. */
	begin(DISCOVER);
	option(55, &dns, 1);
	option(55, &routes, 1);
	option(55, &routes, 1);
	assert_int_equal(ask(), OFFER);
	assert_true(has(6) && has(121));
	/* Without a list, everything. */
	begin(DISCOVER);
	assert_int_equal(ask(), OFFER);
	assert_true(has(3) && has(121) && has(26) && has(12) && has(15) && has(119) && has(6));
	/* What is not configured is left out. */
	config.n_dns = config.n_search = 0;
	config.hostname[0] = config.domain[0] = 0;
	begin(DISCOVER);
	assert_int_equal(ask(), OFFER);
	assert_true(has(3) && has(121) && has(26));
	assert_false(has(12) || has(15) || has(119) || has(6));
}

static void broadcast_flag(void **state) {
	(void)state;
	begin(DISCOVER);
	msg[10] = 0x80;
	assert_int_equal(ask(), OFFER);
	goes_to("255.255.255.255");
	assert_int_equal(out[10], 0x80);
	begin(REQUEST);
	msg[10] = 0x80;
	option_ip(50, "192.0.0.2");
	assert_int_equal(ask(), ACK);
	goes_to("255.255.255.255");
	/* A client that has its address gets the reply there. */
	begin(REQUEST);
	msg[10] = 0x80;
	from_ciaddr("192.0.0.2");
	assert_int_equal(ask(), ACK);
	goes_to("192.0.0.2");
	/* No message chooses another destination. */
	begin(DISCOVER);
	from_ciaddr("198.51.100.7");
	assert_int_equal(ask(), OFFER);
	goes_to("192.0.0.2");
}

static void requests(void **state) {
	(void)state;
	/* selecting */
	begin(REQUEST);
	option_ip(54, "169.254.0.1");
	option_ip(50, "192.0.0.2");
	assert_int_equal(ask(), ACK);
	yields("0.0.0.0", "192.0.0.2");
	assert_true(has(51));
	/* selecting another server's offer */
	begin(REQUEST);
	option_ip(54, "169.254.0.9");
	option_ip(50, "192.0.0.2");
	assert_int_equal(ask(), 0);
	/* init-reboot */
	begin(REQUEST);
	option_ip(50, "192.0.0.2");
	assert_int_equal(ask(), ACK);
	yields("0.0.0.0", "192.0.0.2");
	/* renewing and rebinding */
	begin(REQUEST);
	from_ciaddr("192.0.0.2");
	assert_int_equal(ask(), ACK);
	yields("192.0.0.2", "192.0.0.2");
	/* nothing requested */
	begin(REQUEST);
	assert_int_equal(ask(), 0);
}

static void refusals(void **state) {
	(void)state;
	for (int i = 0; i < 4; i++) {
		begin(REQUEST);
		if (i == 0)
			option_ip(54, "169.254.0.1");
		if (i < 2)
			option_ip(50, "10.0.0.9");
		if (i >= 2)
			from_ciaddr("10.0.0.9");
		if (i == 3)
			option_ip(50, "192.0.0.2");
		option(61, "id", 2);
		assert_int_equal(ask(), NAK);
		goes_to("255.255.255.255");
		yields("0.0.0.0", "0.0.0.0");
		has_value(54, "\xa9\xfe\x00\x01", 4);
		has_value(61, "id", 2);
		assert_true(has(56));
		assert_false(has(51) || has(1) || has(3) || has(121) || has(6) || has(58));
	}
}

static void inform(void **state) {
	(void)state;
	begin(INFORM);
	from_ciaddr("192.0.0.2");
	assert_int_equal(ask(), ACK);
	goes_to("192.0.0.2");
	yields("192.0.0.2", "0.0.0.0");
	assert_true(has(6) && has(121));
	assert_false(has(51) || has(58) || has(59));
	begin(INFORM);
	from_ciaddr("198.51.100.7");
	assert_int_equal(ask(), 0);
}

static void others_are_not_answered(void **state) {
	(void)state;
	static const uint8_t types[] = {0, OFFER, DECLINE, ACK, NAK, RELEASE, 9, 13, 255};
	/* Where a byte of the header differs from that of a message that is answered. */
	static const struct {
		size_t at;
		uint8_t value;
	} heads[] = {{0, 2}, {1, 6}, {2, 0}, {2, 16}, {24, 10}, {27, 1}, {28, 4}, {33, 6}, {236, 0}, {239, 0}};

	for (size_t i = 0; i < sizeof(types); i++) {
		begin(types[i]);
		assert_int_equal(ask(), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		begin(DISCOVER);
		msg[heads[i].at] = heads[i].value;
		assert_int_equal(ask(), 0);
	}
	begin(DISCOVER);
	for (size_t n = 0; n < OPTIONS_AT + 3; n++)
		assert_int_equal(dhcp4_answer(&config, msg, n, out, &to), 0);
	assert_int_equal(ask(), OFFER);
}

static void malformed_options(void **state) {
	(void)state;
	static const struct {
		const char *bytes;
		size_t len;
		bool answered;
	} cases[] = {
		{"\x00\x00\x00", 3, true},                                       /* padding */
		{"\xe0\x00", 2, true},                                           /* an unknown option without a value */
		{"\xe0", 1, false},                                              /* no length */
		{"\xe0\x01", 2, false},                                          /* no value */
		{"\xe0\xff\x01", 3, false},                                      /* past the end */
		{"\x35\x01\x01", 3, false},                                      /* a second type */
		{"\x32\x03\x0a\x00\x00", 5, false},                              /* an address of 3 bytes */
		{"\x32\x00", 2, false},                                          /* an address of none */
		{"\x36\x05\xa9\xfe\x00\x01\x00", 7, false},                      /* an address of 5 bytes */
		{"\x36\x04\xa9\xfe\x00\x01\x36\x04\xa9\xfe\x00\x01", 12, false}, /* an address given twice */
		{"\x39\x01\x05", 3, false},                                      /* a size of one byte */
		{"\x3d\x00", 2, false},                                          /* an empty client identifier */
		{"\x3d\x01\x01\x3d\x01\x01", 6, false},                          /* two client identifiers */
		{"\x37\x00", 2, true},                                           /* an empty list */
		{"\x34\x02\x01\x01", 4, false},                                  /* overload */
		{"\x34\x00", 2, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		begin(DISCOVER);
		memcpy(msg + msg_len, cases[i].bytes, cases[i].len);
		msg_len += cases[i].len;
		if ((dhcp4_answer(&config, msg, msg_len, out, &to) != 0) != cases[i].answered)
			fail_msg("case %zu", i);
	}
	/* What follows the end is not read. */
	begin(DISCOVER);
	set(msg_len, "\xff\x32\x04\x0a", 4);
	assert_true(dhcp4_answer(&config, msg, msg_len + 4, out, &to));
}

static void overload(void **state) {
	(void)state;
	static const uint8_t both = 3, file = 1, sname = 2, none = 0;

	/* The type is in `file`, and the address in `sname`. */
	begin(0);
	option(52, &both, 1);
	set(FILE_AT, "\x35\x01\x03\xff", 4);
	set(SNAME_AT, "\x32\x04\xc0\x00\x00\x02\xff", 7);
	assert_int_equal(ask(), ACK);
	msg[SNAME_AT + 5] = 9;
	out_len = dhcp4_answer(&config, msg, msg_len, out, &to);
	assert_int_equal(out[OPTIONS_AT + 2], NAK);
	/* Each area is read only if the option says so. */
	for (int i = 0; i < 3; i++) {
		begin(DISCOVER);
		option(52, i == 0 ? &file : i == 1 ? &sname : &none, 1);
		memset(msg + (i == 0 ? SNAME_AT : FILE_AT), 0x32, 64);
		if (i == 2)
			memset(msg + SNAME_AT, 0x32, 64);
		assert_int_equal(ask(), OFFER);
	}
	/* No area reaches into the next one. */
	begin(DISCOVER);
	option(52, &sname, 1);
	msg[FILE_AT - 2] = 0xe0;
	msg[FILE_AT - 1] = 1;
	assert_int_equal(ask(), 0);
	/* An overload option in an overloaded area */
	begin(DISCOVER);
	option(52, &file, 1);
	set(FILE_AT, "\x34\x01\x03\xff", 4);
	assert_int_equal(ask(), 0);
}

static void sizes(void **state) {
	(void)state;
	static const struct {
		uint16_t takes; /* 0: not given */
		int64_t mtu;
		size_t most;
	} cases[] = {{0, 1400, 576},     {100, 1400, 576},    {600, 1400, 600},    {65535, 1400, 1400},
	             {1400, 1280, 1280}, {65535, 9000, 1500}, {65535, 65535, 1500}};
	uint8_t id[255];
	char label[64];

	/* More than fits even in the largest message */
	memset(id, 7, sizeof(id));
	memset(label, 'x', 63);
	label[63] = 0;
	snprintf(config.domain, sizeof(config.domain), "%s.%s.%s.%.61s", label, label, label, label);
	snprintf(config.hostname, sizeof(config.hostname), "%s", label);
	assert_true(dnsname_valid(config.domain));
	for (config.n_search = 0; config.n_search < VM_SEARCH_MAX; config.n_search++)
		strcpy(config.search[config.n_search].domain, config.domain);
	for (config.n_dns = 0; config.n_dns < VM_DNS_MAX; config.n_dns++)
		config.dns[config.n_dns] = config.dns[0];
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const uint16_t takes = htons(cases[i].takes);
		config.mtu = cases[i].mtu;
		begin(DISCOVER);
		option(61, id, sizeof(id));
		if (takes)
			option(57, &takes, 2);
		assert_int_equal(ask(), OFFER);
		assert_in_range(out_len + 28, 300, cases[i].most);
		/* What the address can't do without is there at any size. */
		has_value(61, id, sizeof(id));
		assert_true(has(54) && has(51) && has(1) && has(3) && has(121));
		assert_int_equal(has(15), cases[i].most >= 1280);
	}
	assert_true(has(119) && has(6) && has(12) && has(26));
}

static void names(void **state) {
	(void)state;
	static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "a b", "a/b", "\xc3\xa4"};
	char label[65];
	uint8_t wire[16];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(dnsname_valid(bad[i]));
	memset(label, 'x', 64);
	label[64] = 0;
	assert_false(dnsname_valid(label));
	label[63] = 0;
	assert_true(dnsname_valid(label));
	assert_true(dnsname_valid("a-1.Example_2"));
	assert_int_equal(dnsname_put("ab.c", wire, sizeof(wire)), 6);
	assert_memory_equal(wire, "\002ab\001c", 6);
	assert_int_equal(dnsname_put("ab.c", wire, 6), 6);
	assert_int_equal(dnsname_put("ab.c", wire, 5), 0);
}

static void answers_are_bounded(void **state) {
	(void)state;
	struct bucket b = bucket_new(3, 100, 1000);

	for (int i = 0; i < 3; i++)
		assert_true(bucket_take(&b, 1000));
	assert_false(bucket_take(&b, 1099));
	assert_true(bucket_take(&b, 1100));
	assert_false(bucket_take(&b, 1199));
	for (int i = 0; i < 3; i++)
		assert_true(bucket_take(&b, 1000000000));
	assert_false(bucket_take(&b, 1000000000));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(offer, setup),
		cmocka_unit_test_setup(only_what_is_asked_for, setup),
		cmocka_unit_test_setup(broadcast_flag, setup),
		cmocka_unit_test_setup(requests, setup),
		cmocka_unit_test_setup(refusals, setup),
		cmocka_unit_test_setup(inform, setup),
		cmocka_unit_test_setup(others_are_not_answered, setup),
		cmocka_unit_test_setup(malformed_options, setup),
		cmocka_unit_test_setup(overload, setup),
		cmocka_unit_test_setup(sizes, setup),
		cmocka_unit_test(names),
		cmocka_unit_test(answers_are_bounded),
	};
	return cmocka_run_group_tests_name("vm-dhcp4", tests, NULL, NULL);
}
