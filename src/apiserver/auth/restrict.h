/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Limits an agent to its own host. Its role says only what is the same for all hosts. An agent is a user whose name and
 * group are those of a kind of agents (api/agents.h): system:nacre:edge:HOST in system:nacre:edges. A member of these
 * groups with another name may do nothing. The name of a user who is in several of them says which agent it is. A
 * member of system:masters is no agent. The rules are declared with the kinds (api/access.h).
 * deploy/admission.yaml is generated from the same declarations and has the same rules for writes on a kube-apiserver.
 */

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"

/*
 * Checks a write of an agent. -EPERM with the reply set (403 or 429). OLD NULL: OBJ is being created; OBJ NULL: OLD is
 * being deleted. LEN: the size of OBJ as stored, in bytes.
 */
int restrict_write(const struct auth *auth, struct request *r, const json_t *old, const json_t *obj,
                   size_t len) _must_use_;
/*
 * Checks the route of a request, and for reads whom the object belongs to, before anything else. The answer is the same
 * for an Instance of another host and for one that doesn't exist. -EPERM with the reply set.
 */
int restrict_request(const struct auth *auth, struct request *r) _must_use_;
/*
 * Checks whom the stored object OLD (NULL: there is none) belongs to, before a write looks at it. -EPERM with the reply
 * set.
 */
int restrict_stored(struct request *r, const json_t *old) _must_use_;
