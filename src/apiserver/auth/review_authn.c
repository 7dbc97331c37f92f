/* SPDX-License-Identifier: Apache-2.0 */

/* TokenReview and SelfSubjectReview: who is the user? */

#include "apiserver/auth/authn.h"
#include "apiserver/auth/token.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

/* authentication.k8s.io/v1 UserInfo, a new reference; NULL: no memory. */
static json_t *user_info(const struct user *u) {
	json_t *groups = json_array(), *extra = u->n_extras ? json_object() : NULL;
	for (size_t i = 0; i < u->n_groups; i++)
		json_array_append_new(groups, json_string(u->groups[i]));
	for (size_t i = 0; i < u->n_extras; i++) {
		json_t *values = json_object_get(extra, u->extras[i].key);
		if (!values)
			json_object_set_new(extra, u->extras[i].key, values = json_array());
		json_array_append_new(values, json_string(u->extras[i].value));
	}
	return json_pack("{s:s, s:s*, s:o*, s:o*}", "username", u->name, "uid", u->uid, "groups", groups, "extra",
	                 extra);
}

static void reply_taken(struct request *r, json_t *json) {
	if (json)
		reply_dom(&r->reply, 201, json);
	else
		reply_internal(r, "out of memory");
	json_decref(json);
}

void answer_self_subject_review(_unused_ const struct auth *auth, struct request *r) {
	char now[TIME_STR_MAX];
	reply_taken(r, json_pack("{s:s, s:s, s:{s:s}, s:{s:o}}", "kind", "SelfSubjectReview", "apiVersion",
	                         "authentication.k8s.io/v1", "metadata", "creationTimestamp",
	                         time_str(now_realtime_us(), false, now), "status", "userInfo", user_info(r->user)));
}

void answer_token_review(const struct auth *auth, struct request *r) {
	json_t *spec = json_object_get(r->json, "spec"), *wanted = json_object_get(spec, "audiences"),
	       *audiences = NULL;
	const char *token = json_string_value(json_object_get(spec, "token"));
	struct user *u = NULL;
	struct error err = {0};
	if (!token || !*token) {
		reply_bad_request(r, "token is required for TokenReview in authentication");
		return;
	}
	if (wanted && !json_is_array(wanted) && !json_is_null(wanted)) {
		reply_bad_request(r, "TokenReview in version \"v1\" cannot be handled as a TokenReview: spec.audiences "
		                     "must be a list");
		return;
	}
	int e = authn_token(auth, token, json_array_size(wanted) ? wanted : NULL, &u, &audiences, &err);
	json_t *status;
	if (e == 0)
		status = json_pack("{s:b, s:o, s:o}", "authenticated", true, "user", user_info(u), "audiences",
		                   audiences);
	else
		status = json_pack("{s:{}, s:s+}", "user", "error", "invalid bearer token: ", err.msg);
	user_unref(u);
	reply_taken(r, json_pack("{s:s, s:s, s:{}, s:O, s:o}", "kind", "TokenReview", "apiVersion",
	                         "authentication.k8s.io/v1", "metadata", "spec", spec, "status", status));
}
