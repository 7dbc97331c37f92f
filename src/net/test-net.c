/* SPDX-License-Identifier: Apache-2.0 */

/* The kernel parts, in namespaces of this test run. Skipped without root. */

#include "base/testing.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "base/util.h"
#include "net/conntrack.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/nft.h"
#include "net/route.h"
#include "net/underlay.h"

static char prefix[32];
static char name_a[64], name_b[64];
static int fd_a = -1, fd_b = -1;
static struct nl *nl_a, *nl_b;

#define FAILS(want, call)                                                               \
	do {                                                                            \
		int res = (call);                                                       \
		if (res != -(want))                                                     \
			fail_msg("%s: %d, not -" #want " (%s)", #call, res, error.msg); \
		assert_int_equal(error.code, (want));                                   \
	} while (0)

static struct error error;

static struct addr addr(const char *s) {
	struct addr a;
	OK(addr_parse(s, &a, &error));
	return a;
}

static struct prefix pfx(const char *s) {
	struct prefix p;
	OK(prefix_parse(s, &p, &error));
	return p;
}

static struct mac mac(const char *s) {
	struct mac m;
	OK(mac_parse(s, &m, &error));
	return m;
}

static int teardown(void **state) {
	char **names;
	size_t n;
	nl_a = nl_free(nl_a);
	nl_b = nl_free(nl_b);
	fd_a = safe_close(fd_a);
	fd_b = safe_close(fd_b);
	OK(netns_list(prefix, &names, &n, &error));
	for (size_t i = 0; i < n; i++)
		OK(netns_delete(names[i], &error));
	netns_list_free(names, n);
	return 0;
}

static int setup(void **state) {
	snprintf(prefix, sizeof(prefix), "tn%d-", getpid());
	test_claim("netns", prefix);
	snprintf(name_a, sizeof(name_a), "%sa", prefix);
	snprintf(name_b, sizeof(name_b), "%sb", prefix);
	OK(netns_ensure(name_a, NULL, &error));
	OK(netns_ensure(name_b, NULL, &error));
	OK(netns_open(name_a, &fd_a, &error));
	OK(netns_open(name_b, &fd_b, &error));
	OK(nl_open(&nl_a, fd_a, &error));
	OK(nl_open(&nl_b, fd_b, &error));
	return 0;
}

static void test_netns(void **state) {
	char **names;
	size_t n;
	bool created = true;
	int fd;
	OK(netns_ensure(name_a, &created, &error));
	assert_false(created);
	OK(netns_list(prefix, &names, &n, &error));
	assert_int_equal(n, 2);
	assert_string_equal(names[0], name_a);
	netns_list_free(names, n);
	FAILS(ENOENT, netns_open("no-such-namespace", &fd, &error));
	FAILS(EINVAL, netns_open("a/b", &fd, &error));
	FAILS(EINVAL, netns_ensure("..", NULL, &error));
	OK(netns_delete("no-such-namespace", &error));
}

/* Every user can lock the directory of the names, as iproute2 does. */
static void test_netns_locked(void **state) {
	char name[64];
	int lock, status;
	snprintf(name, sizeof(name), "%sc", prefix);
	OK(lock_path("/run/netns", O_RDONLY | O_DIRECTORY, true, &lock, &error));
	fflush(NULL);
	pid_t maker = fork();
	if (maker == 0) {
		alarm(20);
		_exit(netns_ensure(name, NULL, &error) < 0);
	}
	assert_int_equal(waitpid(maker, &status, 0), maker);
	close(lock);
	OK(netns_delete(name, &error));
	assert_int_equal(status, 0);
}

static void test_sysctl(void **state) {
	const struct netns_sysctl list[] = {{"ipv6/conf/all/forwarding", "1"}, {"ipv4/ip_forward", "1"}};
	const struct netns_sysctl bad[] = {{"ipv6/no/such", "1"}};
	OK(netns_sysctl(fd_a, list, ARRAY_SIZE(list), &error));
	OK(netns_sysctl(fd_a, list, ARRAY_SIZE(list), &error));
	FAILS(ENOENT, netns_sysctl(fd_a, bad, 1, &error));
}

static void test_veth(void **state) {
	struct mac ma = mac("02:00:00:00:00:0a"), mb = mac("02:00:00:00:00:0b");
	struct link_end a = {nl_a, fd_a, "v0", &ma}, b = {nl_b, fd_b, "v1", &mb};
	struct link l, again;
	int index;
	FAILS(ENODEV, link_get(nl_a, "v0", &l, &error));
	OK(link_ensure_veth(&a, &b, 1500, &index, &error));
	OK(link_get(nl_a, "v0", &l, &error));
	assert_int_equal(l.index, index);
	assert_int_equal(l.mtu, 1500);
	assert_true(l.flags & IFF_UP);
	assert_memory_equal(&l.mac, &ma, 6);
	/* The device is repaired, not created again. */
	OK(link_set(nl_a, index, &(struct link_change){.down = true, .mtu = 1400}, &error));
	OK(link_ensure_veth(&a, &b, 1500, NULL, &error));
	OK(link_get(nl_a, "v0", &again, &error));
	assert_int_equal(again.index, index);
	assert_int_equal(again.mtu, 1500);
	assert_true(again.flags & IFF_UP);
	/* A half of another pair with that name is replaced. */
	b.name = "v2";
	OK(link_ensure_veth(&a, &b, 1500, &index, &error));
	FAILS(ENODEV, link_get(nl_b, "v1", &l, &error));
	OK(link_get(nl_b, "v2", &l, &error));
	OK(link_delete(nl_a, "v0", &error));
	OK(link_delete(nl_a, "v0", &error));
	FAILS(EINVAL, link_get(nl_a, "a-name-that-is-too-long", &l, &error));
}

static int count_addr(const struct link *l, void *userdata) {
	++*(int *)userdata;
	return 0;
}

static void test_vxlan_and_addr(void **state) {
	struct link_vxlan spec = {.name = "pub",
	                          .vni = 5,
	                          .port = 4789,
	                          .local = addr("fd00::1"),
	                          .mac = mac("02:00:00:00:00:01"),
	                          .mtu = 1500};
	struct addr keep[] = {addr("2001:db8::1")};
	struct link l;
	int index, again, n = 0;
	OK(link_ensure_vxlan(nl_a, nl_b, fd_b, &spec, &index, &error));
	OK(link_get(nl_b, "pub", &l, &error));
	assert_string_equal(l.kind, "vxlan");
	assert_int_equal(l.vxlan.vni, 5);
	assert_int_equal(l.vxlan.port, 4789);
	assert_false(l.vxlan.learning);
	assert_int_equal(l.mtu, 1500);
	OK(link_ensure_vxlan(nl_a, nl_b, fd_b, &spec, &again, &error));
	assert_int_equal(index, again);
	spec.vni = 6;
	OK(link_ensure_vxlan(nl_a, nl_b, fd_b, &spec, &again, &error));
	OK(link_get(nl_b, "pub", &l, &error));
	assert_int_equal(l.vxlan.vni, 6);
	OK(link_ensure_addr(nl_b, l.index, &keep[0], 128, &error));
	OK(link_ensure_addr(nl_b, l.index, &keep[0], 128, &error));
	struct addr other = addr("2001:db8::2");
	OK(link_ensure_addr(nl_b, l.index, &other, 128, &error));
	OK(link_sweep_addrs(nl_b, l.index, keep, 1, &error));
	OK(link_dump(nl_b, count_addr, &n, &error));
	assert_true(n >= 2);
}

static void test_tap(void **state) {
	struct link l;
	int fd, second;
	OK(link_open_tap(fd_a, "tap0", 12345, 1500, &fd, &error));
	OK(link_get(nl_a, "tap0", &l, &error));
	assert_true(l.flags & IFF_UP);
	FAILS(EBUSY, link_open_tap(fd_a, "tap0", 12345, 1500, &second, &error));
	close(fd);
	OK(link_open_tap(fd_a, "tap0", 12345, 1500, &fd, &error));
	close(fd);
	OK(link_delete(nl_a, "tap0", &error));
}

struct found {
	unsigned routes, nexthops, neighs;
	struct route route;
	struct nexthop group;
	struct neigh neigh;
};

static int found_route(const struct route *r, void *userdata) {
	struct found *f = userdata;
	f->routes++;
	f->route = *r;
	return 0;
}

static int found_nexthop(const struct nexthop *nh, void *userdata) {
	struct found *f = userdata;
	f->nexthops++;
	if (nh->n_members)
		f->group = *nh;
	return 0;
}

static int found_neigh(const struct neigh *ne, void *userdata) {
	struct found *f = userdata;
	f->neighs++;
	f->neigh = *ne;
	return 0;
}

static void test_routes(void **state) {
	struct link_end a = {nl_a, fd_a, "r0", NULL}, b = {nl_b, fd_b, "r1", NULL};
	struct found f = {0};
	int index;
	OK(link_ensure_veth(&a, &b, 1500, &index, &error));
	struct nexthop n1 = {.id = 10, .oif = index, .via = addr("fe80::1")};
	struct nexthop n2 = {.id = 11, .oif = index, .via = addr("fe80::2")};
	struct nexthop group = {.id = 12, .n_members = 2, .members = {10, 11}};
	OK(nexthop_put(nl_a, &n1, &error));
	OK(nexthop_put(nl_a, &n2, &error));
	OK(nexthop_put(nl_a, &group, &error));
	struct route r6 = {.dst = pfx("2001:db8:1::/64"), .nexthop = 12};
	struct route r4 = {.dst = pfx("198.51.100.3/32"), .nexthop = 10};
	struct route plain = {.dst = pfx("198.51.100.4/32"), .via = addr("fe80::9"), .oif = index};
	struct route none = {.dst = pfx("::/0"), .type = RTN_UNREACHABLE, .metric = 9999};
	OK(route_put(nl_a, &r6, &error));
	OK(route_put(nl_a, &r4, &error));
	OK(route_put(nl_a, &plain, &error));
	OK(route_put(nl_a, &none, &error));
	OK(route_put(nl_a, &none, &error));
	OK(route_dump(nl_a, AF_INET, found_route, &f, &error));
	assert_int_equal(f.routes, 2);
	assert_int_equal(f.route.via.family, AF_INET6);
	OK(route_dump(nl_a, AF_INET6, found_route, &f, &error));
	assert_int_equal(f.routes, 4);
	OK(nexthop_dump(nl_a, found_nexthop, &f, &error));
	assert_int_equal(f.nexthops, 3);
	assert_int_equal(f.group.n_members, 2);
	assert_int_equal(f.group.protocol, NET_PROTOCOL);
	struct addr in = addr("2001:db8:1::5"), out = addr("2001:db8:2::5");
	assert_int_equal(route_lookup(nl_a, &in, &error), 1);
	assert_int_equal(route_lookup(nl_a, &out, &error), 0);
	/* The error has the kernel's own explanation. */
	struct route bad = {.dst = pfx("2001:db8:3::/64"), .nexthop = 99};
	FAILS(EINVAL, route_put(nl_a, &bad, &error));
	assert_non_null(strstr(error.msg, "2001:db8:3::/64"));
	assert_non_null(strstr(error.msg, "exthop"));
	OK(route_delete(nl_a, &r6, &error));
	OK(route_delete(nl_a, &r6, &error));
	struct neigh ne = {.oif = index, .addr = addr("fe80::1"), .mac = mac("02:00:00:00:00:01")};
	OK(neigh_put(nl_a, &ne, &error));
	OK(neigh_put(nl_a, &ne, &error));
	OK(neigh_dump(nl_a, found_neigh, &f, &error));
	assert_int_equal(f.neighs, 1);
	assert_memory_equal(&f.neigh.mac, &ne.mac, 6);
	OK(neigh_delete(nl_a, &ne, &error));
	OK(neigh_delete(nl_a, &ne, &error));
	OK(nexthop_delete(nl_a, 12, &error));
	OK(nexthop_delete(nl_a, 12, &error));
	OK(link_delete(nl_a, "r0", &error));
}

struct failures {
	unsigned n;
	void *cookie;
	char text[128];
};

static void failed(void *cookie, int code, const char *text, void *userdata) {
	struct failures *f = userdata;
	f->n++;
	f->cookie = cookie;
	snprintf(f->text, sizeof(f->text), "%s", text);
}

static void test_batch(void **state) {
	struct failures fl = {0};
	struct found f = {0};
	struct nl_batch b;
	int marks[5000];
	OK(nl_batch_init(&b, nl_b, failed, &fl, &error));
	for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
		struct route r = {.dst = pfx("2001:db8:7::/64"), .type = RTN_BLACKHOLE};
		r.dst.addr.bytes[6] = (uint8_t)(i >> 8);
		r.dst.addr.bytes[7] = (uint8_t)i;
		if (i == 3333) /* a bit that is not part of the prefix */
			r.dst.addr.bytes[15] = 1, r.type = 0, r.nexthop = 12345;
		OK(route_batch(&b, NET_PUT, &r, &marks[i], &error));
	}
	OK(nl_batch_flush(&b, &error));
	OK(nl_batch_flush(&b, &error));
	assert_int_equal(fl.n, 1);
	assert_ptr_equal(fl.cookie, &marks[3333]);
	OK(route_dump(nl_b, AF_INET6, found_route, &f, &error));
	assert_int_equal(f.routes, ARRAY_SIZE(marks) - 1);
	nl_batch_done(&b);
}

