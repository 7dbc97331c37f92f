/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* From a JSON tree to a staged change: what creates, updates, deletions and the collector have in common. */

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"

struct quota;

/* Where changes go, and who is asked whether they may be made. */
struct stage {
	struct store *store;
	struct quota *quota;
	const struct auth *auth;
};

/*
 * How many entries metadata.managedFields may have; Kubernetes bounds only those of updates, to 10. Users leave room
 * for Nacre's programs, or a tenant could keep an agent from reporting on his instance.
 */
#define MANAGED_ENTRIES_MAX   128
#define MANAGED_ENTRIES_USERS 100
/* By so much may an object grow past OBJECT_MAX by what Nacre's programs write. */
#define PROGRAMS_BYTES ((size_t)64 << 10)

/*
 * Whether no list of OBJ, from outside, is too long: to be asked first. The stored object has STORED_ENTRIES of
 * managedFields. -EINVAL, and the reply is set.
 */
int stage_check_lengths(struct request *r, const json_t *obj, size_t stored_entries) _must_use_;

/*
 * Drops what the schema doesn't know (which the client may have asked to be an error) and fills in defaults.
 * On failure the reply is set and a negative errno returned.
 */
int stage_prepare(struct request *r, json_t *obj) _must_use_;

/*
 * Checks a prepared OBJ as the new state of a request's object (OLD: the stored one, or NULL; MANAGED: its
 * managedFields, which OLD is without): validates, asks the rules that look at other objects, sets its resourceVersion
 * to the next one. RET_TEXT: its JSON. Failure as above.
 */
int stage_check(const struct stage *s, struct request *r, const json_t *old, const json_t *managed, json_t *obj,
                struct buf *ret_text) _must_use_;

/* Sets the resourceVersion and stages. 0 or -ENOMEM. */
int stage_put_text(const struct stage *s, unsigned kind, const char *ns, const char *name,
                   const struct buf *text) _must_use_;
int stage_put(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) _must_use_;
int stage_remove(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) _must_use_;

enum propagation { PROPAGATE_BACKGROUND, PROPAGATE_FOREGROUND, PROPAGATE_ORPHAN };

/*
 * Deletes, or where finalizers stand in the way marks as being deleted. 1: a change is staged, *RET (may be NULL) is
 * the object's new state, NULL if it is gone; 0: it was marked already; -ENOMEM. An object that can't be read goes
 * whatever its finalizers are.
 */
int stage_delete(struct store *st, unsigned kind, const struct object *o, enum propagation how, bool dry_run,
                 json_t **ret) _must_use_;
