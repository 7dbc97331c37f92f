/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * JSON Web Tokens (RFC 7519) of one issuer: signed with one ECDSA P-256 key (ES256, RFC 7518), nothing else is taken.
 * What the claims mean is apiserver/auth/authn.h's business.
 */

#include <jansson.h>

#include "base/error.h"

#define TOKEN_MAX ((size_t)8192) /* bytes of a token */

struct token_key;

/* Reads PATH (PEM), or makes a key there (mode 0600) if there is none. PATH NULL: a new key, kept in memory. */
int token_key_load(struct token_key **ret, const char *path, struct error *err) _must_use_;
struct token_key *token_key_free(struct token_key *k);
DEFINE_CLEANUP(token_key, struct token_key *, token_key_free)

/* malloc'ed; NULL on failure. */
char *token_sign(const struct token_key *k, const json_t *claims, struct error *err) _must_use_;
/* The claims, if TOKEN is well-formed and signed with K; whether they are true now is not looked at. -EACCES else. */
int token_verify(const struct token_key *k, const char *token, json_t **ret, struct error *err) _must_use_;
