/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/proc.h"
#include "base/util.h"
#include "edge/aggregate.h"
#include "edge/bgp.h"
#include "edge/filter.h"
#include "net/bgp-watch.h"
#include "net/frrconf-testing.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/nft.h"
#include "net/route.h"

static struct prefix prefix(const char *text) {
	struct prefix p;
	struct error err = {0};
	assert_int_equal(prefix_parse(text, &p, &err), 0);
	return p;
}

/* The output of the version before the model, from the same arguments. */
static const char old_config[] = "frr defaults datacenter\n"
				 "ip prefix-list default4 seq 5 permit 0.0.0.0/0\n"
				 "ipv6 prefix-list default6 seq 5 permit ::/0\n"
				 "bgp as-path access-list own seq 5 permit ^$\n"
				 "router bgp 64512\n"
				 " bgp router-id 10.0.0.1\n"
				 " no bgp default ipv4-unicast\n"
				 " no bgp network import-check\n"
				 " bgp bestpath as-path multipath-relax\n"
				 " coalesce-time 10\n"
				 " neighbor wan interface remote-as 64496\n"
				 " neighbor wan timers 1 3\n"
				 " neighbor wan timers connect 1\n"
				 " neighbor wan capability extended-nexthop\n"
				 " neighbor wan password a|b\"!\n"
				 " neighbor 2001:db8::1 remote-as 64497\n"
				 " neighbor 2001:db8::1 timers 1 3\n"
				 " neighbor 2001:db8::1 timers connect 1\n"
				 " neighbor 2001:db8::1 capability extended-nexthop\n"
				 " neighbor 2001:db8::1 ttl-security hops 1\n"
				 " neighbor 192.0.2.7 remote-as 4294967294\n"
				 " neighbor 192.0.2.7 timers 1 3\n"
				 " neighbor 192.0.2.7 timers connect 1\n"
				 " neighbor 192.0.2.7 capability extended-nexthop\n"
				 " neighbor 192.0.2.7 password x\n"
				 " neighbor 192.0.2.7 ttl-security hops 1\n"
				 " address-family ipv4 unicast\n"
				 "  network 198.51.100.0/24\n"
				 "  neighbor wan activate\n"
				 "  neighbor wan prefix-list default4 in\n"
				 "  neighbor wan filter-list own out\n"
				 "  neighbor 2001:db8::1 activate\n"
				 "  neighbor 2001:db8::1 prefix-list default4 in\n"
				 "  neighbor 2001:db8::1 filter-list own out\n"
				 "  neighbor 192.0.2.7 activate\n"
				 "  neighbor 192.0.2.7 prefix-list default4 in\n"
				 "  neighbor 192.0.2.7 filter-list own out\n"
				 "  maximum-paths 16\n"
				 " address-family ipv6 unicast\n"
				 "  network 2001:db8:1000::/40\n"
				 "  network 2001:db8:2000::7/128\n"
				 "  neighbor wan activate\n"
				 "  neighbor wan prefix-list default6 in\n"
				 "  neighbor wan filter-list own out\n"
				 "  neighbor 2001:db8::1 activate\n"
				 "  neighbor 2001:db8::1 prefix-list default6 in\n"
				 "  neighbor 2001:db8::1 filter-list own out\n"
				 "  neighbor 192.0.2.7 activate\n"
				 "  neighbor 192.0.2.7 prefix-list default6 in\n"
				 "  neighbor 192.0.2.7 filter-list own out\n"
				 "  maximum-paths 16\n";

