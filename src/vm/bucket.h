/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A token bucket: bounds how often a guest is answered. The bucket is full at first and gets one token back every
 * EVERY_NS, up to SIZE.
 */

#include <stdbool.h>
#include <stdint.h>

struct bucket {
	uint64_t size, every_ns;
	uint64_t tokens, refilled_ns; /* on the monotonic clock */
};

struct bucket bucket_new(uint64_t size, uint64_t every_ns, uint64_t now_ns);
/* Takes a token. False: there is none. */
bool bucket_take(struct bucket *b, uint64_t now_ns);
