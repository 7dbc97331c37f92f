/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Metadata of objects as JSON trees: the parts that the server sets, and the parts that clients may set. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"

/* How many values (tree.h) an object of K may have, besides managedFields. K NULL: the general limit. */
size_t object_values_max(const struct api_kind *k);

/* Returns a borrowed string, or NULL if the member is absent or "". */
const char *object_meta_str(const json_t *obj, const char *key);
json_t *object_meta(const json_t *obj); /* borrowed; NULL if OBJ has no metadata object */
int object_set_meta_str(json_t *obj, const char *key, const char *value) _must_use_; /* NULL removes */
int object_set_meta_i64(json_t *obj, const char *key, int64_t value) _must_use_;
int64_t object_generation(const json_t *obj);
size_t object_finalizers(const json_t *obj);
bool object_has_finalizer(const json_t *obj, const char *name);
bool object_deleting(const json_t *obj);

/* Copies metadata.KEY from OLD to OBJ, or removes it from OBJ if OLD has none. Returns 0 or -ENOMEM. */
int object_keep_meta(json_t *obj, const json_t *old, const char *key) _must_use_;
/* The same for a member at the top level of the object. */
int object_keep(json_t *obj, const json_t *old, const char *key) _must_use_;

/* True if A and B differ outside metadata (and status, if the kind has the subresource). */
bool object_desired_differs(const struct api_kind *k, const json_t *a, const json_t *b);

/* Returns a new object with apiVersion, kind and metadata first, so that they are found quickly in its text. */
json_t *object_ordered(const struct api_kind *k, const json_t *obj);

/* True for the kinds whose metadata.generation the server maintains. */
bool object_has_generation(const struct api_kind *k);

/*
 * Parses the text of a stored object; *RET is a new reference. managedFields that are nested too deeply are left out.
 * -EBADMSG: something else is nested too deeply, which an earlier version allowed. -ENOMEM.
 */
int object_read(const char *json, size_t len, json_t **ret) _must_use_;
/* The same; returns NULL on any failure. */
json_t *object_load(const char *json, size_t len);
