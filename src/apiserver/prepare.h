/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the server makes of objects of Kubernetes' own kinds before they are checked and stored, beyond the defaults
 * of their declarations: a Secret's stringData becomes data, base64 must be base64, subjects of bindings get their
 * group.
 */

#include "apiserver/request.h"

/* Changes OBJ. On failure (-EINVAL, -ENOMEM) the reply is set. */
int prepare_object(struct request *r, json_t *obj) _must_use_;
