/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * FNV-1a with 64 bits (draft-eastlake-fnv): the same value on all machines and in all versions. It detects accidental
 * changes but no attack: an attacker can make two texts with the same value.
 */

#include <stddef.h>
#include <stdint.h>

#define FNV1A_BASIS UINT64_C(0xcbf29ce484222325) /* the hash of no bytes */

/* H is the hash of some bytes (FNV1A_BASIS: of none). Returns the hash of these bytes followed by the LEN bytes of
 * DATA. */
static inline uint64_t fnv1a(uint64_t h, const void *data, size_t len) {
	for (const uint8_t *p = data, *end = p + len; p < end; p++)
		h = (h ^ *p) * UINT64_C(0x100000001b3);
	return h;
}
