/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How the programs are attached and adopted, in a network namespace of this process, and what is left when a process is
 * killed at any call. Skipped without root.
 */

#include "service/testing.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/proc.h"
#include "base/util.h"
#include "bpf/balancer.h"
#include "bpf/balancer.skel.h"
#include "service/balancer.h"
#include "service/deliver.h"
#include "service/testpacket.h"

static int netns = -1;
static const char *const nics[] = {"missing", "a0", "b0"};

#define FAILS(want, call)                                                                \
	do {                                                                             \
		int res_ = (call);                                                       \
		if (res_ != -(want))                                                     \
			fail_msg("%s: %d, not -" #want " (%s)", #call, res_, error.msg); \
	} while (0)

static struct mac mac(const char *s) {
	struct mac m;
	OK(mac_parse(s, &m, &error));
	return m;
}

/* Lines of ip-link(8). */
static void ip(const char *lines) {
	const char *const argv[] = {"ip", "-batch", "-", NULL};
	OK(proc_run(&(struct proc_spec){.argv = argv, .input = lines}, NULL, &error));
}

static int setup(void **state) {
	/* Each test has its own devices. */
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	ip("link add a0 type veth peer name a1\nlink add b0 type veth peer name b1\nlink set a0 up\nlink set b0 up\n"
	   "link add vx type vxlan id 77 dstport 4789 nolearning\n");
	return 0;
}

static int teardown(void **state) {
	netns = safe_close(netns);
	return 0;
}

static struct balancer *open_balancer(const char *vtep) {
	struct balancer *b;
	const struct balancer_config c = {
		.netns_fd = netns, .nics = nics, .n_nics = ARRAY_SIZE(nics), .vtep = addr(vtep), .vni = TEST_VNI};
	OK(balancer_open(&b, &c, &error));
	return b;
}

static void set(struct balancer *b, const char *s, const char *vtep) {
	struct slice sl = slice(s);
	struct balancer_endpoint e = {.vtep = addr(vtep), .mac = {{2, 0, 0, 0, 0, 1}}};
	OK(balancer_set(b, &sl, &e, &error));
}

static uint32_t program_on(const char *nic) {
	uint32_t id;
	assert_int_equal(bpf_xdp_query_id((int)if_nametoindex(nic), 0, &id), 0);
	return id;
}

/* Where the program on the NIC sends a packet for this port of 198.51.100.3: the last byte of the VTEP, or 0. */
static unsigned owner(const char *nic, const char *vtep, unsigned port) {
	struct packet p, out;
	struct addr own = addr(vtep);
	uint8_t d[8] = {0x12, 0x34};
	put16(d + 2, port);
	packet_make(&p, &own, "198.51.100.3", IPPROTO_UDP, 0, d, sizeof(d));
	_close_ int fd = bpf_prog_get_fd_by_id(program_on(nic));
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p.data, .data_size_in = p.len, .data_out = out.data,
	            .data_size_out = sizeof(out.data), .repeat = 1);
	assert_int_equal(bpf_prog_test_run_opts(fd, &o), 0);
	return o.retval == XDP_TX ? out.data[AT_IP6_DEST + 15] : 0;
}

static void test_adopt(void **state) {
	enum balancer_mode mode;
	struct balancer *b = open_balancer("fd00::7");
	assert_false(balancer_is_adopted(b));
	set(b, "198.51.100.3:1024-1535", "fd00::1");
	FAILS(ENODEV, balancer_attach(b, "missing", BALANCER_NATIVE, &mode, &error));
	OK(balancer_attach(b, "a0", BALANCER_NATIVE, &mode, &error));
	assert_int_equal(mode, BALANCER_NATIVE);
	OK(balancer_attach(b, "b0", BALANCER_GENERIC, &mode, &error));
	assert_int_equal(mode, BALANCER_GENERIC);
	uint32_t id = program_on("a0");
	assert_int_equal(program_on("b0"), id);
	assert_int_equal(owner("a0", "fd00::7", 1100), 1);
	OK(balancer_attach(b, "a0", BALANCER_GENERIC, &mode, &error)); /* keeps its mode */
	assert_int_equal(mode, BALANCER_NATIVE);
	balancer_free(b);
	assert_int_equal(owner("a0", "fd00::7", 1100), 1);

	/* Another process like this one: the same tables, and nothing to replace. */
	b = open_balancer("fd00::7");
	assert_true(balancer_is_adopted(b));
	set(b, "198.51.100.3:2048-2559", "fd00::2");
	assert_int_equal(owner("a0", "fd00::7", 2048), 2);
	OK(balancer_attach(b, "a0", BALANCER_NATIVE, NULL, &error));
	OK(balancer_attach(b, "b0", BALANCER_NATIVE, &mode, &error));
	assert_int_equal(mode, BALANCER_GENERIC);
	assert_int_equal(program_on("a0"), id);
	balancer_begin(b);
	set(b, "198.51.100.3:2048-2559", "fd00::2");
	OK(balancer_end(b, &error));
	assert_int_equal(owner("a0", "fd00::7", 1100), 0);
	balancer_free(b);

	/* One with other settings: the same tables, another program. */
	b = open_balancer("fd00::8");
	assert_true(balancer_is_adopted(b));
	assert_int_equal(owner("a0", "fd00::7", 2048), 2);
	OK(balancer_attach(b, "a0", BALANCER_NATIVE, NULL, &error));
	OK(balancer_attach(b, "b0", BALANCER_NATIVE, &mode, &error));
	assert_int_equal(mode, BALANCER_GENERIC);
	assert_int_not_equal(program_on("a0"), id);
	assert_int_equal(owner("a0", "fd00::8", 2048), 2);
	assert_int_equal(owner("b0", "fd00::8", 2048), 2);
	OK(balancer_detach(b, "a0", &error));
	OK(balancer_detach(b, "a0", &error));
	OK(balancer_detach(b, "missing", &error));
	assert_int_equal(program_on("a0"), 0);
	assert_int_not_equal(program_on("b0"), 0);
	OK(balancer_detach(b, "b0", &error));
	balancer_free(b);
	b = open_balancer("fd00::7");
	assert_false(balancer_is_adopted(b));
	balancer_free(b);
}