static void test_config(_unused_ void **state) {
	struct bgp_peer peers[] = {
		{.neighbor = "wan", .unnumbered = true, .remote_asn = 64496, .password = "a|b\"!"},
		{.neighbor = "2001:db8::1", .remote_asn = 64497, .ttl_security = true},
		{.neighbor = "192.0.2.7", .remote_asn = 4294967294, .password = "x", .ttl_security = true}};
	const struct prefix announce[] = {prefix("2001:db8:1000::/40"), prefix("198.51.100.0/24"),
	                                  prefix("2001:db8:2000::7/128")};
	struct bgp_config c = {.local_asn = 64512,
	                       .router_id = 0x0a000001,
	                       .peers = peers,
	                       .n_peers = ARRAY_SIZE(peers),
	                       .announce = announce,
	                       .n_announce = ARRAY_SIZE(announce)};
	_frrconf_free_ struct frrconf *conf = NULL, *bad = NULL, *none = NULL;
	struct error err = {0};
	assert_int_equal(frrconf_new(&conf, FRRCONF_DATACENTER, &err), 0);
	bgp_config_fill(&c, conf);
	frrconf_assert_same(conf, FRRCONF_BGPD, old_config);
	frrconf_assert_same(conf, FRRCONF_ZEBRA, "frr defaults datacenter\nno zebra nexthop kernel enable\n");
	/* No text of a peer can become a command. */
	snprintf(peers[1].password, sizeof(peers[1].password), "x\nno router bgp 64512");
	assert_int_equal(frrconf_new(&bad, FRRCONF_DATACENTER, &err), 0);
	bgp_config_fill(&c, bad);
	assert_int_equal(frrconf_error(bad, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "neighbor `2001:db8::1`: password"));
	/* Without peers there is no BGP. */
	c.n_peers = 0;
	assert_int_equal(frrconf_new(&none, FRRCONF_DATACENTER, &err), 0);
	bgp_config_fill(&c, none);
	frrconf_assert_same(none, FRRCONF_BGPD, "frr defaults datacenter\n");
}

static void test_session(_unused_ void **state) {
	static const char json[] =
		"{\"ipv4Unicast\":{\"peers\":{\"wan\":{\"state\":\"Established\",\"pfxRcd\":1,\"pfxSnt\":2}}},"
		"\"ipv6Unicast\":{\"peers\":{\"wan\":{\"state\":\"Established\",\"pfxRcd\":3,\"pfxSnt\":4},"
		"\"bad\":{\"state\":17,\"pfxRcd\":\"x\"},\"idle\":{\"state\":\"Active\",\"pfxRcd\":-5}}}}";
	static const char *const junk[] = {"", "{", "[]", "17", "% Unknown command"};
	struct bgp_session s;
	struct error err;
	assert_int_equal(bgp_session_parse(json, sizeof(json) - 1, "wan", &s, &err), 0);
	assert_true(s.established);
	assert_int_equal(s.received, 4);
	assert_int_equal(s.announced, 6);
	assert_int_equal(bgp_session_parse(json, sizeof(json) - 1, "idle", &s, &err), 0);
	assert_false(s.established);
	assert_string_equal(s.state, "Active");
	assert_int_equal(s.received, 0);
	assert_int_equal(bgp_session_parse(json, sizeof(json) - 1, "bad", &s, &err), 0);
	assert_string_equal(s.state, "");
	assert_int_equal(bgp_session_parse(json, sizeof(json) - 1, "none", &s, &err), 0);
	assert_string_equal(s.state, "");
	for (size_t i = 0; i < ARRAY_SIZE(junk); i++)
		assert_int_equal(bgp_session_parse(junk[i], strlen(junk[i]), "wan", &s, &err), -EBADMSG);
}

/* A namespace of this test run, with one device that is up. */
static char ns_name[32];

static int make_namespace(_unused_ void **state) {
	struct error err = {0};
	if (geteuid() != 0)
		return 0;
	snprintf(ns_name, sizeof(ns_name), "te%d-device", getpid());
	test_claim("netns", ns_name);
	return netns_ensure(ns_name, NULL, &err);
}

static int remove_namespace(_unused_ void **state) {
	return geteuid() == 0 ? netns_delete(ns_name, NULL) : 0;
}

static int count_unreachable(const struct route *r, void *userdata) {
	*(int *)userdata += r->type == RTN_UNREACHABLE;
	return 0;
}

