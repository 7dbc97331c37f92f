/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * metadata.managedFields: which manager owns which field. Every write updates it. An entry belongs to a manager, an
 * operation (Apply or Update), a subresource and, for updates, a version. The rules are those of k8s.io/apimachinery,
 * util/managedfields.
 */

#include "apiserver/fields/typed.h"

#define MANAGER_NAME_MAX    128
#define UPDATE_MANAGERS_MAX 10 /* the oldest ones beyond that become one entry, "ancient-changes" */

struct managed_entry {
	const char *manager, *version, *subresource, *time; /* "" if absent */
	bool apply;
	const struct fields *set;
	const json_t *json; /* the entry as it was read; NULL once it has changed */
};

/* The entries of one object. Memory is in the arena, or belongs to the trees that were read. */
struct managed {
	struct arena *arena;
	struct managed_entry *v;
	size_t n, cap;
};

/* The manager of the current write. */
struct writer {
	const char *manager, *version, *subresource;
	char now[32]; /* RFC 3339 */
};

/* LIST NULL means an empty list. -EINVAL: LIST is not valid; *RET is empty. */
int managed_read(struct arena *m, const json_t *list, struct managed *ret) _must_use_;
/* The entries as a list, a new reference; NULL: no memory. Entries without fields are left out. */
json_t *managed_print(struct managed *e);

/* The entry of WHO, or NULL. */
struct managed_entry *managed_find(struct managed *e, const struct writer *who, bool apply);
/* The same, but creates the entry if there is none. NULL: no memory. */
struct managed_entry *managed_get(struct managed *e, const struct writer *who, bool apply);

/*
 * Records that WHO changed OLD (NULL: created it) to OBJ, neither of which has managedFields. WHO becomes the only
 * manager of what changed. IGNORED: fields that this endpoint can't change, whatever the client sent.
 */
void managed_update(const struct typed *t, struct managed *e, const json_t *old, const json_t *obj,
                    const struct fields *ignored, const struct writer *who);

/* Removes fields that were CHANGED or REMOVED from all entries but EXCEPT. */
void managed_take(struct managed *e, const struct fields *changed, const struct fields *removed, const char *version,
                  const struct managed_entry *except);

/* SET without the fields that nobody manages: apiVersion, kind, name, uid, resourceVersion, … */
const struct fields *managed_strip(struct arena *m, const struct fields *set);

/* True if A and B (lists, NULL: absent) are equal except for times. */
bool managed_same(const json_t *a, const json_t *b);
