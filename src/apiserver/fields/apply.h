/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Server-side apply: an object that says only what its sender wants is laid over the one that is there. The sender
 * becomes an owner of what it names, loses what it no longer names, and is refused what others own with another
 * value, unless it forces. No store and no HTTP in here but for the errors' texts.
 */

#include "apiserver/fields/managed.h"

struct apply {
	const struct typed *type;
	const struct writer *who;
	const struct fields *ignored; /* what this endpoint doesn't change */
	bool force;
};

struct conflict {
	const struct managed_entry *with;
	const struct fields *set;
};

struct conflicts {
	struct conflict *v; /* in order of managers' names; memory of the arena */
	size_t n;
};

/*
 * LIVE (NULL: there is none) and CONFIG hold no managedFields and no nulls; CONFIG is checked (typed_check()). E:
 * the entries of LIVE, which are changed. 0: *RET is the new state, a new reference that shares nothing; -EEXIST:
 * *RET_CONFLICTS says with whom; -ENOMEM.
 */
int apply(const struct apply *a, struct managed *e, json_t *live, json_t *config, json_t **ret,
          struct conflicts *ret_conflicts) _must_use_;

/* A Status of them, as Kubernetes words it. NULL on no memory. */
json_t *conflicts_status(const struct conflicts *c);

/* Takes members that are null from objects, at any depth. */
void drop_nulls(json_t *v);