static int count_message(const struct nlmsghdr *h, void *userdata) {
	++*(unsigned *)userdata;
	return 0;
}

static void test_subscription(void **state) {
	_nl_free_ struct nl *sub = NULL;
	unsigned n = 0;
	struct route r = {.dst = pfx("2001:db8:8::/64"), .type = RTN_BLACKHOLE};
	OK(nl_subscribe(&sub, fd_a, (const unsigned[]){RTNLGRP_IPV6_ROUTE, 0}, &error));
	OK(route_put(nl_a, &r, &error));
	OK(nl_receive(sub, count_message, &n, &error));
	assert_int_equal(n, 1);
	OK(nl_ignore(sub, nl_a, &error));
	OK(route_delete(nl_a, &r, &error));
	OK(nl_receive(sub, count_message, &n, &error));
	assert_int_equal(n, 1);
	_nl_free_ struct nl *other = NULL;
	OK(nl_open(&other, fd_a, &error));
	OK(route_put(other, &r, &error));
	OK(nl_receive(sub, count_message, &n, &error));
	assert_int_equal(n, 2);
	OK(route_delete(other, &r, &error));
}

static void test_nft(void **state) {
	_buf_free_ struct buf text = {0};
	const char *body = "chain in { type filter hook input priority 0; policy accept; ip6 saddr ::1 drop; }";
	const struct nft_table tables[] = {
		{"inet", "nacre", body, false},
		{"arp", "nacre", "chain in { type filter hook input priority 0; policy drop; }", false},
	};
	uint64_t st = 0;
	bool changed = false;
	FAILS(ENOENT, nft_list(fd_a, "inet", "nacre", &text, &error));
	OK(nft_ensure(fd_a, "inet", "nacre", body, &st, &changed, &error));
	assert_true(changed);
	OK(nft_ensure(fd_a, "inet", "nacre", body, &st, &changed, &error));
	assert_false(changed);
	OK(nft_apply(fd_a, "flush chain inet nacre in", &error));
	OK(nft_ensure(fd_a, "inet", "nacre", body, &st, &changed, &error));
	assert_true(changed);
	OK(nft_list(fd_a, "inet", "nacre", &text, &error));
	assert_non_null(strstr(text.data, "drop"));
	FAILS(EINVAL, nft_ensure(fd_a, "inet", "nacre", "chain in { nonsense }", &st, &changed, &error));
	buf_reset(&text);
	OK(nft_list(fd_a, "inet", "nacre", &text, &error));
	assert_non_null(strstr(text.data, "drop"));
	/* Several tables: one that is missing or was changed is noticed. */
	OK(nft_ensure_tables(fd_a, tables, 2, &st, &changed, &error));
	assert_true(changed);
	OK(nft_ensure_tables(fd_a, tables, 2, &st, &changed, &error));
	assert_false(changed);
	OK(nft_apply(fd_a, "delete table arp nacre", &error));
	OK(nft_ensure_tables(fd_a, tables, 2, &st, &changed, &error));
	assert_true(changed);
}

