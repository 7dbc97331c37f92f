/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What managing fields needs to know of a declared type: the fields of an object, how two states differ, how an applied
 * configuration is merged into an object, and how fields are removed from it. The rules are those of
 * sigs.k8s.io/structured-merge-diff, typed. Each of these has managers of its own:
 *
 *   objects, maps   each member, unless the field is API_ATOMIC
 *   lists           the whole list, unless the field is API_SET (each value) or API_KEY_… (each element, by its key)
 *   not declared    each member of an object, each list as a whole
 *
 * Sets are in the arena. They may point into the trees and into the declaration, which must outlive them.
 */

#include "api/api.h"
#include "apiserver/fields/fields.h"

struct typed {
	const struct api_kind *kind;
	struct arena *arena;
};

/*
 * Checks an applied configuration, which comes from a client: types, unknown fields, repeated keys. -EINVAL: it is not
 * valid; ERR has a message as ".spec.foo: field not declared in schema".
 */
int typed_check(const struct typed *t, const json_t *obj, struct error *err) _must_use_;

const struct fields *typed_set(const struct typed *t, const json_t *obj);

struct typed_diff {
	const struct fields *added, *removed, *modified;
};
/* OLD NULL: the object is new. */
struct typed_diff typed_compare(const struct typed *t, const json_t *old, const json_t *obj);

/* CONFIG merged over LIVE: a new reference that shares parts with both. NULL: no memory. */
json_t *typed_merge(const struct typed *t, json_t *live, json_t *config);

/* OBJ without the fields in SET: a new reference that shares parts with OBJ. NULL: nothing is left, or no memory. */
json_t *typed_remove(const struct typed *t, json_t *obj, const struct fields *set);

/* SET and every declared field above a member of SET. */
const struct fields *typed_with_parents(const struct typed *t, const struct fields *set);
