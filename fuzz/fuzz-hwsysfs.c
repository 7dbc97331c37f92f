/* SPDX-License-Identifier: Apache-2.0 */

/* A host from a sysfs tree, which a text describes (hw/memfs.h). */

#include "hwcheck.h"

#include "hw/memfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_hw_memfs_clear_ struct hw_fs fs = {0};
	_hw_free_ struct hw_host *h = NULL;
	struct error err = {0};
	if (size > 65536 || hw_memfs_parse((const char *)data, size, &fs, &err) < 0)
		return -1;
	if (hw_read_fs(&fs, &h, &err) < 0)
		CHECK(err.msg[0] && !h);
	else
		check(h);
	return 0;
}
