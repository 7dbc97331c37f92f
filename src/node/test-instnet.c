/* SPDX-License-Identifier: Apache-2.0 */

/* The network of an instance, in namespaces of this run's own. */

#include "node/testing.h"

#include "net/link.h"

static struct instnet_spec network(void) {
	struct instnet_spec s;

	jt_init(&jt_instnet_spec, &s);
	OK(mac_parse("02:00:00:00:00:05", &s.mac, &error));
	s.ip = addr("2001:db8::5");
	s.net = pfx("2001:db8:1:1::/64");
	s.delegated = pfx("2001:db8:2::/60");
	s.ingress[s.n_ingress++] = (struct instnet_ingress){.proto = INSTNET_TCP, .port = 80};
	s.ingress[s.n_ingress++] =
		(struct instnet_ingress){.proto = INSTNET_UDP, .port = 53, .from = pfx("2001:db8:9::/48")};
	s.ingress[s.n_ingress++] = (struct instnet_ingress){.proto = INSTNET_ICMP};
	return s;
}

static void names_are_as_documented(void **state) {
	(void)state;
	char id[INSTNET_ID_LEN + 1], name[INSTNET_NAME_MAX], device[16];

	assert_true(instnet_id(UID, id));
	assert_string_equal(id, ID);
	assert_string_equal(instnet_device(id, device), "i-" ID);
	assert_string_equal(instnet_netns("lab-", id, name), "lab-i-" ID);
	assert_string_equal(instnet_id_of_device("i-" ID), ID);
	assert_null(instnet_id_of_device("i-short"));
	assert_null(instnet_id_of_device("overlay"));
	assert_string_equal(instnet_id_of_netns("lab-", "lab-i-" ID), ID);
	assert_null(instnet_id_of_netns("lab-", "i-" ID));
	assert_null(instnet_id_of_netns("", "public"));
	assert_string_equal(instnet_netns_begin("lab-", name), "lab-i-");
	assert_false(instnet_id("short", id));
	assert_false(instnet_id("../../../../../../etc/passwd--------", id));
}

static int source_route_is_off(void *arg, struct error *err) {
	_free_ char *text = NULL;
	size_t len;

	OK(read_file("/proc/sys/net/ipv4/conf/all/accept_source_route", 16, &text, &len, err));
	assert_string_equal(text, "0\n");
	return 0;
}

static void network_is_made_repaired_and_removed(void **state) {
	(void)state;
	static const struct netns_sysctl source_route = {"ipv4/conf/all/accept_source_route", "1"};
	char name[INSTNET_NAME_MAX];
	int fd;
	const struct instnet_spec spec = network();
	const struct instnet_config c = {.prefix = prefix, .id = ID, .spec = &spec, .uid = 200001, .mtu = 1500};
	struct link before, after;
	struct instnet_state made = {0}, same;

	if (geteuid() != 0)
		skip();
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	OK(link_get(public_nl, "i-" ID, &before, &error));
	same = made;
	/* A host may have this on, and a new namespace begins with the host's settings. */
	OK(netns_open(instnet_netns(prefix, ID, name), &fd, &error));
	OK(netns_sysctl(fd, &source_route, 1, &error));
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	OK(netns_run(fd, source_route_is_off, NULL, &error));
	safe_close(fd);
	OK(link_get(public_nl, "i-" ID, &after, &error));
	assert_int_equal(before.index, after.index);
	assert_memory_equal(&made, &same, sizeof(made));
	/* A veth that somebody deletes is made again, with everything that depended on it. */
	OK(link_delete(public_nl, "i-" ID, &error));
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	OK(link_get(public_nl, "i-" ID, &after, &error));
	assert_int_not_equal(before.index, after.index);
	OK(instnet_remove(prefix, ID, public_nl, &error));
	assert_int_equal(link_get(public_nl, "i-" ID, &after, &error), -ENODEV);
	OK(instnet_remove(prefix, ID, public_nl, &error));
}

static bool has(const struct buf *b, const char *text) {
	return b->data && strstr(b->data, text);
}

static struct firewall *firewall_of(const char *json) {
	struct api_errors errs = {0};
	void *f = NULL;

	assert_true(api_parse(&api_kind_firewall, json, strlen(json), &f, &errs) >= 0);
	return f;
}

