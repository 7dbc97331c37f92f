/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Managed fields for the handlers of writes, based on apiserver/fields/managed.h and apply.h. These work on trees
 * without metadata.managedFields, so a handler detaches the list first and attaches the new one last.
 */

#include "apiserver/request/request.h"

/* Removes the list from OBJ and returns it, a new reference; NULL: there is none. */
json_t *managers_detach(json_t *obj);
/* Sets the list of OBJ; none if LIST is NULL or empty. 0 or -ENOMEM. */
int managers_attach(json_t *obj, json_t *list) _must_use_;

/*
 * Makes the new list after R's request changed OLD (NULL: created) to OBJ, both of kind K. WAS: the list of OLD. SENT:
 * the list that came with OBJ, since clients may edit it. *RET: a new reference; NULL: fields of this object are not
 * tracked. 0 or -ENOMEM.
 */
int managers_update(const struct request *r, const struct api_kind *k, const json_t *old, const json_t *was,
                    const json_t *obj, const json_t *sent, json_t **ret) _must_use_;

/*
 * Applies r->json to LIVE (NULL: there is no object yet), whose list is WAS. 0: *RET is the new object and *RET_LIST
 * its list, both new references. Otherwise a negative errno is returned and the reply is set.
 */
int managers_apply(struct request *r, json_t *live, const json_t *was, json_t **ret, json_t **ret_list) _must_use_;
