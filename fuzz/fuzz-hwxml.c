/* SPDX-License-Identifier: Apache-2.0 */

/* A host from XML (hwloc's, NCCL's) or JSON: whatever is read must hold together, and be drawn and printed. */

#include "hwcheck.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_hw_free_ struct hw_host *h = NULL;
	struct error err = {0};
	if (hw_read_text((const char *)data, size, &h, &err) < 0)
		CHECK(err.msg[0] && !h);
	else
		check(h);
	return 0;
}
