/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether an object is what its declaration says, and may become that from what it was. Each adds to ERRS. */

#include "apiserver/request/request.h"

/* An owner may be of any kind but Event, and one of them at most is the object's controller. */
void validate_owner_references(const json_t *obj, struct api_errors *errs);

/*
 * OBJ, whose JSON is TEXT, as the new state of OLD (NULL: it is created). 0; -EINVAL, and ERRS says why; -ENOMEM. What
 * may not change may be in ERRS though 0 is returned.
 */
int validate_object(const struct store *store, const struct request *r, const json_t *old, const json_t *obj,
                    const struct buf *text, struct api_errors *errs) _must_use_;
