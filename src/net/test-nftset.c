/* SPDX-License-Identifier: Apache-2.0 */

/* Elements of nftables sets by netlink, in a namespace of this run. Skipped without root. */

#include "base/testing.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include "base/util.h"
#include "net/netns.h"
#include "net/nft.h"
#include "net/nftset.h"

static struct error error;
static char name[64];
static int fd = -1;
static struct nl *nl;

#define TABLE                                                                                                       \
	"table inet t {\n"                                                                                          \
	"set addresses { type ipv6_addr\n elements = { 2001:db8::1 } }\n"                                           \
	"set flows { type ipv4_addr . inet_service\n }\n"                                                           \
	"map marks { type nf_proto : mark\n }\n"                                                                    \
	"map rules { type ipv6_addr . inet_proto . inet_service : verdict\n flags interval\n counter\n elements = " \
	"{ ::/0 . 6 . 80 comment \"2.17\" : accept, 2001:db8::/32 . 17 . 53-54 : accept } }\n"                      \
	"counter dropped { packets 7 bytes 400\n }\n"                                                               \
	"}\n"

static int setup(void **state) {
	(void)state;
	if (geteuid() != 0)
		return 0;
	snprintf(name, sizeof(name), "ts%d-a", getpid());
	test_claim("netns", name);
	OK(netns_ensure(name, NULL, &error));
	OK(netns_open(name, &fd, &error));
	OK(nl_open_netfilter(&nl, fd, &error));
	OK(nft_apply(fd, TABLE, &error));
	return 0;
}

static int teardown(void **state) {
	(void)state;
	nl = nl_free(nl);
	fd = safe_close(fd);
	return geteuid() == 0 ? netns_delete(name, &error) : 0;
}

struct found {
	size_t n;
	uint8_t key[64];
	size_t key_len;
	char comment[32];
};

static void find(const struct nftset_element *e, void *userdata) {
	struct found *f = userdata;

	f->n++;
	f->key_len = MIN(e->key_len, sizeof(f->key));
	memcpy(f->key, e->key, f->key_len);
	if (e->comment)
		snprintf(f->comment, sizeof(f->comment), "%s", e->comment);
}

static size_t count(const char *set) {
	struct found f = {0};

	OK(nftset_each(nl, "t", set, find, &f, &error));
	return f.n;
}

static void elements_come_and_go(void **state) {
	(void)state;
	const uint8_t flow[8] = {198, 51, 100, 3, 4, 0}, two[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 2};
	struct nftset_batch b = {.table = "t"};
	struct found f = {0};
	uint32_t before, after;

	if (geteuid() != 0)
		skip();
	OK(nftset_genid(nl, &before, &error));
	nftset_change(&b, "flows", true, flow, sizeof(flow), NULL, 0);
	nftset_change(&b, "addresses", true, two, sizeof(two), NULL, 0);
	OK(nftset_commit(nl, &b, &error));
	OK(nftset_genid(nl, &after, &error));
	assert_int_equal(after, before + 1);
	OK(nftset_each(nl, "t", "flows", find, &f, &error));
	assert_int_equal(f.n, 1);
	assert_int_equal(f.key_len, sizeof(flow));
	assert_memory_equal(f.key, flow, sizeof(flow));
	assert_int_equal(count("addresses"), 2);
	/* An element that is there may be added again. */
	nftset_change(&b, "addresses", true, two, sizeof(two), NULL, 0);
	nftset_change(&b, "flows", false, flow, sizeof(flow), NULL, 0);
	OK(nftset_commit(nl, &b, &error));
	assert_int_equal(count("flows"), 0);
	/* Nothing to do is no transaction. */
	OK(nftset_genid(nl, &before, &error));
	OK(nftset_commit(nl, &b, &error));
	OK(nftset_genid(nl, &after, &error));
	assert_int_equal(after, before);
	nftset_batch_done(&b);
}

static void a_batch_is_all_or_nothing(void **state) {
	(void)state;
	const uint8_t three[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 3}, absent[16] = {0x20};
	struct nftset_batch b = {.table = "t"};

	if (geteuid() != 0)
		skip();
	size_t n = count("addresses");
	nftset_change(&b, "addresses", true, three, sizeof(three), NULL, 0);
	nftset_change(&b, "addresses", false, absent, sizeof(absent), NULL, 0);
	nftset_change(&b, "addresses", true, absent, sizeof(absent), NULL, 0);
	assert_int_equal(nftset_commit(nl, &b, &error), -ENOENT);
	assert_int_equal(count("addresses"), n);
	nftset_change(&b, "nosuch", true, three, sizeof(three), NULL, 0);
	assert_int_equal(nftset_commit(nl, &b, &error), -ENOENT);
	/* The socket is in order. */
	nftset_change(&b, "addresses", true, three, sizeof(three), NULL, 0);
	OK(nftset_commit(nl, &b, &error));
	assert_int_equal(count("addresses"), n + 1);
	nftset_batch_done(&b);
}

