/* SPDX-License-Identifier: Apache-2.0 */
#include "api/addresspool.h"
#include "api/core.h"
#include "api/dom.h"
#include "api/endpoint.h"
#include "api/instance.h"
#include "api/schema.h"
#include "api/tenantquota.h"
#include "base/testing.h"
#include "base/util.h"

static void expect_errors(const struct api_kind *k, const char *json, const char *want) {
	struct api_errors errs = {0};
	struct error err = {0};
	void *obj = NULL;
	int r = api_parse(k, json, strlen(json), &obj, &errs);
	if (r == 0) {
		api_free(k, obj);
		fail_msg("accepted: %s", json);
	}
	api_errors_to_error(&errs, &err);
	assert_string_equal(err.msg, want);
}

static void test_round_trip(void **state) {
	static const char json[] =
		"{\"apiVersion\":\"nacre.dev/"
		"v1alpha1\",\"kind\":\"Instance\",\"metadata\":{\"name\":\"a\",\"namespace\":\"t\","
		"\"labels\":{\"x\":\"\",\"example.com/y\":\"1\"},\"finalizers\":[\"nacre.dev/instance\"]},"
		"\"spec\":{\"type\":\"small\",\"image\":\"lab\",\"running\":false,\"ingress\":[{\"protocol\":\"tcp\","
		"\"port\":80},"
		"{\"protocol\":\"icmp\",\"from\":\"2001:db8::/32\"}]},\"status\":{\"restarts\":0}}";
	struct api_errors errs = {0};
	struct instance *i = NULL, *again = NULL;
	_buf_free_ struct buf out = {0};
	(void)state;
	assert_int_equal(api_parse(&api_kind_instance, json, strlen(json), (void **)&i, &errs), 0);
	assert_string_equal(i->meta.name, "a");
	assert_true(i->spec->running.set && !i->spec->running.v);
	assert_int_equal(i->spec->ingress.n, 2);
	assert_int_equal(i->spec->ingress.v[0].port.v, 80);
	assert_false(i->spec->ingress.v[1].port.set);
	assert_true(i->status->restarts.set);
	api_print(&api_kind_instance, i, &out);
	assert_string_equal(out.data, json);
	assert_int_equal(api_parse(&api_kind_instance, out.data, out.len, (void **)&again, &errs), 0);
	assert_true(api_equal(&api_desc_instance, i, again));
	again->spec->ingress.v[0].port.v = 81;
	assert_false(api_equal(&api_desc_instance, i, again));
	api_free(&api_kind_instance, i);
	api_free(&api_kind_instance, again);
}

#define INSTANCE_WITH(spec) "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"type\":\"t\",\"image\":\"i\"" spec "}}"

