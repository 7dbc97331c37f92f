/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Takes out of a guest's output what a terminal would obey: escape sequences can set its title, have it answer as if
 * somebody typed, change its colours and hide text. Printable UTF-8, CR, LF, TAB and BS pass; sequences (ECMA-48) go
 * as a whole, other control characters, C1 too, and bytes that are no UTF-8 one by one. A string sequence without an
 * end is given up at the end of the line, so that it hides nothing more.
 */

#include "base/buf.h"

struct harmless {
	enum { HARMLESS_TEXT, HARMLESS_ESCAPE, HARMLESS_CONTROL, HARMLESS_STRING } state;
	char character[4]; /* an unfinished one */
	unsigned have, need;
};

/* What is harmless of the next LEN bytes is added to OUT. Zero the struct before the first. */
void harmless_add(struct harmless *h, const char *data, size_t len, struct buf *out);
