/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Brings an object from a client into the form in which it is stored, before it is checked. */

#include "apiserver/request/request.h"

/*
 * Drops fields that the schema of K doesn't have (or refuses them, if the client asked for that), and fills in
 * defaults. DUPLICATES: keys that the text of OBJ repeats; NULL: none. On failure a negative errno is returned and the
 * reply is set.
 */
int prune_object(struct request *r, const struct api_kind *k, const struct api_errors *duplicates,
                 json_t *obj) _must_use_;
