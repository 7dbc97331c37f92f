/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The free values of a pool, as numbers 0..total-1: a tree of ranges, so that 2^24 values with a thousand used cost a
 * thousand nodes, and finding, taking and giving back one is O(log n).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/tree.h"

struct range {
	RB_ENTRY(range) node;
	uint64_t first, last;
};
RB_HEAD(range_tree, range);

struct ranges {
	struct range_tree tree;
	uint64_t total, free;
	uint64_t next; /* where the search begins: values go round, so one given back is not at once handed out again */
};

/* All of 0..TOTAL-1 are free. -ENOMEM. */
int ranges_init(struct ranges *r, uint64_t total);
void ranges_clear(struct ranges *r);
/*
 * The first free value from r->next on, wrapping round at the end; r->next becomes the value after it. False if none is
 * free.
 */
bool ranges_next(struct ranges *r, uint64_t *ret);
bool ranges_is_free(struct ranges *r, uint64_t v);
/* Both return 1 if something changed, 0 if not (or V is out of range), -ENOMEM and nothing changed. */
int ranges_take(struct ranges *r, uint64_t v);
int ranges_give(struct ranges *r, uint64_t v);