static void test_reject(void **state) {
	(void)state;
	const struct api_kind *k = &api_kind_instance;
	expect_errors(k, "{}", "spec: is required");
	expect_errors(k, "[]", "must be an object, not a list");
	expect_errors(k, "{\"spec\":", "invalid JSON at byte 8: the text ends early");
	expect_errors(k, "{\"spec\":{}} x", "spec.type: is required; spec.image: is required");
	expect_errors(k, INSTANCE_WITH("") "x", "invalid JSON at byte 57: more text after the value");
	expect_errors(k, "{\"kind\":\"Host\",\"spec\":{}}", "kind: must be `Instance`");
	expect_errors(k, INSTANCE_WITH(",\"ingress\":[{\"protocol\":\"tcp\",\"port\":70000}]"),
	              "spec.ingress[0].port: must be 1 to 65535, not 70000");
	expect_errors(k, INSTANCE_WITH(",\"ingress\":[{\"protocol\":\"tcp\"},{\"protocol\":\"icmp\",\"port\":8}]"),
	              "spec.ingress[0].port: is required for protocol tcp; spec.ingress[1].port: must not be set for "
	              "protocol icmp");
	expect_errors(k, INSTANCE_WITH(",\"ingress\":[{\"protocol\":\"sctp\"}]"),
	              "spec.ingress[0].protocol: must be one of `tcp`, `udp`, `icmp`, not `sctp`");
	expect_errors(k, INSTANCE_WITH(",\"ingress\":[{\"protocol\":\"tcp\",\"port\":\"80\"}]"),
	              "spec.ingress[0].port: must be a whole number, not a string");
	expect_errors(k, INSTANCE_WITH(",\"ingress\":[{\"protocol\":\"tcp\",\"port\":1e99}]"),
	              "spec.ingress[0].port: must be a whole number in 64 bits, not 1e99");
	expect_errors(k, INSTANCE_WITH(",\"ingress\":[{\"protocol\":\"icmp\",\"from\":\"2001:db8::1/32\"}]"),
	              "spec.ingress[0].from: `2001:db8::1/32` is not aligned: it has host bits set; did you mean "
	              "`2001:db8::/32`?");
	expect_errors(k, INSTANCE_WITH(",\"running\":1"), "spec.running: must be true or false, not a number");
	expect_errors(k, INSTANCE_WITH(",\"type\":\"u\""), "spec.type: is there twice");
	expect_errors(
		k, "{\"metadata\":{\"name\":\"A\"},\"spec\":{\"type\":\"t\",\"image\":\"i\"}}",
		"metadata.name: `A` must be a name: at most 253 lower-case letters, digits, `-` and `.`, each part "
		"beginning and ending with a letter or digit");
	expect_errors(&api_kind_instancetype, "{\"spec\":{\"vcpus\":0,\"memoryMiB\":64}}",
	              "spec.vcpus: must be 1 to 1024, not 0");
	expect_errors(
		&api_kind_endpoint,
		"{\"spec\":{\"host\":\"h\",\"vtep\":\"fd00::1\",\"ip\":\"fd00::2\",\"mac\":\"01:00:5e:00:00:01\"}}",
		"spec.mac: `01:00:5e:00:00:01` is a multicast MAC address; the first byte must be even");
	expect_errors(&api_kind_addresspool, "{\"spec\":{\"use\":\"instance\",\"prefix\":\"2001:db8::/80\"}}",
	              "spec.prefix: `2001:db8::/80` is smaller than a /64, which use instance needs");
	expect_errors(&api_kind_addresspool, "{\"spec\":{\"use\":\"mac\",\"macPrefix\":\"03:00:00\"}}",
	              "spec.macPrefix: `03:00:00` must be the first three bytes of a unicast MAC, such as 02:4e:01");
	expect_errors(&api_kind_image, "{\"spec\":{\"kernel\":{\"kernel\":\"../../etc/passwd\"}}}",
	              "spec.kernel.kernel: `../../etc/passwd` must be a file name relative to the image directory, of "
	              "letters, "
	              "digits and -_.+@, without `..`");
	expect_errors(
		&api_kind_instance,
		INSTANCE_WITH(
			"},\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"reason\":\"x\","
			"\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"},{\"type\":\"Ready\",\"status\":\"False\","
			"\"reason\":\"x\",\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"}]"),
		"status.conditions[1]: `Ready` is there twice");
}

static void test_allocation(void **state) {
	char name[64], value[PREFIX_STR_MAX];
	struct addresspool_spec s = {.use = (char *)"instance", .prefix = (char *)"2001:db8:1::/48"};
	(void)state;
	allocation_name("2001:db8:1:1::/64", name);
	assert_string_equal(name, "ip6-2001-db8-1-1--64");
	allocation_name("fd00::1", name);
	assert_string_equal(name, "ip6-fd00--1-128");
	allocation_name("fd00::", name);
	assert_string_equal(name, "ip6-fd00--128");
	allocation_name("02:4e:01:00:00:01", name);
	assert_string_equal(name, "mac-02-4e-01-00-00-01");
	assert_int_equal(addresspool_total(&s), 65536);
	assert_int_equal(addresspool_value(&s, 65535, value), 0);
	assert_string_equal(value, "2001:db8:1:ffff::/64");
	assert_int_equal(addresspool_value(&s, 65536, value), -ERANGE);
	struct addresspool_spec o = {.use = (char *)"overlay", .prefix = (char *)"fd00::/126"};
	assert_int_equal(addresspool_total(&o), 3);
	assert_int_equal(addresspool_value(&o, 0, value), 0);
	assert_string_equal(value, "fd00::1");
	assert_int_equal(addresspool_value(&o, 3, value), -ERANGE);
	struct addresspool_spec m = {.use = (char *)"mac", .mac_prefix = (char *)"02:4e:01"};
	assert_int_equal(addresspool_value(&m, 0x10203, value), 0);
	assert_string_equal(value, "02:4e:01:01:02:04");
	struct addresspool_spec p = {.use = (char *)"delegated", .prefix = (char *)"2001:db8::/32"};
	assert_true(addresspool_overlaps(&s, &p));
	assert_false(addresspool_overlaps(&s, &o));
	assert_false(addresspool_overlaps(&s, &m));
}