/* Loads a balancer whose constants CHANGE has changed, and attaches it to a0. */
static struct balancer_bpf *attach_other(uint32_t layout) {
	struct balancer_bpf *other = balancer_bpf__open();
	((struct balancer_settings *)&other->rodata->settings)->layout = layout;
	assert_int_equal(balancer_bpf__load(other), 0);
	assert_int_equal(bpf_xdp_attach((int)if_nametoindex("a0"), bpf_program__fd(other->progs.nacre_balancer),
	                                XDP_FLAGS_DRV_MODE, NULL),
	                 0);
	return other;
}

static void test_other_layout(void **state) {
	struct balancer_bpf *other = attach_other(BALANCER_LAYOUT + 1);
	struct balancer *b = open_balancer("fd00::7");
	uint32_t id = program_on("a0");
	assert_false(balancer_is_adopted(b));
	assert_int_equal(program_on("a0"), id);
	set(b, "198.51.100.3:1024-1535", "fd00::1");
	OK(balancer_attach(b, "a0", BALANCER_NATIVE, NULL, &error));
	assert_int_equal(owner("a0", "fd00::7", 1100), 1);
	OK(balancer_detach(b, "a0", &error));
	balancer_free(b);
	balancer_bpf__destroy(other);
}

/* Tables that no process can have left are not adopted. */
static void test_broken_tables(void **state) {
	static const struct balancer_address broken[] = {
		{.address = 1, .shift = 10, .state = BALANCER_SHARED},
		{.address = 1, .shift = 0, .block = BALANCER_OWNERS / BALANCER_BLOCK - 1, .state = BALANCER_SHARED},
		{.address = 1, .shift = 9, .block = UINT16_MAX, .state = BALANCER_SHARED},
	};
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct balancer_bpf *other = attach_other(BALANCER_LAYOUT);
		struct balancer_bucket bucket = {.ways[3] = broken[i]};
		uint32_t zero = 0;
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(other->maps.addresses), &zero, &bucket, BPF_ANY), 0);
		struct balancer *b = open_balancer("fd00::7");
		assert_false(balancer_is_adopted(b));
		OK(balancer_detach(b, "a0", &error));
		balancer_free(b);
		balancer_bpf__destroy(other);
	}
}

static int load_foreign(enum bpf_prog_type type) {
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = type == BPF_PROG_TYPE_XDP ? XDP_PASS : 0},
		{.code = BPF_JMP | BPF_EXIT}};
	int fd = bpf_prog_load(type, "foreign", "GPL", pass, ARRAY_SIZE(pass), NULL);
	assert_true(fd >= 0);
	return fd;
}

static void test_foreign(void **state) {
	_close_ int fd = load_foreign(BPF_PROG_TYPE_XDP);
	assert_int_equal(bpf_xdp_attach((int)if_nametoindex("a0"), fd, XDP_FLAGS_DRV_MODE, NULL), 0);
	uint32_t id = program_on("a0");
	struct balancer *b = open_balancer("fd00::7");
	FAILS(EBUSY, balancer_attach(b, "a0", BALANCER_NATIVE, NULL, &error));
	assert_non_null(strstr(error.msg, "foreign"));
	FAILS(EBUSY, balancer_attach(b, "a0", BALANCER_GENERIC, NULL, &error));
	OK(balancer_detach(b, "a0", &error));
	assert_int_equal(program_on("a0"), id);
	OK(balancer_attach(b, "b0", BALANCER_GENERIC, NULL, &error));
	balancer_free(b);
	b = open_balancer("fd00::7");
	assert_true(balancer_is_adopted(b));
	balancer_free(b);
}

