/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/ranges.h"

#include <errno.h>
#include <stdlib.h>

#include "base/macros.h"

/* Ranges are disjoint, so the order of their ends is the order of their beginnings. */
static int range_cmp(const struct range *a, const struct range *b) {
	return a->last < b->last ? -1 : a->last > b->last;
}

RB_GENERATE_INTERNAL(range_tree, range, node, range_cmp, _unused_ static)

/* The range that holds V, or else the next one after it. */
static struct range *range_at(struct ranges *r, uint64_t v) {
	struct range key = {.last = v};
	return RB_NFIND(range_tree, &r->tree, &key);
}

static int range_insert(struct ranges *r, uint64_t first, uint64_t last) {
	struct range *n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->first = first;
	n->last = last;
	RB_INSERT(range_tree, &r->tree, n);
	return 0;
}

int ranges_init(struct ranges *r, uint64_t total) {
	*r = (struct ranges){.total = total, .free = total};
	RB_INIT(&r->tree);
	return total ? range_insert(r, 0, total - 1) : 0;
}

void ranges_clear(struct ranges *r) {
	struct range *n, *next;
	RB_FOREACH_SAFE (n, range_tree, &r->tree, next) {
		RB_REMOVE(range_tree, &r->tree, n);
		free(n);
	}
	*r = (struct ranges){0};
}

bool ranges_next(struct ranges *r, uint64_t *ret) {
	struct range *n = range_at(r, r->next);
	uint64_t v;
	if (n)
		v = n->first > r->next ? n->first : r->next;
	else if ((n = RB_MIN(range_tree, &r->tree)))
		v = n->first;
	else
		return false;
	r->next = v + 1 < r->total ? v + 1 : 0;
	*ret = v;
	return true;
}

bool ranges_is_free(struct ranges *r, uint64_t v) {
	const struct range *n = range_at(r, v);
	return n && n->first <= v;
}

int ranges_take(struct ranges *r, uint64_t v) {
	struct range *n = range_at(r, v);
	if (!n || n->first > v)
		return 0;
	if (n->first == n->last) {
		RB_REMOVE(range_tree, &r->tree, n);
		free(n);
	} else if (n->first == v)
		n->first++;
	else if (n->last == v)
		n->last--; /* the order of the ranges stays the same */
	else {
		if (range_insert(r, n->first, v - 1) < 0)
			return -ENOMEM;
		n->first = v + 1;
	}
	r->free--;
	return 1;
}

int ranges_give(struct ranges *r, uint64_t v) {
	struct range *after = range_at(r, v), *before = v ? range_at(r, v - 1) : NULL;
	if (v >= r->total || (after && after->first <= v))
		return 0;
	bool joins_after = after && after->first == v + 1;
	bool joins_before = before && before != after && before->last + 1 == v;
	if (joins_before && joins_after) {
		RB_REMOVE(range_tree, &r->tree, before);
		after->first = before->first;
		free(before);
	} else if (joins_after)
		after->first = v;
	else if (joins_before)
		before->last = v;
	else if (range_insert(r, v, v) < 0)
		return -ENOMEM;
	r->free++;
	return 1;
}
