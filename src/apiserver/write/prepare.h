/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the server makes of objects of Kubernetes' own kinds before they are checked and stored, beyond the defaults
 * of their declarations: a Secret's stringData becomes data, base64 must be base64, subjects of bindings get their
 * group, a Lease has a spec.
 */

#include "apiserver/request/request.h"

/* Go reads a null in a map of strings as "": in labels and annotations, and in those of Kubernetes' own kinds. -ENOMEM.
 */
int prepare_nulls(const struct api_kind *k, json_t *obj) _must_use_;

/* Changes OBJ, which is of kind K. On failure (-EINVAL, -ENOMEM) the reply is set. */
int prepare_object(struct request *r, const struct api_kind *k, json_t *obj) _must_use_;