static void test_allocation_records(void **state) {
	struct api_object_ref owner = {.uid = (char *)"0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab"};
	struct allocation_spec spec = {.owner = &owner, .since = (char *)"2026-01-01T00:00:01.500000Z"};
	struct allocation al = {.meta = {.name = (char *)"ip4-203-0-113-7", .uid = (char *)"x"}, .spec = &spec};
	char name[ALLOCATIONRECORD_NAME_MAX], since[TIME_STR_MAX];
	(void)state;
	allocationrecord_name(&al, name);
	assert_string_equal(name, "ip4-203-0-113-7.0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab.1767225601500000");
	assert_true(allocation_since(&al, since));
	assert_string_equal(since, "2026-01-01T00:00:01Z");
	/* Of an earlier version. */
	spec.since = NULL;
	assert_false(allocation_since(&al, since));
	al.meta.creation_timestamp = (char *)"2026-01-01T00:00:01Z";
	allocationrecord_name(&al, name);
	assert_string_equal(name, "ip4-203-0-113-7.0b5ac4a8-4b0e-4c1f-9d6e-0123456789ab.1767225601000000");
}

static void test_ipv4_pools(void **state) {
	char name[64], value[PREFIX_STR_MAX];
	struct addresspool_spec d = {.use = (char *)"dedicated", .prefix = (char *)"203.0.113.0/24"};
	struct addresspool_spec s = {.use = (char *)"shared", .prefix = (char *)"198.51.100.2/31"};
	struct slice slice;
	uint64_t n;
	(void)state;
	assert_int_equal(addresspool_total(&d), 256);
	assert_int_equal(addresspool_value(&d, 7, value), 0);
	assert_string_equal(value, "203.0.113.7");
	assert_true(addresspool_index(&d, "203.0.113.255", &n));
	assert_int_equal(n, 255);
	assert_false(addresspool_index(&d, "203.0.114.0", &n));
	assert_false(addresspool_index(&d, "203.0.113.7/32", &n));
	allocation_name("203.0.113.7", name);
	assert_string_equal(name, "ip4-203-0-113-7");

	/* Two addresses, each with 126 slices of 512 ports from 1024 on. Each address gives one before any gives two.
	 */
	assert_int_equal(addresspool_total(&s), 252);
	assert_int_equal(addresspool_value(&s, 0, value), 0);
	assert_string_equal(value, "198.51.100.2:1024-1535");
	assert_int_equal(addresspool_value(&s, 1, value), 0);
	assert_string_equal(value, "198.51.100.3:1024-1535");
	assert_int_equal(addresspool_value(&s, 251, value), 0);
	assert_string_equal(value, "198.51.100.3:65024-65535");
	assert_int_equal(addresspool_value(&s, 252, value), -ERANGE);
	for (uint64_t i = 0; i < 252; i++) {
		assert_int_equal(addresspool_value(&s, i, value), 0);
		assert_true(addresspool_index(&s, value, &n));
		assert_int_equal(n, i);
	}
	struct addresspool_numbers all = addresspool_slices_beside(&s, 251);
	assert_true(all.first == 1 && all.step == 2 && all.n == 126);

	/* A large pool: a window of 256 addresses is full before the next one begins. */
	struct addresspool_spec l = {.use = (char *)"shared", .prefix = (char *)"198.51.0.0/20"};
	static const struct {
		uint64_t index;
		const char *value;
	} large[] = {{0, "198.51.0.0:1024-1535"},         {255, "198.51.0.255:1024-1535"},
	             {256, "198.51.0.0:1536-2047"},       {126 * 256 - 1, "198.51.0.255:65024-65535"},
	             {126 * 256, "198.51.1.0:1024-1535"}, {16 * 126 * 256 - 1, "198.51.15.255:65024-65535"}};
	for (size_t i = 0; i < ARRAY_SIZE(large); i++) {
		assert_int_equal(addresspool_value(&l, large[i].index, value), 0);
		assert_string_equal(value, large[i].value);
		assert_true(addresspool_index(&l, value, &n));
		assert_int_equal(n, large[i].index);
	}
	assert_int_equal(addresspool_value(&l, 16 * 126 * 256, value), -ERANGE);
	all = addresspool_slices_beside(&l, 126 * 256 + 3 * 256 + 7);
	assert_true(all.first == 126 * 256 + 7 && all.step == 256 && all.n == 126);

	assert_false(addresspool_index(&s, "198.51.100.3:512-1023", &n));
	assert_false(addresspool_index(&s, "198.51.100.3:1024-2047", &n));
	assert_false(addresspool_index(&s, "198.51.100.3:1025-1536", &n));
	assert_false(addresspool_index(&s, "198.51.100.4:1024-1535", &n));
	allocation_name("198.51.100.3:1024-1535", name);
	assert_string_equal(name, "port-198-51-100-3-1024");
	assert_int_equal(slice_parse("198.51.100.3:0-63", &slice, NULL), 0);
	static const char *const bad[] = {
		"198.51.100.3",         "198.51.100.3:1-",      "198.51.100.3:2-1",  "198.51.100.3:01-2",
		"198.51.100.3:1-65536", "198.51.100.3:1-2 ",    "198.51.100.3:-1-2", ":1-2",
		"2001:db8::1:1-2",      "1198.151.100.103:1-2", "198.51.100.3: 1-2"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(slice_parse(bad[i], &slice, NULL), -EINVAL);

	static const char *const of[][2] = {{"198.51.100.3:1024-1535", "198.51.100.3"},
	                                    {"203.0.113.7", "203.0.113.7"},
	                                    {"2001:db8:0:10::/60", "2001:db8:0:10::"}};
	for (size_t i = 0; i < ARRAY_SIZE(of); i++) {
		assert_true(allocation_address(of[i][0], value));
		assert_string_equal(value, of[i][1]);
	}
	assert_false(allocation_address("02:4e:01:00:00:01", value));
	assert_int_equal(addresspool_history_days(&s), 180);
	s.history_days = API_I64(0);
	assert_int_equal(addresspool_history_days(&s), 0);
	assert_int_equal(addresspool_history_records(&s), 100000);
	struct addresspool_spec mac = {.use = (char *)"mac"}, own = {.use = (char *)"dedicated"};
	assert_int_equal(addresspool_history_days(&mac), 0);
	assert_int_equal(addresspool_quarantine(&s), 300);
	assert_int_equal(addresspool_quarantine(&own), 300);
	assert_int_equal(addresspool_quarantine(&mac), 0);
	own.quarantine = API_I64(0);
	mac.quarantine = API_I64(7);
	assert_int_equal(addresspool_quarantine(&own), 0);
	assert_int_equal(addresspool_quarantine(&mac), 7);

	/* The whole of the ports, and a range that isn't aligned. */
	s.first_port = API_I64(1000);
	s.last_port = API_I64(2046);
	s.slice_ports = API_I64(512);
	assert_int_equal(addresspool_total(&s), 2);
	s.slice_ports = API_I64(64);
	assert_int_equal(addresspool_total(&s), 2 * 15);

#define SHARED(...) "{\"spec\":{\"use\":\"shared\",\"prefix\":\"198.51.100.0/24\"," __VA_ARGS__ "}}"
	expect_errors(&api_kind_addresspool, SHARED("\"slicePorts\":500"),
	              "spec.slicePorts: 500 is not a power of two");
	expect_errors(&api_kind_addresspool, SHARED("\"firstPort\":1025,\"lastPort\":2046"),
	              "spec.lastPort: the ports from firstPort to lastPort hold no slice of 512 ports whose first port "
	              "is a multiple of 512");
	expect_errors(&api_kind_addresspool, SHARED("\"firstPort\":3000,\"lastPort\":2046"),
	              "spec.lastPort: the ports from firstPort to lastPort hold no slice of 512 ports whose first port "
	              "is a multiple of 512");
	expect_errors(&api_kind_addresspool, "{\"spec\":{\"use\":\"dedicated\",\"prefix\":\"2001:db8::/32\"}}",
	              "spec.prefix: `2001:db8::/32` is not IPv4, which use dedicated needs");
	expect_errors(&api_kind_addresspool, "{\"spec\":{\"use\":\"overlay\",\"prefix\":\"10.0.0.0/8\"}}",
	              "spec.prefix: `10.0.0.0/8` is not IPv6, which use overlay needs");
	expect_errors(&api_kind_addresspool, "{\"spec\":{\"use\":\"shared\",\"prefix\":\"10.0.0.0/15\"}}",
	              "spec.prefix: `10.0.0.0/15` is larger than a /18, the most for use shared");
	expect_errors(&api_kind_addresspool,
	              "{\"spec\":{\"use\":\"dedicated\",\"prefix\":\"10.0.0.0/8\",\"slicePorts\":64}}",
	              "spec.slicePorts: must only be set for use shared");
	expect_errors(&api_kind_instance, INSTANCE_WITH(",\"ipv4\":\"both\""),
	              "spec.ipv4: must be one of `none`, `dedicated`, `shared`, not `both`");
	expect_errors(&api_kind_instance,
	              INSTANCE_WITH(",\"ipv4\":\"none\",\"forwards\":[{\"protocol\":\"tcp\",\"targetPort\":22}]"),
	              "spec.forwards: must only be set for ipv4 shared; ingress opens ports");
	expect_errors(&api_kind_instance,
	              INSTANCE_WITH(",\"forwards\":[{\"protocol\":\"tcp\",\"targetPort\":22,\"port\":1030},"
	                            "{\"protocol\":\"udp\",\"targetPort\":22,\"port\":1030},"
	                            "{\"protocol\":\"tcp\",\"targetPort\":22},"
	                            "{\"protocol\":\"tcp\",\"targetPort\":80,\"port\":1030}]"),
	              "spec.forwards[2]: leads to the same port as forwards[0]; "
	              "spec.forwards[3]: has the same port as forwards[0]");
#define ROUTE(route)                                                                                       \
	"{\"spec\":{\"host\":\"h\",\"vtep\":\"fd00::1\",\"ip\":\"fd00::2\",\"mac\":\"02:00:5e:00:00:01\"," \
	"\"routes\":[{" route "}]}}"
	expect_errors(&api_kind_endpoint, ROUTE("\"prefix\":\"198.51.100.3/32\",\"firstPort\":1024"),
	              "spec.routes[0]: must have both firstPort and lastPort, or neither");
	expect_errors(&api_kind_endpoint, ROUTE("\"prefix\":\"2001:db8::/32\",\"firstPort\":1024,\"lastPort\":1535"),
	              "spec.routes[0]: ports are only for one IPv4 address, a /32");
	expect_errors(&api_kind_endpoint, ROUTE("\"prefix\":\"198.51.100.3/32\",\"firstPort\":1024,\"lastPort\":1023"),
	              "spec.routes[0]: firstPort is greater than lastPort");
	static const char *const no_slices[] = {"0,\"lastPort\":65535", "1024,\"lastPort\":1534",
	                                        "1100,\"lastPort\":1611", "1280,\"lastPort\":1791",
	                                        "1024,\"lastPort\":33791"};
	for (size_t i = 0; i < ARRAY_SIZE(no_slices); i++) {
		char text[512];
		snprintf(text, sizeof(text), ROUTE("\"prefix\":\"198.51.100.3/32\",\"firstPort\":%s"), no_slices[i]);
		expect_errors(&api_kind_endpoint, text,
		              "spec.routes[0]: must have 2^k ports, at most 32768, and firstPort be a multiple of "
		              "their number");
	}
}

static void test_dom(void **state) {
	struct api_errors unknown = {0}, errs = {0};
	(void)state;
	json_t *o = json_loads(
		"{\"apiVersion\":\"x\",\"kind\":\"y\",\"a\":1,\"metadata\":{\"name\":\"n\"},"
		"\"spec\":{\"type\":\"t\",\"image\":\"i\",\"b\":{},\"ingress\":[{\"protocol\":\"icmp\",\"port\":null,"
		"\"c\":2}]}}",
		0, NULL);
	api_prune(&api_desc_instance, o, &unknown);
	assert_int_equal(unknown.n, 3);
	assert_string_equal(unknown.v[0].msg, "unknown field \"a\"");
	assert_string_equal(unknown.v[1].msg, "unknown field \"spec.b\"");
	assert_string_equal(unknown.v[2].msg, "unknown field \"spec.ingress[0].c\"");
	assert_int_equal(api_default(&api_desc_instance, o), 0);
	_free_ char *text = json_dumps(o, JSON_COMPACT);
	assert_string_equal(
		text, "{\"apiVersion\":\"x\",\"kind\":\"y\",\"metadata\":{\"name\":\"n\"},\"spec\":{\"type\":\"t\","
		      "\"image\":\"i\",\"ingress\":[{\"protocol\":\"icmp\"}],\"running\":true,\"ipv4\":\"shared\"}}");
	json_decref(o);

	struct instance *a = NULL, *b = NULL;
	static const char old[] = INSTANCE_WITH(""),
			  new[] = "{\"spec\":{\"type\":\"u\",\"image\":\"i\",\"running\":false}}";
	assert_int_equal(api_parse(&api_kind_instance, old, strlen(old), (void **)&a, &errs), 0);
	assert_int_equal(api_parse(&api_kind_instance, new, strlen(new), (void **)&b, &errs), 0);
	api_check_update(&api_kind_instance, a, b, &errs);
	assert_int_equal(errs.n, 1);
	assert_string_equal(errs.v[0].path, "spec.type");
	api_free(&api_kind_instance, a);
	api_free(&api_kind_instance, b);

	/* An object of a version without ipv4 counts as shared, which the next write adds. */
	static const struct {
		const char *old, *new;
		size_t errors;
	} ways[] = {{"", ",\"ipv4\":\"shared\"", 0},
	            {"", ",\"ipv4\":\"dedicated\"", 1},
	            {"", "", 0},
	            {",\"ipv4\":\"shared\"", "", 1},
	            {",\"ipv4\":\"none\"", ",\"ipv4\":\"shared\"", 1}};
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		_free_ char *was = strf("{\"spec\":{\"type\":\"t\",\"image\":\"i\"%s}}", ways[i].old),
			    *is = strf("{\"spec\":{\"type\":\"t\",\"image\":\"i\"%s}}", ways[i].new);
		errs = (struct api_errors){0};
		assert_int_equal(api_parse(&api_kind_instance, was, strlen(was), (void **)&a, &errs), 0);
		assert_int_equal(api_parse(&api_kind_instance, is, strlen(is), (void **)&b, &errs), 0);
		api_check_update(&api_kind_instance, a, b, &errs);
		assert_int_equal(errs.n, ways[i].errors);
		api_free(&api_kind_instance, a);
		api_free(&api_kind_instance, b);
	}

	/* status.id may be added, and then can't change. */
	static const struct {
		const char *old, *new;
		size_t errors;
	} ids[] = {{"{}", "{\"id\":\"a\"}", 0},
	           {"{\"id\":\"a\"}", "{\"id\":\"a\"}", 0},
	           {"{\"id\":\"a\"}", "{\"id\":\"b\"}", 1},
	           {"{\"id\":\"a\"}", "{}", 1}};
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		_free_ char *was = strf("{\"spec\":{\"type\":\"t\",\"image\":\"i\"},\"status\":%s}", ids[i].old),
			    *is = strf("{\"spec\":{\"type\":\"t\",\"image\":\"i\"},\"status\":%s}", ids[i].new);
		errs = (struct api_errors){0};
		assert_int_equal(api_parse(&api_kind_instance, was, strlen(was), (void **)&a, &errs), 0);
		assert_int_equal(api_parse(&api_kind_instance, is, strlen(is), (void **)&b, &errs), 0);
		api_check_update(&api_kind_instance, a, b, &errs);
		assert_int_equal(errs.n, ids[i].errors);
		api_free(&api_kind_instance, a);
		api_free(&api_kind_instance, b);
	}
}

