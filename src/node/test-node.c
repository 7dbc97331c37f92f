/* SPDX-License-Identifier: Apache-2.0 */

/* The container and the network of an instance, in namespaces of this run's own. Skipped without root. */

#include "base/testing.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/proc.h"
#include "base/util.h"
#include "net/link.h"
#include "net/netns.h"
#include "node/container.h"
#include "node/hypervisor.h"
#include "node/instdir.h"
#include "node/instnet.h"
#include "node/kvmprobe.h"

#define UID "0b5ac4a8-4b0e-4c35-9c3d-000000000001"
#define ID  "0b5ac4a84b0e"

static char prefix[24], public_name[64], dir[64];
static int public_fd = -1;
static struct nl *public_nl;
static struct error error;

static int teardown(void **state) {
	(void)state;
	char name[INSTNET_NAME_MAX], netns[NETNS_PATH_MAX];
	pid_t pid;
	if (geteuid() != 0)
		return 0;
	netns_path(instnet_netns(prefix, ID, name), netns);
	while (container_search(NULL, NULL, netns, &pid, &error) == 0)
		(void)!proc_stop(pid, 0, &error);
	(void)!container_kill(dir, &error);
	struct cgroups *groups = NULL;
	if (cgroups_new(&groups, &error) == 0)
		(void)!cgroup_remove(groups, name, &error);
	cgroups_free(groups);
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

/* Waits, up to two minutes, until the container's program has printed "end" to its log. */
static char *wait_log(const char *path) {
	for (int i = 0; i < 12000; i++) {
		char *text = NULL;
		OK(read_file(path, 65536, &text, NULL, &error));
		if (strstr(text, "\nend\n"))
			return text;
		free(text);
		usleep(10000);
	}
	fail_msg("%s has no end", path);
	return NULL;
}

/* Stands before libc's: what the sysctl says is the whole machine's. */
static bool fail_unshare;

int unshare(int flags) {
	if (fail_unshare) {
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_unshare, flags);
}

static void expect_map(pid_t pid, const char *which) {
	unsigned in[2], out[2], n[2];
	char path[64];
	_free_ char *text = NULL;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, which);
	OK(read_file(path, 4096, &text, NULL, &error));
	assert_int_equal(sscanf(text, "%u %u %u %u %u %u", &in[0], &out[0], &n[0], &in[1], &out[1], &n[1]), 6);
	assert_true(in[0] == 0 && out[0] == 260001 && n[0] == 1);
	assert_true(in[1] == 200001 && out[1] == 200001 && n[1] == 1);
}