/* What packets add to a set is no change; what somebody adds to any other set is. */
static void test_nft_dynamic_sets(void **state) {
	struct nft_table table = {"inet", "full",
	                          "set seen {\ntype ipv6_addr\nsize 4\nflags dynamic,timeout\ntimeout 10m\n}\n"
	                          "set own {\ntype ipv6_addr\nelements = { 2001:db8::1 }\n}\n"
	                          "chain in {\nip6 saddr { ::1, ::2 } drop\n}",
	                          true};
	uint64_t st = 0;
	bool changed;
	OK(nft_ensure_tables(fd_a, &table, 1, &st, &changed, &error));
	OK(nft_apply(fd_a, "add element inet full seen { 2001:db8::7 }", &error));
	OK(nft_ensure_tables(fd_a, &table, 1, &st, &changed, &error));
	assert_false(changed);
	OK(nft_apply(fd_a, "flush chain inet full in\nadd rule inet full in ip6 saddr { ::1, ::3 } drop", &error));
	OK(nft_ensure_tables(fd_a, &table, 1, &st, &changed, &error));
	assert_true(changed);
	table.dynamic = false;
	OK(nft_ensure_tables(fd_a, &table, 1, &st, &changed, &error));
	OK(nft_apply(fd_a, "delete element inet full own { 2001:db8::1 }", &error));
	OK(nft_ensure_tables(fd_a, &table, 1, &st, &changed, &error));
	assert_true(changed);
	OK(nft_apply(fd_a, "delete table inet full", &error));
}

