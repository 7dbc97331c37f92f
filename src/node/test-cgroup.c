/* SPDX-License-Identifier: Apache-2.0 */

/* Control groups of instances in this machine's hierarchies, whatever it has. Skipped without root. */

#include "base/testing.h"

#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/util.h"
#include "node/cgroup.h"

#define WORKERS 3
#define ROUNDS  400

static struct error error;

/* Replaces libc's mkdir: waits, so that much happens between a look at the parent group and the use of it. */
int mkdir(const char *path, mode_t mode) {
	int r = (int)syscall(SYS_mkdir, path, mode), code = errno;
	const char *name = strrchr(path, '/');

	if (name && streq(name, "/" CGROUP_PARENT))
		usleep((useconds_t)random() % 1000);
	errno = code;
	return r;
}

/* Makes a group, enters it in another process, and removes it. 0 if all went well. */
static int use_group(const struct cgroups *c, const char *name) {
	const struct cgroup_limits limits = {.memory = 64 << 20, .vcpus = 1, .cpu_us = 100000, .pids = 16};
	int status;

	if (cgroup_make(c, name, &limits, &error) < 0)
		return 1;
	pid_t inside = fork();
	if (inside == 0)
		_exit(cgroup_enter(c, name, &error) < 0 ? 1 : 0);
	if (waitpid(inside, &status, 0) != inside || status != 0)
		return 2;
	return cgroup_remove(c, name, &error) < 0 ? 3 : 0;
}

/*
 * The parent group is removed with the last group, even while another group is being made. The makers share nothing but
 * the hierarchies, like agents in containers of their own.
 */
static void groups_come_and_go_side_by_side(void **state) {
	struct cgroups *c = NULL;
	pid_t workers[WORKERS];
	int failed = 0;

	(void)state;
	if (geteuid() != 0)
		skip();
	OK(cgroups_new(&c, &error));
	fflush(NULL);
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = fork();
		if (workers[i])
			continue;
		char name[64];
		snprintf(name, sizeof(name), "tc%d-i-%d", getppid(), i);
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("run", "/run", "tmpfs", 0, NULL) < 0)
			_exit(4);
		srandom((unsigned)i);
		for (int n = 0; n < ROUNDS; n++) {
			int r = use_group(c, name);
			if (r) {
				fprintf(stderr, "worker %d, round %d, step %d: %s\n", i, n, r, error.msg);
				(void)!cgroup_remove(c, name, &error);
				_exit(r);
			}
		}
		_exit(0);
	}
	for (int i = 0; i < WORKERS; i++) {
		int status;
		assert_int_equal(waitpid(workers[i], &status, 0), workers[i]);
		failed += status != 0;
	}
	cgroups_free(c);
	assert_int_equal(failed, 0);
}

/* Locks all that it can open of what is locked, or might be; says when it has done so, and stays. */
static void _noreturn_ lock_as_nobody(int said) {
	glob_t found = {0};

	if (setgid(65534) < 0 || setuid(65534) < 0)
		_exit(1);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* should the test fail meanwhile */
	(void)glob("/sys/fs/cgroup", 0, NULL, &found);
	(void)glob("/sys/fs/cgroup/*", GLOB_APPEND, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		int fd = open(found.gl_pathv[i], O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			(void)flock(fd, LOCK_EX);
	}
	if (write(said, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void no_other_user_can_hold_up_groups(void **state) {
	struct cgroups *c = NULL;
	int said[2], status;
	char byte, name[64];

	(void)state;
	if (geteuid() != 0)
		skip();
	snprintf(name, sizeof(name), "tc%d-i-0", getpid());
	OK(cgroups_new(&c, &error));
	assert_int_equal(use_group(c, name), 0);
	assert_int_equal(pipe2(said, O_CLOEXEC), 0);
	fflush(NULL);
	pid_t nobody = fork();
	if (nobody == 0)
		lock_as_nobody(said[1]);
	close(said[1]);
	assert_int_equal(read(said[0], &byte, 1), 1);
	close(said[0]);
	pid_t worker = fork();
	if (worker == 0) {
		alarm(20);
		_exit(use_group(c, name));
	}
	assert_int_equal(waitpid(worker, &status, 0), worker);
	kill(nobody, SIGKILL);
	assert_int_equal(waitpid(nobody, NULL, 0), nobody);
	(void)!cgroup_remove(c, name, &error);
	cgroups_free(c);
	assert_int_equal(status, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_other_user_can_hold_up_groups),
		cmocka_unit_test(groups_come_and_go_side_by_side),
	};
	return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
