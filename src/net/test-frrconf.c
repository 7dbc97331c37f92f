/* SPDX-License-Identifier: Apache-2.0 */

/* The model of FRR's configuration: filling it, refused values, text and back, and the difference of two models. */

#include <string.h>

#include "base/util.h"
#include "net/frrconf-testing.h"
#include "net/underlay.h"

static struct error error;

static struct frrconf *parse(const char *text) {
	struct frrconf *c;
	OK(frrconf_new(&c, FRRCONF_EMPTY, &error));
	OK(frrconf_parse(c, FRRCONF_BGPD, text, &error));
	return c;
}

static void diff(const char *old, const char *new, const char *want) {
	_frrconf_free_ struct frrconf *a = parse(old), *b = parse(new);
	_buf_free_ struct buf out = {0};
	OK(frrconf_diff(a, b, FRRCONF_BGPD, &out, &error));
	assert_string_equal(out.data ? out.data : "", want);
}

static void test_diff(void **state) {
	const char *base = "frr defaults datacenter\n"
			   "router bgp 65001\n"
			   " bgp router-id 1.1.1.1\n"
			   " neighbor eth0 interface remote-as external\n"
			   " address-family ipv6 unicast\n"
			   "  network fd00::1/128\n"
			   "  neighbor eth0 activate\n";
	diff(base, base, "");
	diff("", "", "");
	/* Comments, blank lines and blanks at the end of a line are ignored. */
	diff(base,
	     "! comment\n\nfrr defaults datacenter  \nrouter bgp 65001\n bgp router-id 1.1.1.1\n"
	     " neighbor eth0 interface remote-as external\n address-family ipv6 unicast\n"
	     "  network fd00::1/128\n  neighbor eth0 activate\n!\n",
	     "");
	diff("router bgp 1\n address-family ipv6 unicast\n  network a\n  network b\n",
	     "router bgp 1\n address-family ipv6 unicast\n  network b\n  network c\n",
	     "\n router bgp 1\n address-family ipv6 unicast\n-no network a\n"
	     "\n\n router bgp 1\n address-family ipv6 unicast\n+network c\n");
	/* A context is removed as a whole, an address family line by line. */
	diff("route-map m permit 10\n set x\n", "", "-no route-map m permit 10\n\n");
	diff("router bgp 1\n address-family ipv4 unicast\n  network a\n", "router bgp 1\n",
	     "\n router bgp 1\n address-family ipv4 unicast\n-no network a\n\n");
	diff("router bgp 1\n address-family ipv4 unicast\n  network a\n", "", "-no router bgp 1\n\n");
	/* A line with "no" is removed by the command without "no". */
	diff("no bgp x\n", "", "-bgp x\n\n");
	diff("", "router bgp 1\n neighbor a\n address-family x\n  activate a\n neighbor b\n",
	     "+router bgp 1\n+neighbor a\n+address-family x\n+activate a\n\n router bgp 1\n+neighbor b\n");
}

static void test_give_routes(void **state) {
	_frrconf_free_ struct frrconf *c = NULL;
	_buf_free_ struct buf out = {0};
	OK(frrconf_new(&c, FRRCONF_EMPTY, &error));
	OK(frrconf_parse(c, FRRCONF_BGPD, "router bgp 1\n neighbor a\n", &error));
	OK(frrconf_give_routes(c, &out, &error));
	assert_int_equal(out.len, 0);
	OK(frrconf_parse(c, FRRCONF_BGPD,
	                 "router bgp 1\n address-family ipv4 unicast\n  network a\n address-family ipv6 unicast\n"
	                 "  network b\n",
	                 &error));
	OK(frrconf_give_routes(c, &out, &error));
	assert_string_equal(out.data, "\n router bgp 1\n address-family ipv4 unicast\n+no table-map none\n"
	                              "\n router bgp 1\n address-family ipv6 unicast\n+no table-map none\n");
}

