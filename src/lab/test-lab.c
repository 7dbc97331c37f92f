/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/util.h"
#include "lab/console.h"
#include "lab/daemon.h"
#include "lab/down.h"
#include "lab/harmless.h"
#include "lab/place.h"
#include "lab/routers.h"
#include "lab/topology.h"
#include "net/frrconf-testing.h"
#include "net/link.h"

/* Gives the lab a name of this test run. */
static void make_lab(struct lab *lab) {
	char name[LAB_NAME_MAX + 1];
	struct error err;
	snprintf(name, sizeof(name), "t%d", getpid());
	assert_int_equal(lab_init(lab, name, &err), 0);
	lab->hosts = 2;
	lab->balancers = 0;
}

static void test_harmless(_unused_ void **state) {
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"login: \tx\b \b\r\n", "login: \tx\b \b\r\n"},
		{"\033[1;31mred\033[0m", "red"},
		{"\033]0;title\007text", "text"},
		{"\033]52;c;AAAA\033\\text", "text"},
		{"\033P$q\"p\033\\text", "text"},
		{"\033[c\005\016\017\007text\177", "text"},
		{"\033(Bx\033=y\033cz", "xyz"},
		/* A string without an end hides only the rest of its line. */
		{"\033]0;hidden\nshown", "\nshown"},
		{"\033[12\rshown", "\rshown"},
		{"\033\033[31mx", "x"},
		/* A C1 control character as a byte and as UTF-8. */
		{"a\x9b"
	         "31mb\xc2\x9b"
	         "31mc",
	         "a31mb31mc"},
		{"\u00fc\u4e2d\U0001f600", "\u00fc\u4e2d\U0001f600"},
		/* A form that is too long, a surrogate, a cut character. */
		{"a\xc0\x9b\xe0\x80\x9b\xed\xa0\x80\xe4\xb8z", "az"},
		{"\xe4\xb8\033[31mx", "x"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		/* In one piece, and byte by byte. */
		for (size_t step = strlen(cases[i].in); step; step = step > 1) {
			_buf_free_ struct buf out = {0};
			struct harmless h = {0};
			buf_puts(&out, "");
			for (size_t at = 0; at < strlen(cases[i].in); at += step)
				harmless_add(&h, cases[i].in + at, step, &out);
			buf_putc(&out, 0);
			assert_string_equal(out.data, cases[i].out);
		}
}

static void test_names(_unused_ void **state) {
	static const char *const bad[] = {"", "a-b", "A", "a/b", "..", "abcdefghijklm", "a b"};
	struct lab lab;
	struct error err;
	struct lab_machine m;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(lab_init(&lab, bad[i], &err), -EINVAL);
	assert_int_equal(lab_init(&lab, "abcdefghijkl", &err), 0);
	assert_string_equal(lab.prefix, "nl-abcdefghijkl-");
	lab.hosts = LAB_HOSTS_MAX;
	lab.balancers = LAB_BALANCERS_MAX;
	assert_int_equal(lab_machines(&lab), LAB_EDGES + LAB_BALANCERS_MAX + LAB_HOSTS_MAX);
	lab_machine(&lab, 0, &m);
	assert_int_equal(m.agent->whose, ACCESS_OF_EDGE);
	assert_string_equal(m.ns, "nl-abcdefghijkl-edge1");
	lab_machine(&lab, LAB_EDGES, &m);
	assert_string_equal(m.name, "lb1");
	assert_string_equal(m.agent->group, "system:nacre:balancers");
	lab_machine(&lab, lab_machines(&lab) - 1, &m);
	assert_string_equal(m.prefix, "nl-abcdefghijkl-host16-");
	assert_string_equal(m.vtep, "fd4e::1:10");
	/* All machines differ. */
	for (int i = 0; i < lab_machines(&lab); i++)
		for (int k = 0; k < i; k++) {
			struct lab_machine a, b;
			struct addr addr;
			lab_machine(&lab, i, &a);
			lab_machine(&lab, k, &b);
			assert_string_not_equal(a.name, b.name);
			assert_string_not_equal(a.vtep, b.vtep);
			assert_true(a.asn != b.asn);
			assert_int_equal(addr_parse(a.vtep, &addr, &err), 0);
		}
}

/* A console with SIZE bytes of output, which it gives to a client only when that client has typed EXPECTED and ended.
 */
