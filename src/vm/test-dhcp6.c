/* SPDX-License-Identifier: Apache-2.0 */

/* DHCPv6: which messages are answered, and with what. */

#include "base/testing.h"

#include "base/util.h"
#include "vm/dhcp6.h"

enum { SOLICIT = 1, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, RECONFIGURE, INFORM, RELAY };
enum {
	CLIENT = 1,
	SERVER,
	NA,
	TA,
	ADDRESS,
	ORO,
	PREFERENCE,
	ELAPSED,
	STATUS = 13,
	RAPID,
	DNS = 23,
	SEARCH,
	PD,
	PREFIX
};
enum { REFRESH = 32 };

/* Options as they are in messages */
#define CLIENT_ID "\0\1\0\3\0\1\2"
#define SERVER_ID "\0\2\0\x12\0\4\x0b\x5a\xc4\xa8\x4b\x0e\x8c\x35\x9c\x3d\0\0\0\0\0\1"
#define OTHER_ID  "\0\2\0\x12\0\4\x0b\x5a\xc4\xa8\x4b\x0e\x4c\x35\x9c\x3d\0\0\0\0\0\1"
#define IDS       CLIENT_ID SERVER_ID
#define NA_EMPTY     \
	"\0\3\0\x0c" \
	"id_1\0\0\0\0\0\0\0\0"
#define NA_2         \
	"\0\3\0\x0c" \
	"id_2\0\0\0\0\0\0\0\0"
#define TA_EMPTY   \
	"\0\4\0\4" \
	"id_3"
#define PD_EMPTY       \
	"\0\x19\0\x0c" \
	"id_1\0\0\0\0\0\0\0\0"
#define PD_2           \
	"\0\x19\0\x0c" \
	"id_2\0\0\0\0\0\0\0\0"
#define ASKS_DNS "\0\6\0\2\0\x17"
#define NOTHING  "\0\6\0\0"
/* The lease of 3600 s: T1, T2; preferred and valid */
#define TIMES   "\0\0\7\x08\0\0\x0b\x40"
#define LIFE    "\0\0\x0e\x10\0\0\x0e\x10"
#define GONE    "\0\0\0\0\0\0\0\0"
#define OWN     "\x20\1\x0d\xb8\0\1\0\2\0\0\0\0\0\0\0\2"
#define NEAR    "\x20\1\x0d\xb8\0\1\0\2\0\0\0\0\0\0\0\3"
#define FAR     "\x20\1\x0d\xb8\0\1\0\3\0\0\0\0\0\0\0\2"
#define OWN_NET "\x3c\x20\1\x0d\xb8\0\2\0\0\0\0\0\0\0\0\0\0"
#define FAR_NET "\x3c\x20\1\x0d\xb8\0\3\0\0\0\0\0\0\0\0\0\0"
/* IAs with one address or prefix, as a client sends them and as they are given */
#define NA_WITH(a, life) \
	"\0\3\0\x28"     \
	"id_1" GONE "\0\5\0\x18" a life
#define PD_WITH(p, life) \
	"\0\x19\0\x29"   \
	"id_1" GONE "\0\x1a\0\x19" life p
#define NA_GIVEN     \
	"\0\3\0\x28" \
	"id_1" TIMES "\0\5\0\x18" OWN LIFE
#define PD_GIVEN       \
	"\0\x19\0\x29" \
	"id_1" TIMES "\0\x1a\0\x19" LIFE OWN_NET
#define STATUS_OF(code)   "\0\x0d\0\2\0" code
#define NA_NONE(id, code) "\0\3\0\x12" id GONE STATUS_OF(code)
#define TA_NONE(code) \
	"\0\4\0\x0a"  \
	"id_3" STATUS_OF(code)
