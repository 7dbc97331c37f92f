/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Checks an object against its declaration and against its old state. Each function adds its errors to ERRS. */

#include "apiserver/request/request.h"

/* An owner may be of any kind but Event, and at most one owner is the object's controller. */
void validate_owner_references(const json_t *obj, struct api_errors *errs);

/*
 * Checks OBJ, whose JSON is TEXT, as the new state of OLD (NULL: it is being created). 0; -EINVAL: OBJ is not valid,
 * see ERRS; -ENOMEM. Changes of immutable fields are added to ERRS although 0 is returned.
 */
int validate_object(const struct store *store, const struct request *r, const json_t *old, const json_t *obj,
                    const struct buf *text, struct api_errors *errs) _must_use_;