/* A veth takes no program natively whose peer has a larger MTU than it can pass on without fragments; ours has them. */
static void test_large_mtu(void **state) {
	enum balancer_mode mode;
	struct balancer *b = open_balancer("fd00::7");
	ip("link set a0 mtu 9000\nlink set a1 mtu 9000\n");
	OK(balancer_attach(b, "a0", BALANCER_NATIVE, &mode, &error));
	assert_int_equal(mode, BALANCER_NATIVE);
	/* Where the driver has no native mode. */
	OK(balancer_attach(b, "vx", BALANCER_NATIVE, &mode, &error));
	assert_int_equal(mode, BALANCER_GENERIC);
	balancer_free(b);
}

/* -- delivery -- */

static struct deliver *open_deliver(void) {
	struct deliver *d;
	OK(deliver_open(&d, netns, "vx", &error));
	return d;
}

static uint32_t filter_on(const char *device, uint32_t handle) {
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex(device), .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, o, .handle = handle, .priority = handle);
	return bpf_tc_query(&hook, &o) < 0 ? 0 : o.prog_id;
}

#define OURS 0x4e43

/* Whether the program on `vx` redirects frames to this MAC. */
static bool delivers(const char *to) {
	uint8_t frame[64] = {0};
	struct mac m = mac(to);
	memcpy(frame, m.bytes, 6);
	_close_ int fd = bpf_prog_get_fd_by_id(filter_on("vx", OURS));
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame), .repeat = 1);
	assert_int_equal(bpf_prog_test_run_opts(fd, &o), 0);
	return o.retval == 7; /* TC_ACT_REDIRECT */
}

static void test_deliver(void **state) {
	struct deliver *d = open_deliver();
	struct mac one = mac("02:00:00:00:00:01"), two = mac("02:00:00:00:00:02");
	uint64_t n;
	OK(deliver_put(d, &one, (int)if_nametoindex("a0"), &error));
	OK(deliver_attach(d, &error));
	uint32_t id = filter_on("vx", OURS);
	assert_int_not_equal(id, 0);
	OK(deliver_attach(d, &error));
	assert_int_equal(filter_on("vx", OURS), id);
	assert_true(delivers("02:00:00:00:00:01"));
	assert_false(delivers("02:00:00:00:00:02"));
	assert_false(delivers("02:00:00:00:00:03"));
	OK(deliver_count(d, &n, &error));
	assert_int_equal(n, 1);
	deliver_free(d);

	d = open_deliver();
	OK(deliver_attach(d, &error));
	assert_int_equal(filter_on("vx", OURS), id);
	OK(deliver_put(d, &two, (int)if_nametoindex("b0"), &error));
	assert_true(delivers("02:00:00:00:00:01"));
	assert_true(delivers("02:00:00:00:00:02"));
	deliver_begin(d);
	OK(deliver_put(d, &two, (int)if_nametoindex("a0"), &error));
	OK(deliver_end(d, &error));
	assert_false(delivers("02:00:00:00:00:01"));
	assert_true(delivers("02:00:00:00:00:02"));
	OK(deliver_count(d, &n, &error));
	assert_int_equal(n, 4);

	/* The device is made anew. */
	ip("link del vx\nlink add vx type vxlan id 77 dstport 4789 nolearning\n");
	assert_int_equal(filter_on("vx", OURS), 0);
	OK(deliver_attach(d, &error));
	assert_true(delivers("02:00:00:00:00:02"));
	OK(deliver_remove(d, &two, &error));
	OK(deliver_remove(d, &two, &error));
	assert_false(delivers("02:00:00:00:00:02"));
	OK(deliver_detach(d, &error));
	OK(deliver_detach(d, &error));
	assert_int_equal(filter_on("vx", OURS), 0);
	ip("link del vx\n");
	FAILS(ENODEV, deliver_attach(d, &error));
	OK(deliver_detach(d, &error));
	deliver_free(d);
	d = open_deliver();
	deliver_free(d);
}

static void test_deliver_foreign(void **state) {
	struct deliver *d = open_deliver();
	_close_ int fd = load_foreign(BPF_PROG_TYPE_SCHED_CLS);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex("vx"), .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, o, .prog_fd = fd, .handle = 1, .priority = 1);
	assert_int_equal(bpf_tc_hook_create(&hook), 0);
	assert_int_equal(bpf_tc_attach(&hook, &o), 0);
	OK(deliver_attach(d, &error));
	assert_int_not_equal(filter_on("vx", 1), 0);
	OK(deliver_detach(d, &error));
	assert_int_not_equal(filter_on("vx", 1), 0);
	deliver_free(d);
}

