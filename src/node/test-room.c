/* SPDX-License-Identifier: Apache-2.0 */

/* Disks and UEFI variables of instances, on a small file system that only this process sees. Skipped without root. */

#include "base/testing.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/util.h"
#include "node/part.h"
#include "node/room.h"

#define MIB   ((uint64_t)1 << 20)
#define SPACE 80 /* MiB of the file system */

static char dir[64], space[80], image[80];
static struct error error;

static void clear(void) {
	if (space[0] && umount2(space, MNT_DETACH) < 0)
		assert_int_equal(errno, EINVAL);
	OK(remove_tree(dir, &error));
}

static int teardown(_unused_ void **state) {
	if (geteuid() == 0)
		clear();
	return 0;
}

static int setup(_unused_ void **state) {
	char options[32];

	if (geteuid() != 0)
		return 0;
	snprintf(dir, sizeof(dir), "/tmp/nacre-test-room-%d", getpid());
	snprintf(space, sizeof(space), "%s/space", dir);
	snprintf(image, sizeof(image), "%s/image", dir);
	snprintf(options, sizeof(options), "size=%dm,mode=755", SPACE);
	test_claim("dir", dir);
	OK(mkdir_p(space, 0755, &error));
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("tmpfs", space, "tmpfs", 0, options), 0);
	return 0;
}

/* Each test begins with an empty file system. */
static int renew(void **state) {
	teardown(state);
	return setup(state);
}

