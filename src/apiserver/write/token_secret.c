/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/token_secret.h"

#include <string.h>

#include "api/account.h"
#include "apiserver/auth/authn.h"
#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/request.h"
#include "base/base64.h"
#include "base/util.h"

#define ACCOUNT_NAME "kubernetes.io/service-account.name"
#define ACCOUNT_UID  "kubernetes.io/service-account.uid"

static int set_base64(json_t *data, const char *key, const char *value) {
	_buf_free_ struct buf b = {.max = OBJECT_MAX};
	base64_encode(&b, value, strlen(value));
	return b.failed ? -ENOMEM : json_object_set_new(data, key, json_stringn(b.data ? b.data : "", b.len));
}

/* Returns the ServiceAccount, a new reference, if it exists and is not being deleted. Else NULL. */
static json_t *load_account(const struct store *store, const char *ns, const char *name) {
	const struct object *o = store_get(store, api_kind_index(&api_kind_serviceaccount), ns, name);
	_json_decref_ json_t *account = o ? object_load(o->value->data, o->value->len) : NULL;
	return account && !object_deleting(account) ? TAKE_PTR(account) : NULL;
}

/* True if SECRET should get a new token. */
static bool wants_token(const struct authn *authn, const json_t *secret) {
	const json_t *data = json_object_get(secret, "data");
	const char *has = json_string_value(json_object_get(data, "token"));
	return streq(json_string_value(json_object_get(secret, "type")), SECRET_TYPE_TOKEN) &&
	       (!data || json_is_object(data)) && (!has || !*has || authn_secret_token_ended(authn, has)) &&
	       !json_is_true(json_object_get(secret, "immutable"));
}

int token_secret_fill(const struct auth *auth, const char *ns, json_t *secret) {
	json_t *notes = json_object_get(object_meta(secret), "annotations"), *data = json_object_get(secret, "data");
	const char *name = json_string_value(json_object_get(notes, ACCOUNT_NAME));
	const char *self = object_meta_str(secret, "name");
	if (!auth->authn || !name || !self || !wants_token(auth->authn, secret))
		return 0;
	_json_decref_ json_t *account = load_account(auth->store, ns, name);
	const char *uid = account ? object_meta_str(account, "uid") : NULL;
	if (!uid)
		return 0;
	const char *ca = authn_root_ca(auth->authn);
	_free_ char *token = authn_secret_token(auth->authn, ns, self, name, uid);
	if (!token || (!data && json_object_set_new(secret, "data", data = json_object()) < 0) ||
	    set_base64(data, "token", token) < 0 || set_base64(data, "namespace", ns) < 0 ||
	    (ca && set_base64(data, "ca.crt", ca) < 0) || json_object_set_new(notes, ACCOUNT_UID, json_string(uid)) < 0)
		return -ENOMEM;
	return 0;
}
