/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The first process of a machine whose kernel has cgroup v2 with all controllers; tests/node/test_cgroup_v2.py boots it
 * and reads what it prints: "ok" at the end, or what is wrong. It is linked statically and needs nothing else.
 */

#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/util.h"
#include "node/cgroup.h"

#define NAME  "x-i-0123456789ab"
#define GROUP "/sys/fs/cgroup/nacre/" NAME

static struct error error;

static void _noreturn_ end(void) {
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
	_exit(1);
}

#define CHECK(what)                                                              \
	do {                                                                     \
		if (!(what)) {                                                   \
			printf("line %d: %s: %s\n", __LINE__, #what, error.msg); \
			end();                                                   \
		}                                                                \
	} while (0)

static bool says(const char *file, const char *text) {
	_free_ char *path = strf(GROUP "/%s", file), *is = NULL;

	return path && read_file(path, 4096, &is, NULL, &error) == 0 && strncmp(is, text, strlen(text)) == 0 &&
	       is[strlen(text)] == '\n';
}

static bool has_processes(void) {
	_free_ char *pids = NULL;

	CHECK(read_file(GROUP "/cgroup.procs", 4096, &pids, NULL, &error) == 0);
	return pids[0];
}

static pid_t spawn(const struct cgroups *c, bool take_memory) {
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	CHECK(cgroup_enter(c, NAME, &error) == 0);
	for (;;) {
		char *m = take_memory ? malloc(1 << 20) : NULL;
		if (m)
			memset(m, 1, 1 << 20);
		else
			pause();
	}
}

static bool keep_none(_unused_ void *userdata, _unused_ const char *name) {
	return false;
}

int main(void) {
	const struct cgroup_limits limits = {.memory = 64 << 20, .vcpus = 2, .cpu_us = 250000, .pids = 20};
	struct cgroups *c;
	int status;

	CHECK(mkdir("/proc", 0755) == 0 && mount("proc", "/proc", "proc", 0, NULL) == 0);
	CHECK(mkdir("/run", 0755) == 0);
	CHECK(mkdir("/sys", 0755) == 0 && mount("sysfs", "/sys", "sysfs", 0, NULL) == 0);
	CHECK(cgroups_new(&c, &error) == 0 && cgroups_missing(c) == CGROUP_ALL);
	cgroups_free(c);
	/* However many mounts a hierarchy has, it counts as one. This one has no controller. */
	for (int i = 0; i < 40; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/m%d", i);
		CHECK(mkdir(path, 0755) == 0 && mount("cgroup", path, "cgroup", 0, "none,name=x") == 0);
	}
	CHECK(cgroups_new(&c, &error) == 0 && cgroups_missing(c) == CGROUP_ALL);
	cgroups_free(c);
	for (int i = 0; i < 40; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/m%d", i);
		CHECK(umount(path) == 0);
	}
	CHECK(mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) == 0);
	CHECK(cgroups_new(&c, &error) == 0 && cgroups_missing(c) == 0);
	/* As if an agent had died after its mkdir. */
	CHECK(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpu", &error) == 0);
	CHECK(mkdir("/sys/fs/cgroup/nacre", 0755) == 0);
	CHECK(cgroup_make(c, NAME, &limits, &error) == 0);
	CHECK(says("../cpu.weight", "200"));
	CHECK(says("memory.max", "67108864") && says("memory.swap.max", "0") && says("pids.max", "20"));
	CHECK(says("cpu.max", "250000 100000") && says("cpu.weight", "200") && says("io.weight", "default 200"));
	/* The process needs more than its memory. */
	CHECK(!cgroup_ran_out_of_memory(c, NAME));
	pid_t pid = spawn(c, true);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(cgroup_ran_out_of_memory(c, NAME));
	/* The group is made again, which kills what is left in the old one. */
	pid = spawn(c, false);
	while (!has_processes())
		usleep(1000);
	CHECK(cgroup_make(c, NAME, &limits, &error) == 0 && !cgroup_ran_out_of_memory(c, NAME));
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK(cgroup_remove(c, NAME, &error) == 0 && access("/sys/fs/cgroup/nacre", F_OK) < 0);
	CHECK(cgroup_remove(c, NAME, &error) == 0);
	CHECK(cgroup_make(c, NAME, &limits, &error) == 0);
	CHECK(cgroups_sweep(c, "other-", keep_none, NULL, &error) == 0);
	CHECK(access(GROUP, F_OK) == 0);
	/* A group that is not empty may belong to another agent. */
	pid = spawn(c, false);
	while (!has_processes())
		usleep(1000);
	CHECK(cgroups_sweep(c, "x-i-", keep_none, NULL, &error) == -EBUSY);
	CHECK(has_processes() && waitpid(pid, &status, WNOHANG) == 0);
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
	CHECK(cgroups_sweep(c, "x-i-", keep_none, NULL, &error) == 0);
	CHECK(access("/sys/fs/cgroup/nacre", F_OK) < 0);
	printf("all is ok\n");
	end();
}
