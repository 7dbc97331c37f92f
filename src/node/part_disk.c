/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The machine's own disk and its UEFI variables, in STATE_DIR. They stay when the machine stops and when the host
 * boots; what becomes of them when the instance is removed is in node/removed.h.
 */

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/util.h"
#include "node/part.h"
#include "node/room.h"
#include "vm/image.h"

/* Debian's package ovmf. */
#define OVMF_CODE "/usr/share/OVMF/OVMF_CODE_4M.fd"
#define OVMF_VARS "/usr/share/OVMF/OVMF_VARS_4M.fd"

/*
 * A qcow2 is larger than the disk in it by its tables, 10 octets for each cluster of 64 KiB, and what is rounded up
 * (QEMU's docs/interop/qcow2.txt). QEMU's process can make none of its files larger than this.
 */
static uint64_t disk_file_max(uint64_t size) {
	return size + size / 1024 + 4 * ROOM_VARS_MAX;
}

/*
 * What is made here isn't synced: guests write to the same file system, and to wait for all of that is too long for the
 * loop. So the power may go while the file has its name and none of its content. Such a file begins with zeros, and no
 * guest has lost anything with it: its first flush would have written the beginning, too.
 */
static int is_unwritten(int fd) {
	char head[512];
	ssize_t n = pread(fd, head, sizeof(head), 0);

	if (n < 0)
		return -errno;
	for (ssize_t i = 0; i < n; i++)
		if (head[i])
			return false;
	return true;
}

/* What an earlier start made is for the user of this one. -ENOENT: there is nothing to take over. */
static int take_over(const char *path, uid_t uid, uint64_t *ret_size, struct error *err) {
	_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : error_errno(err, errno, "`%s`", path);
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "`%s`", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "`%s` is not a regular file", path);
	int unwritten = is_unwritten(fd);
	if (unwritten < 0 || fchown(fd, uid, uid) < 0)
		return error_errno(err, unwritten < 0 ? -unwritten : errno, "`%s`", path);
	*ret_size = (uint64_t)st.st_size;
	return unwritten ? -ENOENT : 0;
}

/* FRESH becomes PATH, the user's. */
static int put_in_place(const char *fresh, const char *path, uid_t uid, struct error *err) {
	if (chmod(fresh, 0600) < 0 || chown(fresh, uid, uid) < 0)
		return error_errno(err, errno, "`%s`", fresh);
	return rename(fresh, path) < 0 ? error_errno(err, errno, "rename `%s`", fresh) : 0;
}

/*
 * How large the disk that is there, of HAS bytes, may become: what it was promised when it was made, whatever has
 * become of its image since. (The size in the disk's header is QEMU's to write.)
 */
static int keep_file_max(const char *dir, uint64_t has, uint64_t *file_max, struct error *err) {
	int r = room_read(dir, file_max, err);

	if (r != -ENOENT)
		return r;
	*file_max = MAX(*file_max, has);
	return room_write(dir, *file_max, err);
}

/* A new disk needs room (-ENOSPC), where the host has a folder for disks (node/room.h). */
static int make_disk(struct guest_look *l, struct error *err) {
	const struct room room = {.state_dir = l->host->state_dir, .overcommit = l->host->disk_overcommit};
	const char *dir = l->state_dir;
	uint64_t *file_max = &l->container.file_max;

	_free_ char *path = strf("%s/disk.qcow2", dir), *fresh = strf("%s/disk.new", dir);
	char size[32];
	uint64_t bytes, has;

	if (!path || !fresh)
		return error_oom(err);
	int r = image_check_disk(l->spec->disk, l->spec->vm.image_format, &bytes, err);
	if (r < 0)
		return r;
	*file_max = disk_file_max(bytes);
	r = take_over(path, l->user, &has, err);
	if (r != -ENOENT)
		return r < 0 ? r : keep_file_max(dir, has, file_max, err);
	/* A disk that can't grow to its size would fail in the guest's hands. */
	_close_ int promise = -1; /* until the disk has its name */
	r = room.state_dir ? room_take(&room, dir, *file_max, &promise, err) : room_write(dir, *file_max, err);
	if (r < 0)
		return r;
	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	/* No backing file in the header: nacre-vm says what is below (vm/qemu.c), so that nothing in a file that the
	 * guest can get at decides what QEMU opens. */
	const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", fresh, size, NULL};
	r = proc_run(&(struct proc_spec){.argv = argv}, NULL, err);
	if (r >= 0)
		r = put_in_place(fresh, path, l->user, err);
	if (r < 0)
		room_give_back(dir);
	return r;
}

