/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a declared type makes of a JSON tree as far as ownership of fields goes: which fields it has, how two states
 * differ, how an applied one is merged into another, and how fields are taken out of it. Rules of
 * sigs.k8s.io/structured-merge-diff, typed:
 *
 *   objects, maps   each member by itself, unless the field is API_ATOMIC
 *   lists           as one, unless the field is API_SET (each value) or API_KEY_… (each element, by its key)
 *   not declared    objects each member by itself, lists as one
 *
 * Sets are in the arena, and may point into the trees and the declaration: they outlive the sets.
 */

#include "api/api.h"
#include "apiserver/fields/fields.h"

struct typed {
	const struct api_kind *kind;
	struct arena *arena;
};

/*
 * Checks an applied configuration, which comes from a client: types, no unknown field, no key twice. -EINVAL with
 * ".spec.foo: field not declared in schema".
 */
int typed_check(const struct typed *t, const json_t *obj, struct error *err) _must_use_;

const struct fields *typed_set(const struct typed *t, const json_t *obj);

struct typed_diff {
	const struct fields *added, *removed, *modified;
};
/* OLD NULL: there was nothing. */
struct typed_diff typed_compare(const struct typed *t, const json_t *old, const json_t *obj);

/* CONFIG laid over LIVE. A new reference that shares parts with both; NULL on no memory. */
json_t *typed_merge(const struct typed *t, json_t *live, json_t *config);

/* OBJ without what SET names, the same way. */
json_t *typed_remove(const struct typed *t, json_t *obj, const struct fields *set);

/* SET with every declared field that it names something below of. */
const struct fields *typed_with_parents(const struct typed *t, const struct fields *set);
