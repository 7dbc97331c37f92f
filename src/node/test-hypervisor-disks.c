/* SPDX-License-Identifier: Apache-2.0 */

/* The disk of one guest, whatever happens: which removal keeps it, which deletes it, and what waits for it. */

#include "node/test-hypervisor.h"

#include "node/room.h"

static bool keep_none(_unused_ void *userdata, _unused_ const char *uid) {
	return false;
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
	prepare_guest(spec);
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
	end_hypervisor(loop, h);
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
	struct hypervisor *h = begin_guest_with_disk(&loop, &spec, image, &pid);
	begin_removal(loop, h, &lock);
	/* The instance was only missing; now it is deleted. */
	hypervisor_remove(h, UID, true);
	gone = false;
	close(lock);
	RUN_UNTIL(loop, gone);
	RUN_UNTIL(loop, access(kept, F_OK) < 0);
	end_hypervisor(loop, h);
}

/* If an instance is wanted again, a failed removal is no failure of the instance. */
static void wanted_again_though_it_cannot_go(void **state) {
	_free_ char *image = strf("%s/raw", dir), *mounted = strf("%s/instances/" UID "/mounted", dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	int lock = -1;
	pid_t pid;

	(void)state;
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
	end_hypervisor(loop, h);
}

/* Whoever holds the lock of the disks holds up no instance that has no disk. */
static void without_a_disk_it_goes_at_once(void **state) {
	_free_ char *state_dir = strf("%s/state", dir);
	struct guest_spec spec;
	sd_event *loop = NULL;
	int lock = -1;
	pid_t pid;

	(void)state;
	prepare_guest(&spec);
	/* The disk of an earlier test may not be deleted yet. */
	OK(remove_tree(state_dir, &error));
	struct hypervisor *h = begin_guest(&loop, &spec, &pid);
	OK(room_lock(state_dir, &lock, &error));
	remove_guest(loop, h);
	close(lock);
	end_hypervisor(loop, h);
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
	end_hypervisor(loop, h);
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
	end_hypervisor(loop, h);
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
	end_hypervisor(loop, h);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disk_survives_a_wrong_api),
		cmocka_unit_test(deleted_while_it_goes),
		cmocka_unit_test(wanted_again_though_it_cannot_go),
		cmocka_unit_test(without_a_disk_it_goes_at_once),
		cmocka_unit_test(deleted_after_a_boot),
		cmocka_unit_test(settled_before_disks_are_swept),
		cmocka_unit_test(disks_of_known_instances_are_kept),
	};
	return cmocka_run_group_tests_name("hypervisor-disks", tests, setup, teardown);
}
