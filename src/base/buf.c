/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <string.h>

static size_t buf_max(const struct buf *b) {
	return b->max ? b->max : BUF_MAX_DEFAULT;
}

void buf_free(struct buf *b) {
	free(b->data);
	*b = (struct buf){.max = b->max};
}

void buf_free_wiped(struct buf *b) {
	if (b->data)
		explicit_bzero(b->data, b->cap);
	buf_free(b);
}

void *buf_reserve(struct buf *b, size_t len) {
	size_t need;
	if (b->failed)
		return NULL;
	if (__builtin_add_overflow(b->len, len, &need) || need > buf_max(b)) {
		b->failed = true;
		return NULL;
	}
	if (need >= b->cap) {
		size_t cap = b->cap ? b->cap : 64;
		while (cap <= need)
			cap *= 2;
		char *data = realloc(b->data, cap);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
		b->data[b->len] = 0;
	}
	return b->data + b->len;
}

void buf_add(struct buf *b, const void *data, size_t len) {
	char *p = buf_reserve(b, len);
	if (!p)
		return;
	if (len)
		memcpy(p, data, len);
	b->len += len;
	b->data[b->len] = 0;
}

void buf_puts(struct buf *b, const char *s) {
	buf_add(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c) {
	if (b->failed || b->len + 1 >= b->cap || b->len >= buf_max(b)) {
		buf_add(b, &c, 1);
		return;
	}
	b->data[b->len++] = c;
	b->data[b->len] = 0;
}

void buf_printf(struct buf *b, const char *fmt, ...) {
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	char *p = n < 0 ? NULL : buf_reserve(b, (size_t)n + 1);
	if (p) {
		vsnprintf(p, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	} else
		b->failed = true;
	va_end(again);
}

void buf_reset(struct buf *b) {
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = 0;
}

void buf_consume(struct buf *b, size_t len) {
	b->len -= len;
	if (len && b->data)
		memmove(b->data, b->data + len, b->len + 1);
}

int buf_error(const struct buf *b, const char *what, struct error *err) {
	if (!b->failed)
		return 0;
	if (b->len >= buf_max(b) / 2)
		return error_set(err, EMSGSIZE, "%s: larger than the allowed %zu bytes", what, buf_max(b));
	return error_oom(err);
}

char *buf_steal(struct buf *b) {
	if (b->failed)
		return NULL;
	if (!b->data)
		return strdup("");
	char *data = b->data;
	*b = (struct buf){.max = b->max};
	return data;
}
