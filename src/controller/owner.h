/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Owners of Allocations and Endpoints. */

#include "api/meta.h"
#include "controller/work.h"

/* True if OBJ, of the kind that REF names, is the object that REF means, and not a later one with the same name. */
bool owner_is(const struct api_object_ref *ref, const void *obj);
/*
 * Asks the server for the owner that REF names if the cache has no such object: an absence in the cache is only a
 * suspicion. If the server has none either, calls GONE with the owner's uid, because the object of W may have another
 * owner by then. Owners of kinds that the controller doesn't know are never gone.
 */
void owner_check(struct work *w, const struct api_object_ref *ref, void (*gone)(struct work *w, const char *uid));
