/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/harmless.h"

#include <stdint.h>
#include <string.h>

#define ESC 0x1b

/* Number of bytes of the UTF-8 character that begins with B; 0 if B begins none (RFC 3629). */
static unsigned utf8_length(unsigned char b) {
	if (b >= 0xc2 && b < 0xe0)
		return 2;
	if (b >= 0xe0 && b < 0xf0)
		return 3;
	return b >= 0xf0 && b < 0xf5 ? 4 : 0;
}

/* True if the character has its shortest form, is not a surrogate and not a C1 control character. */
static bool utf8_is_printable(const char *c, unsigned n) {
	const unsigned char *u = (const unsigned char *)c;
	uint32_t v = u[0] & (0xffU >> (n + 1));
	static const uint32_t least[] = {0, 0, 0xa0, 0x800, 0x10000};

	for (unsigned i = 1; i < n; i++)
		v = v << 6 | (u[i] & 0x3f);
	return v >= least[n] && v <= 0x10ffff && (v < 0xd800 || v > 0xdfff);
}

static void add_text(struct harmless *h, unsigned char b, struct buf *out) {
	if (h->need && (b & 0xc0) == 0x80) {
		h->character[h->have++] = (char)b;
		if (h->have < h->need)
			return;
		if (utf8_is_printable(h->character, h->need))
			buf_add(out, h->character, h->need);
		h->need = 0;
		return;
	}
	h->need = 0;
	if (b == ESC) {
		h->state = HARMLESS_ESCAPE;
	} else if (b == '\r' || b == '\n' || b == '\t' || b == '\b' || (b >= 0x20 && b < 0x7f)) {
		buf_putc(out, (char)b);
	} else if ((h->need = utf8_length(b))) {
		h->character[0] = (char)b;
		h->have = 1;
	}
}

/* Handles the byte after ESC. Intermediate bytes may come before the last one. */
static void add_escape(struct harmless *h, unsigned char b) {
	if (b == '[')
		h->state = HARMLESS_CONTROL;
	else if (b != 0 && strchr("]PX^_", b))
		h->state = HARMLESS_STRING;
	else if (b != ESC && (b < 0x20 || b >= 0x30))
		h->state = HARMLESS_TEXT;
}

void harmless_add(struct harmless *h, const char *data, size_t len, struct buf *out) {
	for (size_t i = 0; i < len; i++) {
		unsigned char b = (unsigned char)data[i];
		/* No sequence contains the end of a line, and a terminal obeys it even inside a sequence. */
		if (h->state != HARMLESS_TEXT && (b == '\n' || b == '\r')) {
			h->state = HARMLESS_TEXT;
			buf_putc(out, (char)b);
			continue;
		}
		switch (h->state) {
		case HARMLESS_TEXT: add_text(h, b, out); break;
		case HARMLESS_ESCAPE: add_escape(h, b); break;
		case HARMLESS_CONTROL:
			if (b == ESC)
				h->state = HARMLESS_ESCAPE;
			else if (b >= 0x40 && b < 0x7f)
				h->state = HARMLESS_TEXT;
			break;
		case HARMLESS_STRING:
			/* The string ends with BEL, CAN, SUB, or with ESC and a backslash, which add_escape() handles.
			 */
			if (b == ESC)
				h->state = HARMLESS_ESCAPE;
			else if (b == 0x07 || b == 0x18 || b == 0x1a)
				h->state = HARMLESS_TEXT;
			break;
		}
	}
}
