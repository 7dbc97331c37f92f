/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * May this user do that? Asked once for each request, by its route (apiserver/request/request.h), before anything else
 * about it is looked at: also whether a path exists is only told to who may ask for it. Members of system:masters may
 * do everything; for all others see apiserver/auth/rbac.h, and for Nacre's agents apiserver/auth/restrict.h as well.
 */

#include "apiserver/auth/rbac.h"
#include "apiserver/request/request.h"

/* WHY may be NULL; else the reason for the answer is added, or nothing if there is none worth telling. */
bool authz_check(const struct rbac *rbac, const struct user *u, const struct authz_attributes *a, struct buf *why);

/* False: R is answered, with 401 if nobody was authenticated or 403. */
bool authz_request(const struct rbac *rbac, struct request *r) _must_use_;

/* The same for a PUT or PATCH that turns out to make the object: that takes the verb create as well. */
bool authz_create(const struct rbac *rbac, struct request *r) _must_use_;

/* Answers R with 403 in kube-apiserver's words. WHY: NULL or "" if there is nothing to add. */
void authz_forbidden(struct request *r, const struct user *u, const struct authz_attributes *a, const char *why);