static void container_sees_what_it_should(void **state) {
	(void)state;
	static const char script[] =
		"#!/bin/sh\n"
		"echo args $0 $*; echo pid $$; echo host $(uname -n); echo root $(ls /); id;"
		"echo given $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES; echo open $(ls /proc/self/fd); echo ended >&5;"
		"echo /state belongs to $(stat -c %u:%g /state);"
		"for d in $(find / -path /usr -prune -o -type d -print 2>/dev/null) /usr; do"
		"  touch $d/made 2>/dev/null && echo $d is-writable; done;"
		"echo dev $(ls /dev); echo image $(cat /image/kernel);"
		"echo x 2>/dev/null >/usr/x && echo usr-is-writable;"
		"echo x 2>/dev/null >/image/kernel && echo image-is-writable;"
		"echo x 2>/dev/null >/config.json && echo config-is-writable;"
		"rm -f /config.json 2>/dev/null; cat /config.json;"
		"echo x 2>/dev/null >/x && echo root-is-writable;"
		"mount -t tmpfs none /tmp 2>/dev/null && echo can-mount;"
		"hostname other 2>/dev/null && echo can-name; chown 1 /config.json 2>/dev/null && echo can-chown;"
		"echo procs $(ls -d /proc/[0-9]* | wc -l); echo; echo end; sleep 60 & wait\n";
	_free_ char *program = strf("%s/program", dir), *out = strf("%s/inst/log", dir), *inst = strf("%s/inst", dir),
		    *image = strf("%s/image", dir), *netns = strf("/run/netns/%s", public_name), *text = NULL,
		    *end = strf("%s/inst/exit.json", dir), *said = NULL, *states = strf("%s/states", dir),
		    *config_file = strf("%s/inst/config.json", dir);
	struct container_file file = {.host = image, .name = "kernel"};
	struct container_config c = {.dir = inst,
	                             .netns = netns,
	                             .hostname = "web",
	                             .program = program,
	                             .state = states,
	                             .user = 200001,
	                             .files = &file,
	                             .n_files = 1,
	                             .file_max = 1 << 20};
	pid_t pid, found;

	if (geteuid() != 0)
		skip();
	OK(mkdir_p(inst, 0700, &error));
	OK(mkdir_p(states, 0750, &error));
	OK(write_file_atomic(config_file, "the config\n", 11, 0644, &error));
	OK(write_file_atomic(program, script, strlen(script), 0755, &error));
	OK(write_file_atomic(image, "a kernel", 8, 0644, &error));
	assert_int_equal(container_find(inst, &found), -ENOENT);
	OK(container_start(&c, &pid, &error));
	text = wait_log(out);
	assert_non_null(strstr(text, "args /init --config /config.json\n"));
	assert_non_null(strstr(text, "pid 1\n"));
	assert_non_null(strstr(text, "host web\n"));
	assert_non_null(strstr(text, "root bin config.json dev image init lib lib64 proc sbin state tmp usr\n"));
	assert_non_null(strstr(text, "\nuid=0 gid=0 groups=0\n"));
	assert_non_null(strstr(text, "given 1 3 control:console:end\n"));
	/* The last is ls's own. */
	assert_non_null(strstr(text, "open 0 1 2 3 4 5 6\n"));
	OK(read_file(end, 64, &said, NULL, &error));
	assert_string_equal(said, "ended\n");
	/* The host's root is nobody here. */
	assert_non_null(strstr(text, "/state belongs to 65534:65534\n"));
	assert_non_null(strstr(text, "dev kvm null random urandom zero\n"));
	assert_non_null(strstr(text, "image a kernel\n"));
	assert_non_null(strstr(text, "\nthe config\n"));
	assert_null(strstr(text, "is-writable"));
	assert_null(strstr(text, "can-"));
	OK(container_find(inst, &found));
	assert_int_equal(found, pid);
	expect_map(pid, "uid_map");
	expect_map(pid, "gid_map");
	OK(container_kill(inst, &error));
	assert_int_equal(container_find(inst, &found), -ENOENT);
	OK(container_kill(inst, &error));
	/* Nothing of it is left mounted. */
	OK(remove_tree(inst, &error));
	/* A program that can't be run is told here, not left to be found out. */
	OK(mkdir_p(inst, 0755, &error));
	OK(write_file_atomic(config_file, "the config\n", 11, 0644, &error));
	fail_unshare = true;
	int r = container_start(&c, &pid, &error);
	fail_unshare = false;
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(error.msg, "user.max_user_namespaces"));
	assert_int_equal(container_find(inst, &found), -ENOENT);
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

/* ---- without descriptors ---- */

/* So many descriptors may be opened from now on, in one piece; all: as at the start. */
static void allow_files(int n) {
	static struct rlimit all;
	struct rlimit rl;
	int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(lowest >= 0 || n < 0);
	safe_close(lowest);
	if (!all.rlim_cur)
		assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
	rl = all;
	if (n >= 0)
		rl.rlim_cur = (rlim_t)lowest + (rlim_t)n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
}

static const char pausing[] = "#!/bin/sh\nwhile :; do sleep 60; done\n";

