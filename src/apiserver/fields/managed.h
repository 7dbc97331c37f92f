/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * metadata.managedFields: who last set which field, kept on every write. An entry is of a manager, what it did
 * (Apply or Update), the subresource, and for updates the version. Rules of k8s.io/apimachinery,
 * util/managedfields.
 */

#include "apiserver/fields/typed.h"

#define MANAGER_NAME_MAX    128
#define UPDATE_MANAGERS_MAX 10 /* the oldest ones past that are one entry, "ancient-changes" */

struct managed_entry {
	const char *manager, *version, *subresource, *time; /* "" if absent */
	bool apply;
	const struct fields *set;
	const json_t *json; /* as it was read; NULL once anything differs */
};

/* The entries of one object. All memory is the arena's, or the trees' that were read. */
struct managed {
	struct arena *arena;
	struct managed_entry *v;
	size_t n, cap;
};

/* Who writes now. */
struct writer {
	const char *manager, *version, *subresource;
	char now[32]; /* RFC 3339 */
};

/* LIST NULL is an empty one. -EINVAL: it is not valid, *RET is empty. */
int managed_read(struct arena *m, const json_t *list, struct managed *ret) _must_use_;
/* The list, a new reference; NULL on no memory. An entry without fields is not printed. */
json_t *managed_print(struct managed *e);

/* The entry of WHO, or NULL. */
struct managed_entry *managed_find(struct managed *e, const struct writer *who, bool apply);
/* The same; it is made if there is none. NULL on no memory. */
struct managed_entry *managed_get(struct managed *e, const struct writer *who, bool apply);

/*
 * WHO changed OLD (NULL: nothing) to OBJ, neither of which has managedFields: takes what changed from all others.
 * IGNORED: what this endpoint doesn't change, whatever was sent.
 */
void managed_update(const struct typed *t, struct managed *e, const json_t *old, const json_t *obj,
                    const struct fields *ignored, const struct writer *who);

/* What every manager but WHO's Apply entry loses when these fields change hands. */
void managed_take(struct managed *e, const struct fields *changed, const struct fields *removed, const char *version,
                  const struct managed_entry *except);

/* Members that belong to nobody: name, uid, resourceVersion, … */
const struct fields *managed_strip(struct arena *m, const struct fields *set);

/* True if A and B (lists, NULL: absent) are alike but for times. */
bool managed_same(const json_t *a, const json_t *b);
