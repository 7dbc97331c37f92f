/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Operations of a server on objects as JSON trees: drop what the schema doesn't have, fill in defaults. */

#include <jansson.h>

#include "api/api.h"

/*
 * Removes from OBJ the members that D doesn't declare (except in open types), and members that are null, also in maps.
 * Errors API_INVALID `unknown field "spec.foo"` are added to UNKNOWN, which may be NULL. The members apiVersion and
 * kind at the top stay.
 */
void api_prune(const struct api_desc *d, json_t *obj, struct api_errors *unknown);

/*
 * Adds API_TOO_MANY to ERRS for each list or map of OBJ that has more elements than D allows. Call this before all
 * other checks, so that no work grows with the square of what a client sends.
 */
void api_check_lengths(const struct api_desc *d, const json_t *obj, struct api_errors *errs);

/* Adds the defaults of absent members wherever their parent is present. 0 or -ENOMEM. */
int api_default(const struct api_desc *d, json_t *obj) _must_use_;

/*
 * Adds API_INVALID "field is immutable" to ERRS for each field with API_IMMUT that differs between OLD and NEW (both
 * parsed, of kind K), and calls K->check_update.
 */
void api_check_update(const struct api_kind *k, const void *old, const void *new, struct api_errors *errs);

/*
 * Evaluates a JSONPath of the small dialect that columns use: .a.b, ["a"], [*], [?(@.type=="Ready")]. Several values
 * are joined by ",". Returns a string that the caller frees, "" if there is no value; NULL: no memory. If the only
 * value is an integer, *RET_INTEGER is set and *RET_IS_INTEGER is true.
 */
char *api_jsonpath(const json_t *obj, const char *path, int64_t *ret_integer, bool *ret_is_integer);
