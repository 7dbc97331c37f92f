/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/bucket.h"

#include "base/macros.h"

struct bucket bucket_new(uint64_t size, uint64_t every_ns, uint64_t now_ns) {
	return (struct bucket){.size = size, .every_ns = every_ns, .tokens = size, .refilled_ns = now_ns};
}

bool bucket_take(struct bucket *b, uint64_t now_ns) {
	uint64_t gained = (now_ns - b->refilled_ns) / b->every_ns;

	b->tokens = MIN(b->tokens + gained, b->size);
	b->refilled_ns += gained * b->every_ns;
	if (!b->tokens)
		return false;
	b->tokens--;
	return true;
}
