/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What all changes of an existing object have in common; in write.c. If a function fails, the reply is set. */

#include "apiserver/write/stage.h"

/* A stored object and its trees. */
struct stored {
	const struct object *o;
	json_t *tree, *managed; /* the object without its managedFields, and these (may be NULL) */
};
void stored_clear(struct stored *st);

/* Finds the stored object of R. 0: found; ret->o is NULL if it doesn't exist. Else the handler must return *RESULT. */
int write_find(const struct stage *s, struct request *r, struct stored *ret, enum write_result *result) _must_use_;

/* The kind and version in the body must be those of K. K may be Scale. 0 or -EINVAL. */
int write_check_type(struct request *r, const struct api_kind *k, const json_t *obj) _must_use_;
/* metadata must be an object, and its namespace, if any, that of the route. Fills in the namespace. */
int write_check_namespace(struct request *r, const struct api_kind *k, json_t *obj) _must_use_;
int write_check_name(struct request *r, const json_t *obj) _must_use_;

/*
 * Applies the body, a patch other than server-side apply, to OLD, which is not changed. *RET shares nothing with OLD.
 */
int write_patch(struct request *r, const struct api_kind *k, const json_t *old, json_t **ret) _must_use_;

/* A new state for an object. */
struct put {
	json_t *obj;                         /* changed by write_put() */
	json_t *list;                        /* its managedFields; NULL: write_put() computes them */
	const struct api_errors *duplicates; /* keys that the text of OBJ repeats; NULL: none */
	bool need_version;                   /* OBJ must have the resourceVersion that it was made from */
	/* Answers R with the new state, which is at JSON. */
	void (*answer)(struct request *r, unsigned code, const char *json, size_t len);
};
/* Writes PUT as the new state of the object ST. */
enum write_result write_put(const struct stage *s, struct request *r, const struct stored *st,
                            const struct put *put) _must_use_;
