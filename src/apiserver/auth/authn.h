/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Issues and checks tokens of ServiceAccounts. A token is accepted until it expires, and only while the objects that it
 * is bound to exist: the ServiceAccount (by uid) and, for some tokens, a Secret. If the ServiceAccount is deleted, its
 * tokens are refused at once. A token is never accepted for longer than the longest life that is allowed now, even if
 * it says that it lives longer.
 *
 * The claims are those of kube-apiserver (k8s.io/kubernetes pkg/serviceaccount).
 */

#include <jansson.h>

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"

#define TOKEN_ISSUER "https://kubernetes.default.svc.cluster.local"

struct authn;

/*
 * The longest life of a token in seconds, unless the operator sets another one. A token in a Secret lives
 * TOKEN_SECRET_S.
 */
#define TOKEN_LIFE_MAX_S ((int64_t)24 * 3600)
#define TOKEN_SECRET_S   ((int64_t)365 * 24 * 3600)

struct authn_options {
	const char *key;     /* file of the signing key, created if missing; NULL: a new key in memory */
	const char *root_ca; /* PEM for token Secrets; may be NULL */
	int64_t life_max_s;  /* seconds; 0: TOKEN_LIFE_MAX_S */
};
int authn_new(struct authn **ret, const struct authn_options *o, struct error *err) _must_use_;
struct authn *authn_free(struct authn *a);

/*
 * Finds the user of TOKEN. At least one of AUDIENCES (strings; NULL: this server) must be an audience of the token. The
 * common ones are returned in *RET_AUDIENCES (may be NULL), a new reference. *RET is a reference. -EACCES: the token is
 * not accepted; ERR says why.
 */
int authn_token(const struct auth *auth, const char *token, const json_t *audiences, struct user **ret,
                json_t **ret_audiences, struct error *err) _must_use_;

/*
 * A token that was accepted, kept for a long request such as a watch. bearer_may_have_ended() is cheap: it is true if
 * the token has expired, or if some ServiceAccount or Secret has changed since the last check. bearer_is_good() then
 * checks the token again.
 */
struct bearer;
int authn_bearer(const struct auth *auth, const char *token, struct user **ret, struct bearer **ret_bearer,
                 struct error *err) _must_use_;
bool bearer_may_have_ended(const struct auth *auth, const struct bearer *b);
bool bearer_is_good(const struct auth *auth, struct bearer *b);
struct bearer *bearer_free(struct bearer *b);
/* Tells of a visible change in the store. A may be NULL. */
void authn_notice(struct authn *a, unsigned kind, const struct watch_event *e);

/* Handlers for apiserver/auth/review.h. */
void answer_token_request(const struct auth *auth, struct request *r);
void answer_token_review(const struct auth *auth, struct request *r);
void answer_self_subject_review(const struct auth *auth, struct request *r);

/*
 * Returns a new token for the Secret SECRET of the ServiceAccount ACCOUNT with this UID; write/token_secret.h stores it
 * in the Secret. The caller frees it. NULL: no memory.
 */
char *authn_secret_token(const struct authn *a, const char *ns, const char *secret, const char *account,
                         const char *uid);
/* True if TEXT, base64 from a Secret, is a token of this server that is only refused because it is too old. */
bool authn_secret_token_ended(const struct authn *a, const char *text);
/* PEM, owned by A; NULL: none */
const char *authn_root_ca(const struct authn *a);
