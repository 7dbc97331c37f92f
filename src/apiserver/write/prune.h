/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An object as a client sent it takes the form in which it is stored, before anything is asked about it. */

#include "apiserver/request/request.h"

/*
 * OBJ is of kind K, and DUPLICATES are the members that its text has twice (NULL: none).
 * Drops what the schema doesn't know (which the client may have asked to be an error) and fills in defaults.
 * On failure the reply is set and a negative errno returned.
 */
int prune_object(struct request *r, const struct api_kind *k, const struct api_errors *duplicates,
                 json_t *obj) _must_use_;
