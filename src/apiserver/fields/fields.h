/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sets of field paths, as in metadata.managedFields (FieldsV1). A set is a tree. Each node is one element of a path,
 * and says whether the path up to it is in the set. The semantics are those of sigs.k8s.io/structured-merge-diff,
 * fieldpath.
 *
 *     {"f:spec":{".":{},"f:type":{}}}      .spec and .spec.type
 *     f:NAME  member of an object             v:…  element of a list with this value
 *     k:{…}   element of a list with this key i:N  element of a list with this index
 *
 * A set never changes after it was made, and sets share parts. All of them are in an arena and are freed with it.
 * Operations return NULL for an empty set. If memory runs out they set arena->failed, which the caller checks once at
 * the end.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apiserver/json/tree.h"
#include "base/buf.h"

/* ---- memory ---- */

#define ARENA_MAX ((size_t)256 << 20) /* an object is at most 1.5 MiB; its sets take a few times as much */

struct arena {
	struct arena_chunk *chunks;
	size_t used, size, total;
	bool failed;
};

/* Memory aligned for pointers. If there is none, returns NULL and sets failed. */
void *arena_alloc(struct arena *a, size_t size);
const char *arena_strndup(struct arena *a, const char *s, size_t len);
void arena_free(struct arena *a);
#define _arena_free_ _cleanup_(arena_free)

/* ---- sets ---- */

enum element { ELEMENT_FIELD = 'f', ELEMENT_KEY = 'k', ELEMENT_VALUE = 'v', ELEMENT_INDEX = 'i' };

struct fields_node {
	enum element type;
	bool member;
	const char *text;           /* a name, canonical JSON of a key or value, or a number */
	const struct fields *below; /* NULL: nothing is below this node */
};

struct fields {
	uint32_t n;
	struct fields_node v[]; /* sorted, all different; each is a member or has something below it */
};

/* Builds a set. Nodes are added in any order. A node that is no member and has nothing below it is dropped. */
struct fields_builder {
	struct arena *arena;
	struct fields_node *v;
	size_t n, cap;
};
void fields_add(struct fields_builder *b, enum element type, const char *text, bool member, const struct fields *below);
/* Sorts the nodes, unites equal ones, and frees the builder's memory. */
const struct fields *fields_build(struct fields_builder *b);

const struct fields_node *fields_find(const struct fields *s, enum element type, const char *text);
int fields_node_cmp(const struct fields_node *a, const struct fields_node *b);
bool fields_equal(const struct fields *a, const struct fields *b);

const struct fields *fields_union(struct arena *m, const struct fields *a, const struct fields *b);
const struct fields *fields_intersection(struct arena *m, const struct fields *a, const struct fields *b);
const struct fields *fields_difference(struct arena *m, const struct fields *a, const struct fields *b);
/* A copy that doesn't point into the tree that S was made from. */
const struct fields *fields_copy(struct arena *m, const struct fields *s);
/* A without the members of B and without all that is below them. */
const struct fields *fields_without(struct arena *m, const struct fields *a, const struct fields *b);

/*
 * Converts from and to FieldsV1. Elements of unknown types are skipped. The set points into JSON, which must outlive
 * it. -EINVAL: JSON is not FieldsV1, or a path has more than FIELDS_DEPTH_MAX elements.
 */
#define FIELDS_DEPTH_MAX TREE_DEPTH_MAX
int fields_parse(struct arena *m, const json_t *json, const struct fields **ret) _must_use_;
json_t *fields_print(const struct fields *s); /* a new reference; NULL: no memory */

/* Calls EACH for every member. PATH is written for people: .spec.ports[name="a"]. */
void fields_each(const struct fields *s, void (*each)(void *userdata, const char *path), void *userdata);
