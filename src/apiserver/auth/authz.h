/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * May this user do that? This is decided once for each request, from its route (apiserver/request/request.h), before
 * anything else is checked. So only users who may ask for a path learn whether it exists. Members of system:masters may
 * do everything. For all others see apiserver/auth/rbac.h, and for Nacre's agents also apiserver/auth/restrict.h.
 */

#include "apiserver/auth/rbac.h"
#include "apiserver/request/request.h"

/* Adds the reason for the answer to WHY, if there is one. WHY may be NULL. */
bool authz_check(const struct rbac *rbac, const struct user *u, const struct authz_attributes *a, struct buf *why);

/* False: the reply is set, to 401 if the client is not authenticated, else to 403. */
bool authz_request(const struct rbac *rbac, struct request *r) _must_use_;

/* The same for a PUT or PATCH that creates the object, which also requires the verb create. */
bool authz_create(const struct rbac *rbac, struct request *r) _must_use_;

/* Answers R with 403 in kube-apiserver's words. WHY is an additional reason; NULL or "": none. */
void authz_forbidden(struct request *r, const struct user *u, const struct authz_attributes *a, const char *why);