static int make_vars(const char *dir, uid_t uid, struct error *err) {
	_free_ char *path = strf("%s/vars.fd", dir), *fresh = strf("%s/vars.new", dir), *data = NULL;
	uint64_t has;
	size_t len;

	if (!path || !fresh)
		return error_oom(err);
	int r = read_file(OVMF_VARS, ROOM_VARS_MAX, &data, &len, err);
	if (r < 0)
		return error_prefix(err, "package ovmf");
	r = take_over(path, uid, &has, err);
	/* Of another size they are no use to the firmware: code in QEMU has changed it (node/room.h). */
	if (r == 0 && has == len)
		r = room_check_vars(dir, err);
	else if (r == 0)
		r = -EFBIG;
	if (r != -ENOENT && r != -EFBIG)
		return r;
	_close_ int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "create `%s`", fresh);
	r = write_all(fd, data, len, err);
	return r < 0 ? error_prefix(err, "`%s`", fresh) : put_in_place(fresh, path, uid, err);
}

/* Grown variables would end a machine that has no use for them, too. */
static int drop_vars(const char *dir, struct error *err) {
	_free_ char *path = strf("%s/vars.fd", dir);

	if (!path)
		return error_oom(err);
	if (room_check_vars(dir, NULL) == -EFBIG && unlink(path) < 0)
		return error_errno(err, errno, "remove `%s`", path);
	return 0;
}

static bool has_disk(const struct guest_look *l) {
	return l->spec->vm.boot != VM_BOOT_KERNEL;
}

static int disk_configure(struct guest_look *l, _unused_ struct error *err) {
	if (!has_disk(l))
		return 0;
	l->container.state = l->state_dir;
	snprintf(l->vm.disk, sizeof(l->vm.disk), "/state/disk.qcow2");
	if (l->vm.boot == VM_BOOT_UEFI) {
		snprintf(l->vm.firmware, sizeof(l->vm.firmware), "%s", OVMF_CODE);
		snprintf(l->vm.firmware_vars, sizeof(l->vm.firmware_vars), "/state/vars.fd");
	}
	return 0;
}

/* Disk and variables of an earlier start are kept, but for variables that have another size than the firmware's. */
static int disk_prepare(struct guest_look *l, struct error *err) {
	int r = l->host->removed ? removed_take_back(l->host->removed, l->uid, err) : 0;

	l->ret->has_vars = l->vm.boot == VM_BOOT_UEFI;
	if (r < 0 || !has_disk(l))
		return r;
	r = mkdir_p(l->state_dir, 0750, err);
	if (r >= 0 && chown(l->state_dir, 0, l->user) < 0)
		r = error_errno(err, errno, "`%s`", l->state_dir);
	if (r >= 0)
		r = make_disk(l, err);
	if (r >= 0)
		r = l->vm.boot == VM_BOOT_UEFI ? make_vars(l->state_dir, l->user, err) : drop_vars(l->state_dir, err);
	return r;
}

static int disk_remove(struct guest_look *l, struct error *err) {
	return removed_put(l->host->removed, l->uid, l->asked, err);
}

const struct part part_disk = {
	.name = "disk", .configure = disk_configure, .prepare = disk_prepare, .remove = disk_remove};
