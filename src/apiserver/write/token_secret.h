/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "apiserver/auth/auth.h"

/*
 * Fills in a Secret of type kubernetes.io/service-account-token that has no token yet, or one of this server that has
 * ended or is from a version whose tokens never ended: token, ca.crt, namespace, and the account's uid. One of an
 * account that isn't there stays as it is (keep.h comes back to it). -ENOMEM.
 */
int token_secret_fill(const struct auth *auth, const char *ns, json_t *secret) _must_use_;
