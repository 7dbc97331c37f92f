/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * From a JSON tree to a staged change: what creates, updates, deletions and the collector have in common. What is asked
 * of a new state is in bounds.h, validate.h, room.h, finalizers.h and, of auth, restrict.h and escalate.h; deletions
 * are stage_delete.h's.
 */

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
 * Checks OBJ, as prune_object() has left it, as the new state of a request's object (OLD: the stored one, or NULL;
 * MANAGED: its managedFields, which OLD is without): validates, asks the rules that look at other objects, sets its
 * resourceVersion to the next one. RET_TEXT: its JSON. On failure the reply is set and a negative errno returned.
 */
int stage_check(const struct stage *s, struct request *r, const json_t *old, const json_t *managed, json_t *obj,
                struct buf *ret_text) _must_use_;

/* Sets the resourceVersion and stages. 0 or -ENOMEM. */
int stage_put_text(const struct stage *s, unsigned kind, const char *ns, const char *name,
                   const struct buf *text) _must_use_;
int stage_put(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) _must_use_;
int stage_remove(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) _must_use_;
