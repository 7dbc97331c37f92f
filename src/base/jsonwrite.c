/* SPDX-License-Identifier: Apache-2.0 */
#include "base/jsonwrite.h"

#include <string.h>

/* A comma is needed unless the buffer is empty or ends in the start of a container, a key, or a line. */
static void comma(struct buf *b) {
	if (b->len == 0 || b->failed)
		return;
	char last = b->data[b->len - 1];
	if (last != '{' && last != '[' && last != ':' && last != '\n' && last != ',')
		buf_putc(b, ',');
}

/* How many bytes a character takes within quotes beyond the first. */
static const unsigned char escapes[256] = {
	[0 ... 7] = 5,  /* \u00 and two digits */
	[8 ... 10] = 1, /* \b, \t, \n */
	[11] = 5,       ['\f'] = 1, ['\r'] = 1, [14 ... 31] = 5, ['"'] = 1, ['\\'] = 1,
};

static char *put_escaped(char *p, unsigned char c) {
	static const char hex[] = "0123456789ABCDEF";
	static const char letters[0x20] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
	const char letter = c < sizeof(letters) ? letters[c] : (char)c;
	*p++ = '\\';
	if (letter) {
		*p++ = letter;
		return p;
	}
	p = mempcpy(p, "u00", 3);
	*p++ = hex[c >> 4];
	*p++ = hex[c & 15];
	return p;
}

void jw_quote(struct buf *b, const char *s, size_t len) {
	size_t quoted = len + 2;
	for (size_t i = 0; i < len; i++)
		quoted += escapes[(unsigned char)s[i]];
	char *p = buf_reserve(b, quoted);
	if (!p)
		return;
	*p++ = '"';
	if (quoted == len + 2)
		p = mempcpy(p, s, len);
	else
		for (size_t i = 0; i < len; i++) {
			const unsigned char c = (unsigned char)s[i];
			if (escapes[c])
				p = put_escaped(p, c);
			else
				*p++ = (char)c;
		}
	*p++ = '"';
	*p = '\0';
	b->len += quoted;
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
