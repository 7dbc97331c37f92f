/* SPDX-License-Identifier: Apache-2.0 */

/* What the agent writes about the IPv4 of an Instance, and what it tells the machine. */

#include "base/testing.h"

#include <string.h>

#include "base/util.h"
#include "node/desired.h"
#include "node/part.h"

#define TEXT(ipv4, more)                                                                                             \
	"{\"apiVersion\":\"nacre.dev/"                                                                               \
	"v1alpha1\",\"kind\":\"Instance\",\"metadata\":{\"name\":\"a\",\"namespace\":\"t\","                         \
	"\"uid\":\"0b5ac4a8-4b0e-4c35-9c3d-000000000001\"},\"spec\":{\"type\":\"small\",\"image\":\"lab\",\"ipv4\":" \
	"\"" ipv4 "\"},\"status\":{\"host\":\"h1\",\"prefix\":\"2001:db8:1:1::/64\",\"overlayAddress\":\"fd10::5\"," \
	"\"mac\":\"02:4e:01:00:00:05\"," more "}}"
#define SLICE(first, last) "{\"address\":\"198.51.100.3\",\"firstPort\":" #first ",\"lastPort\":" #last "}"
#define SHARED(slices)     TEXT("shared", "\"publicIPv4\":\"198.51.100.3\",\"portSlices\":[" slices "]")

static struct instance *instance(const char *json) {
	struct api_errors errs = {0};
	void *obj;
	assert_int_equal(api_parse(&api_kind_instance, json, strlen(json), &obj, &errs), 0);
	return obj;
}

static struct endpoint *announced(const char *json) {
	struct instance *inst = instance(json);
	struct endpoint *ep = desired_endpoint(inst, "h1", "fd5c::1");
	assert_non_null(ep);
	api_free(&api_kind_instance, inst);
	return ep;
}

static void routes(void **state) {
	(void)state;
	struct endpoint *none = announced(TEXT("none", "\"restarts\":0"));
	struct endpoint *dedicated = announced(TEXT("dedicated", "\"publicIPv4\":\"203.0.113.7\""));
	struct endpoint *two = announced(SHARED(SLICE(1024, 1535) "," SLICE(4096, 4607)));
	struct endpoint *one = announced(SHARED(SLICE(4096, 4607)));
	assert_int_equal(none->spec->routes.n, 1);
	assert_int_equal(dedicated->spec->routes.n, 2);
	assert_string_equal(dedicated->spec->routes.v[1].prefix, "203.0.113.7/32");
	assert_false(endpoint_route_is_slice(&dedicated->spec->routes.v[1]));
	assert_int_equal(two->spec->routes.n, 3);
	assert_string_equal(two->spec->routes.v[2].prefix, "198.51.100.3/32");
	assert_int_equal(two->spec->routes.v[2].first_port.v, 4096);
	assert_int_equal(two->spec->routes.v[2].last_port.v, 4607);
	assert_true(desired_endpoint_loses_slice(two, one));
	assert_false(desired_endpoint_loses_slice(one, two));
	assert_false(desired_endpoint_loses_slice(one, one));
	assert_false(desired_endpoint_loses_slice(dedicated, none));
	api_free(&api_kind_endpoint, none);
	api_free(&api_kind_endpoint, dedicated);
	api_free(&api_kind_endpoint, two);
	api_free(&api_kind_endpoint, one);
}

static const struct api_condition *ports_condition(const struct instance *i) {
	return api_condition_find(i->status->conditions.v, i->status->conditions.n, "PortsAvailable");
}

static void status_of_ports(void **state) {
	(void)state;
	struct instance *inst = instance(SHARED(SLICE(1024, 1535)));
	struct guest_ports ports = {.wanted = 1};
	struct desired_status d = {.phase = "Running", .ready = true, .reason = "Running", .message = ""};
	struct instance *without = desired_status(inst, &d);
	assert_null(ports_condition(without));
	assert_false(without->status->port_slices_wanted.set);
	d.ports = &ports;
	struct instance *well = desired_status(inst, &d);
	assert_string_equal(ports_condition(well)->status, "True");
	assert_string_equal(ports_condition(well)->message, "new connections find a free port");
	assert_int_equal(well->status->port_slices_wanted.v, 1);
	ports = (struct guest_ports){.wanted = 2, .exhausted = true, .message = "none is free"};
	struct instance *out = desired_status(well, &d);
	assert_string_equal(ports_condition(out)->status, "False");
	assert_string_equal(ports_condition(out)->reason, "PortsExhausted");
	assert_string_equal(ports_condition(out)->message, "none is free");
	assert_int_equal(out->status->port_slices_wanted.v, 2);
	api_free(&api_kind_instance, out);
	api_free(&api_kind_instance, well);
	api_free(&api_kind_instance, without);
	api_free(&api_kind_instance, inst);
}

/* The address that the machine's DHCPv4 server gives; "": it has none. */
static void told_to_machine(const char *json, enum instnet_ipv4 now, const char *address) {
	struct instance *inst = instance(json);
	const struct part_source source = {.inst = inst};
	struct guest_spec spec;
	struct error error;
	char text[ADDR_STR_MAX] = "";
	jt_init(&jt_guest_spec, &spec);
	OK(part_network.desire(&source, &spec, &error));
	struct guest_look l = {.spec = &spec};
	OK(part_network.configure(&l, &error));
	assert_int_equal(spec.net.ipv4, now);
	if (l.vm.ipv4.family)
		addr_str(&l.vm.ipv4, text);
	assert_string_equal(text, address);
	assert_int_equal(l.vm.ipv4_router.family, l.vm.ipv4.family);
	api_free(&api_kind_instance, inst);
}

/* An instance that gets its first slice while its machine runs has IPv4 from then on. */
static void machine_has_dhcp_before_it_has_a_slice(void **state) {
	(void)state;
	told_to_machine(TEXT("none", "\"restarts\":0"), INSTNET_NO_IPV4, "");
	told_to_machine(TEXT("shared", "\"restarts\":0"), INSTNET_NO_IPV4, "192.0.0.2");
	told_to_machine(SHARED(SLICE(1024, 1535)), INSTNET_SHARED, "192.0.0.2");
	told_to_machine(TEXT("dedicated", "\"publicIPv4\":\"203.0.113.7\""), INSTNET_DEDICATED, "203.0.113.7");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(routes),
		cmocka_unit_test(status_of_ports),
		cmocka_unit_test(machine_has_dhcp_before_it_has_a_slice),
	};
	return cmocka_run_group_tests_name("desired", tests, NULL, NULL);
}
