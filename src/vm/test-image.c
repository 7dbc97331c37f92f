/* SPDX-License-Identifier: Apache-2.0 */

/* Files of images: which are accepted, and which are refused. */

#include "vm/testing.h"

#include <errno.h>

#include "vm/image.h"

static char *put(const char *name, const void *data, size_t len, mode_t mode) {
	char *path = strf("%s/%s", dir, name);
	OK(write_file_atomic(path, data, len, mode, &error));
	return path;
}

static void images(void **state) {
	(void)state;
	static uint8_t kernel[1024] = {[0x1fe] = 0x55, [0x1ff] = 0xaa, [0x202] = 'H', 'd', 'r', 'S'};
	static uint8_t disk[1024];
	uint8_t qcow2[512] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, [28] = 0, 16, 0, 0};
	uint64_t size = 0;

	_free_ char *k = put("kernel", kernel, sizeof(kernel), 0644), *raw = put("raw", disk, sizeof(disk), 0644),
		    *q = put("qcow2", qcow2, sizeof(qcow2), 0644), *odd = put("odd", disk, 513, 0644),
		    *secret = put("secret", kernel, sizeof(kernel), 0600), *empty = put("empty", "", 0, 0644);
	OK(image_check_kernel(k, &error));
	assert_int_equal(image_check_kernel(raw, &error), -EINVAL);
	assert_non_null(strstr(error.msg, "not a Linux kernel"));
	assert_int_equal(image_check_kernel(empty, &error), -EINVAL);
	assert_int_equal(image_check_kernel(dir, &error), -EINVAL);
	assert_int_equal(image_check_kernel(secret, &error), -EACCES);
	assert_non_null(strstr(error.msg, "chmod"));
	assert_int_equal(image_check_kernel("/nonexistent", &error), -ENOENT);
	OK(image_check_initrd(k, &error));
	assert_int_equal(image_check_initrd(empty, &error), -EINVAL);
	OK(image_check_disk(raw, VM_FORMAT_RAW, &size, &error));
	assert_int_equal(size, 1024);
	OK(image_check_disk(q, VM_FORMAT_QCOW2, &size, &error));
	assert_int_equal(size, 16 << 16);
	assert_int_equal(image_check_disk(raw, VM_FORMAT_QCOW2, &size, &error), -EINVAL);
	assert_int_equal(image_check_disk(q, VM_FORMAT_RAW, &size, &error), -EINVAL);
	assert_int_equal(image_check_disk(odd, VM_FORMAT_RAW, &size, &error), -EINVAL);
	/* Images that would make QEMU open other files. */
	qcow2[15] = 1;
	_free_ char *backed = put("backed", qcow2, sizeof(qcow2), 0644);
	assert_int_equal(image_check_disk(backed, VM_FORMAT_QCOW2, &size, &error), -EINVAL);
	assert_non_null(strstr(error.msg, "backing file"));
	qcow2[15] = 0;
	qcow2[79] = 4;
	_free_ char *external = put("external", qcow2, sizeof(qcow2), 0644);
	assert_int_equal(image_check_disk(external, VM_FORMAT_QCOW2, &size, &error), -EINVAL);
	assert_non_null(strstr(error.msg, "external data file"));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images),
	};
	return cmocka_run_group_tests_name("vm-image", tests, setup, teardown);
}