static void only_after_a_certain_transaction(void **state) {
	(void)state;
	const uint8_t four[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 4};
	struct nftset_batch b = {.table = "t"};

	if (geteuid() != 0)
		skip();
	size_t n = count("addresses");
	OK(nftset_genid(nl, &b.genid, &error));
	nftset_change(&b, "addresses", true, four, sizeof(four), NULL, 0);
	OK(nftset_commit(nl, &b, &error));
	assert_int_equal(count("addresses"), n + 1);
	/* That was another transaction. */
	nftset_change(&b, "addresses", false, four, sizeof(four), NULL, 0);
	assert_int_equal(nftset_commit(nl, &b, &error), -ESTALE);
	assert_int_equal(count("addresses"), n + 1);
	b.genid = nftset_genid_after(b.genid);
	nftset_change(&b, "addresses", false, four, sizeof(four), NULL, 0);
	OK(nftset_commit(nl, &b, &error));
	assert_int_equal(count("addresses"), n);
	assert_int_equal(nftset_genid_after(UINT32_MAX), 1);
	nftset_batch_done(&b);
}

static void a_batch_of_thousands(void **state) {
	(void)state;
	struct nftset_batch b = {.table = "t"};
	uint8_t key[16] = {0xfd};

	if (geteuid() != 0)
		skip();
	size_t n = count("addresses");
	for (unsigned i = 0; i < 8192; i++) {
		memcpy(&key[8], &i, sizeof(i));
		nftset_change(&b, "addresses", true, key, sizeof(key), NULL, 0);
	}
	OK(nftset_commit(nl, &b, &error));
	assert_int_equal(count("addresses"), n + 8192);
	for (unsigned i = 0; i < 65536; i++)
		nftset_change(&b, "addresses", false, key, sizeof(key), NULL, 0);
	assert_int_equal(nftset_commit(nl, &b, &error), -EMSGSIZE);
	assert_int_equal(count("addresses"), n + 8192);
	nftset_batch_done(&b);
}

static void maps_have_values(void **state) {
	(void)state;
	const uint8_t ipv6 = 10;
	const uint32_t mark = 77;
	struct nftset_batch b = {.table = "t"};
	_buf_free_ struct buf text = {0};

	if (geteuid() != 0)
		skip();
	nftset_change(&b, "marks", true, &ipv6, sizeof(ipv6), &mark, sizeof(mark));
	OK(nftset_commit(nl, &b, &error));
	nftset_batch_done(&b);
	OK(nft_list(fd, "inet", "t", &text, &error));
	assert_non_null(strstr(text.data, "ipv6 : 0x0000004d"));
}

static void see_name(const char *set, void *userdata) {
	*(size_t *)userdata += strcmp(set, "rules") == 0 || strcmp(set, "flows") == 0;
}

static void counters_and_comments(void **state) {
	(void)state;
	struct found f = {0};
	uint64_t packets = 0;
	size_t seen = 0;

	if (geteuid() != 0)
		skip();
	OK(nftset_counter(nl, "t", "dropped", &packets, &error));
	assert_int_equal(packets, 7);
	assert_int_equal(nftset_counter(nl, "t", "nosuch", &packets, &error), -ENOENT);
	OK(nftset_each(nl, "t", "rules", find, &f, &error));
	assert_int_equal(f.n, 2);
	assert_string_equal(f.comment, "2.17");
	assert_int_equal(nftset_each(nl, "t", "nosuch", find, &f, &error), -ENOENT);
	OK(nftset_names(nl, "t", see_name, &seen, &error));
	assert_int_equal(seen, 2);
	assert_int_equal(nftset_names(nl, "nosuch", see_name, &seen, &error), -ENOENT);
}

static void a_socket_is_inherited(void **state) {
	(void)state;
	const struct {
		uint8_t family, version;
		uint16_t resource;
	} header = {0};
	_close_ int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	uint32_t genid;
	char byte;

	if (geteuid() != 0)
		skip();
	/* Somebody has asked and ended before the answer was read. */
	const struct nlmsghdr *h =
		nl_request(nl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, NLM_F_ACK, &header, sizeof(header));
	assert_int_equal(send(nl_fd(nl), h, h->nlmsg_len, 0), h->nlmsg_len);
	assert_true(recv(nl_fd(nl), &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0);
	assert_true(nl_inherit(nl, fd));
	assert_true(recv(nl_fd(nl), &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0);
	OK(nftset_genid(nl, &genid, &error));
	/* A name may lead to another namespace by now. */
	assert_false(nl_inherit(nl, here));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elements_come_and_go),
		cmocka_unit_test(a_batch_is_all_or_nothing),
		cmocka_unit_test(only_after_a_certain_transaction),
		cmocka_unit_test(a_batch_of_thousands),
		cmocka_unit_test(maps_have_values),
		cmocka_unit_test(counters_and_comments),
		cmocka_unit_test(a_socket_is_inherited),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
