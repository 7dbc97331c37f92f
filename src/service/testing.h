/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of this folder share. Only for test-*.c files. */

#include "base/testing.h"

#include "base/macros.h"
#include "base/slice.h"

static struct error error;

_unused_ static struct addr addr(const char *s) {
	struct addr a;
	OK(addr_parse(s, &a, &error));
	return a;
}

_unused_ static struct slice slice(const char *s) {
	struct slice r;
	OK(slice_parse(s, &r, &error));
	return r;
}
