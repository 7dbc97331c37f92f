/* SPDX-License-Identifier: Apache-2.0 */

/* What a machine is made of and what it reports: config.json, QEMU's arguments, status. */

#include "base/testing.h"

#include "base/util.h"
#include "vm/config.h"
#include "vm/qemu.h"
#include "vm/status.h"

static struct error error;

#define HEAD "{\"name\":\"t/web\",\"uuid\":\"0b5ac4a8-4b0e-4c35-9c3d-000000000001\","

#define NIC "\"tap\":\"t\",\"mac\":\"02:00:00:00:00:05\""

static int parse(const char *json, struct vm_config *c) {
	memset(&error, 0, sizeof(error));
	return vm_config_parse(json, strlen(json), c, &error);
}

static void config_round_trip(void **state) {
	(void)state;
	static const char json[] = HEAD
		"\"vcpus\":2,\"memoryMiB\":512,\"accel\":\"kvm\",\"boot\":\"uefi\",\"disk\":\"/instance/disk.qcow2\","
		"\"image\":\"/image/disk\",\"imageFormat\":\"qcow2\",\"imageName\":\"debian\",\"firmware\":\"/"
		"fw\",\"firmwareVars\":\"/vars\","
		"\"mac\":\"02:00:00:00:00:05\",\"tap\":\"tap\",\"prefix\":\"2001:db8:1::/"
		"64\",\"delegated\":\"2001:db8:2::/"
		"60\",\"mtu\":1500,\"ipv4\":\"192.0.0.2\",\"ipv4Router\":\"169.254.0.1\",\"public4\":\"198.51.100.3\","
		"\"leaseSeconds\":600,"
		"\"hostname\":\"web\",\"domain\":\"a.example\",\"search\":[{\"domain\":\"b.example\"}],"
		"\"dns\":[{\"address\":\"9.9.9.9\"},{\"address\":\"2620:fe::fe\"}],\"seed\":\"/seed\",\"uid\":200001,"
		"\"gid\":200001,\"graceSeconds\":10}";
	_buf_free_ struct buf out = {0};
	struct vm_config c, again;

	OK(parse(json, &c));
	vm_config_print(&c, &out);
	OK(parse(out.data, &again));
	assert_memory_equal(&c, &again, sizeof(c));
	assert_string_equal(out.data, json);
}

