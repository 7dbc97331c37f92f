/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An error made where it happens: an errno value and a sentence for a person,
 * naming the object, the field or file, and where possible the remedy.
 *
 * Convention of the whole code base: a function that can fail returns 0 or a
 * negative errno, takes `struct error *err` last, and fills it before it returns
 * a failure. `err` may be NULL. Outputs are written only on success. Library code
 * does not log; the caller that gives up (or retries) logs the message once.
 *
 * The object owns no memory; it lives on the caller's stack and needs no free.
 */

#include <errno.h>

#include "base/macros.h"

struct error {
	int code;      /* positive errno, 0 = no error */
	char msg[508]; /* longer messages end in "..." */
};

/* Fills ERR with errno CODE (of either sign) and the message. Returns -abs(CODE). */
int error_set(struct error *err, int code, const char *fmt, ...) _printf_(3, 4);

/* Like error_set(), but appends ": <strerror(CODE)>" to the message. */
int error_errno(struct error *err, int code, const char *fmt, ...) _printf_(3, 4);

/* Puts "<message>: " before the message in ERR. Returns the code in ERR, negated. */
int error_prefix(struct error *err, const char *fmt, ...) _printf_(2, 3);

/* Fills ERR with a standard message and returns -ENOMEM. */
int error_oom(struct error *err);

/* Tells compilers and analysers that the result of these functions is always negative. */
#define ERROR_NEGATIVE(call)                     \
	({                                       \
		int _negative = (call);          \
		if (_negative >= 0)              \
			__builtin_unreachable(); \
		_negative;                       \
	})
#define error_set(...)    ERROR_NEGATIVE((error_set)(__VA_ARGS__))
#define error_errno(...)  ERROR_NEGATIVE((error_errno)(__VA_ARGS__))
#define error_prefix(...) ERROR_NEGATIVE((error_prefix)(__VA_ARGS__))
#define error_oom(err)    ERROR_NEGATIVE((error_oom)(err))
