/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/authn.h"

#include <string.h>
#include <time.h>

#include "api/account.h"
#include "apiserver/auth/token.h"
#include "apiserver/json/object.h"
#include "apiserver/request/reply.h"
#include "base/base64.h"
#include "base/util.h"

#define LEGACY_ISSUER "kubernetes/serviceaccount"
#define LEGACY        "kubernetes.io/serviceaccount/"
#define SKEW_S        60 /* Our clock may have been set back: a token whose start lies so far ahead is still accepted. */
#define AUDIENCES_MAX 64
#define SECONDS_MIN   600
#define SECONDS_MAX   (INT64_C(1) << 32)

struct authn {
	struct token_key *key;
	char *root_ca;
	int64_t life_max_s;
	unsigned generation; /* counts the changes of objects that tokens may be bound to */
};

struct bearer {
	json_t *claims;
	char *token;
	int64_t until_s;
	unsigned generation;
};

static inline void json_done(json_t **p) {
	json_decref(*p);
}
#define _json_ _cleanup_(json_done)

int authn_new(struct authn **ret, const struct authn_options *o, struct error *err) {
	struct authn *a = calloc(1, sizeof(*a));
	if (!a)
		return error_oom(err);
	a->root_ca = o->root_ca ? strdup(o->root_ca) : NULL;
	a->life_max_s = o->life_max_s ? o->life_max_s : TOKEN_LIFE_MAX_S;
	int r = o->root_ca && !a->root_ca ? error_oom(err) : token_key_load(&a->key, o->key, err);
	if (r < 0) {
		authn_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct authn *authn_free(struct authn *a) {
	if (!a)
		return NULL;
	token_key_free(a->key);
	free(a->root_ca);
	free(a);
	return NULL;
}

/* ---- claims ---- */

static const char *text_at(const json_t *json, const char *a, const char *b, const char *c) {
	json = json_object_get(json, a);
	if (b)
		json = json_object_get(json, b);
	return json_string_value(c ? json_object_get(json, c) : json);
}

/* The claims of a token, in the current or the legacy form. */
struct claims {
	const char *ns, *account, *uid, *secret, *secret_uid, *jti;
	bool legacy;
};

#define bad(err, what) error_set(err, EACCES, "%s", what)

static int read_claims(const json_t *json, struct claims *c, struct error *err) {
	const char *iss = text_at(json, "iss", NULL, NULL);
	*c = (struct claims){.legacy = streq(iss, LEGACY_ISSUER), .jti = text_at(json, "jti", NULL, NULL)};
	if (c->legacy) {
		c->ns = text_at(json, LEGACY "namespace", NULL, NULL);
		c->account = text_at(json, LEGACY "service-account.name", NULL, NULL);
		c->uid = text_at(json, LEGACY "service-account.uid", NULL, NULL);
		c->secret = text_at(json, LEGACY "secret.name", NULL, NULL);
	} else if (streq(iss, TOKEN_ISSUER)) {
		c->ns = text_at(json, "kubernetes.io", "namespace", NULL);
		c->account = text_at(json, "kubernetes.io", "serviceaccount", "name");
		c->uid = text_at(json, "kubernetes.io", "serviceaccount", "uid");
		c->secret = text_at(json, "kubernetes.io", "secret", "name");
		c->secret_uid = text_at(json, "kubernetes.io", "secret", "uid");
		if (json_object_get(json_object_get(json, "kubernetes.io"), "secret") && (!c->secret || !c->secret_uid))
			return bad(err, "its claims are incomplete");
	} else
		return bad(err, "it was issued by another issuer");
	if (!c->ns || !c->account || !c->uid || (c->legacy && !c->secret))
		return bad(err, "its claims are incomplete");
	return 0;
}

static int64_t life_max(const struct authn *a, bool legacy) {
	return legacy ? MAX(a->life_max_s, TOKEN_SECRET_S) : a->life_max_s;
}

/* The time after which the token is not accepted. It may have been issued when longer lives were allowed. */
static int64_t ends_at(const struct authn *a, const json_t *json, bool legacy) {
	int64_t exp = json_integer_value(json_object_get(json, "exp")), last;
	if (__builtin_add_overflow(json_integer_value(json_object_get(json, "nbf")), life_max(a, legacy), &last))
		return exp;
	return MIN(exp, last);
}

static int check_times(const struct authn *a, const json_t *json, const struct claims *c, struct error *err) {
	const json_t *exp = json_object_get(json, "exp"), *nbf = json_object_get(json, "nbf");
	const int64_t now = time(NULL);
	if (!json_is_integer(exp) || !json_is_integer(nbf))
		return bad(err, "its claims are incomplete");
	if (json_integer_value(nbf) > now + SKEW_S)
		return bad(err, "it is not valid yet");
	if (ends_at(a, json, c->legacy) <= now)
		return bad(err, "it has expired");
	return 0;
}

static bool contains(const json_t *list, const char *text) {
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v) {
		if (streq(json_string_value(v), text))
			return true;
	}
	return false;
}

/* The audiences of the token that are also wanted. A legacy token is for this server only. */
static int common_audiences(const json_t *json, const struct claims *c, const json_t *wanted, json_t **ret,
                            struct error *err) {
	_json_ json_t *own = json_pack("[s]", TOKEN_ISSUER), *out = json_array();
	const json_t *aud = c->legacy ? own : json_object_get(json, "aud");
	size_t i;
	json_t *v;
	if (!own || !out)
		return error_oom(err);
	json_array_foreach(aud, i, v) {
		if (json_is_string(v) && contains(wanted ? wanted : own, json_string_value(v)) &&
		    json_array_append(out, v) < 0)
			return error_oom(err);
	}
	if (json_array_size(out) == 0)
		return bad(err, "it is for another audience");
	*ret = TAKE_PTR(out);
	return 0;
}

/* ---- bound objects ---- */

/* Returns the object, a new reference, if it exists, has this UID (NULL: any) and is not being deleted. Else NULL. */
static json_t *authn_find(const struct auth *auth, const struct api_kind *k, const char *ns, const char *name,
                          const char *uid) {
	const struct object *o = store_get(auth->store, api_kind_index(k), ns, name);
	json_t *obj = o ? object_load(o->value->data, o->value->len) : NULL;
	if (obj && !object_deleting(obj) && (!uid || streq(object_meta_str(obj, "uid"), uid)))
		return obj;
	json_decref(obj);
	return NULL;
}

static int check_bound(const struct auth *auth, const struct claims *c, const char *token, struct error *err) {
	_json_ json_t *account = authn_find(auth, &api_kind_serviceaccount, c->ns, c->account, c->uid);
	if (!account)
		return bad(err, "its ServiceAccount is gone");
	if (!c->secret)
		return 0;
	_json_ json_t *secret = authn_find(auth, &api_kind_secret, c->ns, c->secret, c->secret_uid);
	if (!secret)
		return bad(err, "its Secret is gone");
	if (!c->legacy)
		return 0;
	_buf_free_ struct buf held = {.max = TOKEN_MAX};
	const json_t *text = json_object_get(json_object_get(secret, "data"), "token");
	size_t at;
	if (!json_is_string(text) || base64_decode(&held, json_string_value(text), json_string_length(text), &at) < 0 ||
	    !streq(held.data, token))
		return bad(err, "its Secret holds another token");
	return 0;
}

static struct user *user_of(const struct claims *c) {
	_free_ char *name = strf(USER_ACCOUNT_PREFIX "%s:%s", c->ns, c->account);
	_free_ char *group = strf(GROUP_ACCOUNTS ":%s", c->ns), *id = c->jti ? strf("JTI=%s", c->jti) : NULL;
	_cleanup_(cleanup_user) struct user *u = name ? user_new(name, c->uid) : NULL;
	if (!u || !group || (c->jti && !id) || user_add_group(u, GROUP_ACCOUNTS) < 0 || user_add_group(u, group) < 0 ||
	    user_add_group(u, GROUP_AUTHENTICATED) < 0 || (id && user_add_extra(u, EXTRA_CREDENTIAL_ID, id) < 0))
		return NULL;
	return TAKE_PTR(u);
}

/* *RET_CLAIMS (may be NULL) is a new reference. */
static int authn_verify(const struct auth *auth, const char *token, const json_t *audiences, struct user **ret,
                        json_t **ret_audiences, json_t **ret_claims, struct error *err) {
	_json_ json_t *json = NULL, *common = NULL;
	struct claims c;
	if (!auth->authn)
		return bad(err, "this server accepts no tokens");
	int r = token_verify(auth->authn->key, token, &json, err);
	if (r == 0)
		r = read_claims(json, &c, err);
	if (r == 0)
		r = check_times(auth->authn, json, &c, err);
	if (r == 0)
		r = common_audiences(json, &c, audiences, &common, err);
	if (r == 0)
		r = check_bound(auth, &c, token, err);
	if (r)
		return r;
	struct user *u = user_of(&c);
	if (!u)
		return error_oom(err);
	*ret = u;
	if (ret_audiences)
		*ret_audiences = TAKE_PTR(common);
	if (ret_claims)
		*ret_claims = TAKE_PTR(json);
	return 0;
}

int authn_token(const struct auth *auth, const char *token, const json_t *audiences, struct user **ret,
                json_t **ret_audiences, struct error *err) {
	return authn_verify(auth, token, audiences, ret, ret_audiences, NULL, err);
}

/* ---- tokens of long requests ---- */

int authn_bearer(const struct auth *auth, const char *token, struct user **ret, struct bearer **ret_bearer,
                 struct error *err) {
	struct user *u = NULL;
	struct bearer *b = calloc(1, sizeof(*b));
	if (b)
		b->token = strdup(token);
	int r = b && b->token ? authn_verify(auth, token, NULL, &u, NULL, &b->claims, err) : error_oom(err);
	if (r < 0) {
		bearer_free(b);
		return r;
	}
	b->until_s = ends_at(auth->authn, b->claims, streq(text_at(b->claims, "iss", NULL, NULL), LEGACY_ISSUER));
	b->generation = auth->authn->generation;
	*ret = u;
	*ret_bearer = b;
	return 0;
}

bool bearer_may_have_ended(const struct auth *auth, const struct bearer *b) {
	return b->generation != auth->authn->generation || time(NULL) >= b->until_s;
}

bool bearer_is_good(const struct auth *auth, struct bearer *b) {
	struct claims c;
	b->generation = auth->authn->generation;
	return time(NULL) < b->until_s && read_claims(b->claims, &c, NULL) == 0 &&
	       check_bound(auth, &c, b->token, NULL) == 0;
}

struct bearer *bearer_free(struct bearer *b) {
	if (!b)
		return NULL;
	json_decref(b->claims);
	free(b->token);
	free(b);
	return NULL;
}

void authn_notice(struct authn *a, unsigned kind, const struct watch_event *e) {
	const struct api_kind *k = api_kinds[kind];
	if (a && e->type != EVENT_ADDED && (k == &api_kind_serviceaccount || k == &api_kind_secret))
		a->generation++;
}

/* ---- TokenRequest ---- */

static void invalid(struct request *r, const char *name, enum api_reason reason, const char *path, const char *msg) {
	struct api_errors errs = {0};
	api_errors_add(&errs, reason, path, "%s", msg);
	reply_invalid_as(r, "authentication.k8s.io", "TokenRequest", name, &errs);
}

/* Reads the spec and fills in its defaults. False: the reply is set. */
static bool read_spec(struct request *r, json_t **ret_audiences, int64_t *ret_seconds) {
	const json_t *spec = json_object_get(r->json, "spec"), *aud = json_object_get(spec, "audiences"), *v;
	const json_t *seconds = json_object_get(spec, "expirationSeconds");
	size_t i;
	char msg[128];
	int64_t n = seconds && !json_is_null(seconds) ? json_integer_value(seconds) : 3600;
	if ((spec && !json_is_object(spec)) || (seconds && !json_is_integer(seconds) && !json_is_null(seconds)) ||
	    (aud && !json_is_array(aud) && !json_is_null(aud)) || json_array_size(aud) > AUDIENCES_MAX) {
		reply_bad_request(
			r, "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: spec is malformed");
		return false;
	}
	json_array_foreach((json_t *)aud, i, v) {
		if (!json_is_string(v)) {
			reply_bad_request(r, "TokenRequest: spec.audiences[%zu] must be a string", i);
			return false;
		}
	}
	if (n < SECONDS_MIN || n > SECONDS_MAX) {
		snprintf(msg, sizeof(msg), "Invalid value: %lld: may not specify a duration %s", (long long)n,
		         n < SECONDS_MIN ? "less than 10 minutes" : "larger than 2^32 seconds");
		invalid(r, NULL, API_INVALID, "spec.expirationSeconds", msg);
		return false;
	}
	*ret_audiences = json_array_size(aud) ? json_deep_copy(aud) : json_pack("[s]", TOKEN_ISSUER);
	*ret_seconds = n;
	if (!*ret_audiences)
		reply_internal(r, "out of memory");
	return *ret_audiences;
}

/* The warning has kube-apiserver's words (pkg/registry/core/serviceaccount/storage/token.go). */
static int64_t shorten(const struct auth *auth, struct request *r, int64_t seconds) {
	const int64_t max = life_max(auth->authn, false);
	if (seconds <= max)
		return seconds;
	reply_warn(&r->reply, "requested expiration of %lld seconds shortened to %lld seconds", (long long)seconds,
	           (long long)max);
	return max;
}

/* *RET is the Secret that the token is to be bound to, {name, uid}, or NULL for none. False: the reply is set. */
static bool read_bound(const struct auth *auth, struct request *r, json_t **ret) {
	const json_t *ref = json_object_get(json_object_get(r->json, "spec"), "boundObjectRef");
	*ret = NULL;
	if (!ref || json_is_null(ref))
		return true;
	const char *kind = text_at(ref, "kind", NULL, NULL), *name = text_at(ref, "name", NULL, NULL);
	const char *version = text_at(ref, "apiVersion", NULL, NULL), *uid = text_at(ref, "uid", NULL, NULL);
	if (!streq(kind, "Secret") || !streq(version, "v1") || !name) {
		reply_bad_request(r, "cannot bind token to object of type /%.63s, Kind=%.63s", version ? version : "",
		                  kind ? kind : "");
		return false;
	}
	_json_ json_t *secret = authn_find(auth, &api_kind_secret, r->route.ns, name, NULL);
	const char *is = secret ? object_meta_str(secret, "uid") : NULL;
	if (!is) {
		const struct status_details d = {.name = name, .kind = "secrets"};
		reply_status(&r->reply, 404, "NotFound", &d, "secrets \"%.253s\" not found", name);
		return false;
	}
	if (uid && *uid && !streq(uid, is)) {
		const struct status_details d = {.name = name, .kind = "Secret"};
		reply_status(
			&r->reply, 409, "Conflict", &d,
			"Operation cannot be fulfilled on Secret \"%.253s\": the UID in the bound object "
			"reference (%.63s) does not match the UID in record. The object might have been deleted and "
			"then recreated",
			name, uid);
		return false;
	}
	*ret = json_pack("{s:s, s:s}", "name", name, "uid", is);
	if (!*ret)
		reply_internal(r, "out of memory");
	return *ret;
}

/* Returns the claims of a new token. AUDIENCES and BOUND are borrowed; BOUND may be NULL. */
static json_t *new_claims(const json_t *account, json_t *audiences, json_t *bound, int64_t now, int64_t seconds) {
	const char *ns = object_meta_str(account, "namespace"), *name = object_meta_str(account, "name");
	_free_ char *sub = strf(USER_ACCOUNT_PREFIX "%s:%s", ns, name);
	const json_int_t from = now, until = from + seconds;
	char jti[37];
	uuid_make(jti);
	json_t *own = json_pack("{s:s, s:{s:s, s:s}}", "namespace", ns, "serviceaccount", "name", name, "uid",
	                        object_meta_str(account, "uid"));
	if (own && bound && json_object_set(own, "secret", bound) < 0) {
		json_decref(own);
		own = NULL;
	}
	return sub && own
	               ? json_pack("{s:O, s:I, s:I, s:s, s:s, s:o, s:I, s:s}", "aud", audiences, "exp", until, "iat",
	                           from, "iss", TOKEN_ISSUER, "jti", jti, "kubernetes.io", own, "nbf", from, "sub", sub)
	               : NULL;
}

static void issue(const struct auth *auth, struct request *r, const json_t *account, json_t *audiences, json_t *bound,
                  int64_t seconds) {
	const int64_t now = time(NULL);
	char created[TIME_STR_MAX], until[TIME_STR_MAX];
	struct error err = {0};
	_json_ json_t *claims = new_claims(account, audiences, bound, now, seconds);
	_free_ char *token = claims ? token_sign(auth->authn->key, claims, &err) : NULL;
	if (!token) {
		reply_internal(r, "%s", err.code ? err.msg : "out of memory");
		return;
	}
	json_t *ref = json_object_get(json_object_get(r->json, "spec"), "boundObjectRef");
	_json_ json_t *null = json_null();
	_json_ json_t *out = json_pack(
		"{s:s, s:s, s:{s:s, s:s, s:s, s:s}, s:{s:O, s:I, s:O}, s:{s:s, s:s}}", "kind", "TokenRequest",
		"apiVersion", "authentication.k8s.io/v1", "metadata", "name", r->route.name, "namespace", r->route.ns,
		"uid", object_meta_str(account, "uid"), "creationTimestamp",
		time_str((uint64_t)now * USEC_PER_SEC, false, created), "spec", "audiences", audiences,
		"expirationSeconds", (json_int_t)seconds, "boundObjectRef", ref ? ref : null, "status", "token", token,
		"expirationTimestamp", time_str((uint64_t)(now + seconds) * USEC_PER_SEC, false, until));
	if (out)
		reply_dom(&r->reply, 201, out);
	else
		reply_internal(r, "out of memory");
}

void answer_token_request(const struct auth *auth, struct request *r) {
	const struct route *rt = &r->route;
	_json_ json_t *account = authn_find(auth, &api_kind_serviceaccount, rt->ns, rt->name, NULL), *audiences = NULL,
		      *bound = NULL;
	const char *name = object_meta_str(r->json, "name");
	int64_t seconds;
	if (!account) {
		const struct status_details d = {.name = rt->name, .kind = "serviceaccounts"};
		reply_status(&r->reply, 404, "NotFound", &d, "serviceaccounts \"%.253s\" not found", rt->name);
	} else if (name && *name && !streq(name, rt->name)) {
		char msg[384];
		snprintf(msg, sizeof(msg),
		         "Invalid value: \"%.253s\": must match the service account name if specified", name);
		invalid(r, rt->name, API_INVALID, "metadata.name", msg);
	} else if (!auth->authn)
		reply_internal(r, "this server issues no tokens");
	else if (read_spec(r, &audiences, &seconds) && read_bound(auth, r, &bound))
		issue(auth, r, account, audiences, bound, shorten(auth, r, seconds));
}

/* ---- tokens in Secrets ---- */

bool authn_secret_token_ended(const struct authn *a, const char *text) {
	_buf_free_ struct buf token = {.max = TOKEN_MAX};
	_json_ json_t *json = NULL;
	struct claims c;
	size_t at;
	if (base64_decode(&token, text, strlen(text), &at) < 0 || token.failed || !token.data ||
	    token_verify(a->key, token.data, &json, NULL) < 0 || read_claims(json, &c, NULL) < 0 || !c.legacy)
		return false;
	return !json_is_integer(json_object_get(json, "exp")) || !json_is_integer(json_object_get(json, "nbf")) ||
	       ends_at(a, json, true) <= time(NULL);
}

char *authn_secret_token(const struct authn *a, const char *ns, const char *secret, const char *account,
                         const char *uid) {
	_free_ char *sub = strf(USER_ACCOUNT_PREFIX "%s:%s", ns, account);
	const json_int_t now = time(NULL), until = now + life_max(a, true);
	_json_ json_t *claims =
		sub ? json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I}", "iss", LEGACY_ISSUER, "sub", sub,
	                        LEGACY "namespace", ns, LEGACY "secret.name", secret, LEGACY "service-account.name",
	                        account, LEGACY "service-account.uid", uid, "nbf", now, "exp", until)
		    : NULL;
	return claims ? token_sign(a->key, claims, NULL) : NULL;
}

const char *authn_root_ca(const struct authn *a) {
	return a->root_ca;
}
