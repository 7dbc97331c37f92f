/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/image.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define DISK_MAX ((uint64_t)1 << 50)

/* Header of a bzImage: Linux, Documentation/arch/x86/boot.rst. */
#define BZ_FLAG  0x1fe
#define BZ_MAGIC 0x202

/* Header of a qcow2 image: QEMU, docs/interop/qcow2.txt. All fields are big-endian. */
#define QCOW2_HEADER       104
#define QCOW2_VERSION      4
#define QCOW2_BACKING      8
#define QCOW2_SIZE         24
#define QCOW2_CRYPT        32
#define QCOW2_INCOMPATIBLE 72
#define QCOW2_EXTERNAL     (1ULL << 2)

/* Reads the first LEN bytes of a file, which must be a regular file that QEMU's user may read. */
static int read_head(const char *path, uint8_t *head, size_t len, uint64_t *ret_size, struct error *err) {
	struct stat st;
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return error_errno(err, errno, "`%s`", path);
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "`%s`", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "`%s` is not a regular file", path);
	if (!(st.st_mode & S_IROTH))
		return error_set(err, EACCES, "`%s` can't be read by others; chmod o+r it", path);
	ssize_t n = read(fd, head, len);
	if (n < 0)
		return error_errno(err, errno, "read `%s`", path);
	memset(head + n, 0, len - (size_t)n);
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

static uint64_t big_endian(const uint8_t *p, size_t len) {
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++)
		v = v << 8 | p[i];
	return v;
}

int image_check_kernel(const char *path, struct error *err) {
	uint8_t head[BZ_MAGIC + 4];
	uint64_t size;
	int r = read_head(path, head, sizeof(head), &size, err);

	if (r < 0)
		return r;
	if (head[BZ_FLAG] != 0x55 || head[BZ_FLAG + 1] != 0xaa || memcmp(head + BZ_MAGIC, "HdrS", 4) != 0)
		return error_set(err, EINVAL, "`%s` is not a Linux kernel (bzImage)", path);
	return 0;
}

int image_check_initrd(const char *path, struct error *err) {
	uint8_t head[1];
	uint64_t size;
	int r = read_head(path, head, sizeof(head), &size, err);

	if (r < 0)
		return r;
	return size ? 0 : error_set(err, EINVAL, "`%s` is empty", path);
}

static int check_qcow2(const char *path, const uint8_t *head, uint64_t *ret_size, struct error *err) {
	uint64_t version = big_endian(head + QCOW2_VERSION, 4);

	if (memcmp(head, "QFI\xfb", 4) != 0 || version < 2 || version > 3)
		return error_set(err, EINVAL, "`%s` is not a qcow2 image", path);
	if (big_endian(head + QCOW2_BACKING, 8))
		return error_set(err, EINVAL, "`%s` has a backing file; flatten it with qemu-img convert", path);
	if (version == 3 && (big_endian(head + QCOW2_INCOMPATIBLE, 8) & QCOW2_EXTERNAL))
		return error_set(err, EINVAL, "`%s` has an external data file; use qemu-img convert", path);
	if (big_endian(head + QCOW2_CRYPT, 4))
		return error_set(err, EINVAL, "`%s` is encrypted; use qemu-img convert", path);
	*ret_size = big_endian(head + QCOW2_SIZE, 8);
	return 0;
}

int image_check_disk(const char *path, enum vm_format format, uint64_t *ret_size, struct error *err) {
	uint8_t head[QCOW2_HEADER];
	uint64_t size;
	int r = read_head(path, head, sizeof(head), &size, err);

	if (r >= 0 && format == VM_FORMAT_QCOW2)
		r = check_qcow2(path, head, &size, err);
	if (r < 0)
		return r;
	if (format == VM_FORMAT_RAW && memcmp(head, "QFI\xfb", 4) == 0)
		return error_set(err, EINVAL, "`%s` is a qcow2 image, not a raw one", path);
	if (size == 0 || size % 512 || size > DISK_MAX)
		return error_set(err, EINVAL, "`%s`: %llu bytes is not the size of a disk", path,
		                 (unsigned long long)size);
	*ret_size = size;
	return 0;
}
