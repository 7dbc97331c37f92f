/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Nacre's own finalizers (nacre.dev/...) on Nacre's objects stay until Nacre removes them: without one an instance's
 * addresses would be free while its guest still uses them. To remove one a user needs the verb `update` for the
 * subresource `finalizers` of the kind, as nacre-controller and operators have it. For everybody else a PUT without the
 * finalizer keeps it, since the manifest that he has holds none; a patch that removes it is refused. On kube-apiserver
 * deploy/admission.yaml refuses both: a ValidatingAdmissionPolicy changes nothing.
 */

#include "apiserver/auth/rbac.h"
#include "apiserver/request/request.h"

/* To be asked of a PUT: gives OBJ what it lacks of OLD's and R's user may not remove. 0 or -ENOMEM. */
int finalizers_keep(const struct rbac *rbac, const struct request *r, const json_t *old, json_t *obj) _must_use_;
/* -EPERM with the reply set (403). OLD NULL: it is created. */
int finalizers_check(const struct rbac *rbac, struct request *r, const json_t *old, const json_t *obj) _must_use_;
