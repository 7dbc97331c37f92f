/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Server-side apply: merges a configuration, which holds only the fields that its manager wants, into an object.
 * Applying adds the manager to each field in the configuration and removes it from those that are no longer in it. It
 * is a conflict if another manager has set such a field to another value, unless the manager forces. This module knows
 * neither the store nor HTTP, except for the text of the Status.
 */

#include "apiserver/fields/managed.h"

struct apply {
	const struct typed *type;
	const struct writer *who;
	const struct fields *ignored; /* what this endpoint can't change */
	bool force;
};

struct conflict {
	const struct managed_entry *with;
	const struct fields *set;
};

struct conflicts {
	struct conflict *v; /* sorted by the manager's name; in the arena */
	size_t n;
};

/*
 * LIVE (NULL: there is no object yet) and CONFIG have no managedFields and no nulls. CONFIG has passed typed_check(). E
 * has LIVE's managers; apply() changes it. 0: *RET is the new object, a new reference that shares nothing with the
 * others. -EEXIST: *RET_CONFLICTS has the conflicts. -ENOMEM.
 */
int apply(const struct apply *a, struct managed *e, json_t *live, json_t *config, json_t **ret,
          struct conflicts *ret_conflicts) _must_use_;

/* The conflicts as a Status in kube-apiserver's words, a new reference. NULL: no memory. */
json_t *conflicts_status(const struct conflicts *c);

/* Removes members whose value is null from objects at any depth. */
void drop_nulls(json_t *v);