/* When FRR removes the first line of a neighbor, it forgets all its lines. Other neighbors stay as they are. */
static void test_diff_neighbor(void **state) {
	const char *before = "router bgp 1\n"
			     " neighbor wan interface remote-as 2\n"
			     " neighbor wan password x\n"
			     " neighbor wan2 interface remote-as 2\n"
			     " neighbor wan2 password x\n"
			     " address-family ipv6 unicast\n"
			     "  neighbor wan activate\n"
			     "  neighbor wan2 activate\n";
	diff(before,
	     "router bgp 1\n"
	     " neighbor wan interface remote-as 3\n"
	     " neighbor wan password x\n"
	     " neighbor wan2 interface remote-as 2\n"
	     " neighbor wan2 password x\n"
	     " address-family ipv6 unicast\n"
	     "  neighbor wan activate\n"
	     "  neighbor wan2 activate\n",
	     "\n router bgp 1\n-no neighbor wan interface remote-as 2\n"
	     "\n\n router bgp 1\n+neighbor wan interface remote-as 3\n+neighbor wan password x\n"
	     "\n router bgp 1\n address-family ipv6 unicast\n+neighbor wan activate\n");
	diff(before,
	     "router bgp 1\n"
	     " neighbor wan2 interface remote-as 2\n"
	     " neighbor wan2 password x\n"
	     " address-family ipv6 unicast\n"
	     "  neighbor wan2 activate\n",
	     "\n router bgp 1\n-no neighbor wan interface remote-as 2\n\n");
	/* A group is created by another line than its AS number. */
	diff("router bgp 1\n neighbor g peer-group\n neighbor g remote-as external\n neighbor g timers 1 3\n",
	     "router bgp 1\n neighbor g peer-group\n neighbor g remote-as internal\n neighbor g timers 1 3\n",
	     "\n router bgp 1\n-no neighbor g remote-as external\n"
	     "\n\n router bgp 1\n+neighbor g remote-as internal\n");
	/* Only a setting changes. */
	diff("router bgp 1\n neighbor fd00::1 remote-as 2\n neighbor fd00::1 password x\n",
	     "router bgp 1\n neighbor fd00::1 remote-as 2\n neighbor fd00::1 password y\n",
	     "\n router bgp 1\n-no neighbor fd00::1 password x\n"
	     "\n\n router bgp 1\n+neighbor fd00::1 password y\n");
}