#define PD_NONE(id, code) "\0\x19\0\x12" id GONE STATUS_OF(code)
#define RAPID_COMMIT      "\0\x0e\0\0"
#define BEST              "\0\7\0\1\xff"
#define RESOLVERS         "\0\x17\0\x20\x26\x20\0\xfe\0\0\0\0\0\0\0\0\0\0\0\xfe\x26\x20\0\xfe\0\0\0\0\0\0\0\0\0\0\0\x09"
#define DOMAINS           "\0\x18\0\x16\1a\7example\0\1b\7example\0"
#define FRESH             "\0\x20\0\4\0\0\x0e\x10"

static struct error error;
static struct vm_config config;
static uint8_t msg[4096], out[DHCP6_MESSAGE_MAX];
static size_t msg_len;

static int setup(void **state) {
	(void)state;
	vm_config_init(&config);
	strcpy(config.uuid, "0b5ac4a8-4b0e-4c35-9c3d-000000000001");
	OK(prefix_parse("2001:db8:1:2::/64", &config.prefix, &error));
	OK(prefix_parse("2001:db8:2::/60", &config.delegated, &error));
	OK(addr_parse("2620:fe::fe", &config.dns[0].address, &error));
	OK(addr_parse("9.9.9.9", &config.dns[1].address, &error));
	OK(addr_parse("2620:fe::9", &config.dns[2].address, &error));
	config.n_dns = 3;
	strcpy(config.domain, "a.example");
	strcpy(config.search[0].domain, "b.example");
	config.n_search = 1;
	return 0;
}

static void begin(uint8_t type) {
	const uint8_t head[] = {type, 'x', 'i', 'd'};

	memcpy(msg, head, sizeof(head));
	msg_len = sizeof(head);
}

static void add(const void *bytes, size_t len) {
	memcpy(msg + msg_len, bytes, len);
	msg_len += len;
}

static size_t ask(void) {
	return dhcp6_answer(&config, msg, msg_len, true, out);
}

/* A message with these options, and the options of its answer; of type 0 if there is none. */
struct exchange {
	const char *what;
	uint8_t type;
	const char *asks;
	size_t asks_len;
	uint8_t answer;
	const char *says;
	size_t says_len;
};
#define S(text) text, sizeof(text) - 1

static void check(const struct exchange *v, size_t n, bool multicast) {
	for (size_t i = 0; i < n; i++) {
		begin(v[i].type);
		add(v[i].asks, v[i].asks_len);
		size_t len = dhcp6_answer(&config, msg, msg_len, multicast, out);
		if (!v[i].answer && len)
			fail_msg("%s: is answered", v[i].what);
		if (v[i].answer && (len != 4 + v[i].says_len || out[0] != v[i].answer ||
		                    memcmp(out + 1, "xid", 3) != 0 || memcmp(out + 4, v[i].says, len - 4) != 0))
			fail_msg("%s: type %d, %zu bytes instead of %zu", v[i].what, len ? out[0] : 0, len,
			         4 + v[i].says_len);
	}
}

