/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A pull reader over JSON text in memory (RFC 8259). It builds no tree, so a list of 100,000 objects costs one pass and
 * no allocation of the reader. It is strict: it checks UTF-8, refuses numbers outside int64 and lone surrogates, and
 * bounds the depth.
 *
 * Usage: jr_init(); then descend with jr_object()/jr_key() and jr_array()/jr_elem(), and take or jr_skip() every value.
 * Every function returns a negative errno once the text is bad, and keeps returning it; jr_error() then says what is
 * wrong and where. The text need not end in NUL and must outlive the reader.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum jr_type { JR_OBJECT, JR_ARRAY, JR_STRING, JR_NUMBER, JR_BOOL, JR_NULL };

#define JR_DEPTH_MAX 64

struct jr {
	const char *start, *p, *end;
	int failed; /* negative errno once set */
	const char *what;
	unsigned depth;
	bool first;         /* the next key or element is the first of its container */
	struct buf scratch; /* the last key or string that had escapes */
};

void jr_init(struct jr *r, const char *text, size_t len);
void jr_done(struct jr *r); /* frees the scratch memory */

/* The type of the next value; negative errno if the text is bad or at its end. */
int jr_peek(struct jr *r);
static inline const char *jr_type_name(int type) {
	static const char *const names[] = {"an object", "a list", "a string", "a number", "a boolean", "null"};
	return type >= 0 && type <= JR_NULL ? names[type] : "nothing";
}

/* Enters the object that comes next. Then jr_key() returns 1 with a key, or 0 after the "}". */
int jr_object(struct jr *r) _must_use_;
/* The key is valid until the next call on R. Not NUL-terminated. */
int jr_key(struct jr *r, const char **ret_key, size_t *ret_len) _must_use_;
/* Enters the array that comes next. Then jr_elem() returns 1 before each value, or 0 after the "]". */
int jr_array(struct jr *r) _must_use_;
int jr_elem(struct jr *r) _must_use_;

/* The decoded string, valid until the next call on R. Not NUL-terminated; \u0000 is an error. */
int jr_string(struct jr *r, const char **ret, size_t *ret_len) _must_use_;
/* An integer. A number with a fraction or an exponent is -EINVAL unless its value is whole (1e3, 2.0). */
int jr_i64(struct jr *r, int64_t *ret) _must_use_;
int jr_bool(struct jr *r, bool *ret) _must_use_;
int jr_null(struct jr *r) _must_use_;
/* Skips the next value. RET (may be NULL) gets the span of its text. */
int jr_skip(struct jr *r, const char **ret, size_t *ret_len) _must_use_;
/* Returns 0 if only white space is left. */
int jr_end(struct jr *r) _must_use_;

/* Makes the reader fail because the caller refuses the text, for the reason WHAT. Returns -EINVAL, or the errno of an
 * earlier failure. */
int jr_fail(struct jr *r, const char *what);
/* Fills ERR with a message such as "invalid JSON at byte 17: expected a string". Returns the errno of the failure. */
int jr_error(const struct jr *r, struct error *err);