static void test_parse(void **state) {
	static const struct {
		const char *text, *says;
	} bad[] = {
		{" no context\n", "line 1 has no context"},
		{"a\n  too deep\n", "line 2 has no context"},
		{"a\n b\n  c\n   d\n    e\n     f\n      g\n       h\n        i\n", "line 9 is nested too deeply"},
		{"a\n\n\tneighbor x password s3cret\n", "line 3: "},
		{"neighbor x password s3cret\r\n", "control character"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_frrconf_free_ struct frrconf *c = NULL;
		OK(frrconf_new(&c, FRRCONF_EMPTY, &error));
		assert_int_equal(frrconf_parse(c, FRRCONF_BGPD, bad[i].text, &error), -EINVAL);
		assert_non_null(strstr(error.msg, bad[i].says));
		assert_null(strstr(error.msg, "s3cret"));
	}
	/* A context that comes twice is one context; a line that is given twice is in it once. */
	_frrconf_free_ struct frrconf *c = parse("x\nrouter bgp 1\n a\nx\nrouter bgp 1\n b\n a\n");
	_buf_free_ struct buf out = {0};
	frrconf_print(c, FRRCONF_BGPD, &out);
	assert_string_equal(out.data, "x\nrouter bgp 1\n a\n b\n");
	buf_reset(&out);
	frrconf_print(c, FRRCONF_ZEBRA, &out);
	assert_string_equal(out.data, "");
}

/* The output of the version before the model, from the same arguments. */
static const char old_underlay[] = "frr defaults datacenter\n"
				   "bgp as-path access-list own permit ^$\n"
				   "router bgp 4200000017\n"
				   " bgp router-id 75.217.83.157\n"
				   " no bgp default ipv4-unicast\n"
				   " bgp bestpath as-path multipath-relax\n"
				   " coalesce-time 10\n"
				   " neighbor fabric peer-group\n"
				   " neighbor fabric remote-as external\n"
				   " neighbor fabric timers 1 3\n"
				   " neighbor fabric timers connect 1\n"
				   " neighbor eth0 interface peer-group fabric\n"
				   " neighbor eth1 interface peer-group fabric\n"
				   " address-family ipv6 unicast\n"
				   "  network fd4e::1:10/128\n"
				   "  neighbor fabric activate\n"
				   "  neighbor fabric filter-list own out\n";

static const char old_underlay_full[] = "frr defaults datacenter\n"
					"bgp as-path access-list own permit ^$\n"
					"router bgp 4200000017\n"
					" bgp router-id 75.217.83.157\n"
					" no bgp default ipv4-unicast\n"
					" bgp bestpath as-path multipath-relax\n"
					" coalesce-time 10\n"
					" neighbor fabric peer-group\n"
					" neighbor fabric remote-as external\n"
					" neighbor fabric timers 1 3\n"
					" neighbor fabric timers connect 1\n"
					" neighbor fabric password s3cret\n"
					" neighbor eth0 interface peer-group fabric\n"
					" neighbor eth1 interface peer-group fabric\n"
					" address-family ipv6 unicast\n"
					"  network fd4e::1:10/128\n"
					"  neighbor fabric activate\n"
					"  neighbor fabric filter-list own out\n"
					"  neighbor fabric maximum-prefix 4096 restart 5\n";

static void test_underlay(void **state) {
	struct underlay_config u = {.asn = 4200000017, .nics = {"eth0", "eth1"}, .n_nics = 2};
	_frrconf_free_ struct frrconf *plain = NULL, *full = NULL, *bad = NULL;
	OK(addr_parse("fd4e::1:10", &u.vtep, &error));
	OK(frrconf_new(&plain, FRRCONF_DATACENTER, &error));
	underlay_frrconf(&u, "", plain);
	frrconf_assert_same(plain, FRRCONF_BGPD, old_underlay);
	frrconf_assert_same(plain, FRRCONF_ZEBRA, "frr defaults datacenter\nno zebra nexthop kernel enable\n");
	u.max_prefixes = 4096;
	OK(frrconf_new(&full, FRRCONF_DATACENTER, &error));
	underlay_frrconf(&u, "s3cret", full);
	frrconf_assert_same(full, FRRCONF_BGPD, old_underlay_full);
	/* A device with the name of the group. */
	u.nics[1] = "fabric";
	OK(frrconf_new(&bad, FRRCONF_DATACENTER, &error));
	underlay_frrconf(&u, "s3cret", bad);
	assert_int_equal(frrconf_error(bad, &error), -EEXIST);
	assert_non_null(strstr(error.msg, "neighbor `fabric`"));
}

/* Neighbors that are missing are taken over with their settings, but with our own lists. */
static void test_keep(void **state) {
	_frrconf_free_ struct frrconf *old = parse("router bgp 1\n"
	                                           " neighbor g peer-group\n"
	                                           " neighbor eth0 interface peer-group g\n"
	                                           " neighbor wan interface remote-as 2\n"
	                                           " neighbor wan password x\n"
	                                           " neighbor b interface remote-as 2\n"
	                                           " neighbor b password x\n"
	                                           " address-family ipv6 unicast\n"
	                                           "  network fd00::/64\n"
	                                           "  network nonsense\n"
	                                           "  neighbor wan activate\n"
	                                           "  neighbor wan prefix-list other in\n");
	_frrconf_free_ struct frrconf *none = parse(""), *c = NULL, *bad = NULL;
	const struct prefix any = {.addr.family = AF_INET6};
	const struct frrconf_activation in = {.prefix_list_in = "p"}, all = {0};
	OK(frrconf_new(&c, FRRCONF_EMPTY, &error));
	assert_int_equal(frrconf_asn(c), 0);
	frrconf_prefix_list_permit(c, "p", 0, &any);
	frrconf_bgp(c, &(struct frrconf_bgp){.asn = frrconf_asn(old), .router_id = 1});
	frrconf_neighbor(c,
	                 &(struct frrconf_neighbor){.kind = FRRCONF_DEVICE, .name = "b", .hold_s = 3, .connect_s = 1});
	frrconf_keep_neighbors(c, none, &all, &in);
	frrconf_keep_neighbors(c, old, &all, &in);
	frrconf_keep_networks(c, none);
	frrconf_keep_networks(c, old);
	frrconf_assert_same(c, FRRCONF_BGPD,
	                    "ipv6 prefix-list p permit ::/0\n"
	                    "router bgp 1\n"
	                    " bgp router-id 0.0.0.1\n"
	                    " no bgp default ipv4-unicast\n"
	                    " bgp bestpath as-path multipath-relax\n"
	                    " neighbor b interface remote-as external\n"
	                    " neighbor b timers 0 3\n"
	                    " neighbor b timers connect 1\n"
	                    " neighbor wan interface remote-as 2\n"
	                    " neighbor wan password x\n"
	                    " address-family ipv4 unicast\n"
	                    "  neighbor wan activate\n"
	                    " address-family ipv6 unicast\n"
	                    "  neighbor wan activate\n"
	                    "  neighbor wan prefix-list p in\n"
	                    "  network fd00::/64\n");
	/* FRR has one instance. */
	OK(frrconf_new(&bad, FRRCONF_EMPTY, &error));
	frrconf_bgp(bad, &(struct frrconf_bgp){.asn = 3, .router_id = 1});
	frrconf_keep_neighbors(bad, old, &all, &in);
	assert_int_equal(frrconf_error(bad, &error), -EBUSY);
}

/* Whatever the order of the calls, lists and neighbors are printed before the lines that refer to them. */
static void test_order(void **state) {
	const struct prefix any4 = {.addr.family = AF_INET}, any6 = {.addr.family = AF_INET6};
	struct frrconf_neighbor n = {.kind = FRRCONF_DEVICE, .name = "b", .hold_s = 3, .connect_s = 1};
	_frrconf_free_ struct frrconf *c = NULL;
	_buf_free_ struct buf out = {0};
	OK(frrconf_new(&c, FRRCONF_TRADITIONAL, &error));
	frrconf_bgp(c, &(struct frrconf_bgp){.asn = 1, .router_id = 1, .no_policy = true});
	frrconf_network(c, &any6);
	frrconf_neighbor(c, &n);
	n.name = "192.0.2.1";
	n.kind = FRRCONF_ADDRESS;
	frrconf_network(c, &any4);
	frrconf_neighbor(c, &n);
	frrconf_prefix_list_permit(c, "p", 0, &any4);
	frrconf_activate(c, AF_INET, "192.0.2.1", &(struct frrconf_activation){.prefix_list_in = "p"});
	frrconf_paths(c, AF_INET6, 2);
	OK(frrconf_error(c, &error));
	frrconf_print(c, FRRCONF_BGPD, &out);
	assert_string_equal(out.data, "ip prefix-list p permit 0.0.0.0/0\n"
	                              "router bgp 1\n"
	                              " bgp router-id 0.0.0.1\n"
	                              " no bgp ebgp-requires-policy\n"
	                              " no bgp default ipv4-unicast\n"
	                              " bgp bestpath as-path multipath-relax\n"
	                              " neighbor b interface remote-as external\n"
	                              " neighbor b timers 0 3\n"
	                              " neighbor b timers connect 1\n"
	                              " neighbor 192.0.2.1 remote-as external\n"
	                              " neighbor 192.0.2.1 timers 0 3\n"
	                              " neighbor 192.0.2.1 timers connect 1\n"
	                              " address-family ipv4 unicast\n"
	                              "  network 0.0.0.0/0\n"
	                              "  neighbor 192.0.2.1 activate\n"
	                              "  neighbor 192.0.2.1 prefix-list p in\n"
	                              " address-family ipv6 unicast\n"
	                              "  network ::/0\n"
	                              "  maximum-paths 2\n");
}

/* A model with a group, a neighbor and lists, without an error so far. */
static struct frrconf *filled(void) {
	const struct prefix any = {.addr.family = AF_INET6};
	struct frrconf *c;
	OK(frrconf_new(&c, FRRCONF_DATACENTER, &error));
	frrconf_prefix_list_permit(c, "p", 0, &any);
	frrconf_as_path_list_permit(c, "own", 0, "^$");
	frrconf_bgp(c, &(struct frrconf_bgp){.asn = 1, .router_id = 1});
	frrconf_neighbor(c, &(struct frrconf_neighbor){.name = "group", .hold_s = 3, .connect_s = 1});
	frrconf_group_member(c, "group", "eth0");
	OK(frrconf_error(c, &error));
	return c;
}

/* C has an error that names OBJECT and FIELD, and neither the refused call nor a later one has added anything. */
static void refuses(struct frrconf *c, int code, const char *object, const char *field) {
	_frrconf_free_ struct frrconf *same = filled();
	_buf_free_ struct buf have = {0}, want = {0};
	const struct prefix any = {.addr.family = AF_INET6};
	assert_int_equal(frrconf_error(c, &error), -code);
	if (!strstr(error.msg, object) || !strstr(error.msg, field))
		fail_msg("%s: not about %s, %s", error.msg, object, field);
	assert_null(strstr(error.msg, "s3cret"));
	assert_null(strpbrk(error.msg, "\n\033"));
	frrconf_network(c, &any);
	frrconf_print(c, FRRCONF_BGPD, &have);
	frrconf_print(same, FRRCONF_BGPD, &want);
	assert_string_equal(have.data, want.data);
	frrconf_free(c);
}

#define REFUSES(code, object, field, call, ...)   \
	do {                                      \
		struct frrconf *_c = filled();    \
		call(_c, __VA_ARGS__);            \
		refuses(_c, code, object, field); \
	} while (0)

static void test_refused_words(void **state) {
	static const char *const bad[] = {NULL,
	                                  "",
	                                  "two words",
	                                  " x",
	                                  "x ",
	                                  "x\ny",
	                                  "x\n router bgp 2",
	                                  "x\r",
	                                  "x\ty",
	                                  "x\033[31m",
	                                  "x\177",
	                                  "\u00fc",
	                                  "0123456789012345678901234567890123456789012345678901234567890123"};
	const struct prefix any = {.addr.family = AF_INET6};
	struct frrconf_activation in = {0}, out = {0};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct frrconf_neighbor n = {.name = bad[i], .hold_s = 3, .connect_s = 1};
		in.prefix_list_in = out.as_path_list_out = bad[i];
		REFUSES(EINVAL, "prefix list", "name", frrconf_prefix_list_permit, bad[i], 0, &any);
		REFUSES(EINVAL, "AS path list", "name", frrconf_as_path_list_permit, bad[i], 0, "^$");
		if (i < ARRAY_SIZE(bad) - 1)
			REFUSES(EINVAL, "`own`", "regular expression", frrconf_as_path_list_permit, "own", 0, bad[i]);
		REFUSES(EINVAL, "group", "name", frrconf_neighbor, &n);
		n.kind = FRRCONF_DEVICE;
		REFUSES(EINVAL, "neighbor", "device", frrconf_neighbor, &n);
		n.kind = FRRCONF_ADDRESS;
		REFUSES(EINVAL, "neighbor", "address", frrconf_neighbor, &n);
		REFUSES(EINVAL, "neighbor", "device", frrconf_group_member, "group", bad[i]);
		REFUSES(ENOENT, "neighbor `eth1`", "group", frrconf_group_member, bad[i], "eth1");
		REFUSES(ENOENT, "neighbor", "group of that name", frrconf_activate, AF_INET6, bad[i],
		        &(struct frrconf_activation){0});
		if (bad[i]) {
			REFUSES(ENOENT, "neighbor `group`", "list `", frrconf_activate, AF_INET6, "group", &in);
			REFUSES(ENOENT, "neighbor `group`", "list `", frrconf_activate, AF_INET6, "group", &out);
		}
	}
}

