/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Tokens of ServiceAccounts: issued here, and believed as long as they are not expired and what they are bound to is
 * still there: the account (by uid) and, for some, a Secret. Deleting the account makes its tokens void at once.
 * However long a token says that it lives, no more than the longest life that is allowed now is believed.
 *
 * Claims: as kube-apiserver writes them (k8s.io/kubernetes pkg/serviceaccount).
 */

#include <jansson.h>

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"

#define TOKEN_ISSUER "https://kubernetes.default.svc.cluster.local"

struct authn;

/* A token lives for at most so long, unless the operator says otherwise; one in a Secret for TOKEN_SECRET_S. */
#define TOKEN_LIFE_MAX_S ((int64_t)24 * 3600)
#define TOKEN_SECRET_S   ((int64_t)365 * 24 * 3600)

struct authn_options {
	const char *key;     /* file of the key that signs, made if it isn't there; NULL: one in memory */
	const char *root_ca; /* PEM for token Secrets, or NULL */
	int64_t life_max_s;  /* 0: TOKEN_LIFE_MAX_S */
};
int authn_new(struct authn **ret, const struct authn_options *o, struct error *err) _must_use_;
struct authn *authn_free(struct authn *a);

/*
 * Whose TOKEN it is. AUDIENCES (strings; NULL: this server) must have one of the token's; those that both have are
 * put into RET_AUDIENCES (may be NULL; a new reference). -EACCES: it is not good.
 */
int authn_token(const struct auth *auth, const char *token, const json_t *audiences, struct user **ret,
                json_t **ret_audiences, struct error *err) _must_use_;

/*
 * A token that was believed, kept while an answer to it goes on, such as a watch. It may have ended: its time is over,
 * or since it was last asked a ServiceAccount or Secret was changed. bearer_is_good() then finds out.
 */
struct bearer;
int authn_bearer(const struct auth *auth, const char *token, struct user **ret, struct bearer **ret_bearer,
                 struct error *err) _must_use_;
bool bearer_may_have_ended(const struct auth *auth, const struct bearer *b);
bool bearer_is_good(const struct auth *auth, struct bearer *b);
struct bearer *bearer_free(struct bearer *b);
/* A change became visible. A may be NULL. */
void authn_notice(struct authn *a, unsigned kind, const struct watch_event *e);

/* Answers of apiserver/auth/review.h. */
void answer_token_request(const struct auth *auth, struct request *r);
void answer_token_review(const struct auth *auth, struct request *r);
void answer_self_subject_review(const struct auth *auth, struct request *r);

/*
 * A token for SECRET of ACCOUNT, whose uid is UID, as write/token_secret.h puts it there: malloc'ed, NULL on no memory.
 */
char *authn_secret_token(const struct authn *a, const char *ns, const char *secret, const char *account,
                         const char *uid);
/* Whether TEXT, from a Secret in base64, is a token of ours that is no longer believed because of its age alone. */
bool authn_secret_token_ended(const struct authn *a, const char *text);
/* NULL: there is none. */
const char *authn_root_ca(const struct authn *a);
