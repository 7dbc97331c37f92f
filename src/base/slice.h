/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A slice: consecutive ports of a shared IPv4 address (and the ICMP identifiers of the same numbers). Both ends are
 * inclusive, here and everywhere. As text: "198.51.100.3:1024-1535".
 *
 * A slice that is handed out is aligned: its size is a power of two, and its first port is a multiple of its size. So
 * the owner of a port is found by a shift.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/inet.h"

#define SLICE_STR_MAX 28

struct slice {
	struct addr addr; /* IPv4 */
	uint16_t first, last;
};

/* Accepts the canonical text only. Does not require that the slice is aligned. */
int slice_parse(const char *s, struct slice *ret, struct error *err) _must_use_;
const char *slice_str(const struct slice *s, char out[static SLICE_STR_MAX]);

/* By address, then by first port, then by last port. */
int slice_cmp(const struct slice *a, const struct slice *b);
uint32_t slice_size(const struct slice *s); /* 1 to 65536 */
bool slice_is_aligned(const struct slice *s);
bool slice_contains(const struct slice *s, const struct addr *addr, uint16_t port);
bool slice_overlaps(const struct slice *a, const struct slice *b);
/* The aligned slice of SIZE ports (a power of two, at most 65536) that has this port. */
struct slice slice_of(const struct addr *addr, uint16_t port, uint32_t size);