/* Its user namespace is the caller's, who so may look at its processes though they are other users'. */
static void expect_found_without_ptrace(const char *netns, pid_t pid) {
	int status;

	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
		struct __user_cap_data_struct data[2];
		pid_t found = 0;
		if (syscall(SYS_capget, &head, data) < 0)
			_exit(1);
		data[0].effective &= ~(1U << CAP_SYS_PTRACE);
		data[0].permitted &= ~(1U << CAP_SYS_PTRACE);
		if (syscall(SYS_capset, &head, data) < 0)
			_exit(2);
		_exit(container_search(NULL, NULL, netns, &found, &error) < 0 || found != pid ? 3 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* That a process can't be looked at doesn't mean that it is gone. */
static void container_is_not_forgotten(void **state) {
	_free_ char *program = strf("%s/program", dir), *inst = strf("%s/inst", dir),
		    *pidfile = strf("%s/inst/pid", dir), *netns = strf("/run/netns/%s", public_name);
	struct container_config c = {
		.dir = inst, .netns = netns, .hostname = "web", .program = program, .user = 200001};
	pid_t pid, found = 0;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(mkdir_p(inst, 0755, &error));
	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	assert_int_equal(container_search(NULL, NULL, netns, &found, &error), -ESRCH);
	OK(container_start(&c, &pid, &error));
	allow_files(0);
	int r = container_find(inst, &found), killed = container_kill(inst, &error),
	    searched = container_search(NULL, NULL, netns, &found, &error);
	allow_files(-1);
	assert_int_equal(r, -EMFILE);
	assert_int_equal(killed, -EMFILE);
	assert_int_equal(searched, -EMFILE);
	/* One is enough to list the processes, and not to look at one. */
	allow_files(1);
	searched = container_search(NULL, NULL, netns, &found, &error);
	allow_files(-1);
	assert_int_equal(searched, -EMFILE);
	OK(container_find(inst, &found));
	assert_int_equal(found, pid);
	/* Its pid file is lost: the kernel knows it. */
	assert_int_equal(unlink(pidfile), 0);
	assert_int_equal(container_find(inst, &found), -ENOENT);
	found = 0;
	OK(container_search(NULL, NULL, netns, &found, &error));
	assert_int_equal(found, pid);
	expect_found_without_ptrace(netns, pid);
	OK(proc_pidfile_write(pidfile, pid, &error));
	OK(container_kill(inst, &error));
	assert_int_equal(container_search(NULL, NULL, netns, &found, &error), -ESRCH);
	assert_int_equal(container_search(NULL, NULL, "/run/netns/nonexistent", &found, &error), -ESRCH);
	OK(remove_tree(inst, &error));
}

/* Stands before libc's: the code under test can be refused a pidfd. */
static bool fail_watching;
static unsigned watch_failures, watch_successes;

/* As libc's own it takes six arguments, whatever it was given; AddressSanitizer wouldn't have that. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...) {
	long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall"), arg[6];
	va_list ap;
	va_start(ap, number);
	for (size_t i = 0; i < ARRAY_SIZE(arg); i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_pidfd_open) {
		watch_failures += fail_watching;
		watch_successes += !fail_watching;
	}
	if (number == SYS_pidfd_open && fail_watching) {
		errno = EMFILE;
		return -1;
	}
	return next(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

static bool gone;

static void on_changed(void *userdata, const char *uid) {
	(void)userdata;
	(void)uid;
}

static void on_event(void *userdata, const char *uid, bool warning, const char *reason, const char *message) {
	(void)userdata;
	(void)uid;
	(void)warning;
	(void)reason;
	(void)message;
}

static void on_gone(void *userdata, const char *uid) {
	(void)userdata;
	(void)uid;
	gone = true;
}

/*
 * How many first processes of containers are in the network namespace of the instance; *RET is one of them. One that
 * has not begun its program is still its worker's, and may go with that.
 */
static size_t containers(pid_t *ret) {
	char command[256], name[INSTNET_NAME_MAX];
	const char *const argv[] = {"sh", "-c", command, NULL};
	_buf_free_ struct buf out = {0};
	size_t n = 0;
	snprintf(command, sizeof(command),
	         "for p in $(ip netns pids %s 2>/dev/null); do grep -q '^NSpid:.*[[:space:]]1$' /proc/$p/status && "
	         "! grep -q test-node /proc/$p/comm && echo $p; "
	         "done; true",
	         instnet_netns(prefix, ID, name));
	OK(proc_run(&(struct proc_spec){.argv = argv}, &out, &error));
	for (char *p = out.data; p && *p; p = strchr(p, '\n') + 1) {
		*ret = atoi(p);
		n++;
	}
	return n;
}

static struct hypervisor *new_hypervisor(sd_event *loop) {
	_free_ char *program = strf("%s/program", dir), *state_dir = strf("%s/state", dir);
	struct hypervisor *h = NULL;
	struct hypervisor_config c = {
		.loop = loop,
		.run_dir = dir,
		.state_dir = state_dir,
		.prefix = prefix,
		.program = program,
		.uid_base = 200000,
		.accel = HYPERVISOR_TCG,
		.keep_removed_s = 3600,
		.stop_s = 60,
		.public_fd = public_fd,
		.ops = {.changed = on_changed, .event = on_event, .gone = on_gone},
	};
	OK(hypervisor_new(&h, &c, &error));
	/* One folder can't be both. */
	c.state_dir = dir;
	assert_int_equal(hypervisor_new(&h, &c, &error), -EINVAL);
	return h;
}

/* Up to two minutes. */
#define RUN_UNTIL(loop, condition)                                      \
	do {                                                            \
		uint64_t end = now_monotonic_ns() + 120 * NSEC_PER_SEC; \
		while (!(condition) && now_monotonic_ns() < end)        \
			assert_true(sd_event_run(loop, 10000) >= 0);    \
		assert_true(condition);                                 \
	} while (0)

static void remove_guest(sd_event *loop, struct hypervisor *h) {
	pid_t pid;
	gone = false;
	hypervisor_remove(h, UID, true);
	RUN_UNTIL(loop, gone);
	assert_int_equal(containers(&pid), 0);
}

static void fill_spec(struct guest_spec *s) {
	char image[1024] = {0};
	memset(s, 0, sizeof(*s));
	snprintf(s->uid, sizeof(s->uid), UID);
	snprintf(s->name, sizeof(s->name), "t/a");
	snprintf(s->image, sizeof(s->image), "lab");
	snprintf(s->kernel, sizeof(s->kernel), "%s/image", dir);
	s->running = true;
	s->vcpus = 1;
	s->memory_mib = 256;
	s->boot = VM_BOOT_KERNEL;
	OK(mac_parse("02:00:00:00:00:05", &s->mac, &error));
	s->ip = addr("2001:db8::5");
	s->address = addr("2001:db8:1:1::5");
	s->net = pfx("2001:db8:1:1::/64");
	/* What vm/image.c knows a kernel by. */
	memcpy(image + 0x1fe, (const char[]){0x55, (char)0xaa}, 2);
	memcpy(image + 0x202, (const char[]){'H', 'd', 'r', 'S'}, 4);
	OK(write_file_atomic(s->kernel, image, sizeof(image), 0644, &error));
}

/* One that runs, is watched, and is PID: its end is noticed. */
static void expect_watched(sd_event *loop, const struct hypervisor *h, pid_t pid) {
	pid_t now = 0;
	const int64_t restarts = hypervisor_state(h, UID)->restarts;
	assert_int_equal(containers(&now), 1);
	assert_int_equal(now, pid);
	assert_int_equal(kill(pid, SIGKILL), 0);
	RUN_UNTIL(loop, hypervisor_state(h, UID)->restarts == restarts + 1);
}

/* A container that can't be watched once it runs is found again: by the same agent, the next one, without its pid file.
 */
static void one_guest_whoever_cannot_watch(void **state) {
	_free_ char *program = strf("%s/program", dir), *pidfile = strf("%s/instances/" UID "/pid", dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	pid_t first = 0, pid = 0;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	fill_spec(&spec);
	OK(sd_event_new(&loop));
	struct hypervisor *h = new_hypervisor(loop);
	for (int round = 0; round < 3; round++) {
		fail_watching = true;
		watch_failures = 0;
		OK(hypervisor_put(h, &spec, &error));
		RUN_UNTIL(loop, watch_failures == 1);
		assert_int_equal(containers(&first), 1);
		if (round == 1) {
			hypervisor_free(h);
			h = new_hypervisor(loop);
			OK(hypervisor_put(h, &spec, &error));
		} else if (round == 2)
			assert_int_equal(unlink(pidfile), 0);
		/* The looks after that start no other. */
		RUN_UNTIL(loop, watch_failures == 3);
		assert_int_equal(containers(&pid), 1);
		fail_watching = false;
		watch_successes = 0;
		spec.memory_mib++;
		OK(hypervisor_put(h, &spec, &error));
		RUN_UNTIL(loop, watch_successes > 0);
		expect_watched(loop, h, first);
		remove_guest(loop, h);
	}
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* An agent that has few descriptors and little time, and ends somewhere. */
static void run_poor_agent(const struct guest_spec *spec, int files) {
	fflush(NULL);
	pid_t agent = fork();
	assert_true(agent >= 0);
	if (agent == 0) {
		sd_event *loop = NULL;
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null, 2);
		close(null);
		OK(sd_event_new(&loop));
		struct hypervisor *h = new_hypervisor(loop);
		OK(hypervisor_put(h, spec, &error));
		allow_files(files);
		uint64_t end = now_monotonic_ns() + (uint64_t)files * 50 * NSEC_PER_MSEC;
		while (now_monotonic_ns() < end)
			(void)sd_event_run(loop, 5000);
		_exit(0);
	}
	assert_int_equal(waitpid(agent, NULL, 0), agent);
}

/* However few descriptors an agent has, the next one has one container in the end, and the one that was there. */
static void one_guest_however_few_descriptors(void **state) {
	_free_ char *program = strf("%s/program", dir);
	struct guest_spec spec;
	size_t started = 0;
	enum { MOST = 12 };

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	fill_spec(&spec);
	for (int n = 0; n < MOST; n++) {
		sd_event *loop = NULL;
		pid_t first = 0, pid = 0;
		run_poor_agent(&spec, n);
		size_t early = containers(&first);
		started += early;
		run_poor_agent(&spec, n / 2);
		OK(sd_event_new(&loop));
		struct hypervisor *h = new_hypervisor(loop);
		OK(hypervisor_put(h, &spec, &error));
		RUN_UNTIL(loop, hypervisor_state(h, UID)->connected && containers(&pid) > 0);
		if (early)
			assert_int_equal(pid, first);
		expect_watched(loop, h, pid);
		remove_guest(loop, h);
		hypervisor_free(h);
		sd_event_unref(loop);
	}
	/* Both were seen: too few, and enough. */
	assert_true(started > 0 && started < MOST);
}

static bool keep_none(_unused_ void *userdata, _unused_ const char *uid) {
	return false;
}

/* Whatever became of its pid file and of the name of its namespace, and whether it shall run or not. */
static void guest_is_found_by_its_group(void **state) {
	_free_ char *program = strf("%s/program", dir), *pidfile = strf("%s/instances/" UID "/pid", dir);
	char name[INSTNET_NAME_MAX], netns[NETNS_PATH_MAX];
	struct guest_spec spec;
	sd_event *loop = NULL;
	pid_t first = 0, pid = 0;
	uint64_t start;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	fill_spec(&spec);
	OK(sd_event_new(&loop));
	struct hypervisor *h = new_hypervisor(loop);
	OK(hypervisor_put(h, &spec, &error));
	RUN_UNTIL(loop, containers(&first) == 1);
	/* It isn't said to be stopped. */
	hypervisor_free(h);
	assert_int_equal(unlink(pidfile), 0);
	h = new_hypervisor(loop);
	spec.running = false;
	watch_successes = 0;
	OK(hypervisor_put(h, &spec, &error));
	RUN_UNTIL(loop, watch_successes > 0 || hypervisor_state(h, UID)->phase == GUEST_STOPPED);
	assert_int_not_equal(hypervisor_state(h, UID)->phase, GUEST_STOPPED);
	assert_int_equal(containers(&pid), 1);
	assert_int_equal(pid, first);
	if (hypervisor_missing_controllers(h) != CGROUP_ALL) {
		/* Nothing reaches it in a namespace that has no name: it is ended and started again. */
		hypervisor_free(h);
		netns_path(instnet_netns(prefix, ID, name), netns);
		assert_int_equal(unlink(pidfile), 0);
		assert_int_equal(umount2(netns, MNT_DETACH), 0);
		assert_int_equal(unlink(netns), 0);
		h = new_hypervisor(loop);
		spec.running = true;
		OK(hypervisor_put(h, &spec, &error));
		RUN_UNTIL(loop, containers(&pid) == 1 && pid != first);
		assert_int_equal(hypervisor_state(h, UID)->restarts, 1);
		assert_int_equal(proc_start_time(first, &start), -ESRCH);
	}
	remove_guest(loop, h);
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* An instance of which an earlier agent, with another --uid-base, made QEMU run as USER. */
static void leave_instance(const char *uid, unsigned user) {
	_free_ char *path = strf("%s/instances/%s", dir, uid), *file = strf("%s/config.json", path),
		    *text = strf("{\"name\":\"t/x\",\"uuid\":\"%s\",\"kernel\":\"/k\",\"uid\":%u,\"gid\":%u}", uid,
	                         user, user);

	OK(mkdir_p(path, 0700, &error));
	OK(write_file_atomic(file, text, strlen(text), 0644, &error));
}

/* Neither QEMU nor the root of a container is a user that another instance has for either. */
static void no_user_is_taken_twice(void **state) {
	static const char as_root[] = "0b5ac4a8-4b0e-4c35-9c3d-000000000002",
			  as_qemu[] = "0b5ac4a9-4b0e-4c35-9c3d-000000000003";
	_free_ char *program = strf("%s/program", dir), *own = strf("%s/instances/" UID, dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	uid_t user = 0;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	leave_instance(as_root, 200001 - CONTAINER_USERS);
	leave_instance(as_qemu, container_root(200002));
	fill_spec(&spec);
	OK(sd_event_new(&loop));
	struct hypervisor *h = new_hypervisor(loop);
	OK(hypervisor_put(h, &spec, &error));
	RUN_UNTIL(loop, containers(&pid) == 1);
	OK(instdir_uid(own, &user));
	assert_int_equal(user, 200003);
	remove_guest(loop, h);
	for (size_t i = 0; i < 2; i++) {
		gone = false;
		hypervisor_remove(h, i ? as_qemu : as_root, true);
		RUN_UNTIL(loop, gone);
	}
	hypervisor_free(h);
	sd_event_unref(loop);
}

static void only_qemu_says_no_to_kvm(void **state) {
	static const int expected[] = {
		[VM_END_NONE] = -EAGAIN,         [VM_END_POWERED_OFF] = 0,
		[VM_END_STOPPED] = -EAGAIN,      [VM_END_KILLED] = -EAGAIN,
		[VM_END_FAILED] = -EOPNOTSUPP,   [VM_END_CPU_FAILED] = -EOPNOTSUPP,
		[VM_END_START_FAILED] = -EAGAIN, [VM_END_OUT_OF_MEMORY] = -EAGAIN,
		[VM_END_FORBIDDEN] = -EAGAIN,    [VM_END_FORBIDDEN_WRITE] = -EAGAIN,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		const struct vm_status end = {.end = (enum vm_end)i, .message = "words"};
		assert_int_equal(kvmprobe_judge(&end, &error), expected[i]);
	}
}

/* A raw image of SIZE zeros. */
static void make_image(struct guest_spec *s, const char *path, off_t size) {
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	s->kernel[0] = 0;
	s->boot = VM_BOOT_BIOS;
	s->format = VM_FORMAT_RAW;
	snprintf(s->disk, sizeof(s->disk), "%s", path);
}

/* An API that knows no instance takes no disk: that may be the wrong one. */
static void disk_survives_a_wrong_api(void **state) {
	_free_ char *program = strf("%s/program", dir), *disk = strf("%s/state/instances/" UID "/disk.qcow2", dir),
		    *removed = strf("%s/state/removed", dir), *image = strf("%s/raw", dir),
		    *kept = strf("%s/state/removed/" UID "/disk.qcow2", dir);
	struct stat before, after;
	struct guest_spec spec;
	sd_event *loop = NULL;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	fill_spec(&spec);
	make_image(&spec, image, 1 << 20);
	OK(sd_event_new(&loop));
	struct hypervisor *h = new_hypervisor(loop);
	OK(hypervisor_put(h, &spec, &error));
	RUN_UNTIL(loop, containers(&pid) == 1);
	assert_int_equal(stat(disk, &before), 0);
	hypervisor_free(h);
	h = new_hypervisor(loop);
	gone = false;
	hypervisor_sweep(h, keep_none, NULL);
	RUN_UNTIL(loop, gone);
	assert_int_equal(containers(&pid), 0);
	assert_int_equal(access(disk, F_OK), -1);
	assert_int_equal(access(kept, F_OK), 0);
	/* The right one knows it: it has its disk back. */
	OK(hypervisor_put(h, &spec, &error));
	RUN_UNTIL(loop, containers(&pid) == 1);
	assert_int_equal(stat(disk, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
	/* Deleted in so many words, it goes. */
	gone = false;
	hypervisor_remove(h, UID, true);
	RUN_UNTIL(loop, gone);
	assert_int_equal(access(disk, F_OK), -1);
	RUN_UNTIL(loop, rmdir(removed) == 0 || errno == ENOENT);
	hypervisor_free(h);
	sd_event_unref(loop);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_as_documented),
		cmocka_unit_test(network_is_made_repaired_and_removed),
		cmocka_unit_test(container_sees_what_it_should),
		cmocka_unit_test(container_is_not_forgotten),
		cmocka_unit_test(one_guest_whoever_cannot_watch),
		cmocka_unit_test(one_guest_however_few_descriptors),
		cmocka_unit_test(guest_is_found_by_its_group),
		cmocka_unit_test(no_user_is_taken_twice),
		cmocka_unit_test(only_qemu_says_no_to_kvm),
		cmocka_unit_test(disk_survives_a_wrong_api),
	};
	return cmocka_run_group_tests_name("node", tests, setup, teardown);
}
