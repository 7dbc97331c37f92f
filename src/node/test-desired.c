/* SPDX-License-Identifier: Apache-2.0 */

/* What the agent writes about the IPv4 of an Instance. */

#include "base/testing.h"

#include <string.h>

#include "base/util.h"
#include "node/desired.h"

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

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(routes)};
	return cmocka_run_group_tests_name("desired", tests, NULL, NULL);
}
