/* SPDX-License-Identifier: Apache-2.0 */

/* One guest, its disk and its agents, whatever happens to them: the guest is adopted, watched and removed. */

#include "node/testing.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "node/hypervisor.h"
#include "node/instdir.h"
#include "node/kvmprobe.h"
#include "node/room.h"

/* Replaces libc's syscall, so that pidfds can be refused to the code under test. */
static bool fail_watching;
static unsigned watch_failures, watch_successes, kills;

/* Passes on six arguments like libc's function, however many it was given; AddressSanitizer would not allow that. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...) {
	long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall"), arg[6];
	va_list ap;
	va_start(ap, number);
	for (size_t i = 0; i < ARRAY_SIZE(arg); i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	kills += number == SYS_pidfd_send_signal;
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

static bool gone, failed, settled;
static const struct hypervisor *told_by; /* whose states on_changed() looks at */

static void on_changed(_unused_ void *userdata, const char *uid) {
	const struct guest_state *s = told_by ? hypervisor_state(told_by, uid) : NULL;

	failed |= s && s->phase == GUEST_FAILED;
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

static void on_settled(void *userdata) {
	(void)userdata;
	settled = true;
}

/*
 * How many first processes of containers are in the network namespace of the instance; *RET is one of them. A process
 * that has not begun its program still belongs to its worker and may end with it.
 */
static size_t containers(pid_t *ret) {
	char command[256], name[INSTNET_NAME_MAX];
	const char *const argv[] = {"sh", "-c", command, NULL};
	_buf_free_ struct buf out = {0};
	size_t n = 0;
	snprintf(command, sizeof(command),
	         "for p in $(ip netns pids %s 2>/dev/null); do grep -q '^NSpid:.*[[:space:]]1$' /proc/$p/status && "
	         "! grep -q test-hypervisor /proc/$p/comm && echo $p; "
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
		.ops = {.changed = on_changed, .event = on_event, .gone = on_gone, .settled = on_settled},
	};
	OK(hypervisor_new(&h, &c, &error));
	/* RUN_DIR and STATE_DIR can't be the same folder. */
	c.state_dir = dir;
	assert_int_equal(hypervisor_new(&h, &c, &error), -EINVAL);
	return h;
}

/* Waits up to two minutes. */
#define RUN_UNTIL(loop, condition)                                      \
	do {                                                            \
		uint64_t end = now_monotonic_ns() + 120 * NSEC_PER_SEC; \
		while (!(condition) && now_monotonic_ns() < end)        \
			assert_true(sd_event_run(loop, 10000) >= 0);    \
		assert_true(condition);                                 \
	} while (0)

/* A new hypervisor with the guest, whose container runs. The caller frees the hypervisor and the loop. */
static struct hypervisor *begin_guest(sd_event **loop, const struct guest_spec *spec, pid_t *pid) {
	OK(sd_event_new(loop));
	struct hypervisor *h = new_hypervisor(*loop);
	OK(hypervisor_put(h, spec, &error));
	RUN_UNTIL(*loop, containers(pid) == 1);
	return h;
}

static void remove_guest(sd_event *loop, struct hypervisor *h) {
	pid_t pid;
	gone = false;
	hypervisor_remove(h, UID, true);
	RUN_UNTIL(loop, gone);
	assert_int_equal(containers(&pid), 0);
}

static void fill_spec(struct guest_spec *s) {
	char image[1024] = {0};
	jt_init(&jt_guest_spec, s);
	snprintf(s->vm.uuid, sizeof(s->vm.uuid), UID);
	snprintf(s->vm.name, sizeof(s->vm.name), "t/a");
	snprintf(s->image, sizeof(s->image), "lab");
	snprintf(s->kernel, sizeof(s->kernel), "%s/image", dir);
	s->running = true;
	s->size.v[RESOURCE_vcpus] = 1;
	s->size.v[RESOURCE_memory_mib] = 64;
	OK(mac_parse("02:00:00:00:00:05", &s->net.mac, &error));
	s->net.ip = addr("2001:db8::5");
	s->net.net = pfx("2001:db8:1:1::/64");
	/* vm/image.c recognises a kernel by these bytes. */
	memcpy(image + 0x1fe, (const char[]){0x55, (char)0xaa}, 2);
	memcpy(image + 0x202, (const char[]){'H', 'd', 'r', 'S'}, 4);
	OK(write_file_atomic(s->kernel, image, sizeof(image), 0644, &error));
}

/* The guest runs as PID and is watched: its end is noticed. */
static void expect_watched(sd_event *loop, const struct hypervisor *h, pid_t pid) {
	pid_t now = 0;
	const int64_t restarts = hypervisor_state(h, UID)->restarts;
	assert_int_equal(containers(&now), 1);
	assert_int_equal(now, pid);
	assert_int_equal(kill(pid, SIGKILL), 0);
	RUN_UNTIL(loop, hypervisor_state(h, UID)->restarts == restarts + 1);
}

/*
 * A container that can't be watched once it runs is found again: by the same agent, by the next agent, and without its
 * pid file.
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
		/* The looks after that start no second container. */
		RUN_UNTIL(loop, watch_failures == 3);
		assert_int_equal(containers(&pid), 1);
		fail_watching = false;
		watch_successes = 0;
		spec.size.v[RESOURCE_memory_mib]++;
		OK(hypervisor_put(h, &spec, &error));
		RUN_UNTIL(loop, watch_successes > 0);
		expect_watched(loop, h, first);
		remove_guest(loop, h);
	}
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* Runs an agent that has few descriptors and little time, and is ended at some point. */
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

