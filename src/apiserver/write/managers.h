/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Field ownership as the writes need it: between the trees of a request and apiserver/fields/managed.h and apply.h.
 * Trees come without their metadata.managedFields, which is taken off first and put on again last.
 */

#include "apiserver/request/request.h"

/* The list as OBJ has it, a new reference, which OBJ then no longer has; NULL if there is none. */
json_t *managers_detach(json_t *obj);
/* LIST NULL or empty: none. */
int managers_attach(json_t *obj, json_t *list) _must_use_;

/*
 * The new list after R's request changed OLD (NULL: nothing) to OBJ, both of kind K. WAS: OLD's list; SENT: the one
 * that came with OBJ, for clients that mend it themselves. *RET: a new reference; NULL: nothing is tracked. 0 or
 * -ENOMEM.
 */
int managers_update(const struct request *r, const struct api_kind *k, const json_t *old, const json_t *was,
                    const json_t *obj, const json_t *sent, json_t **ret) _must_use_;

/*
 * Applies r->json to LIVE (NULL: there is none). 0: *RET is the new state, *RET_LIST its list; else the reply is set
 * and a negative errno returned.
 */
int managers_apply(struct request *r, json_t *live, const json_t *was, json_t **ret, json_t **ret_list) _must_use_;
