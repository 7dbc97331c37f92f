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

static void network_is_made_repaired_and_removed(void **state) {
	(void)state;
	const struct instnet_spec spec = network();
	const struct instnet_config c = {.prefix = prefix, .id = ID, .spec = &spec, .uid = 200001, .mtu = 1500};
	struct link before, after;
	uint64_t nft = 0, same;

	if (geteuid() != 0)
		skip();
	OK(instnet_ensure(&c, public_nl, public_fd, &nft, &error));
	OK(link_get(public_nl, "i-" ID, &before, &error));
	same = nft;
	OK(instnet_ensure(&c, public_nl, public_fd, &nft, &error));
	OK(link_get(public_nl, "i-" ID, &after, &error));
	assert_int_equal(before.index, after.index);
	assert_int_equal(nft, same);
	/* A veth that somebody deletes is made again, with everything that depended on it. */
	OK(link_delete(public_nl, "i-" ID, &error));
	OK(instnet_ensure(&c, public_nl, public_fd, &nft, &error));
	OK(link_get(public_nl, "i-" ID, &after, &error));
	assert_int_not_equal(before.index, after.index);
	OK(instnet_remove(prefix, ID, public_nl, &error));
	assert_int_equal(link_get(public_nl, "i-" ID, &after, &error), -ENODEV);
	OK(instnet_remove(prefix, ID, public_nl, &error));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_as_documented),
		cmocka_unit_test(network_is_made_repaired_and_removed),
	};
	return cmocka_run_group_tests_name("instnet", tests, setup, teardown);
}