/* However few descriptors an agent has, the next agent ends up with one container, the one that was there. */
static void one_guest_however_few_descriptors(void **state) {
	_free_ char *program = strf("%s/program", dir);
	struct guest_spec spec;
	size_t started = 0;
	enum { MOST = 20 };

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
	/* Both cases occurred: too few descriptors, and enough. */
	assert_true(started > 0 && started < MOST);
}

static bool keep_none(_unused_ void *userdata, _unused_ const char *uid) {
	return false;
}

/* The guest is found whatever happened to its pid file and to its namespace's name, and whether it must run or not. */
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
	struct hypervisor *h = begin_guest(&loop, &spec, &first);
	/* The guest isn't reported as stopped. */
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
		/* No packet reaches the guest in a namespace without a name: it is ended and started again. */
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

/* Leaves an instance whose QEMU ran as USER under an earlier agent with another --uid-base. */
static void leave_instance(const char *uid, unsigned user) {
	_free_ char *path = strf("%s/instances/%s", dir, uid), *file = strf("%s/config.json", path),
		    *text = strf("{\"name\":\"t/x\",\"uuid\":\"%s\",\"kernel\":\"/k\",\"uid\":%u,\"gid\":%u}", uid,
	                         user, user);

	OK(mkdir_p(path, 0700, &error));
	OK(write_file_atomic(file, text, strlen(text), 0644, &error));
}

/* QEMU and the root of a container get no uid that another instance uses for either of them. */
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
	struct hypervisor *h = begin_guest(&loop, &spec, &pid);
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

/* Makes a raw image of SIZE zeros. */
static void make_image(struct guest_spec *s, const char *path, off_t size) {
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	s->kernel[0] = 0;
	s->vm.boot = VM_BOOT_BIOS;
	s->vm.image_format = VM_FORMAT_RAW;
	snprintf(s->disk, sizeof(s->disk), "%s", path);
}

/* As begin_guest(), with SPEC filled in and a disk made from a new image. */
static struct hypervisor *begin_guest_with_disk(sd_event **loop, struct guest_spec *spec, const char *image,
                                                pid_t *pid) {
	_free_ char *program = strf("%s/program", dir);

	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	fill_spec(spec);
	make_image(spec, image, 1 << 20);
	return begin_guest(loop, spec, pid);
}

