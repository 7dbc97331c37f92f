/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "apiserver/auth/auth.h"

/*
 * Fills in token, ca.crt, namespace and the uid of the ServiceAccount if SECRET has the type
 * kubernetes.io/service-account-token and needs a token: it has none, or one of this server that has expired or comes
 * from a version whose tokens never expired. If the ServiceAccount doesn't exist, SECRET is not changed; keep.h tries
 * again later. 0 or -ENOMEM.
 */
int token_secret_fill(const struct auth *auth, const char *ns, json_t *secret) _must_use_;
