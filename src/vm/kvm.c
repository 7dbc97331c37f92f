/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/kvm.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/util.h"
#include "vm/qemu.h"

#define OUTPUT_MAX ((size_t)1 << 20)

/*
 * A boot sector:  mov dx, 0x501; mov al, 0x10; out dx, al; hlt; jmp $-1
 * QEMU then exits with status (0x10 << 1) | 1.
 */
static const unsigned char boot_sector[512] = {0xba, 0x01, 0x05, 0xb0,         0x10, 0xee,
                                               0xf4, 0xeb, 0xfd, [510] = 0x55, 0xaa};
#define SECTOR_EXIT "exited with status 33"

/* What the answer depends on: "BOOT-ID QEMU-MTIME KERNEL-INODE KERNEL-MTIME". */
static int make_key(const char *kernel, const char *dir, char key[static 256], char **ret_cache, struct error *err) {
	_free_ char *boot = NULL;
	struct stat q, k = {0};
	size_t len;

	int r = read_file("/proc/sys/kernel/random/boot_id", 64, &boot, &len, err);
	if (r < 0)
		return r;
	if (stat(QEMU_PROGRAM, &q) < 0)
		return error_errno(err, errno, "`%s`", QEMU_PROGRAM);
	if (kernel && stat(kernel, &k) < 0)
		return error_errno(err, errno, "kernel `%s`", kernel);
	snprintf(key, 256, "%.36s %lld %llu %lld", boot, (long long)q.st_mtime, (unsigned long long)k.st_ino,
	         (long long)k.st_mtime);
	*ret_cache = strf("%s/kvm-%llu", dir, (unsigned long long)k.st_ino);
	return *ret_cache ? 0 : error_oom(err);
}

/* Runs the machine of vm/qemu.c, as far as the processor goes, with the arguments MORE (NULL-terminated). */
static int run_guest(const char *const *more, struct buf *out, struct error *err) {
	/* clang-format off */
	const char *argv[40] = {
		QEMU_PROGRAM, "-no-user-config", "-nodefaults", "-display", "none", "-machine", "q35",
		"-accel", "kvm", "-cpu", "host", "-smp", "2", "-m", "256", "-no-reboot",
	};
	/* clang-format on */
	struct proc_spec spec = {.argv = argv, .timeout_ms = KVM_PROBE_MS};
	size_t n = 0;

	while (argv[n])
		n++;
	while (*more && n < ARRAY_SIZE(argv) - 1)
		argv[n++] = *more++;
	return proc_run(&spec, out, err);
}

static int boots_kernel(const char *kernel, struct error *err) {
	const char *const more[] = {"-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 panic=-1", NULL};
	_buf_free_ struct buf out = {.max = OUTPUT_MAX};
	struct error failed = {0};

	int r = run_guest(more, &out, &failed);
	if (out.data && strstr(out.data, "Kernel panic - not syncing: VFS"))
		return 0;
	return error_set(err, EOPNOTSUPP, "KVM does not boot `%s`: %.300s", kernel,
	                 r < 0 ? failed.msg : "the guest ended early");
}

static int boots_sector(const char *cache, struct error *err) {
	_free_ char *path = strf("%s.sector", cache), *drive = strf("if=none,id=d,format=raw,file=%s.sector", cache);
	const char *const more[] = {"-device", "isa-debug-exit,iobase=0x501,iosize=1", "-drive", drive,
	                            "-device", "virtio-blk-pci,drive=d,bootindex=0",   NULL};
	struct error failed = {0};

	if (!path || !drive)
		return error_oom(err);
	int r = write_file_atomic(path, boot_sector, sizeof(boot_sector), 0600, err);
	if (r < 0)
		return r;
	r = run_guest(more, NULL, &failed);
	unlink(path);
	if (r == -EREMOTEIO && strstr(failed.msg, SECTOR_EXIT))
		return 0;
	return error_set(err, EOPNOTSUPP, "KVM does not run a boot sector: %.300s",
	                 r < 0 ? failed.msg : "the guest ended early");
}

static int keep(const char *cache, const char *key, const char *why, struct error *err) {
	_free_ char *text = strf("%s\n%s", key, why);

	return text ? write_file_atomic(cache, text, strlen(text), 0644, err) : error_oom(err);
}

/* 1: CACHE holds no answer. */
static int look_up(const char *cache, const char *key, struct error *err) {
	_free_ char *text = NULL;
	size_t len, n = strlen(key);

	if (read_file(cache, 1024, &text, &len, NULL) < 0 || strncmp(text, key, n) != 0 || text[n] != '\n')
		return 1;
	return text[n + 1] ? error_set(err, EOPNOTSUPP, "%s", text + n + 1) : 0;
}

int kvm_probe(const char *kernel, const char *dir, struct error *err) {
	_free_ char *cache = NULL;
	struct error why = {0};
	char key[256];

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return error_set(err, EOPNOTSUPP, "`/dev/kvm` can't be used: %s", strerror(errno));
	int r = make_key(kernel, dir, key, &cache, err);
	if (r >= 0)
		r = look_up(cache, key, err);
	if (r <= 0)
		return r;
	r = kernel ? boots_kernel(kernel, &why) : boots_sector(cache, &why);
	if (r < 0 && r != -EOPNOTSUPP)
		return error_set(err, why.code, "%s", why.msg);
	int kept = keep(cache, key, why.msg, err);
	if (kept < 0)
		return kept;
	return r < 0 ? error_set(err, EOPNOTSUPP, "%s", why.msg) : 0;
}
