/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * deploy/admission.yaml: the policies that a kube-apiserver needs in addition to the roles. One limits agents to what
 * the kinds declare (access.h), as far as a policy can check it. One keeps Nacre's finalizers on its objects. Writes to
 * OUT; fails only if memory runs out.
 */

#include "base/buf.h"

int admission_yaml(struct buf *out, struct error *err) _must_use_;
