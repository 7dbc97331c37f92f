/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an agent may do beyond what its role says, which is the same for all hosts: only with what is its own host's.
 * An agent is system:nacre:host:HOST of group system:nacre:hosts, or system:nacre:edge:HOST of system:nacre:edges; a
 * member of these groups with another name may write nothing. On kube-apiserver deploy/admission.yaml says the same of
 * writes. The table of rules is in docs/apiserver.md.
 */

#include "apiserver/server.h"

/* -EPERM with the reply set (403). OLD NULL: it is created; OBJ NULL: it is deleted. */
int restrict_write(const struct server *s, struct request *r, const json_t *old, const json_t *obj) _must_use_;
/* The same for get, list, watch and deletecollection. */
int restrict_request(const struct server *s, struct request *r) _must_use_;
