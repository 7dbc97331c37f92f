/* SPDX-License-Identifier: Apache-2.0 */

/* The container and the network of an instance, in namespaces of this run's own. Skipped without root. */

#include "base/testing.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/util.h"
#include "net/link.h"
#include "net/netns.h"
#include "node/container.h"
#include "node/instnet.h"

#define UID "0b5ac4a8-4b0e-4c35-9c3d-000000000001"
#define ID  "0b5ac4a84b0e"

static char prefix[24], public_name[64], dir[64];
static int public_fd = -1;
static struct nl *public_nl;
static struct error error;

#define OK(call)                                                       \
	do {                                                           \
		int res = (call);                                      \
		if (res < 0)                                           \
			fail_msg("%s: %d: %s", #call, res, error.msg); \
	} while (0)

static int teardown(void **state) {
	(void)state;
	(void)!container_kill(dir, &error);
	(void)!instnet_remove(prefix, ID, public_nl, &error);
	public_nl = nl_free(public_nl);
	public_fd = safe_close(public_fd);
	(void)!netns_delete(public_name, &error);
	(void)!remove_tree(dir, &error);
	return 0;
}

static int setup(void **state) {
	(void)state;
	if (geteuid() != 0)
		return 0;
	snprintf(prefix, sizeof(prefix), "tn%d-", getpid());
	snprintf(public_name, sizeof(public_name), "%spublic", prefix);
	snprintf(dir, sizeof(dir), "/tmp/nacre-test-node-%d", getpid());
	OK(mkdir_p(dir, 0755, &error));
	OK(netns_ensure(public_name, NULL, &error));
	OK(netns_open(public_name, &public_fd, &error));
	OK(nl_open(&public_nl, public_fd, &error));
	return 0;
}

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

static struct instnet_config config(void) {
	static struct instnet_ingress in[3];
	struct instnet_config c = {.prefix = prefix,
	                           .id = ID,
	                           .ip = addr("2001:db8::5"),
	                           .net = pfx("2001:db8:1:1::/64"),
	                           .delegated = pfx("2001:db8:2::/60"),
	                           .uid = 200001,
	                           .mtu = 1500,
	                           .ingress = in,
	                           .n_ingress = ARRAY_SIZE(in)};
	in[0] = (struct instnet_ingress){.proto = INSTNET_TCP, .port = 80};
	in[1] = (struct instnet_ingress){.proto = INSTNET_UDP, .port = 53, .from = pfx("2001:db8:9::/48")};
	in[2] = (struct instnet_ingress){.proto = INSTNET_ICMP};
	OK(mac_parse("02:00:00:00:00:05", &c.mac, &error));
	return c;
}

static void names_are_as_documented(void **state) {
	(void)state;
	char id[INSTNET_ID_LEN + 1], name[INSTNET_NAME_MAX], device[16];

	assert_true(instnet_id(UID, id));
	assert_string_equal(id, ID);
	assert_string_equal(instnet_device(id, device), "i-" ID);
	assert_string_equal(instnet_netns("lab-", id, name), "lab-i-" ID);
	assert_false(instnet_id("short", id));
	assert_false(instnet_id("../../../../../../etc/passwd--------", id));
}

static void network_is_made_repaired_and_removed(void **state) {
	(void)state;
	struct instnet_config c = config();
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
	/* A veth that somebody deletes comes back, with all that hung on it. */
	OK(link_delete(public_nl, "i-" ID, &error));
	OK(instnet_ensure(&c, public_nl, public_fd, &nft, &error));
	OK(link_get(public_nl, "i-" ID, &after, &error));
	assert_int_not_equal(before.index, after.index);
	OK(instnet_remove(prefix, ID, public_nl, &error));
	assert_int_equal(link_get(public_nl, "i-" ID, &after, &error), -ENODEV);
	OK(instnet_remove(prefix, ID, public_nl, &error));
}

/* Waits, up to two minutes, for the file that the container's program renames into place. */
static char *wait_file(const char *path) {
	char *text = NULL;

	for (int i = 0; i < 12000 && read_file(path, 65536, &text, NULL, &error) < 0; i++)
		usleep(10000);
	if (!text)
		fail_msg("%s: %s", path, error.msg);
	return text;
}

static void container_sees_what_it_should(void **state) {
	(void)state;
	static const char script[] =
		"#!/bin/sh\n"
		"cd /instance; { echo args $0 $*; echo pid $$; echo host $(uname -n); echo root $(ls /);"
		"echo dev $(ls /dev); echo image $(cat /image/kernel);"
		"echo x 2>/dev/null >/usr/x && echo usr-is-writable;"
		"echo x 2>/dev/null >/image/kernel && echo image-is-writable;"
		"echo x 2>/dev/null >/x && echo root-is-writable;"
		"mount -t tmpfs none /tmp 2>/dev/null && echo can-mount;"
		"echo procs $(ls -d /proc/[0-9]* | wc -l); echo end; } >out.new; mv out.new out; sleep 60 & wait\n";
	_free_ char *program = strf("%s/program", dir), *out = strf("%s/inst/out", dir), *inst = strf("%s/inst", dir),
		    *image = strf("%s/image", dir), *netns = strf("/run/netns/%s", public_name), *text = NULL;
	struct container_file file = {.host = image, .name = "kernel"};
	struct container_config c = {.dir = inst,
	                             .netns = netns,
	                             .hostname = "web",
	                             .program = program,
	                             .gid = 200001,
	                             .files = &file,
	                             .n_files = 1};
	pid_t pid, found;

	if (geteuid() != 0)
		skip();
	OK(mkdir_p(inst, 0755, &error));
	OK(write_file_atomic(program, script, strlen(script), 0755, &error));
	OK(write_file_atomic(image, "a kernel", 8, 0644, &error));
	assert_int_equal(container_find(inst, &found), -ENOENT);
	OK(container_start(&c, &pid, &error));
	text = wait_file(out);
	assert_non_null(strstr(text, "args /init --dir /instance\n"));
	assert_non_null(strstr(text, "pid 1\n"));
	assert_non_null(strstr(text, "host web\n"));
	assert_non_null(strstr(text, "root bin dev image init instance lib lib64 proc sbin tmp usr\n"));
	assert_non_null(strstr(text, "dev kvm net null random urandom zero\n"));
	assert_non_null(strstr(text, "image a kernel\n"));
	assert_null(strstr(text, "is-writable"));
	assert_null(strstr(text, "can-mount"));
	OK(container_find(inst, &found));
	assert_int_equal(found, pid);
	OK(container_kill(inst, &error));
	assert_int_equal(container_find(inst, &found), -ENOENT);
	OK(container_kill(inst, &error));
	/* Nothing of it is left mounted. */
	OK(remove_tree(inst, &error));
	/* A program that can't be run is told here, not left to be found out. */
	OK(mkdir_p(inst, 0755, &error));
	c.program = image;
	assert_int_equal(container_start(&c, &pid, &error), -EACCES);
	assert_non_null(strstr(error.msg, "exec"));
	assert_int_equal(container_find(inst, &found), -ENOENT);
	c.program = "/nonexistent";
	assert_int_equal(container_start(&c, &pid, &error), -ENOENT);
	c.program = program;
	c.netns = "/run/netns/nonexistent";
	assert_int_equal(container_start(&c, &pid, &error), -ENOENT);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_as_documented),
		cmocka_unit_test(network_is_made_repaired_and_removed),
		cmocka_unit_test(container_sees_what_it_should),
	};
	return cmocka_run_group_tests_name("node", tests, setup, teardown);
}