/* Makes a raw image of SIZE zeros. A disk on top of it may become larger by 16 MiB and a thousandth. */
static void make_image(uint64_t size) {
	int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static struct guest_spec spec(enum vm_boot boot) {
	struct guest_spec s;

	jt_init(&jt_guest_spec, &s);
	s.vm.boot = boot;
	s.vm.image_format = VM_FORMAT_RAW;
	snprintf(s.disk, sizeof(s.disk), "%s", image);
	return s;
}

/* The path of FILE of instance N in folder WHERE of the file system; instances have numbers. */
static const char *file_of(unsigned n, const char *where, const char *file) {
	static char path[64][160];
	static unsigned next;
	char *p = path[next++ % ARRAY_SIZE(path)];

	snprintf(p, sizeof(path[0]), "%s/%s/0b5ac4a8-4b0e-4c35-9c3d-%012u%s%s", space, where, n, file[0] ? "/" : "",
	         file);
	return p;
}

static int prepare(unsigned n, const struct guest_spec *s, int64_t overcommit, uint64_t *ret_max) {
	const struct part_host host = {.state_dir = space, .disk_overcommit = overcommit};
	struct guest_result made = {0};
	struct guest_look l = {.host = &host,
	                       .state_dir = file_of(n, "instances", ""),
	                       .user = 200000 + n,
	                       .spec = s,
	                       .vm = s->vm,
	                       .ret = &made};
	int r = part_disk.configure(&l, &error);

	if (r >= 0)
		r = part_disk.prepare(&l, &error);
	if (r == 0 && ret_max)
		*ret_max = l.container.file_max;
	return r;
}

static int put_disk(unsigned n) {
	const struct guest_spec s = spec(VM_BOOT_BIOS);

	return prepare(n, &s, 0, NULL);
}

/* Writes as the guest would. */
static void fill(const char *path, uint64_t size) {
	_free_ char *bytes = malloc(MIB);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	memset(bytes, 'x', MIB);
	for (uint64_t at = 0; at < size; at += MIB)
		assert_int_equal(pwrite(fd, bytes, MIB, (off_t)at), MIB);
	close(fd);
}

static void disks_are_made_once(_unused_ void **state) {
	const char *disk = file_of(1, "instances", "disk.qcow2");
	struct guest_spec s = spec(VM_BOOT_BIOS);
	struct stat before, after;
	uint64_t limit = 0, again = 0;

	if (geteuid() != 0)
		skip();
	make_image(2 * MIB);
	OK(prepare(1, &s, 0, &limit));
	assert_int_equal(limit, 18 * MIB + 2048);
	assert_int_equal(stat(disk, &before), 0);
	/* A changed image doesn't change the room of an existing disk. */
	for (uint64_t size = 1; size <= 16; size += 15) {
		make_image(size * MIB);
		OK(prepare(1, &s, 0, &again));
		assert_int_equal(again, limit);
	}
	assert_int_equal(stat(disk, &after), 0);
	assert_true(after.st_ino == before.st_ino);
	/* A disk whose limit isn't known may keep its size; that is written down. */
	assert_int_equal(truncate(disk, 60 * MIB), 0);
	assert_int_equal(truncate(file_of(1, "instances", "disk.max"), 0), 0);
	for (int i = 0; i < 2; i++) {
		OK(prepare(1, &s, 0, &again));
		assert_int_equal(again, 60 * MIB);
		assert_int_equal(truncate(disk, MIB), 0);
	}
	/* The power failed before anything was written. */
	assert_int_equal(truncate(disk, 0), 0);
	assert_int_equal(truncate(disk, 4096), 0);
	OK(prepare(1, &s, 0, &again));
	assert_int_equal(again, 32 * MIB + 16384);
	assert_int_equal(stat(disk, &after), 0);
	assert_true(after.st_size > 4096 && after.st_uid == 200001);
}

static void disks_share_the_room(_unused_ void **state) {
	_free_ char *removed = strf("%s/removed", space), *doomed = strf("%s/removed/purge-me", space);
	const struct guest_spec s = spec(VM_BOOT_BIOS);
	char says[200];

	if (geteuid() != 0)
		skip();
	/* Disks of 24 MiB. What a disk has written is not counted twice. */
	make_image(8 * MIB);
	OK(put_disk(1));
	OK(put_disk(2));
	fill(file_of(1, "instances", "disk.qcow2"), 24 * MIB);
	OK(put_disk(3));
	/* The room that the others have not used yet is theirs. */
	assert_int_equal(put_disk(4), -ENOSPC);
	snprintf(says, sizeof(says),
	         "`%s`: no room for a disk of at most 24 MiB: 55 MiB are free, of which other disks may still take 47 "
	         "MiB; ",
	         space);
	assert_memory_equal(error.msg, says, strlen(says));
	assert_int_equal(access(file_of(4, "instances", "disk.qcow2"), F_OK), -1);
	/* Existing disks start again. */
	OK(put_disk(2));
	/* What QEMU can do to a disk changes nothing. */
	assert_int_equal(truncate(file_of(2, "instances", "disk.qcow2"), 0), 0);
	assert_int_equal(put_disk(4), -ENOSPC);
	assert_int_equal(truncate(file_of(2, "instances", "disk.qcow2"), 1 << 30), 0);
	assert_int_equal(put_disk(4), -ENOSPC);
	assert_non_null(strstr(error.msg, "may still take 47 MiB"));
	/* A disk that is kept may be given back, so it counts; one that is being deleted doesn't. */
	assert_int_equal(mkdir(removed, 0700), 0);
	assert_int_equal(rename(file_of(2, "instances", ""), file_of(2, "removed", "")), 0);
	assert_int_equal(put_disk(4), -ENOSPC);
	assert_int_equal(rename(file_of(2, "removed", ""), doomed), 0);
	OK(put_disk(4));
	/* 96 MiB of 80: more may be promised if the operator allows it. */
	assert_int_equal(put_disk(5), -ENOSPC);
	assert_int_equal(prepare(5, &s, 20, NULL), -ENOSPC);
	OK(prepare(5, &s, 21, NULL));
}

/* The disk that another process is making counts until that process is killed. */
static void promises_end_with_their_makers(_unused_ void **state) {
	const char *own = file_of(1, "instances", "");
	int said[2];
	char byte;

	if (geteuid() != 0)
		skip();
	/* Disks of 48 MiB. */
	make_image(32 * MIB);
	OK(mkdir_p(own, 0750, &error));
	assert_int_equal(pipe2(said, O_CLOEXEC), 0);
	fflush(NULL);
	pid_t maker = fork();
	if (maker == 0) {
		const struct room room = {.state_dir = space};
		int promise;
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* should the test fail meanwhile */
		if (room_take(&room, own, 48 * MIB, &promise, &error) < 0 || write(said[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(said[1]);
	assert_int_equal(read(said[0], &byte, 1), 1);
	close(said[0]);
	assert_int_equal(put_disk(2), -ENOSPC);
	assert_int_equal(kill(maker, SIGKILL), 0);
	assert_int_equal(waitpid(maker, NULL, 0), maker);
	assert_int_equal(access(file_of(1, "instances", "disk.max"), F_OK), 0);
	OK(put_disk(2));
	assert_int_equal(put_disk(1), -ENOSPC);
}

static void variables_keep_their_size(_unused_ void **state) {
	const char *own = file_of(1, "instances", ""), *vars = file_of(1, "instances", "vars.fd");
	struct guest_spec s = spec(VM_BOOT_UEFI);
	struct stat before, after;

	if (geteuid() != 0)
		skip();
	make_image(MIB);
	OK(room_check_vars(own, &error));
	OK(prepare(1, &s, 0, NULL));
	OK(room_check_vars(own, &error));
	assert_int_equal(stat(vars, &before), 0);
	OK(prepare(1, &s, 0, NULL));
	assert_int_equal(stat(vars, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
	/* The variables have grown, with and without written data, or shrunk: the next start replaces them. */
	for (int how = 0; how < 3; how++) {
		int fd = open(vars, O_WRONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		if (how == 0)
			assert_int_equal(pwrite(fd, "x", 1, (off_t)ROOM_VARS_MAX), 1);
		else if (how == 1)
			assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 3 * (off_t)ROOM_VARS_MAX), 0);
		else
			assert_int_equal(ftruncate(fd, 4096), 0);
		close(fd);
		assert_int_equal(room_check_vars(own, &error), how == 2 ? 0 : -EFBIG);
		OK(prepare(1, &s, 0, NULL));
		OK(room_check_vars(own, &error));
		assert_int_equal(stat(vars, &after), 0);
		assert_true(after.st_size == before.st_size && after.st_uid == 200001);
	}
	/* The image boots without variables now, with or without a disk. */
	for (int with_disk = 0; with_disk < 2; with_disk++) {
		s.vm.boot = VM_BOOT_UEFI;
		OK(prepare(1, &s, 0, NULL));
		assert_int_equal(truncate(vars, 1 << 30), 0);
		s.vm.boot = with_disk ? VM_BOOT_BIOS : VM_BOOT_KERNEL;
		OK(prepare(1, &s, 0, NULL));
		assert_int_equal(access(vars, F_OK), -1);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(disks_are_made_once, renew),
		cmocka_unit_test_setup(disks_share_the_room, renew),
		cmocka_unit_test_setup(promises_end_with_their_makers, renew),
		cmocka_unit_test_setup(variables_keep_their_size, renew),
	};
	return cmocka_run_group_tests_name("room", tests, setup, teardown);
}
