/* SPDX-License-Identifier: Apache-2.0 */
#include "base/jsonwrite.h"

#include <string.h>

/* A comma is due unless the buffer is empty or ends in what opens a container, a key, or a line. */
static void comma(struct buf *b) {
	if (b->len == 0 || b->failed)
		return;
	char last = b->data[b->len - 1];
	if (last != '{' && last != '[' && last != ':' && last != '\n' && last != ',')
		buf_putc(b, ',');
}

static bool is_plain(const char *s, size_t len) {
	size_t i = 0;
	while (i < len && (unsigned char)s[i] >= 0x20 && s[i] != '"' && s[i] != '\\')
		i++;
	return i == len;
}

void jw_quote(struct buf *b, const char *s, size_t len) {
	const char *run = s, *end = s + len;
	if (is_plain(s, len)) {
		char *p = buf_reserve(b, len + 2);
		if (!p)
			return;
		*p++ = '"';
		p = mempcpy(p, s, len);
		*p++ = '"';
		*p = '\0';
		b->len += len + 2;
		return;
	}
	buf_putc(b, '"');
	for (const char *p = s; p < end; p++) {
		unsigned char c = (unsigned char)*p;
		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buf_add(b, run, (size_t)(p - run));
		run = p + 1;
		switch (c) {
		case '"': buf_add(b, "\\\"", 2); break;
		case '\\': buf_add(b, "\\\\", 2); break;
		case '\b': buf_add(b, "\\b", 2); break;
		case '\f': buf_add(b, "\\f", 2); break;
		case '\n': buf_add(b, "\\n", 2); break;
		case '\r': buf_add(b, "\\r", 2); break;
		case '\t': buf_add(b, "\\t", 2); break;
		default: buf_printf(b, "\\u%04X", c);
		}
	}
	buf_add(b, run, (size_t)(end - run));
	buf_putc(b, '"');
}

void jw_string_len(struct buf *b, const char *s, size_t len) {
	comma(b);
	jw_quote(b, s, len);
}

void jw_string(struct buf *b, const char *s) {
	jw_string_len(b, s, strlen(s));
}

void jw_key(struct buf *b, const char *key) {
	jw_string(b, key);
	buf_putc(b, ':');
}

void jw_i64(struct buf *b, int64_t v) {
	comma(b);
	buf_printf(b, "%lld", (long long)v);
}

void jw_bool(struct buf *b, bool v) {
	comma(b);
	buf_puts(b, v ? "true" : "false");
}

void jw_null(struct buf *b) {
	comma(b);
	buf_puts(b, "null");
}

void jw_raw(struct buf *b, const char *json, size_t len) {
	comma(b);
	buf_add(b, json, len);
}

void jw_begin(struct buf *b, char open) {
	comma(b);
	buf_putc(b, open);
}

void jw_end(struct buf *b, char close) {
	buf_putc(b, close);
}

void jw_kv_string(struct buf *b, const char *key, const char *value) {
	if (!value)
		return;
	jw_key(b, key);
	jw_string(b, value);
}

void jw_kv_i64(struct buf *b, const char *key, int64_t value) {
	jw_key(b, key);
	jw_i64(b, value);
}

void jw_kv_bool(struct buf *b, const char *key, bool value) {
	jw_key(b, key);
	jw_bool(b, value);
}
