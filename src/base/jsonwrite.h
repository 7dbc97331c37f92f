/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Writes JSON into a buffer. The writer places the commas: a value that follows another one in the same container gets
 * its "," by itself. Errors are the buffer's (sticky; see base/buf.h). Strings must be valid UTF-8.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

void jw_key(struct buf *b, const char *key); /* "key": */
void jw_string(struct buf *b, const char *s);
void jw_string_len(struct buf *b, const char *s, size_t len);
void jw_quote(struct buf *b, const char *s, size_t len); /* writes no comma; escapes as jansson does */
void jw_i64(struct buf *b, int64_t v);
void jw_bool(struct buf *b, bool v);
void jw_null(struct buf *b);
void jw_raw(struct buf *b, const char *json, size_t len); /* a whole value, as bytes */
void jw_begin(struct buf *b, char open);                  /* '{' or '[' */
void jw_end(struct buf *b, char close);                   /* '}' or ']' */

/* Members, for the common cases. jw_kv_string() with NULL writes nothing. */
void jw_kv_string(struct buf *b, const char *key, const char *value);
void jw_kv_i64(struct buf *b, const char *key, int64_t value);
void jw_kv_bool(struct buf *b, const char *key, bool value);