static void test_refused_neighbors(void **state) {
	static const struct {
		struct frrconf_neighbor n;
		int code;
		const char *field;
	} bad[] = {
		/* FRR would read it as an address. */
		{{.kind = FRRCONF_GROUP, .name = "192.0.2.1"}, EINVAL, "name"},
		{{.kind = FRRCONF_DEVICE, .name = "192.0.2.1"}, EINVAL, "device"},
		{{.kind = FRRCONF_DEVICE, .name = "fd00::1"}, EINVAL, "device"},
		{{.kind = FRRCONF_DEVICE, .name = "a/b"}, EINVAL, "device"},
		{{.kind = FRRCONF_DEVICE, .name = "0123456789abcdef"}, EINVAL, "device"},
		{{.kind = FRRCONF_ADDRESS, .name = "wan"}, EINVAL, "address"},
		{{.kind = FRRCONF_ADDRESS, .name = "FD00::1"}, EINVAL, "address"},
		{{.kind = FRRCONF_ADDRESS, .name = "fd00::1/128"}, EINVAL, "address"},
		{{.kind = FRRCONF_DEVICE, .name = "eth0"}, EEXIST, "already"},
		{{.kind = FRRCONF_DEVICE, .name = "group"}, EEXIST, "already"},
		{{.name = "x", .remote_asn = UINT32_MAX}, EINVAL, "AS number"},
		{{.name = "x", .hold_s = 2}, EINVAL, "timers"},
		{{.name = "x", .keepalive_s = 4, .hold_s = 3}, EINVAL, "timers"},
		{{.name = "x", .password = "s3cret s3cret"}, EINVAL, "password"},
		{{.name = "x", .password = "s3cret\n exit"}, EINVAL, "password"},
		{{.name = "x", .password = "s3cret\n"}, EINVAL, "password"},
		{{.name = "x", .password = "s3cret\u00fc"}, EINVAL, "password"},
		{{.name = "x",
	          .password = "s3cret78901234567890123456789012345678901234567890123456789012345678901234567890.1"},
	         EINVAL,
	         "password"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct frrconf_neighbor n = bad[i].n;
		n.hold_s = n.hold_s ? n.hold_s : 3;
		n.connect_s = 1;
		REFUSES(bad[i].code, n.name, bad[i].field, frrconf_neighbor, &n);
	}
	REFUSES(EINVAL, "neighbor `x`", "timers", frrconf_neighbor,
	        &(struct frrconf_neighbor){.name = "x", .hold_s = 3});
	REFUSES(ENOENT, "neighbor `eth1`", "group `eth0`", frrconf_group_member, "eth0", "eth1");
}

static void test_refused_others(void **state) {
	const struct prefix none = {0}, long4 = {.addr.family = AF_INET, .len = 33};
	const struct frrconf_activation all = {0}, in = {.prefix_list_in = "p"};
	_frrconf_free_ struct frrconf *empty = NULL, *zero = NULL, *last = NULL;
	REFUSES(EEXIST, "BGP", "already", frrconf_bgp, &(struct frrconf_bgp){.asn = 2, .router_id = 1});
	REFUSES(EINVAL, "prefix list `x`", "prefix", frrconf_prefix_list_permit, "x", 0, &none);
	REFUSES(EINVAL, "prefix list `x`", "prefix", frrconf_prefix_list_permit, "x", 0, &long4);
	REFUSES(EINVAL, "network", "not a valid", frrconf_network, &none);
	REFUSES(EINVAL, "network", "not a valid", frrconf_network, &long4);
	REFUSES(EINVAL, "paths", "0", frrconf_paths, AF_INET6, 0);
	REFUSES(EINVAL, "paths", "257", frrconf_paths, AF_INET6, 257);
	REFUSES(EINVAL, "family", "0", frrconf_activate, 0, "group", &all);
	/* The list of that name has the other family. */
	REFUSES(ENOENT, "neighbor `group`", "list `p`", frrconf_activate, AF_INET, "group", &in);
	OK(frrconf_new(&empty, FRRCONF_DATACENTER, &error));
	frrconf_group_member(empty, "group", "eth0");
	assert_int_equal(frrconf_error(empty, &error), -EINVAL);
	OK(frrconf_new(&zero, FRRCONF_DATACENTER, &error));
	frrconf_bgp(zero, &(struct frrconf_bgp){.asn = 0, .router_id = 1});
	assert_int_equal(frrconf_error(zero, &error), -EINVAL);
	OK(frrconf_new(&last, FRRCONF_DATACENTER, &error));
	frrconf_bgp(last, &(struct frrconf_bgp){.asn = UINT32_MAX, .router_id = 1});
	assert_int_equal(frrconf_error(last, &error), -EINVAL);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_diff),
		cmocka_unit_test(test_diff_neighbor),
		cmocka_unit_test(test_give_routes),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_underlay),
		cmocka_unit_test(test_keep),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_refused_words),
		cmocka_unit_test(test_refused_neighbors),
		cmocka_unit_test(test_refused_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
