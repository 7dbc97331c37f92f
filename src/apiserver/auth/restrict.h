/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an agent may do beyond what its role says, which is the same for all hosts: only with what is its own host's.
 * An agent is system:nacre:host:HOST of group system:nacre:hosts, or system:nacre:edge:HOST of system:nacre:edges; a
 * member of these groups with another name may do nothing. The rules are those that the kinds declare (api/access.h);
 * of the same declarations deploy/admission.yaml is made, which says the same of writes on a kube-apiserver.
 */

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"

/* -EPERM with the reply set (403, 429). OLD NULL: it is created; OBJ NULL: it is deleted. LEN: bytes of OBJ as stored.
 */
int restrict_write(const struct auth *auth, struct request *r, const json_t *old, const json_t *obj,
                   size_t len) _must_use_;
/*
 * Before anything of the request is looked at: what its route asks for, and of reads whose it is. The answer is the
 * same whether an Instance is another host's or isn't there.
 */
int restrict_request(const struct auth *auth, struct request *r) _must_use_;
/* Before a write looks at what is stored (OLD; NULL: nothing): whose it is. */
int restrict_stored(struct request *r, const json_t *old) _must_use_;
