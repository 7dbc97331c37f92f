/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Ordered maps and lists: the BSD RB_* and TAILQ_* macros, from libbsd. Trees, not hash tables: tenants choose the
 * keys, and a tree has no bad case that they could aim at; it iterates in order and finds a lower bound (RB_NFIND) for
 * paging.
 */

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

#include <string.h>

/*
 * The entry whose string MEMBER is KEY in the tree HEAD of `struct TYPE`, which is ordered by strcmp() and linked by
 * FIELD; NULL if there is none. Unlike RB_FIND, it needs no entry to compare with.
 */
#define TREE_FIND_STRING(TYPE, head, field, member, key)                                               \
	({                                                                                             \
		struct TYPE *tree_at = RB_ROOT(head);                                                  \
		const char *tree_key = (key);                                                          \
		int tree_order;                                                                        \
		while (tree_at && (tree_order = strcmp(tree_key, tree_at->member)))                    \
			tree_at = tree_order < 0 ? RB_LEFT(tree_at, field) : RB_RIGHT(tree_at, field); \
		tree_at;                                                                               \
	})
