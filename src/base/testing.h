/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* cmocka and the headers it wants before it. Only for test-*.c files. */

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */
