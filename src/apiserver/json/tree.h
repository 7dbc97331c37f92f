/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reads, writes and copies jansson's trees, which is most of the work of a write. The results equal those of jansson's
 * own functions, at a fraction of their cost. jansson reads byte by byte. When it writes or copies, it also records the
 * address of every container, because a tree could contain itself. A tree read from text can't, and no tree here does.
 */

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/jsonread.h"
#include "base/macros.h"

DEFINE_CLEANUP(json, json_t *, json_decref)
#define _json_decref_ _cleanup_(cleanup_json)

/*
 * Every tree is kept within these bounds where it is made and where it grows: body_parse() refuses a larger body,
 * patch.c an operation with a larger result, and stage_check() a larger object. So functions may recurse over trees (as
 * jansson's do), and the work of one request is bounded. The depth is that of base/jsonread.h; otherwise a stored
 * object could not be read back.
 */
#define TREE_DEPTH_MAX  JR_DEPTH_MAX
#define TREE_VALUES_MAX 10000 /* of some kinds more: object_values_max() */
/* for an object with its managedFields, which name each of its fields */
#define OBJECT_VALUES_MAX ((size_t)2 * TREE_VALUES_MAX)

/*
 * Charges V, which is to be placed inside DEPTH containers: subtracts its number of values from *VALUES, and its
 * approximate size as JSON text from *BYTES (BYTES may be NULL). -EMSGSIZE: V is too large or nested too deeply; ERR is
 * set. The work is bounded by the initial *VALUES.
 */
int tree_charge(const json_t *v, size_t depth, size_t *values, size_t *bytes, struct error *err) _must_use_;

/*
 * Parses a text that this program has written: any JSON value. Returns a new reference. NULL: no memory, not JSON, or
 * beyond the limits of base/jsonread.h. If an object has a member twice, the last one is kept.
 */
json_t *tree_load(const char *text, size_t len);

/*
 * The same for a text from outside, of at most VALUES_MAX values. *RET_TWICE: an object has a member twice. -EINVAL or
 * -ENOMEM, and ERR is set.
 */
int tree_load_foreign(const char *text, size_t len, size_t values_max, json_t **ret, bool *ret_twice,
                      struct error *err) _must_use_;

struct tree_size {
	size_t values, depth; /* depth: how many containers are nested in each other */
};

/*
 * Appends V to B like json_dumps() with JSON_COMPACT and JSON_ENCODE_ANY. Returns the size of V. If memory runs out,
 * b->failed is set.
 */
struct tree_size tree_dump(struct buf *b, const json_t *v);

/* A deep copy, a new reference. NULL: no memory. */
json_t *tree_copy(const json_t *v);
