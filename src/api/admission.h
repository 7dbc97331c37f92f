/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * deploy/admission.yaml: the policies that a kube-apiserver needs beside the roles. One holds agents to what the kinds
 * declare (access.h), as far as a policy can ask it; one keeps Nacre's finalizers on its objects.
 */

#include "base/buf.h"

int admission_yaml(struct buf *out, struct error *err) _must_use_;
