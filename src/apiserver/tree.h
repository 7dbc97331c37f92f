/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Trees of jansson from text, to text, and copied: what a write does most of the time. The results are those of
 * jansson's own functions, at a fraction of their cost: those read byte by byte, and put the address of every container
 * into a table when they write or copy, since a tree could hold itself. One made from a text can't, nor do ours.
 */

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/macros.h"

DEFINE_CLEANUP(json, json_t *, json_decref)
#define _json_decref_ _cleanup_(cleanup_json)

/*
 * Of any JSON value. NULL: out of memory, not JSON, or nothing that base/jsonread.h takes. *RET_TWICE (may be NULL): an
 * object has a member twice; the last one counts.
 */
json_t *tree_load(const char *text, size_t len, bool *ret_twice);

/* Like json_dumps() with JSON_COMPACT and JSON_ENCODE_ANY, at the end of B; b->failed tells of no memory. */
void tree_dump(struct buf *b, const json_t *v);

/* NULL on no memory. */
json_t *tree_copy(const json_t *v);
