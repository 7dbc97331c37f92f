/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Nacre's own finalizers (nacre.dev/...) on Nacre's objects stay until Nacre takes them away: without one an instance's
 * addresses would be free while its guest still uses them. Who may take one away has the verb `update` for the
 * subresource `finalizers` of the kind: nacre-controller, and operators. On kube-apiserver deploy/admission.yaml says
 * the same.
 */

#include "apiserver/server.h"

/* -EPERM with the reply set (403). OLD NULL: it is created. */
int finalizers_check(const struct server *s, struct request *r, const json_t *old, const json_t *obj) _must_use_;