static void test_deliver_full(void **state) {
	struct deliver *d = open_deliver();
	struct mac m = {{2}};
	for (uint32_t i = 0; i <= DELIVER_INSTANCES; i++) {
		memcpy(m.bytes + 2, &i, 4);
		if (i < DELIVER_INSTANCES)
			OK(deliver_put(d, &m, 1, &error));
	}
	FAILS(ENOSPC, deliver_put(d, &m, 1, &error));
	assert_non_null(strstr(error.msg, "16384"));
	deliver_begin(d);
	OK(deliver_end(d, &error));
	OK(deliver_put(d, &m, 1, &error));
	deliver_free(d);
}

/* -- killed at any call -- */

static const char *const vteps[] = {"fd00::7", "fd00::8"};

/* All that a process does, from its start on. Each time it finds something to change. */
static void work(unsigned round) {
	struct mac stays = mac("02:00:00:00:00:01"), comes = mac(round % 2 ? "02:00:00:00:00:02" : "02:00:00:00:00:03");
	struct prefix p;
	struct slice gone = slice("198.51.100.4:1024-1535");
	OK(prefix_parse(round % 2 ? "198.51.100.0/24" : "198.51.0.0/16", &p, &error));
	struct balancer *b = open_balancer(vteps[round % 2]);
	balancer_begin(b);
	OK(balancer_set_prefix(b, &p, &error));
	set(b, "198.51.100.3:1024-1535", "fd00::1");
	set(b, "198.51.100.3:2048-2559", round % 2 ? "fd00::2" : "fd00::3");
	set(b, round % 2 ? "198.51.100.4:1024-1535" : "198.51.100.5:1024-1535", "fd00::4");
	set(b, "198.51.100.3:3072-3327", "fd00::5");
	OK(balancer_end(b, &error));
	OK(balancer_attach(b, "a0", BALANCER_NATIVE, NULL, &error));
	OK(balancer_attach(b, "b0", BALANCER_GENERIC, NULL, &error));
	OK(balancer_clear(b, &gone, &error));
	struct deliver *d = open_deliver();
	deliver_begin(d);
	OK(deliver_put(d, &stays, (int)if_nametoindex("a0"), &error));
	OK(deliver_put(d, &comes, (int)if_nametoindex("a0"), &error));
	OK(deliver_end(d, &error));
	OK(deliver_attach(d, &error));
	deliver_free(d);
	balancer_free(b);
}

static bool is_change(uint64_t number) {
	return number == SYS_bpf || number == SYS_sendto || number == SYS_sendmsg;
}

/* Runs work() in a child that is killed before its call number N of those that may change something. Returns whether it
 * got that far. */
static bool killed_at(unsigned n, unsigned round) {
	int status;
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		work(round);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
	for (;;) {
		struct __ptrace_syscall_info info;
		ptrace(PTRACE_SYSCALL, child, NULL, NULL);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			return false;
		}
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
			fail_msg("the child ended with status %x", status);
		ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info);
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY && is_change(info.entry.nr) && n-- == 0)
			break;
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return true;
}

static void test_killed(void **state) {
	unsigned n = 0;
	work(0);
	bool more = true;
	for (unsigned round = 1; more; round++, n++) {
		more = killed_at(n, round);
		/* What was to stay worked at every moment: with the settings of before or after, on each NIC. */
		static const char *const where[] = {"a0", "b0"};
		for (size_t i = 0; i < ARRAY_SIZE(where); i++)
			if (owner(where[i], vteps[0], 1100) != 1 && owner(where[i], vteps[1], 1100) != 1)
				fail_msg("killed before call %u: `%s' lost a slice", n, where[i]);
		if (!delivers("02:00:00:00:00:01"))
			fail_msg("killed before call %u: lost an instance", n);
		if (round % 8 == 0 || !more) {
			/* The next one makes everything right. */
			work(round);
			for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
				assert_int_equal(owner(where[i], vteps[round % 2], 2100), round % 2 ? 2 : 3);
				assert_int_equal(owner(where[i], vteps[round % 2], 3100), 5);
				assert_int_equal(owner(where[i], vteps[round % 2], 3328), 0);
			}
			assert_int_equal(delivers("02:00:00:00:00:02"), round % 2);
			assert_int_equal(delivers("02:00:00:00:00:03"), !(round % 2));
		}
	}
	assert_true(n > 30);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_adopt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_layout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_tables, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_mtu, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deliver, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deliver_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deliver_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
	};
	if (geteuid() != 0)
		return 77; /* meson: skipped */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