static void test_jsonpath(void **state) {
	(void)state;
	json_t *o =
		json_loads("{\"a\":{\"b\":[{\"t\":\"x\",\"v\":1},{\"t\":\"Ready\",\"v\":\"True\"}],\"n\":7}}", 0, NULL);
	static const struct {
		const char *path, *want;
	} t[] = {{".a.b[?(@.t==\"Ready\")].v", "True"},
	         {".a.b[*].v", "1,True"},
	         {".a.n", "7"},
	         {".a.x.y", ""},
	         {".a.b[0].t", "x"},
	         {".a[\"n\"]", "7"},
	         {".a", ""},
	         {".a.b[", ""},
	         {"", ""}};
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_free_ char *s = api_jsonpath(o, t[i].path, NULL, NULL);
		assert_string_equal(s, t[i].want);
	}
	int64_t n;
	bool is_int;
	free(api_jsonpath(o, ".a.n", &n, &is_int));
	assert_true(is_int && n == 7);
	json_decref(o);
}

static void test_labels_equal(void **state) {
	(void)state;
	struct api_kv ab[] = {{"a", "1"}, {"b", "2"}}, ba[] = {{"b", "2"}, {"a", "1"}},
		      other[] = {{"a", "1"}, {"c", "2"}};
	const struct api_map x = {ab, 2}, y = {ba, 2}, less = {ab, 1}, z = {other, 2}, none = {0};
	assert_true(api_labels_equal(&x, &y) && api_labels_equal(&none, &none));
	assert_false(api_labels_equal(&x, &less) || api_labels_equal(&less, &x) || api_labels_equal(&x, &z));
}