static void addresses_and_prefixes(void **state) {
	(void)state;
	static const struct exchange v[] = {
		{"solicit", SOLICIT, S(CLIENT_ID NA_EMPTY PD_EMPTY ASKS_DNS), ADVERTISE,
	         S(IDS BEST NA_GIVEN PD_GIVEN RESOLVERS)},
		{"solicit with hints", SOLICIT, S(CLIENT_ID NA_WITH(FAR, LIFE) PD_WITH(FAR_NET, LIFE) NOTHING),
	         ADVERTISE, S(IDS BEST NA_GIVEN PD_GIVEN)},
		{"solicit with rapid commit", SOLICIT, S(CLIENT_ID RAPID_COMMIT PD_EMPTY NA_EMPTY NOTHING), REPLY,
	         S(IDS RAPID_COMMIT PD_GIVEN NA_GIVEN)},
		{"solicit of more than there is", SOLICIT, S(CLIENT_ID NA_EMPTY NA_2 TA_EMPTY PD_EMPTY PD_2 NOTHING),
	         ADVERTISE, S(IDS BEST NA_GIVEN NA_NONE("id_2", "\2") TA_NONE("\2") PD_GIVEN PD_NONE("id_2", "\6"))},
		{"solicit of nothing", SOLICIT, S(CLIENT_ID NOTHING), ADVERTISE, S(IDS BEST)},
		{"request", REQUEST, S(IDS NA_WITH(OWN, GONE) PD_WITH(OWN_NET, GONE) NOTHING), REPLY,
	         S(IDS NA_GIVEN PD_GIVEN)},
		{"request of another address of the link", REQUEST, S(IDS NA_WITH(NEAR, GONE) NOTHING), REPLY,
	         S(IDS NA_GIVEN)},
		{"request of an address elsewhere", REQUEST, S(IDS NA_WITH(FAR, GONE) NOTHING), REPLY,
	         S(IDS NA_NONE("id_1", "\4"))},
		{"request of another prefix", REQUEST, S(IDS PD_WITH(FAR_NET, GONE) NOTHING), REPLY, S(IDS PD_GIVEN)},
		{"renewal", RENEW, S(IDS NA_WITH(OWN, LIFE) PD_WITH(OWN_NET, LIFE) NOTHING), REPLY,
	         S(IDS NA_GIVEN PD_GIVEN)},
		{"renewal of nothing yet", RENEW, S(IDS NA_EMPTY NOTHING), REPLY, S(IDS NA_GIVEN)},
		{"renewal of former ones", RENEW, S(IDS NA_WITH(FAR, LIFE) PD_WITH(FAR_NET, LIFE) NOTHING), REPLY,
	         S(IDS "\0\3\0\x44"
	               "id_1" TIMES "\0\5\0\x18" OWN LIFE "\0\5\0\x18" FAR GONE "\0\x19\0\x46"
	               "id_1" TIMES "\0\x1a\0\x19" LIFE OWN_NET "\0\x1a\0\x19" GONE FAR_NET)},
		{"rebinding", REBIND, S(CLIENT_ID NA_WITH(OWN, LIFE) PD_WITH(OWN_NET, LIFE) NOTHING), REPLY,
	         S(IDS NA_GIVEN PD_GIVEN)},
		{"release", RELEASE, S(IDS NA_WITH(OWN, LIFE) PD_WITH(OWN_NET, LIFE)), REPLY, S(IDS STATUS_OF("\0"))},
		{"release of unknown ones", RELEASE, S(IDS NA_EMPTY NA_2 PD_EMPTY PD_2), REPLY,
	         S(IDS STATUS_OF("\0") NA_NONE("id_2", "\3") PD_NONE("id_2", "\3"))},
		{"decline", DECLINE, S(IDS NA_WITH(OWN, LIFE)), REPLY, S(IDS STATUS_OF("\0"))},
		{"confirmation", CONFIRM, S(CLIENT_ID NA_WITH(OWN, LIFE)), REPLY, S(IDS STATUS_OF("\0"))},
		{"confirmation elsewhere", CONFIRM, S(CLIENT_ID NA_WITH(OWN, LIFE) NA_WITH(FAR, LIFE)), REPLY,
	         S(IDS STATUS_OF("\4"))},
		{"confirmation of nothing", CONFIRM, S(CLIENT_ID NA_EMPTY PD_WITH(OWN_NET, LIFE)), 0, S("")},
	};

	check(v, ARRAY_SIZE(v), true);
}

static void nothing_to_delegate(void **state) {
	(void)state;
	static const struct exchange v[] = {
		{"solicit", SOLICIT, S(CLIENT_ID NA_EMPTY PD_EMPTY NOTHING), ADVERTISE,
	         S(IDS BEST NA_GIVEN PD_NONE("id_1", "\6"))},
		{"request", REQUEST, S(IDS PD_WITH(OWN_NET, GONE) NOTHING), REPLY, S(IDS PD_NONE("id_1", "\6"))},
		{"rebinding of what was there", REBIND, S(CLIENT_ID PD_WITH(OWN_NET, LIFE) NOTHING), REPLY,
	         S(IDS "\0\x19\0\x2f"
	               "id_1" GONE "\0\x1a\0\x19" GONE OWN_NET STATUS_OF("\6"))},
		{"release", RELEASE, S(IDS PD_EMPTY), REPLY, S(IDS STATUS_OF("\0") PD_NONE("id_1", "\3"))},
	};

	config.delegated = (struct prefix){0};
	check(v, ARRAY_SIZE(v), true);
}

