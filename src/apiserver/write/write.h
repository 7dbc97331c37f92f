/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What all changes of an object that is there have in common; write.c. Failures have set the reply. */

#include "apiserver/write/stage.h"

/* An object as it is stored, and its trees. */
struct stored {
	const struct object *o;
	json_t *tree, *managed; /* without its managedFields, and these (may be NULL) */
};
void stored_clear(struct stored *st);

/* 0 and the stored object, or NULL in ret->o if there is none; or the result to return. */
int write_find(const struct stage *s, struct request *r, struct stored *ret, enum write_result *result) _must_use_;

/* What the body says it is must fit where it was sent. */
int write_check_type(struct request *r, const json_t *obj) _must_use_;
/* metadata must be an object that says no other namespace; the right one is filled in. */
int write_check_namespace(struct request *r, json_t *obj) _must_use_;
int write_check_name(struct request *r, const json_t *obj) _must_use_;

/* The body, a patch but no apply, applied to OLD, which is not changed; *RET shares nothing with it. */
int write_patch(struct request *r, const json_t *old, json_t **ret) _must_use_;

/*
 * OBJ becomes the state of ST. LIST: its managedFields, if they are known; else they are worked out. NEED_VERSION:
 * OBJ must say from which version it was made.
 */
enum write_result write_put(const struct stage *s, struct request *r, const struct stored *st, json_t *obj,
                            json_t *list, bool need_version) _must_use_;
