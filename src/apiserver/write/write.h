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

/* What the body says it is must fit where it was sent. K: the kind of what was sent, which may be a Scale. */
int write_check_type(struct request *r, const struct api_kind *k, const json_t *obj) _must_use_;
/* metadata must be an object that says no other namespace; the right one is filled in. */
int write_check_namespace(struct request *r, const struct api_kind *k, json_t *obj) _must_use_;
int write_check_name(struct request *r, const json_t *obj) _must_use_;

/* The body, a patch but no apply, applied to OLD, which is not changed; *RET shares nothing with it. */
int write_patch(struct request *r, const struct api_kind *k, const json_t *old, json_t **ret) _must_use_;

/* The state that an object shall have. */
struct put {
	json_t *obj;                         /* is changed */
	json_t *list;                        /* its managedFields; NULL: they are to be worked out */
	const struct api_errors *duplicates; /* members that the text of OBJ has twice; NULL: none */
	bool need_version;                   /* OBJ must say from which version it was made */
	/* Answers R with the new state, which is JSON. */
	void (*answer)(struct request *r, unsigned code, const char *json, size_t len);
};
/* The object ST gets the state PUT. */
enum write_result write_put(const struct stage *s, struct request *r, const struct stored *st,
                            const struct put *put) _must_use_;