static void config_rejects(void **state) {
	(void)state;
	static const struct {
		const char *rest, *says;
	} bad[] = {
		{"\"kernel\":\"/k\"", "the text ends early"},
		{"\"kernel\":\"/k\",\"extra\":1}", "extra: unknown field"},
		{"\"kernel\":\"/k\",\"kernel\":\"/k\"}", "kernel: given twice"},
		{"\"kernel\":7}", "kernel"},
		{"\"kernel\":\"/k\",\"vcpus\":0}", "vcpus: must be 1..1024"},
		{"\"kernel\":\"/k\",\"vcpus\":\"2\"}", "vcpus"},
		{"\"kernel\":\"/k\",\"accel\":\"xen\"}", "accel: `xen`"},
		{"\"kernel\":\"/k\\nx\"}", "kernel: control characters"},
		{"\"kernel\":\"/k\",\"mac\":\"01:00:00:00:00:05\",\"tap\":\"t\"}", "mac"},
		{"\"kernel\":\"/k\",\"tap\":\"t\"}", "tap, mac"},
		{"\"kernel\":\"/k\",\"tap\":\"sixteen-letters-\"}", "tap: at most 15"},
		{"\"kernel\":\"/k\",\"prefix\":\"2001:db8:1::/64\"}", "prefix: needs a tap"},
		{"\"kernel\":\"/k\",\"tap\":\"t\",\"mac\":\"02:00:00:00:00:05\",\"prefix\":\"2001:db8::/60\"}",
	         "an IPv6 /64"},
		{"\"kernel\":\"/k\"," NIC ",\"delegated\":\"2001:db8::/60\"}", "delegated"},
		{"\"kernel\":\"/k\"," NIC ",\"prefix\":\"2001:db8::/64\",\"delegated\":\"192.0.2.0/24\"}", "delegated"},
		{"\"kernel\":\"/k\"," NIC ",\"ipv4\":\"192.0.0.2\"}", "ipv4, ipv4Router"},
		{"\"kernel\":\"/k\"," NIC ",\"ipv4Router\":\"169.254.0.1\"}", "ipv4, ipv4Router"},
		{"\"kernel\":\"/k\"," NIC ",\"ipv4\":\"fe80::1\",\"ipv4Router\":\"fe80::2\"}", "ipv4, ipv4Router"},
		{"\"kernel\":\"/k\",\"ipv4\":\"192.0.0.2\",\"ipv4Router\":\"169.254.0.1\"}", "ipv4: needs a tap"},
		{"\"kernel\":\"/k\"," NIC ",\"public4\":\"2001:db8::1\"}", "public4"},
		{"\"kernel\":\"/k\",\"hostname\":\"a b\"}", "hostname"},
		{"\"kernel\":\"/k\",\"domain\":\"a..b\"}", "domain"},
		{"\"kernel\":\"/k\",\"search\":[{\"domain\":\"a.\"}]}", "search: `a.`"},
		{"\"kernel\":\"/k\",\"dns\":[{}]}", "dns"},
		{"\"boot\":\"uefi\",\"disk\":\"/d\",\"image\":\"/i\"}", "firmware"},
		{"\"boot\":\"bios\"}", "disk"},
		{"\"boot\":\"bios\",\"disk\":\"/d\"}", "disk, image"},
		{"\"boot\":\"bios\",\"disk\":\"/d\",\"image\":\"/i\",\"kernel\":\"/k\"}", "kernel"},
		{"\"vcpus\":1}", "kernel"},
	};
	_buf_free_ struct buf long_text = {0};
	struct vm_config c = {.vcpus = 77};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_free_ char *json = strf("%s%s", HEAD, bad[i].rest);
		if (parse(json, &c) != -EINVAL || !strstr(error.msg, bad[i].says))
			fail_msg("%s: `%s`", bad[i].rest, error.msg);
	}
	buf_printf(&long_text, "%s\"kernel\":\"", HEAD);
	for (int i = 0; i < VM_PATH_MAX + 1; i++)
		buf_putc(&long_text, 'x');
	buf_puts(&long_text, "\"}");
	assert_int_equal(parse(long_text.data, &c), -EINVAL);
	assert_int_equal(parse("[]", &c), -EINVAL);
	assert_int_equal(c.vcpus, 77);
}

static bool has(char **v, const char *option, const char *value) {
	for (; *v; v++)
		if (streq(*v, option) && (!value || (v[1] && strstr(v[1], value))))
			return true;
	return false;
}