static void configuration(void **state) {
	(void)state;
	static const struct exchange v[] =
		{
			{"everything", INFORM, S(CLIENT_ID "\0\6\0\6\0\x18\0\x20\0\x17"), REPLY,
	                 S(IDS RESOLVERS FRESH DOMAINS)},
			{"without a list", INFORM, S(CLIENT_ID), REPLY, S(IDS RESOLVERS FRESH DOMAINS)},
			{"without an identifier", INFORM, S(ASKS_DNS), REPLY, S(SERVER_ID RESOLVERS)},
			{"for this server", INFORM, S(SERVER_ID "\0\6\0\2\0\x18"), REPLY, S(SERVER_ID DOMAINS)},
			{"what there isn't", INFORM, S("\0\6\0\4\0\x1f\0\x53"), REPLY, S(SERVER_ID)},
			{"the refresh time is for those without a lease", SOLICIT, S(CLIENT_ID "\0\6\0\2\0\x20"),
	                 ADVERTISE, S(IDS BEST)},
		},
				     empty[] = {
					     {"not configured", INFORM, S(CLIENT_ID "\0\6\0\4\0\x18\0\x17"), REPLY,
	                                      S(IDS)},
					     {"a short lease", INFORM, S("\0\6\0\2\0\x20"), REPLY,
	                                      S(SERVER_ID "\0\x20\0\4\0\0\2\x58")},
				     };

	check(v, ARRAY_SIZE(v), true);
	config.n_dns = config.n_search = 0;
	config.domain[0] = 0;
	config.lease_s = 12;
	check(empty, ARRAY_SIZE(empty), true);
}

static void not_answered(void **state) {
	(void)state;
	static const struct exchange v[] = {
		{"type 0", 0, S(CLIENT_ID NA_EMPTY), 0, S("")},
		{"advertisement", ADVERTISE, S(IDS NA_EMPTY), 0, S("")},
		{"reply", REPLY, S(IDS NA_EMPTY), 0, S("")},
		{"reconfiguration", RECONFIGURE, S(IDS), 0, S("")},
		{"relay", RELAY, S(CLIENT_ID), 0, S("")},
		{"relayed reply", RELAY + 1, S(CLIENT_ID), 0, S("")},
		{"another type", 255, S(IDS NA_EMPTY), 0, S("")},
		{"solicit of nobody", SOLICIT, S(NA_EMPTY), 0, S("")},
		{"solicit of a server", SOLICIT, S(IDS NA_EMPTY), 0, S("")},
		{"request of nobody", REQUEST, S(SERVER_ID NA_EMPTY), 0, S("")},
		{"request of no server", REQUEST, S(CLIENT_ID NA_EMPTY), 0, S("")},
		{"request of another server", REQUEST, S(CLIENT_ID OTHER_ID NA_EMPTY), 0, S("")},
		{"renewal of another server", RENEW, S(CLIENT_ID OTHER_ID NA_EMPTY), 0, S("")},
		{"rebinding of a server", REBIND, S(IDS NA_EMPTY), 0, S("")},
		{"confirmation of a server", CONFIRM, S(IDS NA_WITH(OWN, LIFE)), 0, S("")},
		{"release of another server", RELEASE, S(CLIENT_ID OTHER_ID NA_EMPTY), 0, S("")},
		{"decline of no server", DECLINE, S(CLIENT_ID NA_EMPTY), 0, S("")},
		{"information of another server", INFORM, S(OTHER_ID), 0, S("")},
		{"information with addresses", INFORM, S(CLIENT_ID NA_EMPTY), 0, S("")},
	};

	check(v, ARRAY_SIZE(v), true);
}

