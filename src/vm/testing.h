/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A folder for the files of a test, as fixtures of its group. Only for test-*.c files, each of which is a program. */

#include "base/testing.h"

#include "base/util.h"

static struct error error;
static char dir[64];

static int setup(_unused_ void **state) {
	snprintf(dir, sizeof(dir), "/tmp/nacre-test-vm-%d", getpid());
	test_claim("dir", dir);
	return mkdir_p(dir, 0755, &error);
}

static int teardown(_unused_ void **state) {
	return remove_tree(dir, &error);
}
