/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An object as a client sent it takes the form in which it is stored, before anything is asked about it. */

#include "apiserver/request/request.h"

/*
 * Drops what the schema of K doesn't know (which the client may have asked to be an error), and fills in defaults.
 * DUPLICATES: members that the text of OBJ has twice; NULL: none. On failure the reply is set and a negative errno
 * returned.
 */
int prune_object(struct request *r, const struct api_kind *k, const struct api_errors *duplicates,
                 json_t *obj) _must_use_;
