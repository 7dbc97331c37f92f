/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * FNV-1a with 64 bits (draft-eastlake-fnv): the same on all machines and in all versions. It tells accidents, not
 * attacks: whoever wants two texts with the same value finds them.
 */

#include <stddef.h>
#include <stdint.h>

#define FNV1A_BASIS UINT64_C(0xcbf29ce484222325) /* the value of no bytes */

/* The value of the bytes that gave H with LEN bytes of DATA after them. */
static inline uint64_t fnv1a(uint64_t h, const void *data, size_t len) {
	for (const uint8_t *p = data, *end = p + len; p < end; p++)
		h = (h ^ *p) * UINT64_C(0x100000001b3);
	return h;
}
