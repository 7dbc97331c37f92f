/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sets of field paths, as metadata.managedFields has them (FieldsV1): a tree whose nodes are elements of paths and
 * say whether the path up to them is a member. Meanings are those of sigs.k8s.io/structured-merge-diff, fieldpath.
 *
 *     {"f:spec":{".":{},"f:type":{}}}      .spec and .spec.type
 *     f:NAME a member of an object, k:{…} the element of a list with these keys, v:… the one with this value,
 *     i:N the one with this index
 *
 * Sets never change once made and share their parts; all of them live in an arena and go with it. Operations return
 * NULL for an empty set; one that ran out of memory leaves arena->failed, to be looked at once at the end.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apiserver/json/tree.h"
#include "base/buf.h"

/* ---- memory ---- */

#define ARENA_MAX ((size_t)256 << 20) /* one object is 1.5 MiB at most; its sets are a few times that */

struct arena {
	struct arena_chunk *chunks;
	size_t used, size, total;
	bool failed;
};

/* Memory aligned for pointers; NULL, and failed, if there is none. */
void *arena_alloc(struct arena *a, size_t size);
const char *arena_strndup(struct arena *a, const char *s, size_t len);
void arena_free(struct arena *a);
#define _arena_free_ _cleanup_(arena_free)

/* ---- sets ---- */

enum element { ELEMENT_FIELD = 'f', ELEMENT_KEY = 'k', ELEMENT_VALUE = 'v', ELEMENT_INDEX = 'i' };

struct fields_node {
	enum element type;
	bool member;
	const char *text;           /* name; canonical JSON of keys or value; number */
	const struct fields *below; /* NULL: nothing */
};

struct fields {
	uint32_t n;
	struct fields_node v[]; /* sorted, no two alike, each a member or with something below */
};

/* A set being made: nodes are added in any order, those with neither membership nor anything below are dropped. */
struct fields_builder {
	struct arena *arena;
	struct fields_node *v;
	size_t n, cap;
};
void fields_add(struct fields_builder *b, enum element type, const char *text, bool member, const struct fields *below);
/* Sorts, unites nodes that are alike, and frees what the builder holds. */
const struct fields *fields_build(struct fields_builder *b);

const struct fields_node *fields_find(const struct fields *s, enum element type, const char *text);
int fields_node_cmp(const struct fields_node *a, const struct fields_node *b);
bool fields_equal(const struct fields *a, const struct fields *b);

const struct fields *fields_union(struct arena *m, const struct fields *a, const struct fields *b);
const struct fields *fields_intersection(struct arena *m, const struct fields *a, const struct fields *b);
const struct fields *fields_difference(struct arena *m, const struct fields *a, const struct fields *b);
/* The same set with texts of its own: the tree it was made from may go. */
const struct fields *fields_copy(struct arena *m, const struct fields *s);
/* Also takes away what is below the members of B. */
const struct fields *fields_without(struct arena *m, const struct fields *a, const struct fields *b);

/*
 * From and to FieldsV1. Elements of unknown types are passed over. JSON outlives the set. -EINVAL: not FieldsV1, or
 * a path of more elements than a tree is deep.
 */
#define FIELDS_DEPTH_MAX TREE_DEPTH_MAX
int fields_parse(struct arena *m, const json_t *json, const struct fields **ret) _must_use_;
json_t *fields_print(const struct fields *s); /* a new reference; NULL on no memory */

/* Calls EACH for every member with its path as people read it: .spec.ports[name="a"]. */
void fields_each(const struct fields *s, void (*each)(void *userdata, const char *path), void *userdata);
