/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Nobody gives rights that he doesn't have: who writes a role must have its rules or the verb `escalate`; who writes a
 * binding must have the rules of its role or the verb `bind` for it. As kube-apiserver does, and in its words.
 */

#include "apiserver/auth/rbac.h"
#include "apiserver/request/request.h"

/* -EPERM or -EINVAL with the reply set. OLD NULL: OBJ is created. */
int escalate_check(const struct rbac *rbac, struct request *r, const json_t *old, const json_t *obj) _must_use_;
