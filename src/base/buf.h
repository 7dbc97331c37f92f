/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A growing byte buffer with a stated maximum.
 *
 * Invariants: data[len] is NUL whenever data is not NULL, so data is also a C
 * string. Once an append fails (memory, or the maximum), `failed` stays set and
 * later appends do nothing: build the whole text, then check once with
 * buf_error(). The buffer owns data; buf_free() releases it and leaves an empty
 * buffer with the same maximum.
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

void buf_add(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);

/* Room for LEN more bytes at data + len, or NULL (and failed). The caller adds to len. */
void *buf_reserve(struct buf *b, size_t len);

/* Forgets the content, keeps the memory, clears failed. */
void buf_reset(struct buf *b);

/* Removes the first LEN bytes (LEN <= b->len). */
void buf_consume(struct buf *b, size_t len);

/* 0, or -EMSGSIZE/-ENOMEM with a message that names WHAT. */
int buf_error(const struct buf *b, const char *what, struct error *err);

/* Gives the content away as a malloc'ed string ("" when empty), NULL if failed. */
char *buf_steal(struct buf *b);
