/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* cmocka and the headers that it needs before it. Only for test-*.c files. */

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

/* Fails the test if CALL fails, with the message in `error`, a variable that each file that uses OK() has. */
#define OK(call)                                                       \
	do {                                                           \
		int res = (call);                                      \
		if (res < 0)                                           \
			fail_msg("%s: %d: %s", #call, res, error.msg); \
	} while (0)
