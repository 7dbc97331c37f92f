/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

#include <errno.h>
#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *out, const void *data, size_t len) {
	const uint8_t *p = data;
	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t v = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
		const char four[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63], n > 1 ? alphabet[v >> 6 & 63] : '=',
		                      n > 2 ? alphabet[v & 63] : '='};
		buf_add(out, four, 4);
	}
}

static int digit(char c) {
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct buf *out, const char *text, size_t len, size_t *ret_at) {
	size_t pad = 0;
	while (pad < 2 && pad < len && text[len - 1 - pad] == '=')
		pad++;
	uint32_t v = 0;
	for (size_t i = 0; i < len - pad; i++) {
		int d = digit(text[i]);
		if (d < 0) {
			*ret_at = i;
			return -EINVAL;
		}
		v = v << 6 | (uint32_t)d;
		/* Four digits give three bytes; a last group with padding gives fewer. */
		if (out && i % 4 > 0) {
			char byte = (char)(v >> (6 - 2 * (i % 4)) & 0xff);
			buf_add(out, &byte, 1);
		}
	}
	if (len % 4 == 0)
		return 0;
	*ret_at = len;
	return -EINVAL;
}