/* What the firewall's table is refused for keeps nothing else from being done, and is told. */
static void a_refused_firewall_is_told_apart(void **state) {
	(void)state;
	struct firewall *f =
		firewall_of("{\"metadata\":{\"name\":\"a\",\"namespace\":\"t\",\"uid\":\"a\",\"generation\":1},"
	                    "\"spec\":{\"instances\":{},\"ingress\":[{\"protocol\":\"tcp\",\"port\":5}]}}");
	const struct firewall *v[] = {f};
	const struct firewall_attached attached = {.v = v, .n = 1};
	struct instnet_spec spec = network();
	struct error failed = {0};
	const struct instnet_config c = {.prefix = prefix,
	                                 .id = ID,
	                                 .spec = &spec,
	                                 .firewalls = &attached,
	                                 .firewall_failed = &failed,
	                                 .uid = 200001,
	                                 .mtu = 1500};
	struct instnet_state made = {0};

	if (geteuid() != 0)
		skip();
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	assert_int_equal(failed.code, 0);
	const struct instnet_state before = made;
	/* Rules that the API would not have accepted, and another address. */
	f->spec->ingress.v[0].port = API_I64(10);
	f->spec->ingress.v[0].end_port = API_I64(5);
	f->meta.generation = API_I64(2);
	spec.ipv4 = INSTNET_DEDICATED;
	spec.address4 = addr("198.51.100.7");
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	assert_int_equal(failed.code, EIO);
	assert_true(*failed.msg);
	assert_true(made.wanted != before.wanted);
	assert_int_equal(made.firewall.generation, before.firewall.generation);
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	assert_int_equal(failed.code, EAGAIN);
	f->spec->ingress.v[0].end_port = API_I64(10);
	f->meta.generation = API_I64(3);
	failed = (struct error){0};
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	assert_int_equal(failed.code, 0);
	OK(instnet_remove(prefix, ID, public_nl, &error));
	api_free(&api_kind_firewall, f);
}

static void rules_without_ipv4(void **state) {
	(void)state;
	const struct instnet_spec spec = network();
	const struct instnet_config c = {.spec = &spec};
	struct instnet_rules r;

	OK(instnet_rules(&c, &r, &error));
	assert_true(has(&r.filter, "chain forward"));
	assert_false(has(&r.filter, "ip saddr"));
	assert_false(has(&r.filter, "\ticmp "));
	assert_true(has(&r.filter, "iifname \"tap\" ip6 daddr fd00:ec2::254 tcp dport 80 goto metadata"));
	assert_false(has(&r.filter, "ip daddr 169.254.169.254 tcp"));
	assert_string_equal(r.nat.data, "");
	assert_false(has(&r.arp, "accept;") || has(&r.arp, " accept\n"));
	instnet_rules_done(&r);
}

static void rules_of_a_dedicated_address(void **state) {
	(void)state;
	struct instnet_spec spec = network();
	const struct instnet_config c = {.spec = &spec};
	struct instnet_rules r;

	spec.ipv4 = INSTNET_DEDICATED;
	spec.address4 = addr("203.0.113.7");
	OK(instnet_rules(&c, &r, &error));
	assert_true(has(&r.filter, "\t\tip saddr != 203.0.113.7 drop\n"));
	assert_true(has(&r.filter, "\tip saddr 203.0.113.7 drop"));
	assert_true(has(&r.filter, "iifname \"tap\" ip daddr 169.254.169.254 tcp dport 80 goto metadata"));
	assert_false(has(&r.filter, "ct status dnat"));
	assert_true(has(&r.nat, "\t\toifname != \"uplink\" accept\n\t\tip saddr 203.0.113.7 accept\n"));
	assert_false(has(&r.nat, "type nat"));
	assert_true(has(&r.arp,
	                "arp saddr ether 02:00:00:00:00:05 arp saddr ip 203.0.113.7 arp daddr ip { 169.254.0.1, "
	                "169.254.169.254 }"));
	instnet_rules_done(&r);
}

static struct instnet_spec sharing(void) {
	struct instnet_spec s = network();

	s.ipv4 = INSTNET_SHARED;
	s.address4 = instnet_shared_address();
	s.slices[s.n_slices++] = (struct instnet_slice){addr("198.51.100.3"), 1024, 1535};
	s.forwards[s.n_forwards++] = (struct instnet_forward){INSTNET_TCP, addr("198.51.100.3"), 1100, 22};
	s.forwards[s.n_forwards++] = (struct instnet_forward){INSTNET_UDP, addr("198.51.100.3"), 1100, 53};
	return s;
}