static void test_condition(void **state) {
	struct api_condition *v = NULL;
	size_t n = 0;
	(void)state;
	assert_int_equal(api_condition_set(&v, &n, "Ready", "False", "Starting", "wait", 1, 1000000), 1);
	assert_int_equal(api_condition_set(&v, &n, "Ready", "False", "Starting", "wait", 1, 2000000), 0);
	assert_int_equal(api_condition_set(&v, &n, "Ready", "False", "Starting", "more", 1, 3000000), 1);
	assert_string_equal(v[0].last_transition_time, "1970-01-01T00:00:01Z");
	assert_int_equal(api_condition_set(&v, &n, "Ready", "True", "Running", NULL, 2, 4000000), 1);
	assert_string_equal(v[0].last_transition_time, "1970-01-01T00:00:04Z");
	assert_true(api_condition_is_true(v, n, "Ready"));
	assert_int_equal(n, 1);
	api_clear(&api_desc_api_condition, v);
	free(v);
}

static void test_every_kind(void **state) {
	_buf_free_ struct buf crds = {0}, docs = {0};
	struct error err;
	(void)state;
	for (const struct api_kind *const *k = api_kinds; *k; k++) {
		assert_true((*k)->desc->n_fields <= 64);
		assert_true((*k)->desc->fields[0].offset == 0);
		assert_string_equal((*k)->desc->fields[0].name, "metadata");
		json_t *s = api_kind_schema(*k);
		assert_non_null(s);
		json_decref(s);
		assert_ptr_equal(api_kind_find((*k)->group, (*k)->version, (*k)->plural), *k);
		assert_ptr_equal(api_kind_find_by_kind((*k)->group, (*k)->version, (*k)->kind), *k);
		assert_int_equal(api_kind_index(*k), k - api_kinds);
	}
	assert_in_range(api_kinds_count(), 1, 64); /* the server keeps a set of kinds in 64 bits */
	assert_int_equal(api_crds_yaml(&crds, &err), 0);
	assert_int_equal(api_reference(&docs, &err), 0);
}

