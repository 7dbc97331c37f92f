/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Metadata of objects as JSON trees: what the server sets and what clients may. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"

/* NULL or "" alike mean absent. */
const char *object_meta_str(const json_t *obj, const char *key);
json_t *object_meta(const json_t *obj); /* borrowed; NULL if it is no object */
int object_set_meta_str(json_t *obj, const char *key, const char *value) _must_use_; /* NULL removes */
int object_set_meta_i64(json_t *obj, const char *key, int64_t value) _must_use_;
int64_t object_generation(const json_t *obj);
size_t object_finalizers(const json_t *obj);
bool object_has_finalizer(const json_t *obj, const char *name);
bool object_deleting(const json_t *obj);

/* Copies metadata.KEY from OLD, or removes it if OLD has none. */
int object_keep_meta(json_t *obj, const json_t *old, const char *key) _must_use_;
/* The same for a member at the top. */
int object_keep(json_t *obj, const json_t *old, const char *key) _must_use_;

/* True if A and B differ outside metadata (and status, if the kind has the subresource). */
bool object_desired_differs(const struct api_kind *k, const json_t *a, const json_t *b);

/* The same object with apiVersion, kind and metadata first, so that they are found quickly in its text. */
json_t *object_ordered(const struct api_kind *k, const json_t *obj);

/* True for the kinds whose metadata.generation counts. */
bool object_has_generation(const struct api_kind *k);

/*
 * The text of a stored object as a tree, a new reference. -ENOMEM; -EBADMSG: it is nested too deeply, as an earlier
 * version took it. managedFields that are nested too deeply are left out.
 */
int object_read(const char *json, size_t len, json_t **ret) _must_use_;
/* The same; NULL on failure. */
json_t *object_load(const char *json, size_t len);
