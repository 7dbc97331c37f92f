/* SPDX-License-Identifier: Apache-2.0 */

/* One guest and its agents, whatever happens to them: the guest is adopted, watched and removed. */

#include "node/test-hypervisor.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "node/instdir.h"
#include "node/kvmprobe.h"

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
	_free_ char *pidfile = strf("%s/instances/" UID "/pid", dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	pid_t first = 0, pid = 0;

	(void)state;
	prepare_guest(&spec);
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
	end_hypervisor(loop, h);
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
	struct guest_spec spec;
	size_t started = 0;
	enum { MOST = 20 };

	(void)state;
	prepare_guest(&spec);
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

/* The guest is found whatever happened to its pid file and to its namespace's name, and whether it must run or not. */
static void guest_is_found_by_its_group(void **state) {
	_free_ char *pidfile = strf("%s/instances/" UID "/pid", dir);
	char name[INSTNET_NAME_MAX], netns[NETNS_PATH_MAX];
	struct guest_spec spec;
	sd_event *loop = NULL;
	pid_t first = 0, pid = 0;
	uint64_t start;

	(void)state;
	prepare_guest(&spec);
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
	end_hypervisor(loop, h);
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
	_free_ char *own = strf("%s/instances/" UID, dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	uid_t user = 0;
	pid_t pid;

	(void)state;
	prepare_guest(&spec);
	leave_instance(as_root, 200001 - CONTAINER_USERS);
	leave_instance(as_qemu, container_root(200002));
	struct hypervisor *h = begin_guest(&loop, &spec, &pid);
	OK(instdir_uid(own, &user));
	assert_int_equal(user, 200003);
	remove_guest(loop, h);
	for (size_t i = 0; i < 2; i++) {
		gone = false;
		hypervisor_remove(h, i ? as_qemu : as_root, true);
		RUN_UNTIL(loop, gone);
	}
	end_hypervisor(loop, h);
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

/*
 * If an instance is wanted again after its machine was killed, and before its worker's turn, that doesn't count as a
 * restart.
 */
static void wanted_again_is_no_restart(void **state) {
	struct guest_spec spec;
	sd_event *loop = NULL;
	pid_t first = 0, pid = 0;

	(void)state;
	prepare_guest(&spec);
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
	end_hypervisor(loop, h);
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
		cmocka_unit_test(wanted_again_is_no_restart),
	};
	return cmocka_run_group_tests_name("hypervisor", tests, setup, teardown);
}