static struct resources amounts(int64_t instances, int64_t vcpus, int64_t memory_mib) {
	return (struct resources){
		.v = {[RESOURCE_instances] = instances, [RESOURCE_vcpus] = vcpus, [RESOURCE_memory_mib] = memory_mib}};
}

static void test_resources(void **state) {
	struct instancetype_spec spec = {.vcpus = API_I64(2), .memory_mib = API_I64(512)};
	const struct instancetype type = {.spec = &spec};
	const struct resources one = instancetype_size(&type), huge = amounts(INT64_MAX, INT64_MIN, 3),
			       few = amounts(1, -1, -1), none = {0};
	struct resources sum = one, want;
	char text[RESOURCES_TEXT_MAX], why[RESOURCE_SHORT_MAX];
	(void)state;
	want = amounts(1, 2, 512);
	assert_true(resources_equal(&one, &want));
	sum = resources_times(&one, 3);
	want = amounts(3, 6, 1536);
	assert_true(resources_equal(&sum, &want));
	resources_subtract(&sum, &one);
	resources_subtract(&sum, &one);
	assert_true(resources_equal(&sum, &one));
	assert_int_equal(resources_short(&sum, &one), N_RESOURCES);
	assert_int_equal(resources_short(&none, &none), N_RESOURCES);
	/* The first row that is short is named, in the order of the table. */
	sum = amounts(1, 1, 511);
	assert_int_equal(resources_short(&sum, &one), RESOURCE_vcpus);
	assert_string_equal(resources_print_short(RESOURCE_vcpus, 1, 2, why),
	                    "too few vCPUs (free 1 at most, asked 2)");
	sum = amounts(1, 2, 511);
	assert_int_equal(resources_short(&sum, &one), RESOURCE_memory_mib);
	assert_string_equal(resources_print_short(RESOURCE_memory_mib, 511, 512, why),
	                    "too little memory (free 511 MiB at most, asked 512)");
	/* Sums and differences stop at the limits of int64_t. */
	sum = huge;
	resources_add(&sum, &few);
	want = amounts(INT64_MAX, INT64_MIN, 2);
	assert_true(resources_equal(&sum, &want));
	sum = amounts(INT64_MIN, INT64_MAX, 0);
	resources_subtract(&sum, &few);
	want = amounts(INT64_MIN, INT64_MAX, 1);
	assert_true(resources_equal(&sum, &want));
	sum = resources_times(&huge, -2);
	want = amounts(INT64_MIN, INT64_MAX, -6);
	assert_true(resources_equal(&sum, &want));
	/* The output is sorted by name, whatever the order of the table. */
	assert_string_equal(resources_print(&one, 1U << RESOURCE_vcpus | 1U << RESOURCE_memory_mib, text),
	                    "memoryMiB=512,vcpus=2");
	sum = amounts(INT64_MIN, INT64_MIN, INT64_MIN);
	assert_non_null(strstr(resources_print(&sum, ~0U, text), "vcpus=-9223372036854775808")); /* the longest list */
	assert_string_equal(resources_print(&sum, 0, text), "");
}

