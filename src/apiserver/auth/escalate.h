/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Nobody can grant rights that he doesn't have. Who writes a role must have the role's rules, or the verb `escalate`.
 * Who writes a binding must have the rules of its role, or the verb `bind` for that role. kube-apiserver has the same
 * rules and messages.
 */

#include "apiserver/auth/rbac.h"
#include "apiserver/request/request.h"

/* A negative errno if the write is refused; the reply is then set. OLD NULL: OBJ is being created. */
int escalate_check(const struct rbac *rbac, struct request *r, const json_t *old, const json_t *obj) _must_use_;
