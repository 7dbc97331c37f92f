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
#include "base/jsonread.h"
#include "base/macros.h"

DEFINE_CLEANUP(json, json_t *, json_decref)
#define _json_decref_ _cleanup_(cleanup_json)

/*
 * Every tree keeps to these bounds, wherever it comes into being or grows: body_parse() refuses a body beyond them,
 * patch.c an operation whose result would be, and stage_check() an object. So functions may recurse over trees (those
 * of jansson do as well), and the work that one request causes is bounded. The depth is that of base/jsonread.h, or
 * what is stored could not be read back.
 */
#define TREE_DEPTH_MAX  JR_DEPTH_MAX
#define TREE_VALUES_MAX 10000
/* Of an object with its managedFields, which name each field that it has. */
#define OBJECT_VALUES_MAX ((size_t)2 * TREE_VALUES_MAX)

/*
 * V is about to stand below DEPTH containers: takes the values that it has from *VALUES and what it takes as JSON text,
 * roughly, from *BYTES (may be NULL). -EMSGSIZE, with ERR filled in, if it is nested too deeply or too large. The work
 * is bounded by what *VALUES was.
 */
int tree_charge(const json_t *v, size_t depth, size_t *values, size_t *bytes, struct error *err) _must_use_;

/*
 * A text of ours as a tree: any JSON value. NULL: out of memory, not JSON, or nothing that base/jsonread.h takes. If an
 * object has a member twice, the last one counts.
 */
json_t *tree_load(const char *text, size_t len);

/*
 * The same of a text from outside, of at most VALUES_MAX values. -EINVAL or -ENOMEM, with ERR filled in. *RET_TWICE: an
 * object has a member twice.
 */
int tree_load_foreign(const char *text, size_t len, size_t values_max, json_t **ret, bool *ret_twice,
                      struct error *err) _must_use_;

struct tree_size {
	size_t values, depth; /* depth: of containers in each other */
};

/*
 * Like json_dumps() with JSON_COMPACT and JSON_ENCODE_ANY, at the end of B; b->failed tells of no memory. Returns how
 * large V is.
 */
struct tree_size tree_dump(struct buf *b, const json_t *v);

/* NULL on no memory. */
json_t *tree_copy(const json_t *v);
