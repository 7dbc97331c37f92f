/* SPDX-License-Identifier: Apache-2.0 */
#include "node/instdir.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/util.h"
#include "vm/control.h"
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

int instdir_check_image(const struct guest_spec *s, struct error *err) {
	uint64_t size;
	const char *field = "spec.disk.file";
	int r;

	if (s->boot != VM_BOOT_KERNEL) {
		r = image_check_disk(s->disk, s->format, &size, err);
	} else {
		field = "spec.kernel.kernel";
		r = image_check_kernel(s->kernel, err);
		if (r >= 0 && s->initrd[0]) {
			field = "spec.kernel.initrd";
			r = image_check_initrd(s->initrd, err);
		}
	}
	return r < 0 ? error_prefix(err, "Image `%s`, %s", s->image, field) : 0;
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

static int make_disk(const char *dir, const struct room *room, const struct guest_spec *s, uid_t uid,
                     uint64_t *ret_file_max, struct error *err) {
	_free_ char *path = strf("%s/disk.qcow2", dir), *fresh = strf("%s/disk.new", dir);
	char size[32];
	uint64_t bytes, has;

	if (!path || !fresh)
		return error_oom(err);
	int r = image_check_disk(s->disk, s->format, &bytes, err);
	if (r < 0)
		return r;
	*ret_file_max = disk_file_max(bytes);
	r = take_over(path, uid, &has, err);
	if (r != -ENOENT)
		return r < 0 ? r : keep_file_max(dir, has, ret_file_max, err);
	/* A disk that can't grow to its size would fail in the guest's hands. */
	r = room ? room_take(room, dir, *ret_file_max, err) : room_write(dir, *ret_file_max, err);
	if (r < 0)
		return r;
	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	/* No backing file in the header: nacre-vm says what is below (vm/qemu.c), so that nothing in a file that the
	 * guest can get at decides what QEMU opens. */
	const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", fresh, size, NULL};
	r = proc_run(&(struct proc_spec){.argv = argv}, NULL, err);
	if (r >= 0)
		r = put_in_place(fresh, path, uid, err);
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

static void add_file(struct instdir_start *st, const char *host, const char *name, char path[static VM_PATH_MAX + 1]) {
	st->files[st->n_files++] = (struct container_file){.host = host, .name = name};
	snprintf(path, VM_PATH_MAX + 1, "/image/%s", name);
}

/*
 * What the kernel of the guest is told: the image's words, and who it is.
 *
 * Without KVM, Linux tests at boot whether the timer interrupts: it counts ticks during 40 ms of real time, four times,
 * and panics ("IO-APIC + timer doesn't work!") if each time too few came (arch/x86/kernel/apic/io_apic.c,
 * check_timer()). A starved QEMU delivers too few. A guest of KVM skips the test by itself (arch/x86/kernel/kvm.c,
 * paravirt_ops_setup()).
 */
static int put_cmdline(const struct guest_spec *s, enum vm_accel accel, struct vm_config *c, struct error *err) {
	char prefix[PREFIX_STR_MAX];
	int n = snprintf(c->cmdline, sizeof(c->cmdline), "%s%s%snacre.name=%s%s%s", s->cmdline,
	                 s->cmdline[0] ? " " : "", accel == VM_ACCEL_TCG ? "no_timer_check " : "", s->name,
	                 s->delegated.addr.family ? " nacre.prefix=" : "",
	                 s->delegated.addr.family ? prefix_str(&s->delegated, prefix) : "");

	if ((size_t)n >= sizeof(c->cmdline))
		return error_set(err, EINVAL, "the kernel's command line is longer than %d bytes", VM_CMDLINE_MAX);
	return 0;
}

static int fill_config(const struct guest_spec *s, uid_t uid, enum vm_accel accel, struct vm_config *c,
                       struct instdir_start *st, struct error *err) {
	vm_config_init(c);
	memcpy(c->name, s->name, sizeof(c->name));
	memcpy(c->uuid, s->uid, sizeof(c->uuid));
	c->vcpus = s->vcpus;
	c->memory_mib = s->memory_mib;
	c->accel = accel;
	c->boot = s->boot;
	c->mac = s->mac;
	if (s->net.addr.family) {
		snprintf(c->tap, sizeof(c->tap), "%s", INSTNET_TAP);
		c->prefix = s->net;
		st->has_tap = true;
	}
	c->uid = c->gid = uid;
	if (s->boot == VM_BOOT_KERNEL) {
		add_file(st, s->kernel, "kernel", c->kernel);
		if (s->initrd[0])
			add_file(st, s->initrd, "initrd", c->initrd);
		return put_cmdline(s, accel, c, err);
	}
	add_file(st, s->disk, "disk", c->image);
	c->image_format = s->format;
	snprintf(c->disk, sizeof(c->disk), "/state/disk.qcow2");
	if (s->boot == VM_BOOT_UEFI) {
		snprintf(c->firmware, sizeof(c->firmware), "%s", OVMF_CODE);
		snprintf(c->firmware_vars, sizeof(c->firmware_vars), "/state/vars.fd");
	}
	return 0;
}

static int make_folders(const char *dir, const char *state, uid_t uid, bool has_state, struct error *err) {
	int r = mkdir_p(dir, 0700, err);

	if (r < 0 || !has_state)
		return r;
	r = mkdir_p(state, 0750, err);
	return r >= 0 && chown(state, 0, uid) < 0 ? error_errno(err, errno, "`%s`", state) : r;
}

int instdir_prepare(const char *dir, const char *state, const struct room *room, const struct guest_spec *s, uid_t uid,
                    enum vm_accel accel, struct instdir_start *ret, struct error *err) {
	_free_ char *path = strf("%s/" CONTAINER_CONFIG, dir);
	_buf_free_ struct buf text = {.max = VM_CONFIG_MAX};
	struct instdir_start st = {.file_max = VM_OWN_FILE_MAX, .has_state = s->boot != VM_BOOT_KERNEL};
	struct vm_config c;

	if (!path)
		return error_oom(err);
	int r = make_folders(dir, state, uid, st.has_state, err);
	if (r >= 0)
		r = fill_config(s, uid, accel, &c, &st, err);
	if (r < 0)
		return r;
	/* What nacre-vm would refuse is refused here, before anything is made. */
	vm_config_print(&c, &text);
	r = buf_error(&text, "config.json", err);
	if (r >= 0)
		r = vm_config_parse(text.data, text.len, &c, err);
	if (r >= 0 && st.has_state)
		r = make_disk(state, room, s, uid, &st.file_max, err);
	if (r >= 0 && st.has_state)
		r = s->boot == VM_BOOT_UEFI ? make_vars(state, uid, err) : drop_vars(state, err);
	if (r >= 0)
		r = write_file_atomic(path, text.data, text.len, 0644, err);
	if (r < 0)
		return r;
	*ret = st;
	return 0;
}

int instdir_uid(const char *dir, uid_t *ret) {
	_free_ char *path = strf("%s/" CONTAINER_CONFIG, dir), *text = NULL;
	struct vm_config c;
	size_t len;

	if (!path)
		return -ENOMEM;
	int r = read_file(path, VM_CONFIG_MAX, &text, &len, NULL);
	if (r >= 0)
		r = vm_config_parse(text, len, &c, NULL);
	if (r < 0)
		return r;
	*ret = (uid_t)c.uid;
	return 0;
}

static int read_end(const char *dir, struct vm_status *ret) {
	_free_ char *path = strf("%s/exit.json", dir), *text = NULL;
	size_t len;
	int r = path ? read_file(path, CONTROL_LINE_MAX, &text, &len, NULL) : -ENOMEM;

	return r < 0 ? r : vm_status_parse(text, len, ret, NULL);
}

void instdir_end(const char *dir, struct vm_status *ret) {
	if (read_end(dir, ret) == 0 && ret->end != VM_END_NONE)
		return;
	*ret = (struct vm_status){.state = VM_ENDED, .end = VM_END_KILLED, .since_us = now_realtime_us()};
	snprintf(ret->message, sizeof(ret->message), "nacre-vm was killed");
}
