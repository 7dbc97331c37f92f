/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Changes that the server makes to objects of Kubernetes' own kinds before it checks and stores them, in addition to
 * declared defaults: stringData of a Secret becomes data, base64 is checked, subjects of bindings get their group, a
 * Lease gets a spec.
 */

#include "apiserver/request/request.h"

/*
 * Replaces null by "" in maps of strings, as Go does: in labels and annotations, and in the maps of Kubernetes' own
 * kinds. 0 or -ENOMEM.
 */
int prepare_nulls(const struct api_kind *k, json_t *obj) _must_use_;

/* Changes OBJ, which is of kind K. 0; -EINVAL or -ENOMEM with the reply set. */
int prepare_object(struct request *r, const struct api_kind *k, json_t *obj) _must_use_;