static void be_console(int fd, const char *expected, size_t size) {
	char typed[64] = "";
	ssize_t n;
	for (size_t len = 0; (n = read(fd, typed + len, sizeof(typed) - 1 - len)) > 0; len += (size_t)n)
		;
	for (size_t i = 0; n == 0 && i < size; i++)
		if (write(fd, "x", 1) != 1)
			_exit(2);
	_exit(n < 0 || !streq(typed, expected));
}

static void test_console_at_the_end_of_input(_unused_ void **state) {
	enum { SIZE = 10000 };
	int input[2], sv[2], status, out = memfd_create("out", MFD_CLOEXEC);
	struct error err = {0};
	struct stat st;
	assert_int_equal(pipe2(input, O_CLOEXEC), 0);
	assert_int_equal(write(input[1], "typed", 5), 5);
	close(input[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(sv[0]);
		be_console(sv[1], "typed", SIZE);
	}
	close(sv[1]);
	assert_int_equal(lab_console_pump(input[0], out, sv[0], false, &err), 0);
	close(sv[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(fstat(out, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	close(input[0]);
	close(out);
}

static void test_console_at_the_escape(_unused_ void **state) {
	int input[2], sv[2], out = memfd_create("out", MFD_CLOEXEC);
	struct error err = {0};
	char typed[8] = "";
	assert_int_equal(pipe2(input, O_CLOEXEC), 0);
	assert_int_equal(write(input[1],
	                       "ab\x1d"
	                       "cd",
	                       5),
	                 5);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(lab_console_pump(input[0], out, sv[0], false, &err), 0);
	assert_int_equal(read(sv[1], typed, sizeof(typed)), 2);
	assert_string_equal(typed, "ab");
	for (int i = 0; i < 2; i++) {
		close(input[i]);
		close(sv[i]);
	}
	close(out);
}

static void test_daemons(_unused_ void **state) {
	struct lab lab;
	struct error err;
	_daemon_ struct lab_daemon d = {0};
	make_lab(&lab);
	assert_int_equal(lab_daemons(&lab), 6);
	assert_int_equal(lab_daemon_find(&lab, "host2", &d, &err), 0);
	assert_string_equal(d.program, "nacre-node");
	assert_int_equal(lab_daemon_pid(&d), 0);
	struct lab_daemon none = {0};
	assert_int_equal(lab_daemon_find(&lab, "host3", &none, &err), -ENOENT);
}

static void test_state(_unused_ void **state) {
	struct lab lab, again;
	struct error err;
	char path[LAB_PATH_MAX];
	int fd;
	if (geteuid() != 0)
		skip();
	make_lab(&lab);
	assert_int_equal(lab_load(&again, lab.name, &err), -ENOENT);
	assert_int_equal(mkdir_p(lab.dir, 0755, &err), 0);
	lab.kubernetes = true;
	lab.balancers = 3;
	snprintf(lab.oracle, sizeof(lab.oracle), "/var/oracle");
	snprintf(lab.images, sizeof(lab.images), "/tmp/\"images\"");
	assert_int_equal(lab_save(&lab, &err), 0);
	assert_int_equal(lab_load(&again, lab.name, &err), 0);
	assert_memory_equal(&lab, &again, sizeof(lab));
	assert_int_equal(lab_lock(&lab, &fd, &err), 0);
	int second;
	assert_int_equal(lab_lock(&lab, &second, &err), -EBUSY);
	close(fd);
	assert_int_equal(write_file_atomic(lab_path(&lab, path, "lab.json"), "{\"hosts\":", 9, 0644, &err), 0);
	assert_int_equal(lab_load(&again, lab.name, &err), -EBADMSG);
}

/* The output of the version before the model, from the same arguments. */
static const char old_leaf2[] = "router bgp 4200000002\n"
				" bgp router-id 10.255.0.2\n"
				" no bgp ebgp-requires-policy\n"
				" no bgp default ipv4-unicast\n"
				" bgp bestpath as-path multipath-relax\n"
				" neighbor fabric peer-group\n"
				" neighbor fabric remote-as external\n"
				" neighbor fabric timers 1 3\n"
				" neighbor fabric timers connect 1\n"
				" neighbor fabric advertisement-interval 0\n"
				" neighbor fabric password s3cret\n"
				" neighbor edge1 interface peer-group fabric\n"
				" neighbor edge2 interface peer-group fabric\n"
				" neighbor host1 interface peer-group fabric\n"
				" neighbor host2 interface peer-group fabric\n"
				" address-family ipv6 unicast\n"
				"  neighbor fabric activate\n"
				"  maximum-paths 16\n";

static const char old_internet[] = "router bgp 64496\n"
				   " bgp router-id 192.0.2.1\n"
				   " no bgp ebgp-requires-policy\n"
				   " no bgp default ipv4-unicast\n"
				   " bgp bestpath as-path multipath-relax\n"
				   " neighbor edges peer-group\n"
				   " neighbor edges remote-as external\n"
				   " neighbor edges timers 1 3\n"
				   " neighbor edges timers connect 1\n"
				   " neighbor edges advertisement-interval 0\n"
				   " neighbor edges capability extended-nexthop\n"
				   " neighbor edges ttl-security hops 1\n"
				   " neighbor edges password s3cret\n"
				   " neighbor edge1 interface peer-group edges\n"
				   " neighbor edge2 interface peer-group edges\n"
				   " address-family ipv4 unicast\n"
				   "  neighbor edges activate\n"
				   "  neighbor edges default-originate\n"
				   "  maximum-paths 16\n"
				   " address-family ipv6 unicast\n"
				   "  neighbor edges activate\n"
				   "  neighbor edges default-originate\n"
				   "  maximum-paths 16\n";

static void test_routers(_unused_ void **state) {
	static const char *const old[LAB_ROUTERS] = {[1] = old_leaf2, [2] = old_internet};
	struct lab lab;
	struct error err = {0};
	make_lab(&lab);
	for (int i = 1; i < LAB_ROUTERS; i++) {
		_frrconf_free_ struct frrconf *c = NULL;
		assert_int_equal(frrconf_new(&c, FRRCONF_TRADITIONAL, &err), 0);
		lab_router_frrconf(&lab, i, "s3cret", c);
		frrconf_assert_same(c, FRRCONF_BGPD, old[i]);
		frrconf_assert_same(c, FRRCONF_ZEBRA, "no zebra nexthop kernel enable\n");
	}
}

static int count(_unused_ const struct link *l, void *userdata) {
	++*(int *)userdata;
	return 0;
}

static void test_topology(_unused_ void **state) {
	struct lab lab;
	struct error err = {0};
	struct progress p;
	struct place place;
	bool found;
	int fd, links = 0, up = 0, all = 0;
	_nl_free_ struct nl *nl = NULL;
	if (geteuid() != 0 || access("/usr/lib/frr/bgpd", X_OK) < 0)
		skip();
	make_lab(&lab);
	progress_init(&p);
	assert_int_equal(mkdir_p(lab.dir, 0755, &err), 0);
	int r = lab_topology_up(&lab, &err);
	/* A second call changes nothing. */
	r = r < 0 ? r : lab_topology_up(&lab, &err);
	r = r < 0 ? r : lab_router_ensure(&lab, 0, &err);
	r = r < 0 ? r : lab_router_sessions(&lab, 0, &up, &all, &err);
	r = r < 0 ? r : place_find(&lab, "edge1", &place, &err);
	r = r < 0 ? r : netns_open(place.name, &fd, &err);
	r = r < 0 ? r : nl_open(&nl, fd, &err);
	r = r < 0 ? r : link_dump(nl, count, &links, &err);
	if (r < 0)
		print_message("%s\n", err.msg);
	else
		close(fd);
	nl = nl_free(nl);
	int q = lab_down(&lab, &p, &found, &err);
	assert_int_equal(r, 0);
	assert_int_equal(q, 0);
	assert_true(found);
	assert_int_equal(links, 5); /* lo, eth0, eth1, wan, mgmt */
	assert_int_equal(all, 4);
	assert_int_equal(place_find(&lab, "edge1", &place, &err), -ENOENT);
	struct stat st;
	assert_int_equal(stat(lab.dir, &st), -1);
	assert_int_equal(lab_down(&lab, &p, &found, &err), 0);
	assert_false(found);
}

static int teardown(_unused_ void **state) {
	struct lab lab;
	struct progress p;
	struct error err;
	bool found;
	make_lab(&lab);
	progress_init(&p);
	return geteuid() == 0 ? lab_down(&lab, &p, &found, &err) : 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_console_at_the_end_of_input),
		cmocka_unit_test(test_console_at_the_escape),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_routers),
		cmocka_unit_test(test_harmless),
		cmocka_unit_test(test_daemons),
		cmocka_unit_test(test_state),
		cmocka_unit_test_teardown(test_topology, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, teardown);
}