/* An API that knows no instances removes no disk, because it may be the wrong API. */
static void disk_survives_a_wrong_api(void **state) {
	_free_ char *disk = strf("%s/state/instances/" UID "/disk.qcow2", dir),
		    *removed = strf("%s/state/removed", dir), *image = strf("%s/raw", dir),
		    *kept = strf("%s/state/removed/" UID "/disk.qcow2", dir);
	struct stat before, after;
	struct guest_spec spec;
	sd_event *loop = NULL;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	struct hypervisor *h = begin_guest_with_disk(&loop, &spec, image, &pid);
	assert_int_equal(stat(disk, &before), 0);
	hypervisor_free(h);
	h = new_hypervisor(loop);
	gone = false;
	hypervisor_sweep(h, keep_none, NULL);
	RUN_UNTIL(loop, gone);
	assert_int_equal(containers(&pid), 0);
	assert_int_equal(access(disk, F_OK), -1);
	assert_int_equal(access(kept, F_OK), 0);
	/* The right API knows the instance, which gets its disk back even if it is stopped or can't start. */
	for (int may_run = 0; may_run < 2; may_run++) {
		spec.running = may_run;
		assert_int_equal(unlink(image), 0);
		OK(hypervisor_put(h, &spec, &error));
		RUN_UNTIL(loop, access(disk, F_OK) == 0);
		make_image(&spec, image, 1 << 20);
		if (may_run)
			break;
		hypervisor_free(h);
		h = new_hypervisor(loop);
		hypervisor_sweep(h, keep_none, NULL);
		RUN_UNTIL(loop, access(kept, F_OK) == 0);
	}
	RUN_UNTIL(loop, containers(&pid) == 1);
	assert_int_equal(stat(disk, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
	/* If the instance was deleted, its disk is deleted, too. */
	gone = false;
	hypervisor_remove(h, UID, true);
	RUN_UNTIL(loop, gone);
	assert_int_equal(access(disk, F_OK), -1);
	RUN_UNTIL(loop, rmdir(removed) == 0 || errno == ENOENT);
	hypervisor_free(h);
	sd_event_unref(loop);
}

/*
 * If an instance is wanted again after its machine was killed, and before its worker's turn, that doesn't count as a
 * restart.
 */
static void wanted_again_is_no_restart(void **state) {
	_free_ char *program = strf("%s/program", dir);
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
	OK(hypervisor_put(h, &spec, &error));
	watch_successes = 0;
	RUN_UNTIL(loop, watch_successes == 1 && containers(&first) == 1);
	for (int round = 0; round < 8; round++) {
		kills = watch_successes = 0;
		hypervisor_remove(h, UID, false);
		RUN_UNTIL(loop, kills == 1);
		OK(hypervisor_put(h, &spec, &error));
		RUN_UNTIL(loop, watch_successes > 0 && containers(&pid) == 1 && pid != first);
		assert_int_equal(hypervisor_state(h, UID)->restarts, 0);
		first = pid;
	}
	remove_guest(loop, h);
	hypervisor_free(h);
	sd_event_unref(loop);
}

/*
 * Removes the instance. Returns when the removal has begun and waits for the lock of the disks, which the test holds.
 */
static void begin_removal(sd_event *loop, struct hypervisor *h, int *lock) {
	_free_ char *state_dir = strf("%s/state", dir);
	char name[INSTNET_NAME_MAX], netns[NETNS_PATH_MAX];

	OK(room_lock(state_dir, lock, &error));
	hypervisor_remove(h, UID, false);
	/* The network is removed before the disk. */
	netns_path(instnet_netns(prefix, ID, name), netns);
	RUN_UNTIL(loop, access(netns, F_OK) < 0);
}

static void deleted_while_it_goes(void **state) {
	_free_ char *image = strf("%s/raw", dir), *kept = strf("%s/state/removed/" UID, dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	int lock = -1;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	struct hypervisor *h = begin_guest_with_disk(&loop, &spec, image, &pid);
	begin_removal(loop, h, &lock);
	/* The instance was only missing; now it is deleted. */
	hypervisor_remove(h, UID, true);
	gone = false;
	close(lock);
	RUN_UNTIL(loop, gone);
	RUN_UNTIL(loop, access(kept, F_OK) < 0);
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* If an instance is wanted again, a failed removal is no failure of the instance. */
static void wanted_again_though_it_cannot_go(void **state) {
	_free_ char *image = strf("%s/raw", dir), *mounted = strf("%s/instances/" UID "/mounted", dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	int lock = -1;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	struct hypervisor *h = begin_guest_with_disk(&loop, &spec, image, &pid);
	OK(mkdir_p(mounted, 0700, &error));
	test_claim("mount", mounted);
	assert_int_equal(mount("tmpfs", mounted, "tmpfs", 0, NULL), 0);
	told_by = h;
	begin_removal(loop, h, &lock);
	OK(hypervisor_put(h, &spec, &error));
	failed = false;
	close(lock);
	RUN_UNTIL(loop, containers(&pid) == 1);
	assert_false(failed);
	told_by = NULL;
	assert_int_equal(umount2(mounted, MNT_DETACH), 0);
	remove_guest(loop, h);
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* Whoever holds the lock of the disks holds up no instance that has no disk. */
static void without_a_disk_it_goes_at_once(void **state) {
	_free_ char *program = strf("%s/program", dir), *state_dir = strf("%s/state", dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	int lock = -1;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(write_file_atomic(program, pausing, strlen(pausing), 0755, &error));
	fill_spec(&spec);
	/* The disk of an earlier test may not be deleted yet. */
	OK(remove_tree(state_dir, &error));
	struct hypervisor *h = begin_guest(&loop, &spec, &pid);
	OK(room_lock(state_dir, &lock, &error));
	remove_guest(loop, h);
	close(lock);
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* Makes a folder with a disk of an instance that the hypervisor doesn't know. */
static void leave_disk(void) {
	_free_ char *path = strf("%s/state/instances/" UID, dir), *disk = strf("%s/disk.qcow2", path);

	OK(mkdir_p(path, 0750, &error));
	OK(write_file_atomic(disk, "x", 1, 0600, &error));
}

/* If the host has booted since, only the disk is left of an instance. */
static void deleted_after_a_boot(void **state) {
	_free_ char *disk = strf("%s/state/instances/" UID, dir), *kept = strf("%s/state/removed/" UID, dir);
	sd_event *loop = NULL;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(sd_event_new(&loop));
	struct hypervisor *h = new_hypervisor(loop);
	leave_disk();
	remove_guest(loop, h);
	assert_int_equal(access(disk, F_OK), -1);
	RUN_UNTIL(loop, access(kept, F_OK) < 0);
	hypervisor_remove(h, "not-a-uuid", true);
	assert_null(hypervisor_state(h, "not-a-uuid"));
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* A file system that is slow to give up disks keeps no host from becoming ready. */
static void settled_before_disks_are_swept(void **state) {
	_free_ char *kept = strf("%s/state/removed/" UID, dir), *state_dir = strf("%s/state", dir);
	sd_event *loop = NULL;
	int lock = -1;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(remove_tree(state_dir, &error));
	OK(sd_event_new(&loop));
	struct hypervisor *h = new_hypervisor(loop);
	leave_disk();
	OK(room_lock(state_dir, &lock, &error));
	gone = settled = false;
	hypervisor_sweep(h, keep_none, NULL);
	RUN_UNTIL(loop, settled && hypervisor_state(h, UID));
	assert_false(gone);
	close(lock);
	RUN_UNTIL(loop, gone);
	assert_int_equal(access(kept, F_OK), 0);
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* Makes the folder of an instance that was removed at MTIME; 0: somebody deleted the instance. */
static void leave_removed(const char *uid, time_t mtime) {
	_free_ char *path = strf("%s/state/removed/%s", dir, uid);
	const struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};

	OK(mkdir_p(path, 0750, &error));
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool keep_uid(_unused_ void *userdata, const char *uid) {
	return streq(uid, UID);
}

/* An instance may exist and not be looked at for long, for example while its Image is missing. */
static void disks_of_known_instances_are_kept(void **state) {
	static const char deleted[] = "0b5ac4a8-4b0e-4c35-9c3d-000000000002",
			  missing[] = "0b5ac4a9-4b0e-4c35-9c3d-000000000003";
	_free_ char *removed = strf("%s/state/removed", dir), *known_path = strf("%s/" UID, removed),
		    *deleted_path = strf("%s/%s", removed, deleted), *missing_path = strf("%s/%s", removed, missing);
	sd_event *loop = NULL;

	(void)state;
	if (geteuid() != 0)
		skip();
	leave_removed(UID, 1);
	leave_removed(missing, 1);
	leave_removed(deleted, 0);
	OK(sd_event_new(&loop));
	struct hypervisor *h = new_hypervisor(loop);
	RUN_UNTIL(loop, access(deleted_path, F_OK) < 0);
	/* Nobody knows yet which instances there are. */
	assert_int_equal(access(missing_path, F_OK), 0);
	hypervisor_sweep(h, keep_uid, NULL);
	RUN_UNTIL(loop, access(missing_path, F_OK) < 0);
	assert_int_equal(access(known_path, F_OK), 0);
	hypervisor_free(h);
	sd_event_unref(loop);
}

/* A new row of RESOURCES is part of what a guest must be. */
static void each_resource_counts(void **state) {
	struct guest_spec a, b;

	(void)state;
	jt_init(&jt_guest_spec, &a);
	jt_init(&jt_guest_spec, &b);
	assert_true(guest_spec_equal(&a, &b));
	RESOURCES_FOREACH (i) {
		b.size.v[i] = 7;
		assert_false(guest_spec_equal(&a, &b));
		a.size.v[i] = 7;
		assert_true(guest_spec_equal(&a, &b));
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_resource_counts),
		cmocka_unit_test(one_guest_whoever_cannot_watch),
		cmocka_unit_test(one_guest_however_few_descriptors),
		cmocka_unit_test(guest_is_found_by_its_group),
		cmocka_unit_test(no_user_is_taken_twice),
		cmocka_unit_test(only_qemu_says_no_to_kvm),
		cmocka_unit_test(disk_survives_a_wrong_api),
		cmocka_unit_test(wanted_again_is_no_restart),
		cmocka_unit_test(deleted_while_it_goes),
		cmocka_unit_test(wanted_again_though_it_cannot_go),
		cmocka_unit_test(without_a_disk_it_goes_at_once),
		cmocka_unit_test(deleted_after_a_boot),
		cmocka_unit_test(settled_before_disks_are_swept),
		cmocka_unit_test(disks_of_known_instances_are_kept),
	};
	return cmocka_run_group_tests_name("hypervisor", tests, setup, teardown);
}