static void to_the_servers_address(void **state) {
	(void)state;
	static const struct exchange v[] = {
		{"solicit", SOLICIT, S(CLIENT_ID NA_EMPTY), 0, S("")},
		{"rebinding", REBIND, S(CLIENT_ID NA_EMPTY), 0, S("")},
		{"confirmation", CONFIRM, S(CLIENT_ID NA_WITH(OWN, LIFE)), 0, S("")},
		{"information", INFORM, S(CLIENT_ID), 0, S("")},
		{"request", REQUEST, S(IDS NA_EMPTY), REPLY, S(IDS STATUS_OF("\5"))},
		{"renewal", RENEW, S(IDS NA_EMPTY), REPLY, S(IDS STATUS_OF("\5"))},
		{"release", RELEASE, S(IDS NA_EMPTY), REPLY, S(IDS STATUS_OF("\5"))},
		{"decline", DECLINE, S(IDS NA_EMPTY), REPLY, S(IDS STATUS_OF("\5"))},
	};

	check(v, ARRAY_SIZE(v), false);
}

static void malformed(void **state) {
	(void)state;
	static const struct exchange v[] = {
		{"half a head of an option", SOLICIT, S(CLIENT_ID "\0\x99\0"), 0, S("")},
		{"an option past the end", SOLICIT, S(CLIENT_ID "\0\x99\0\1"), 0, S("")},
		{"a very long option", SOLICIT, S(CLIENT_ID "\0\x99\xff\xff\1"), 0, S("")},
		{"an unknown option", SOLICIT, S(CLIENT_ID NOTHING "\0\x99\0\1x"), ADVERTISE, S(IDS BEST)},
		{"an identifier of 2 bytes", SOLICIT, S("\0\1\0\2\0\1"), 0, S("")},
		{"an identifier of none", SOLICIT, S("\0\1\0\0"), 0, S("")},
		{"two identifiers", SOLICIT, S(CLIENT_ID CLIENT_ID), 0, S("")},
		{"two servers", REQUEST, S(IDS SERVER_ID), 0, S("")},
		{"two lists", SOLICIT, S(CLIENT_ID ASKS_DNS ASKS_DNS), 0, S("")},
		{"half an entry of the list", SOLICIT, S(CLIENT_ID "\0\6\0\3\0\x17\0"), 0, S("")},
		{"an elapsed time of 1 byte", SOLICIT, S(CLIENT_ID "\0\x08\0\1\0"), 0, S("")},
		{"a rapid commit with a value", SOLICIT, S(CLIENT_ID "\0\x0e\0\1\0"), 0, S("")},
		{"an IA_NA of 11 bytes", SOLICIT,
	         S(CLIENT_ID "\0\3\0\x0b"
	                     "id_1\0\0\0\0\0\0\0"),
	         0, S("")},
		{"an IA_TA of 3 bytes", SOLICIT,
	         S(CLIENT_ID "\0\4\0\3"
	                     "id_"),
	         0, S("")},
		{"an IA_PD of 4 bytes", SOLICIT,
	         S(CLIENT_ID "\0\x19\0\4"
	                     "id_1"),
	         0, S("")},
		{"rest in an IA", SOLICIT,
	         S(CLIENT_ID "\0\3\0\x0e"
	                     "id_1" GONE "\0\5"),
	         0, S("")},
		{"an address past the end of its IA", RENEW,
	         S(IDS "\0\3\0\x10"
	               "id_1" GONE "\0\5\0\x18" OWN LIFE),
	         0, S("")},
		{"an address of 23 bytes", RENEW,
	         S(IDS "\0\3\0\x27"
	               "id_1" GONE "\0\5\0\x17" OWN "\0\0\0\0\0\0\0"),
	         0, S("")},
		{"a prefix of 24 bytes", RENEW,
	         S(IDS "\0\x19\0\x28"
	               "id_1" GONE "\0\x1a\0\x18" OWN LIFE),
	         0, S("")},
	};
	uint8_t id[131] = {0};

	check(v, ARRAY_SIZE(v), true);
	for (uint8_t len = 130; len < 132; len++) {
		const uint8_t head[] = {0, CLIENT, 0, len};
		begin(SOLICIT);
		add(head, 4);
		add(id, len);
		assert_int_equal(ask() > 0, len == 130);
	}
	begin(SOLICIT);
	add(S(CLIENT_ID NA_EMPTY));
	for (size_t n = 0; n < msg_len; n++)
		/* What is cut off after whole options is a shorter message. */
		assert_int_equal(dhcp6_answer(&config, msg, n, true, out) > 0, n == 4 + sizeof(CLIENT_ID) - 1);
	for (size_t n = 0; n <= DHCP6_IAS_MAX; n++) {
		begin(SOLICIT);
		add(S(CLIENT_ID));
		for (size_t i = 0; i <= n; i++)
			add(S(NA_2));
		assert_int_equal(ask() > 0, n < DHCP6_IAS_MAX);
	}
}