static void test_quota(void **state) {
	struct tenantquota_spec limits = {.vcpus = API_I64(8), .memory_mib = API_I64(1024)};
	const struct resources used = amounts(5, 7, 600), want = amounts(1, 2, 512), small = amounts(1, 1, 424),
			       unsized = amounts(1, 0, 0), beyond = amounts(9, 99, 9999),
			       most = amounts(1, INT64_MAX, 0);
	char msg[QUOTA_MESSAGE_MAX];
	(void)state;
	assert_true(tenantquota_exceeded("q", &limits, &used, &want, msg));
	assert_string_equal(msg, "exceeded quota: q, requested: memoryMiB=512,vcpus=2, used: memoryMiB=600,vcpus=7, "
	                         "limited: memoryMiB=1024,vcpus=8");
	assert_false(tenantquota_exceeded("q", &limits, &used, &small, msg)); /* just within the limits */
	assert_false(tenantquota_exceeded("q", &limits, &beyond, &unsized, msg));
	assert_true(tenantquota_exceeded("q", &limits, &used, &most, msg));
	limits = (struct tenantquota_spec){.instances = API_I64(0)};
	assert_true(tenantquota_exceeded("q", &limits, &used, &want, msg));
	assert_string_equal(msg, "exceeded quota: q, requested: instances=1, used: instances=5, limited: instances=0");
	limits = (struct tenantquota_spec){0};
	assert_false(tenantquota_exceeded("q", &limits, &beyond, &most, msg));
}

