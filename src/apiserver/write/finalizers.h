/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Nacre's own finalizers (nacre.dev/...) on Nacre's objects stay until Nacre removes them. Without its finalizer the
 * addresses of an instance would become free while its guest still uses them. To remove such a finalizer a user needs
 * the verb `update` for the subresource `finalizers` of the kind; nacre-controller and operators have it. A PUT by any
 * other user keeps the finalizer, because the manifest of a user doesn't contain it. A patch that removes it is
 * refused. On a kube-apiserver deploy/admission.yaml refuses both, since a ValidatingAdmissionPolicy can't change
 * objects.
 */

#include "apiserver/auth/rbac.h"
#include "apiserver/request/request.h"

/* For a PUT: adds to OBJ those of OLD's finalizers that it lacks and that R's user may not remove. 0 or -ENOMEM. */
int finalizers_keep(const struct rbac *rbac, const struct request *r, const json_t *old, json_t *obj) _must_use_;
/* Refuses a write that removes such a finalizer. -EPERM with the reply set (403). OLD NULL: OBJ is being created. */
int finalizers_check(const struct rbac *rbac, struct request *r, const json_t *old, const json_t *obj) _must_use_;
