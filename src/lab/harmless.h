/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Removes from a guest's output what a terminal would obey: escape sequences can set the terminal's title, make it
 * answer as if somebody typed, change its colours and hide text. Printable UTF-8, CR, LF, TAB and BS pass. Sequences
 * (ECMA-48) are removed as a whole; other control characters (also C1) and bytes that are not UTF-8 are removed one by
 * one. A string sequence without an end stops at the end of the line, so that it hides nothing more.
 */

#include "base/buf.h"

struct harmless {
	enum { HARMLESS_TEXT, HARMLESS_ESCAPE, HARMLESS_CONTROL, HARMLESS_STRING } state;
	char character[4]; /* an unfinished character */
	unsigned have, need;
};

/* Appends the harmless part of the next LEN bytes to OUT. The struct must be zero before the first call. */
void harmless_add(struct harmless *h, const char *data, size_t len, struct buf *out);
