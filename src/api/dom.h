/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a server does to an object while it is a JSON tree: drop what the schema doesn't know, fill in defaults. */

#include <jansson.h>

#include "api/api.h"

/*
 * Removes from OBJ the members that D doesn't declare (those of open types stay) and members that are null, also of
 * maps. Their paths ("spec.foo") go to UNKNOWN as API_INVALID errors `unknown field "spec.foo"`, as far as it has room;
 * may be NULL. The members apiVersion and kind at the top stay.
 */
void api_prune(const struct api_desc *d, json_t *obj, struct api_errors *unknown);

/*
 * Lists and maps of OBJ that have more elements than D says: API_TOO_MANY. It is asked before anything else is done
 * with them, so that no work grows with the square of what a client sends.
 */
void api_check_lengths(const struct api_desc *d, const json_t *obj, struct api_errors *errs);

/* Adds absent members that have defaults, wherever their parent is present. 0 or -ENOMEM. */
int api_default(const struct api_desc *d, json_t *obj) _must_use_;

/* Fields with API_IMMUT that differ between OLD and NEW (both of kind K, parsed): API_INVALID "field is immutable". */
void api_check_update(const struct api_kind *k, const void *old, const void *new, struct api_errors *errs);

/*
 * The value of a JSONPath of the small dialect that columns use: .a.b, ["a"], [*], [?(@.type=="Ready")].
 * Several values are joined by ",". A malloc'ed string, "" if there is nothing; NULL on no memory.
 * *RET_INTEGER is set and *RET_IS_INTEGER true if the one value is an integer.
 */
char *api_jsonpath(const json_t *obj, const char *path, int64_t *ret_integer, bool *ret_is_integer);