/* A route of IPv4 whose gateway is IPv6, and the source of what the host itself sends by it. */
static void test_ipv4_by_ipv6(void **state) {
	struct addr own = addr("169.254.0.1");
	struct prefix to = pfx("192.0.2.7/32");
	struct neigh ne = {.addr = addr("fe80::2"), .mac = mac("02:00:00:00:00:07")};
	OK(link_ensure_bridge(nl_b, "four", &ne.oif, &error));
	OK(link_ensure_addr(nl_b, ne.oif, &own, 32, &error));
	OK(neigh_put(nl_b, &ne, &error));
	const struct route r = {.dst = to, .via = ne.addr, .oif = ne.oif, .src = own};
	OK(route_put(nl_b, &r, &error));
	OK(route_put(nl_b, &r, &error));
	OK(route_lookup(nl_b, &to.addr, &error));
	OK(link_delete(nl_b, "four", &error));
}

struct count {
	size_t n;
	uint16_t port;
};

static void count_connection(const struct conntrack_entry *e, void *userdata) {
	struct count *c = userdata;
	c->n++;
	c->port = e->original.dst_port;
	assert_int_equal(e->protocol, IPPROTO_UDP);
	assert_int_equal(e->original.src.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(e->reply.dst.s_addr, e->original.src.s_addr);
	assert_int_equal(e->reply.src_port, e->original.dst_port);
	assert_int_equal(e->reply.dst_port, e->original.src_port);
}

static int send_datagrams(_unused_ void *arg, struct error *err) {
	_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	for (uint16_t port = 4000; port < 4200; port++) {
		to.sin_port = htons(port);
		if (sendto(fd, "x", 1, 0, (const struct sockaddr *)&to, sizeof(to)) < 0)
			return error_errno(err, errno, "sendto");
	}
	return 0;
}

static bool is_low(const struct conntrack_entry *e, void *userdata) {
	return e->original.dst_port < *(const uint16_t *)userdata;
}

static void test_conntrack(void **state) {
	_nl_free_ struct nl *n = NULL;
	struct conntrack_stats stats;
	struct count c = {0};
	uint16_t below = 4199;
	OK(nft_apply(fd_a,
	             "table ip t { chain c { type filter hook output priority 0; meta l4proto 17 ct state new accept; "
	             "meta l4proto 1 drop; }; }",
	             &error));
	OK(nl_open_netfilter(&n, fd_a, &error));
	OK(netns_run(fd_a, send_datagrams, NULL, &error));
	OK(conntrack_stats(n, &stats, &error));
	assert_int_equal(stats.entries, 200);
	assert_int_equal(stats.refused, 0);
	OK(conntrack_list(n, count_connection, &c, &error));
	assert_int_equal(c.n, 200);
	OK(conntrack_cut(n, is_low, &below, &error));
	OK(conntrack_cut(n, is_low, &below, &error));
	c.n = 0;
	OK(conntrack_list(n, count_connection, &c, &error));
	assert_int_equal(c.n, 1);
	assert_int_equal(c.port, 4199);
	OK(nft_apply(fd_a, "delete table ip t", &error));
}

static void test_public_filter(void **state) {
	uint64_t st = 0;
	bool changed;
	OK(nft_ensure(fd_b, "inet", "nacre", underlay_public_filter, &st, &changed, &error));
	assert_true(changed);
	OK(nft_ensure(fd_b, "inet", "nacre", underlay_public_filter, &st, &changed, &error));
	assert_false(changed);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_netns),
		cmocka_unit_test(test_netns_locked),
		cmocka_unit_test(test_sysctl),
		cmocka_unit_test(test_veth),
		cmocka_unit_test(test_vxlan_and_addr),
		cmocka_unit_test(test_tap),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_nft),
		cmocka_unit_test(test_nft_dynamic_sets),
		cmocka_unit_test(test_ipv4_by_ipv6),
		cmocka_unit_test(test_conntrack),
		cmocka_unit_test(test_subscription),
		cmocka_unit_test(test_public_filter),
	};
	if (geteuid() != 0)
		return 77; /* meson: skipped */
	return cmocka_run_group_tests(tests, setup, teardown);
}
