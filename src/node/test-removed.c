/* SPDX-License-Identifier: Apache-2.0 */

/* The deletion of removed disks in a small file system of the test's own. */

#include "base/testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/loop.h"
#include "base/util.h"
#include "node/removed.h"

#define MIB   (1 << 20)
#define SPACE 16 /* MiB */
#define STUCK 40 /* more than are deleted in one go */
#define DISK  "0b5ac4a8-4b0e-4c35-9c3d-000000000001"

static char dir[64], space[80];
static struct error error;

static int teardown(_unused_ void **state) {
	if (geteuid() != 0)
		return 0;
	(void)umount2(space, MNT_DETACH);
	return remove_tree(dir, &error);
}

static int setup(_unused_ void **state) {
	_free_ char *options = strf("size=%dm,mode=755", SPACE);

	if (geteuid() != 0)
		return 0;
	snprintf(dir, sizeof(dir), "/tmp/nacre-test-removed-%d", getpid());
	snprintf(space, sizeof(space), "%s/space", dir);
	test_claim("dir", dir);
	OK(mkdir_p(space, 0755, &error));
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("tmpfs", space, "tmpfs", 0, options), 0);
	return 0;
}

static char *path_of(const char *name) {
	return strf("%s/removed/%s", space, name);
}

/* A folder to be deleted, which holds a file system of its own. */
static void make_stuck(unsigned n) {
	_free_ char *path = strf("%s/removed/purge-0b5ac4a8-4b0e-4c35-9c3d-%012u/mounted", space, 100 + n);

	OK(mkdir_p(path, 0755, &error));
	assert_int_equal(mount("tmpfs", path, "tmpfs", 0, "size=4k"), 0);
}

/* The disk of an instance that was removed so many seconds ago. */
static void make_disk(const char *uid, time_t seconds, off_t size) {
	_free_ char *path = path_of(uid), *disk = strf("%s/disk.qcow2", path);
	const struct timespec times[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};
	int fd;

	OK(mkdir_p(path, 0755, &error));
	fd = open(disk, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, size), 0);
	close(fd);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool know_none(_unused_ void *userdata, _unused_ const char *uid) {
	return false;
}

/* The rm that the worker finds notes what it was called with. */
static void watch_rm(void) {
	_free_ char *program = strf("%s/rm", dir), *env = strf("%s:%s", dir, getenv("PATH")),
		    *script = strf("#!/bin/sh\necho \"$*\" >>%s/log\nexec /bin/rm \"$@\"\n", dir);

	OK(write_file_atomic(program, script, strlen(script), 0755, &error));
	assert_int_equal(setenv("PATH", env, 1), 0);
}

static size_t count_tries(const char *name) {
	_free_ char *path = strf("%s/log", dir), *text = NULL;
	size_t len, n = 0;

	OK(read_file(path, MIB, &text, &len, &error));
	for (const char *p = text; (p = strstr(p, name)); p++)
		n++;
	return n;
}

#define RUN_UNTIL(condition)                                                      \
	do {                                                                      \
		uint64_t _end = now_monotonic_ns() + 120 * NSEC_PER_SEC;          \
		while (!(condition)) {                                            \
			assert_true(now_monotonic_ns() < _end);                   \
			assert_true(sd_event_run(loop, 20 * USEC_PER_MSEC) >= 0); \
		}                                                                 \
	} while (0)

/* Folders that can't be deleted keep no room from being made, and are not tried without end. */
static void stuck_folders_hold_up_nothing(void **state) {
	_free_ char *disk = path_of(DISK);
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	struct removed *r;

	(void)state;
	if (geteuid() != 0)
		skip();
	watch_rm();
	for (unsigned i = 0; i < STUCK; i++)
		make_stuck(i);
	make_disk(DISK, 60, (off_t)(SPACE - 1) * MIB);
	OK(sd_event_new(&loop));
	OK(removed_new(&r, loop, space, 3600, &error));
	removed_set_known(r, know_none, NULL);
	RUN_UNTIL(access(disk, F_OK) < 0);
	/* Each of these is deleted by a look of its own. */
	for (unsigned i = 2; i < 6; i++) {
		_free_ char *uid = strf("0b5ac4a8-4b0e-4c35-9c3d-%012u", i), *old = path_of(uid);
		make_disk(uid, 7200, 1);
		removed_wake(r);
		RUN_UNTIL(access(old, F_OK) < 0 && count_tries(uid) == 1);
	}
	for (unsigned i = 0; i < STUCK; i++) {
		_free_ char *name = strf("purge-0b5ac4a8-4b0e-4c35-9c3d-%012u", 100 + i);
		assert_int_equal(count_tries(name), 1);
	}
	removed_free(r);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(stuck_folders_hold_up_nothing)};
	return cmocka_run_group_tests_name("removed", tests, setup, teardown);
}
