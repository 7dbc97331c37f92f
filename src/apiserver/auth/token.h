/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * JSON Web Tokens (RFC 7519) of one issuer, signed with one ECDSA P-256 key (ES256, RFC 7518). Tokens with other
 * algorithms are refused. apiserver/auth/authn.h interprets the claims.
 */

#include <jansson.h>

#include "base/error.h"

#define TOKEN_MAX ((size_t)8192) /* the longest token in bytes */

struct token_key;

/*
 * Reads the PEM file PATH, or creates it (mode 0600) with a new key if it doesn't exist. PATH NULL: a new key in memory
 * only.
 */
int token_key_load(struct token_key **ret, const char *path, struct error *err) _must_use_;
struct token_key *token_key_free(struct token_key *k);
DEFINE_CLEANUP(token_key, struct token_key *, token_key_free)

/* Returns a token that the caller frees; NULL on failure, with ERR set. */
char *token_sign(const struct token_key *k, const json_t *claims, struct error *err) _must_use_;
/*
 * Returns the claims, a new reference, if TOKEN is well-formed and signed with K. It doesn't check the claims. -EACCES:
 * the token is not accepted.
 */
int token_verify(const struct token_key *k, const char *token, json_t **ret, struct error *err) _must_use_;