static void rules_of_slices(void **state) {
	(void)state;
	struct instnet_spec spec = sharing();
	struct instnet_config c = {.spec = &spec};
	struct instnet_rules r;

	OK(instnet_rules(&c, &r, &error));
	assert_true(has(&r.nat, "\tchain slice0 {\n\t\tmeta l4proto { 1, 6, 17 } snat to 198.51.100.3:1024-1535\n"));
	assert_true(has(&r.nat, "\tchain translate {\n\t\tgoto slice0\n"));
	assert_false(has(&r.nat, "jhash"));
	assert_true(has(&r.nat, "ip daddr 198.51.100.3 tcp dport 1100 dnat to 192.0.0.2:22\n"));
	assert_true(has(&r.nat, "ip daddr 198.51.100.3 udp dport 1100 dnat to 192.0.0.2:53\n"));
	assert_true(has(&r.nat, "\t\tip saddr 198.51.100.3 meta l4proto { 6, 17 } th sport 1024-1535 accept\n"));
	assert_true(has(&r.filter, "\tip daddr 192.0.0.2 drop"));
	instnet_rules_done(&r);

	/* Of two slices, each may be used by what exists; new connections use those that are open. */
	spec.slices[spec.n_slices++] = (struct instnet_slice){addr("198.51.100.9"), 4096, 4607};
	OK(instnet_rules(&c, &r, &error));
	assert_true(has(&r.nat, "jhash ip saddr . th sport mod 2 seed 1 vmap { 0 : goto slice0, 1 : goto slice1 }"));
	assert_true(has(&r.nat, "jhash icmp id mod 2 seed 1 vmap { 0 : goto slice0, 1 : goto slice1 }"));
	instnet_rules_done(&r);
	c.open_slices = 1;
	OK(instnet_rules(&c, &r, &error));
	assert_false(has(&r.nat, "slice1"));
	assert_true(has(&r.nat, "ip saddr 198.51.100.9 meta l4proto { 6, 17 } th sport 4096-4607 accept"));
	instnet_rules_done(&r);
}

/*
 * While the kernel replaces a table, a packet may meet the new rules before a set of intervals has its elements: there
 * is none of prefixes.
 */
static void rules_have_no_set_of_prefixes(void **state) {
	(void)state;
	struct instnet_spec spec = sharing();
	const struct instnet_config c = {.spec = &spec};
	struct instnet_rules r;

	spec.delegated = (struct prefix){addr("2001:db8:5000::"), 60};
	OK(instnet_rules(&c, &r, &error));
	for (const char *set = r.filter.data; (set = strstr(set, " { ")); set++)
		assert_true(strcspn(set, "/") > strcspn(set, "}"));
	instnet_rules_done(&r);
}

/* The kernel takes the rules of as many slices, forwards and rules as there can be. */
static void rules_of_the_largest_spec(void **state) {
	(void)state;
	struct instnet_spec spec = sharing();
	const struct instnet_config c = {
		.prefix = prefix, .id = ID, .spec = &spec, .open_slices = 3, .uid = 200001, .mtu = 1500};
	struct instnet_state made = {0}, same;

	if (geteuid() != 0)
		skip();
	for (; spec.n_slices < INSTNET_SLICES_MAX; spec.n_slices++)
		spec.slices[spec.n_slices] = (struct instnet_slice){
			addr("198.51.100.255"), 2048 * (int64_t)spec.n_slices, 2048 * (int64_t)spec.n_slices + 2047};
	for (; spec.n_forwards < INSTNET_FORWARDS_MAX; spec.n_forwards++)
		spec.forwards[spec.n_forwards] = (struct instnet_forward){INSTNET_TCP, addr("198.51.100.255"),
		                                                          2048 + (int64_t)spec.n_forwards, 65535};
	for (; spec.n_ingress < INSTNET_INGRESS_MAX; spec.n_ingress++)
		spec.ingress[spec.n_ingress] =
			(struct instnet_ingress){.proto = INSTNET_TCP, .port = 100 + (int64_t)spec.n_ingress};
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	same = made;
	assert_int_equal(made.open_slices, 3);
	OK(instnet_ensure(&c, public_nl, public_fd, &made, &error));
	assert_memory_equal(&made, &same, sizeof(made));
	OK(instnet_remove(prefix, ID, public_nl, &error));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_as_documented),
		cmocka_unit_test(network_is_made_repaired_and_removed),
		cmocka_unit_test(a_refused_firewall_is_told_apart),
		cmocka_unit_test(rules_without_ipv4),
		cmocka_unit_test(rules_of_a_dedicated_address),
		cmocka_unit_test(rules_of_slices),
		cmocka_unit_test(rules_have_no_set_of_prefixes),
		cmocka_unit_test(rules_of_the_largest_spec),
	};
	return cmocka_run_group_tests_name("instnet", tests, setup, teardown);
}