/* Checks that options fill P exactly. */
static void is_well_formed(const uint8_t *p, size_t len) {
	size_t at = 0;

	while (at + 4 <= len) {
		const size_t n = (size_t)(p[at + 2] << 8 | p[at + 3]);
		const uint8_t code = p[at + 1];
		assert_true(n <= len - at - 4);
		if (code == NA || code == PD)
			is_well_formed(p + at + 16, n - 12);
		if (code == TA)
			is_well_formed(p + at + 8, n - 4);
		at += 4 + n;
	}
	assert_int_equal(at, len);
}

/* The largest answer: former addresses and long names are left out before anything else. */
static void sizes(void **state) {
	(void)state;
	static const char former[] = "\0\3\0\xe4"
				     "id_1" GONE,
			  unasked[] = "\0\3\0\xe4"
				      "id_2" GONE;
	static const uint8_t head[] = {0, CLIENT, 0, 130}, id[130] = {0};
	static const int64_t mtus[] = {1280, 1400, 1500, 9000, 65535};

	for (config.n_search = 0; config.n_search < VM_SEARCH_MAX; config.n_search++) {
		char *name = config.search[config.n_search].domain;
		for (size_t i = 0; i < 250; i++)
			name[i] = i % 50 == 49 ? '.' : (char)('a' + config.n_search);
		strcpy(name + 250, "end");
	}
	for (config.n_dns = 0; config.n_dns < VM_DNS_MAX; config.n_dns++)
		OK(addr_parse("2620:fe::fe", &config.dns[config.n_dns].address, &error));
	for (size_t m = 0; m < ARRAY_SIZE(mtus); m++) {
		config.mtu = mtus[m];
		begin(REBIND);
		add(head, sizeof(head));
		add(id, sizeof(id));
		for (int i = 0; i < DHCP6_IAS_MAX; i++) {
			if (i < DHCP6_IAS_MAX - 1)
				add(i ? unasked : former, sizeof(former) - 1);
			else
				add(S(PD_EMPTY));
			for (int k = 0; k < 6 && i < DHCP6_IAS_MAX - 1; k++) {
				add(S("\0\5\0\x18" FAR LIFE));
				add(S("\0\x99\0\4rest"));
			}
		}
		size_t len = ask();
		assert_in_range(len + 48, 1000, MIN(mtus[m], 1500));
		is_well_formed(out + 4, len - 4);
		/* The last IA has its prefix, and the resolvers follow. */
		const uint8_t *pd = memmem(out, len, S(PD_GIVEN)), *dns = memmem(out, len, "\0\x17\0\x80", 4);
		assert_true(pd && dns && dns > pd);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(addresses_and_prefixes, setup),
		cmocka_unit_test_setup(nothing_to_delegate, setup),
		cmocka_unit_test_setup(configuration, setup),
		cmocka_unit_test_setup(not_answered, setup),
		cmocka_unit_test_setup(to_the_servers_address, setup),
		cmocka_unit_test_setup(malformed, setup),
		cmocka_unit_test_setup(sizes, setup),
	};
	return cmocka_run_group_tests_name("vm-dhcp6", tests, NULL, NULL);
}
