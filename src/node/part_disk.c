/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The machine's own disk and its UEFI variables, in STATE_DIR. They survive a stop of the machine and a boot of the
 * host. node/removed.h says what happens to them when the instance is removed.
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
 * A qcow2 file is larger than the disk in it: by its tables, 10 octets for each cluster of 64 KiB, and by rounding
 * (QEMU's docs/interop/qcow2.txt). QEMU's process can make none of its files larger than this.
 */
static uint64_t disk_file_max(uint64_t size) {
	return size + size / 1024 + 4 * ROOM_VARS_MAX;
}

/*
 * Files made here aren't synced: guests write to the same file system, and waiting for all of their writes takes too
 * long. So after a power failure a file may have its name but none of its content. Such a file begins with zeros, and
 * no guest has lost data with it: the guest's first flush would have written the beginning, too.
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

/* Gives a file of an earlier start to the user of this one. -ENOENT: there is no file to take over. */
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

/* Renames FRESH to PATH and gives it to the user UID. */
static int put_in_place(const char *fresh, const char *path, uid_t uid, struct error *err) {
	if (chmod(fresh, 0600) < 0 || chown(fresh, uid, uid) < 0)
		return error_errno(err, errno, "`%s`", fresh);
	return rename(fresh, path) < 0 ? error_errno(err, errno, "rename `%s`", fresh) : 0;
}

/*
 * How large an existing disk of HAS bytes may become: what it was promised when it was made, even if its image has
 * changed since. (The size in the disk's header can't be trusted: QEMU may write it.)
 */
static int keep_file_max(const char *dir, uint64_t has, uint64_t *file_max, struct error *err) {
	int r = room_read(dir, file_max, err);

	if (r != -ENOENT)
		return r;
	*file_max = MAX(*file_max, has);
	return room_write(dir, *file_max, err);
}

/* Makes a new disk, which needs room (-ENOSPC) if the host has a folder for disks (node/room.h). */
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
	/* A disk that can't grow to its full size would fail while the guest uses it. */
	_close_ int promise = -1; /* until the disk has its name */
	r = room.state_dir ? room_take(&room, dir, *file_max, &promise, err) : room_write(dir, *file_max, err);
	if (r < 0)
		return r;
	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	/*
	 * The header names no backing file. nacre-vm passes the image to QEMU (vm/qemu.c), so that nothing in a file
	 * that the guest can change decides what QEMU opens.
	 */
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
	/* Variables of another size are useless to the firmware: code in QEMU has changed them (node/room.h). */
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

/* Variables that have grown would also end a machine that doesn't use them. */
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

/* An instance that exists gets its disk back even if its machine is stopped or can't start. */
static int disk_ensure(struct guest_look *l, struct error *err) {
	return l->pid || !l->host->removed ? 0 : removed_take_back(l->host->removed, l->uid, err);
}

/* Keeps the disk and the variables of an earlier start, except for variables whose size is not the firmware's. */
static int disk_prepare(struct guest_look *l, struct error *err) {
	l->ret->has_vars = l->vm.boot == VM_BOOT_UEFI;
	if (!has_disk(l))
		return drop_vars(l->state_dir, err);
	int r = mkdir_p(l->state_dir, 0750, err);
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

const struct part part_disk = {.name = "disk",
                               .ensure = disk_ensure,
                               .configure = disk_configure,
                               .prepare = disk_prepare,
                               .remove = disk_remove};
