/* SPDX-License-Identifier: Apache-2.0 */

/* The container of an instance: what is seen inside, and that it is found again. */

#include "node/testing.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

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

/* Replaces libc's unshare: the sysctl would change the whole machine. */
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
	struct container_config c = {.dir = inst,
	                             .netns = netns,
	                             .hostname = "web",
	                             .program = program,
	                             .state = states,
	                             .user = 200001,
	                             .files = {{.host = image, .name = "kernel"}},
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
	assert_non_null(strstr(text, "root bin config.json dev image init lib lib64 proc sbin seed state tmp usr\n"));
	assert_non_null(strstr(text, "\nuid=0 gid=0 groups=0\n"));
	assert_non_null(strstr(text, "given 1 3 control:console:end\n"));
	/* The last descriptor belongs to ls. */
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
	/* Nothing of the container is left mounted. */
	OK(remove_tree(inst, &error));
	/* The caller is told at once that a program can't be run. */
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

/*
 * The container's user namespace is the caller's, so the caller may look at its processes although they belong to other
 * users.
 */
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

/* A process that can't be looked at doesn't count as gone. */
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
	/* One descriptor is enough to list the processes, but not to look at one. */
	allow_files(1);
	searched = container_search(NULL, NULL, netns, &found, &error);
	allow_files(-1);
	assert_int_equal(searched, -EMFILE);
	OK(container_find(inst, &found));
	assert_int_equal(found, pid);
	/* If the pid file is lost, the kernel still knows the process. */
	assert_int_equal(unlink(pidfile), 0);
	assert_int_equal(container_find(inst, &found), -ENOENT);
	found = 0;
	OK(container_search(NULL, NULL, netns, &found, &error));
	assert_int_equal(found, pid);
	expect_found_without_ptrace(netns, pid);
	OK(proc_pidfile_write(pidfile, pid, &error));
	assert_int_equal(container_is_in(pid, netns), 1);
	assert_int_equal(container_is_in(pid, "/proc/self/ns/net"), 0);
	OK(container_kill(inst, &error));
	/* A process that is gone doesn't count as one in another namespace. */
	assert_int_equal(container_is_in(pid, netns), -ESRCH);
	assert_int_equal(container_search(NULL, NULL, netns, &found, &error), -ESRCH);
	assert_int_equal(container_search(NULL, NULL, "/run/netns/nonexistent", &found, &error), -ESRCH);
	OK(remove_tree(inst, &error));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(container_sees_what_it_should),
		cmocka_unit_test(container_is_not_forgotten),
	};
	return cmocka_run_group_tests_name("container", tests, setup, teardown);
}