static void arguments(void **state) {
	(void)state;
	_strv_free_ char **v = NULL;
	_strv_free_ char **w = NULL;
	struct vm_config c;

	OK(parse(HEAD
	         "\"kernel\":\"/a,b\",\"initrd\":\"/i\",\"cmdline\":\"console=ttyS0 x=\\\"y,z\\\"\",\"tap\":\"tap\","
	         "\"mac\":\"02:00:00:00:00:05\"}",
	         &c));
	OK(qemu_argv(&c, &(struct qemu_fds){.tap = 5, .qmp = 6, .serial = 7}, &v, &error));
	assert_string_equal(v[0], QEMU_PROGRAM);
	assert_true(has(v, "-nodefaults", NULL));
	assert_true(has(v, "-no-user-config", NULL));
	assert_true(has(v, "-sandbox", "spawn=deny"));
	assert_true(has(v, "-accel", "tcg"));
	assert_true(has(v, "-kernel", "/a,b"));
	assert_true(has(v, "-append", "x=\"y,z\""));
	assert_true(has(v, "-netdev", "tap,id=net0,fd=5"));
	assert_true(has(v, "-chardev", "fd=6"));
	assert_true(has(v, "-chardev", "fd=7"));
	assert_false(has(v, "-blockdev", NULL));
	assert_true(has(v, "-smbios",
	                "type=1,manufacturer=Nacre,product=Instance,"
	                "serial=ds=nocloud;dsmode=net;s=http://[fd00:ec2::254]/nocloud/"));

	/* No character of a path has a meaning to QEMU, and no image makes QEMU open another file. */
	OK(parse(HEAD
	         "\"boot\":\"uefi\",\"disk\":\"/d,\\\"file.driver\\\"\",\"image\":\"/i\",\"imageFormat\":\"qcow2\","
	         "\"firmware\":\"/fw\",\"firmwareVars\":\"/vars\",\"accel\":\"kvm\"}",
	         &c));
	OK(qemu_argv(&c, &(struct qemu_fds){.tap = -1, .qmp = 6, .serial = 7}, &w, &error));
	assert_true(has(w, "-blockdev", "\"filename\":\"/d,\\\"file.driver\\\"\""));
	assert_true(has(w, "-blockdev", "\"backing\":null"));
	assert_true(has(w, "-blockdev", "\"backing\":\"image\""));
	assert_true(has(w, "-accel", "kvm"));
	assert_false(has(w, "-netdev", NULL));
	assert_false(has(w, "-kernel", NULL));
	assert_true(has(w, "-smbios", "product=Instance"));
	assert_false(has(w, "-smbios", "serial"));
}

/* cloud-init asks by IPv4 only if the instance has a public address. */
static void seed_of_cloud_init(void **state) {
	(void)state;
	static const char *const more[] = {"", ",\"public4\":\"198.51.100.3\""};

	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		_free_ char *json =
			strf(HEAD "\"kernel\":\"/k\"," NIC ",\"ipv4\":\"192.0.0.2\",\"ipv4Router\":\"169.254.0.1\"%s}",
		             more[i]);
		_strv_free_ char **v = NULL;
		struct vm_config c;
		OK(parse(json, &c));
		OK(qemu_argv(&c, &(struct qemu_fds){.tap = 5, .qmp = 6, .serial = 7}, &v, &error));
		assert_true(has(v, "-smbios",
		                i ? "s=http://169.254.169.254/nocloud/" : "s=http://[fd00:ec2::254]/nocloud/"));
	}
}

static void status_round_trip(void **state) {
	(void)state;
	struct vm_status s = {.state = VM_ENDED,
	                      .since_us = 1767225600000000,
	                      .resets = 3,
	                      .end = VM_END_KILLED,
	                      .message = "QEMU was killed by signal 9 (Killed)"},
			 t = {0};
	_buf_free_ struct buf out = {0};

	vm_status_print(&s, &out);
	OK(vm_status_parse(out.data, out.len, &t, &error));
	assert_memory_equal(&s, &t, sizeof(s));
	OK(vm_status_parse("{\"state\":\"running\",\"more\":[1]}", 30, &t, &error));
	assert_int_equal(t.state, VM_RUNNING);
	static const char rude[] = "{\"state\":\"ended\",\"message\":\"\\u001b[2Ja\\nb\\u009b\xe2\x82\xac\"}";
	OK(vm_status_parse(rude, sizeof(rude) - 1, &t, &error));
	assert_string_equal(t.message, "?[2Ja?b?????");
	assert_int_equal(vm_status_parse("{\"state\":\"dancing\"}", 19, &t, &error), -EINVAL);
	assert_int_equal(vm_status_parse("{\"state\":", 9, &t, &error), -EINVAL);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(config_round_trip),  cmocka_unit_test(config_rejects),    cmocka_unit_test(arguments),
		cmocka_unit_test(seed_of_cloud_init), cmocka_unit_test(status_round_trip),
	};
	return cmocka_run_group_tests_name("vm-config", tests, NULL, NULL);
}
