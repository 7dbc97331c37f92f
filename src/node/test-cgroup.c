/* SPDX-License-Identifier: Apache-2.0 */

/* Control groups of instances in this machine's hierarchies, whatever it has. Skipped without root. */

#include "base/testing.h"

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

/* The parent group is removed with the last group, even while another group is being made. */
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

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groups_come_and_go_side_by_side),
	};
	return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