static void test_aggregates(_unused_ void **state) {
	struct prefix p[] = {prefix("2001:db8:1000::/40"), prefix("2001:db8:4000::/36"), prefix("198.51.100.0/24")};
	struct error err = {0};
	int fd, n = 0;
	_nl_free_ struct nl *nl = NULL;
	if (geteuid() != 0)
		skip();
	assert_int_equal(netns_open(ns_name, &fd, &err), 0);
	assert_int_equal(nl_open(&nl, fd, &err), 0);
	close(fd);
	struct route foreign = {.dst = prefix("2001:db8:9::/48"), .type = RTN_UNREACHABLE, .metric = 77};
	assert_int_equal(route_put(nl, &foreign, &err), 0);
	assert_int_equal(aggregate_ensure(nl, p, 3, &err), 0);
	assert_int_equal(aggregate_ensure(nl, p, 3, &err), 0);
	assert_int_equal(route_dump(nl, AF_INET6, count_unreachable, &n, &err), 0);
	assert_int_equal(n, 3);
	n = 0;
	assert_int_equal(route_dump(nl, AF_INET, count_unreachable, &n, &err), 0);
	assert_int_equal(n, 1);
	/* Routes that are no longer wanted are removed; routes of others stay. */
	assert_int_equal(aggregate_ensure(nl, p, 1, &err), 0);
	n = 0;
	assert_int_equal(route_dump(nl, AF_INET6, count_unreachable, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_int_equal(aggregate_ensure(nl, NULL, 0, &err), 0);
}

struct seen {
	sd_event *loop;
	struct bgp_routes d;
	int calls;
};

static void on_routes(const struct bgp_routes *now, void *userdata) {
	struct seen *s = userdata;
	s->d = *now;
	s->calls++;
}

static void ip(const char *verb, const char *family, const char *dst) {
	const char *argv[] = {"ip", "-n", ns_name, family, "route", verb, dst, "dev", "lo", "proto", "bgp", NULL};
	struct proc_spec spec = {.argv = argv};
	struct error err = {0};
	assert_int_equal(proc_run(&spec, NULL, &err), 0);
}

static void await_calls(struct seen *s, int calls) {
	uint64_t deadline = now_monotonic_ns() + 120 * NSEC_PER_SEC;
	while (s->calls < calls && now_monotonic_ns() < deadline)
		assert_true(sd_event_run(s->loop, USEC_PER_SEC) >= 0);
	assert_int_equal(s->calls, calls);
}

static void test_routes(_unused_ void **state) {
	struct seen s = {0};
	struct error err = {0};
	struct bgp_watch *w;
	int fd;
	if (geteuid() != 0)
		skip();
	assert_int_equal(netns_open(ns_name, &fd, &err), 0);
	assert_true(sd_event_new(&s.loop) >= 0);
	assert_int_equal(bgp_watch_new(&w, s.loop, fd, on_routes, &s, &err), 0);
	close(fd);
	await_calls(&s, 1);
	assert_false(s.d.default4 || s.d.default6 || s.d.any);
	ip("add", "-6", "2001:db8:77::/48");
	await_calls(&s, 2);
	assert_true(s.d.any && !s.d.default6);
	/* A second default route of the same family changes nothing. */
	ip("add", "-6", "2001:db8:78::/48");
	ip("add", "-6", "default");
	await_calls(&s, 3);
	assert_true(s.d.default6 && !s.d.default4);
	ip("add", "-4", "default");
	await_calls(&s, 4);
	assert_true(s.d.default6 && s.d.default4);
	ip("del", "-6", "default");
	await_calls(&s, 5);
	assert_true(!s.d.default6 && s.d.default4 && s.d.any);
	bgp_watch_free(w);
	sd_event_unref(s.loop);
}

/* The kernel accepts the rules, whatever the pools are. They are changed only when the pools change. */
static void test_filter(_unused_ void **state) {
	static const char *const uplinks[] = {"wan0", "wan1"};
	const struct prefix pools[] = {prefix("2001:db8:1000::/40"), prefix("198.51.100.0/24"),
	                               prefix("2001:db8:1000::/48"), prefix("fd4e::/64"), prefix("::/0")};
	char name[64];
	struct error err = {0};
	_close_ int fd = -1;
	uint64_t filter = 0, before;

	if (geteuid() != 0)
		skip();
	snprintf(name, sizeof(name), "te%d-filter", getpid());
	test_claim("netns", name);
	assert_int_equal(netns_ensure(name, NULL, &err), 0);
	assert_int_equal(netns_open(name, &fd, &err), 0);
	for (size_t n = 0; n <= ARRAY_SIZE(pools); n++) {
		before = filter;
		int r = filter_ensure(fd, uplinks, ARRAY_SIZE(uplinks), pools, n, &filter, &err);
		if (r < 0)
			netns_delete(name, NULL);
		assert_int_equal(r, 0);
		assert_int_not_equal(filter, before);
		before = filter;
		assert_int_equal(filter_ensure(fd, uplinks, ARRAY_SIZE(uplinks), pools, n, &filter, &err), 0);
		assert_int_equal(filter, before);
	}
	assert_int_equal(netns_delete(name, &err), 0);
}

/* ---- the filter under traffic ---- */

#define FORGED_PORT  9
#define ALLOWED_PORT 10

/* Two namespaces with a cable between them; the sender has an address inside the pools and one outside them. */
struct traffic {
	char name[2][32];
	int fd[2];           /* sender, edge */
	int forged, allowed; /* sockets of the edge */
	pid_t sender;
};

static void ip_addr(const char *netns, const char *address, const char *device) {
	const char *argv[] = {"ip", "-n", netns, "addr", "add", address, "dev", device, "nodad", NULL};
	struct proc_spec spec = {.argv = argv};
	struct error err = {0};

	assert_int_equal(proc_run(&spec, NULL, &err), 0);
}

static struct sockaddr_in6 socket_address(const char *ip, uint16_t port) {
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	a.sin6_addr = prefix(ip).addr.v6;
	return a;
}

struct opening {
	const char *source;
	uint16_t port;
	int fd;
};

static int open_datagrams(void *arg, struct error *err) {
	struct opening *o = arg;
	const struct sockaddr_in6 a = socket_address(o->source, o->port);

	o->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (o->fd < 0 || bind(o->fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return error_errno(err, errno, "open a socket");
	return 0;
}

static int open_at(int netns_fd, const char *source, uint16_t port) {
	struct opening o = {source, port, -1};
	struct error err = {0};

	assert_int_equal(netns_run(netns_fd, open_datagrams, &o, &err), 0);
	return o.fd;
}

/* Sends from both addresses until it is killed. */
static pid_t start_sender(const struct traffic *t) {
	const struct sockaddr_in6 to[] = {socket_address("2001:db8:9::1/128", FORGED_PORT),
	                                  socket_address("2001:db8:9::1/128", ALLOWED_PORT)};
	const int from[] = {open_at(t->fd[0], "2001:db8:1000::7/128", 0), open_at(t->fd[0], "2001:db8:9::2/128", 0)};
	pid_t pid = fork();

	assert_true(pid >= 0);
	while (pid == 0)
		for (size_t i = 0; i < ARRAY_SIZE(to); i++)
			(void)!sendto(from[i], "x", 1, 0, (const struct sockaddr *)&to[i], sizeof(to[i]));
	close(from[0]);
	close(from[1]);
	return pid;
}

static size_t count_received(int fd) {
	char byte;
	size_t n = 0;

	while (recv(fd, &byte, 1, 0) >= 0)
		n++;
	return n;
}

static void traffic_start(struct traffic *t) {
	struct error err = {0};

	for (size_t i = 0; i < 2; i++) {
		snprintf(t->name[i], sizeof(t->name[i]), "te%d-%s", getpid(), i ? "edge" : "sender");
		test_claim("netns", t->name[i]);
		assert_int_equal(netns_ensure(t->name[i], NULL, &err), 0);
		assert_int_equal(netns_open(t->name[i], &t->fd[i], &err), 0);
	}
	_nl_free_ struct nl *sender = NULL, *edge = NULL;
	assert_int_equal(nl_open(&sender, t->fd[0], &err), 0);
	assert_int_equal(nl_open(&edge, t->fd[1], &err), 0);
	const struct link_end a = {.nl = sender, .netns_fd = t->fd[0], .name = "wan0"};
	const struct link_end b = {.nl = edge, .netns_fd = t->fd[1], .name = "wan0"};
	assert_int_equal(link_ensure_veth(&a, &b, 1500, NULL, &err), 0);
	ip_addr(t->name[0], "2001:db8:9::2/64", "wan0");
	ip_addr(t->name[0], "2001:db8:1000::7/128", "lo");
	ip_addr(t->name[1], "2001:db8:9::1/64", "wan0");
	t->forged = open_at(t->fd[1], "2001:db8:9::1/128", FORGED_PORT);
	t->allowed = open_at(t->fd[1], "2001:db8:9::1/128", ALLOWED_PORT);
	t->sender = start_sender(t);
}

static void traffic_stop(struct traffic *t) {
	kill(t->sender, SIGKILL);
	waitpid(t->sender, NULL, 0);
	const int fds[] = {t->fd[0], t->fd[1], t->forged, t->allowed};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	for (size_t i = 0; i < 2; i++)
		netns_delete(t->name[i], NULL);
}

/* Replaces the filter N times, in turn for one prefix less and as an edge that has just started. */
static void replace_filter(const struct traffic *t, const struct prefix *pools, size_t n_pools, size_t n) {
	static const char *const uplinks[] = {"wan0"};
	struct error err = {0};
	uint64_t filter = 0;
	size_t forged = 0, allowed = 0;
	int r = filter_ensure(t->fd[1], uplinks, 1, pools, n_pools, &filter, &err);

	(void)count_received(t->forged);
	for (size_t i = 0; i < n && r >= 0; i++) {
		if (i % 3 == 0)
			filter = 0;
		r = filter_ensure(t->fd[1], uplinks, 1, pools, n_pools - (i & 1), &filter, &err);
		forged += count_received(t->forged);
		allowed += count_received(t->allowed);
	}
	print_message("%zu prefixes, replaced %zu times: %zu packets passed, %zu forged ones\n", n_pools, n, allowed,
	              forged);
	assert_int_equal(r, 0);
	assert_int_equal(forged, 0);
	assert_true(allowed > 100);
}

static struct traffic traffic;

/* A packet from a pool that stays is dropped, also while the filter is replaced. */
static void test_filter_under_traffic(_unused_ void **state) {
	struct prefix pools[BGP_PREFIXES_MAX] = {prefix("2001:db8:1000::/40")};
	_buf_free_ struct buf cover = {.max = 4096};
	struct error err = {0};

	if (geteuid() != 0)
		skip();
	for (size_t i = 1; i < ARRAY_SIZE(pools); i++) {
		pools[i] = prefix("2001:db9::/48");
		pools[i].addr.bytes[4] = (uint8_t)(i >> 7);
		pools[i].addr.bytes[5] = (uint8_t)(i << 1); /* none is beside another */
	}
	traffic_start(&traffic);
	/* What an agent left that was killed amid a replacement. */
	assert_int_equal(nft_apply(traffic.fd[1],
	                           "table inet nacre-edge-cover {\nchain uplink {\n"
	                           "type filter hook prerouting priority -450; policy drop;\n}\n}\n",
	                           &err),
	                 0);
	replace_filter(&traffic, pools, 2, 150);
	replace_filter(&traffic, pools, ARRAY_SIZE(pools), 6);
	assert_int_equal(nft_list(traffic.fd[1], "inet", "nacre-edge-cover", &cover, &err), -ENOENT);
}

static int end_traffic(_unused_ void **state) {
	if (traffic.sender)
		traffic_stop(&traffic);
	return 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),  cmocka_unit_test(test_filter),
		cmocka_unit_test(test_session), cmocka_unit_test(test_aggregates),
		cmocka_unit_test(test_routes),  cmocka_unit_test_teardown(test_filter_under_traffic, end_traffic),
	};
	return cmocka_run_group_tests(tests, make_namespace, remove_namespace);
}