/* A copy for a new status has one, and otherwise is the same. */
static void test_copy_with_status(void **state) {
	static const char without[] = "{\"apiVersion\":\"nacre.dev/v1alpha1\",\"kind\":\"TenantQuota\",\"metadata\":"
				      "{\"name\":\"q\",\"namespace\":\"red\"},\"spec\":{\"vcpus\":8}}",
			  with[] = "{\"apiVersion\":\"nacre.dev/v1alpha1\",\"kind\":\"TenantQuota\",\"metadata\":"
				   "{\"name\":\"q\",\"namespace\":\"red\"},\"spec\":{\"vcpus\":8},\"status\":{\"used\":"
				   "{\"vcpus\":3}}}";
	const char *const texts[] = {without, with};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct api_errors errs = {0};
		void *obj;
		assert_int_equal(api_parse(&api_kind_tenantquota, texts[i], strlen(texts[i]), &obj, &errs), 0);
		const struct tenantquota *q = obj;
		struct tenantquota *copy = api_copy_with_status(&api_kind_tenantquota, obj);
		assert_non_null(copy);
		assert_non_null(copy->status);
		assert_true(api_equal(&api_desc_tenantquota_spec, copy->spec, q->spec));
		if (q->status)
			assert_true(api_equal(&api_desc_tenantquota_status, copy->status, q->status));
		else
			assert_null(copy->status->used);
		api_free(&api_kind_tenantquota, copy);
		api_free(&api_kind_tenantquota, obj);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_reject),
		cmocka_unit_test(test_allocation),       cmocka_unit_test(test_allocation_records),
		cmocka_unit_test(test_ipv4_pools),       cmocka_unit_test(test_dom),
		cmocka_unit_test(test_jsonpath),         cmocka_unit_test(test_condition),
		cmocka_unit_test(test_labels_equal),     cmocka_unit_test(test_every_kind),
		cmocka_unit_test(test_resources),        cmocka_unit_test(test_quota),
		cmocka_unit_test(test_copy_with_status),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
