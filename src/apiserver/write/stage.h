/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Turns a JSON tree into a staged change, for creates, updates, deletions and the collector. The checks of a new state
 * are in bounds.h, validate.h, room.h, finalizers.h and, in auth, restrict.h and escalate.h. Deletions are in
 * stage_delete.h.
 */

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"

struct quota;

/* Where changes are staged, and what is needed to check them. Nothing here is owned. */
struct stage {
	struct store *store;
	struct quota *quota;
	const struct auth *auth;
};

/*
 * Checks OBJ, which prune_object() has processed, as the new state of the request's object, and sets its
 * resourceVersion to the next one. OLD: the stored object or NULL, without its managedFields, which are MANAGED.
 * *RET_TEXT: the JSON of OBJ, which the caller frees. On failure a negative errno is returned and the reply is set.
 */
int stage_check(const struct stage *s, struct request *r, const json_t *old, const json_t *managed, json_t *obj,
                struct buf *ret_text) _must_use_;

/* Stage a new state or, stage_remove(), a deletion. All but stage_put_text() set the resourceVersion. 0 or -ENOMEM. */
int stage_put_text(const struct stage *s, unsigned kind, const char *ns, const char *name,
                   const struct buf *text) _must_use_;
int stage_put(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) _must_use_;
int stage_remove(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) _must_use_;
