/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A growing byte buffer with a stated maximum.
 *
 * Invariants: data[len] is NUL whenever data is not NULL, so data is also a C string. Once an append fails (no memory,
 * or the maximum is exceeded), `failed` stays set and later appends do nothing: append the whole text, then check once
 * with buf_error(). The buffer owns data; buf_free() releases it and leaves an empty buffer with the same maximum.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct buf {
	char *data;
	size_t len;
	size_t cap;
	size_t max; /* bytes of content allowed; 0 means BUF_MAX_DEFAULT */
	bool failed;
};

#define BUF_MAX_DEFAULT ((size_t)64 << 20)

void buf_free(struct buf *b);
#define _buf_free_ _cleanup_(buf_free)
/* The same, for a secret: overwrites the content first. What growing has moved elsewhere is not overwritten. */
void buf_free_wiped(struct buf *b);

void buf_add(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);

/* Makes room for LEN more bytes and returns data + len; the caller adds to len. Returns NULL, and sets failed, on
 * failure. */
void *buf_reserve(struct buf *b, size_t len);

/* Empties the buffer, keeps its memory, and clears failed. */
void buf_reset(struct buf *b);

/* Removes the first LEN bytes (LEN <= b->len). */
void buf_consume(struct buf *b, size_t len);

/* 0, or -EMSGSIZE or -ENOMEM with a message that begins with WHAT. */
int buf_error(const struct buf *b, const char *what, struct error *err);

/* Returns the content as a malloc'ed string ("" when empty), which the caller frees; NULL if failed. The buffer is
 * empty afterwards. */
char *buf_steal(struct buf *b);
