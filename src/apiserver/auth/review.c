/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/review.h"

#include <stdarg.h>

#include "api/account.h"
#include "apiserver/auth/authn.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

#define AUTHORIZATION  "authorization.k8s.io", "v1"
#define AUTHENTICATION "authentication.k8s.io", "v1"

const struct review reviews[] = {
	{AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview",
         .answer = review_self_access},
	{AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview", .answer = review_access},
	{AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview",
         .namespaced = true, .answer = review_local_access},
	{AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview",
         .answer = review_self_rules},
	{AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview",
         .answer = answer_self_subject_review},
	{AUTHENTICATION, "TokenReview", "tokenreviews", "tokenreview", .answer = answer_token_review},
	{AUTHENTICATION, "TokenRequest", "serviceaccounts", "", .namespaced = true, .of = &api_kind_serviceaccount,
         .subresource = "token", .answer = answer_token_request},
	{0},
};

/* Kubernetes knows no difference between an empty string and none in these. */
static void drop_empty(json_t *v) {
	const char *key;
	json_t *child;
	void *next;
	json_object_foreach_safe(v, next, key, child) {
		if (json_is_string(child) && json_string_length(child) == 0)
			json_object_del(v, key);
		else
			drop_empty(child);
	}
}

void review_reply(struct request *r, json_t *status) {
	const struct review *v = r->route.review;
	_free_ char *gv = strf("%s/%s", v->group, v->version);
	json_t *meta = json_object_get(r->json, "metadata"), *spec = json_object_get(r->json, "spec");
	drop_empty(spec);
	json_t *out = json_pack("{s:s, s:s, s:O, s:O*, s:o}", "kind", v->kind, "apiVersion", gv ? gv : "", "metadata",
	                        meta ? meta : json_null(), "spec", spec, "status", status);
	if (out && !json_is_object(meta))
		json_object_set_new(out, "metadata", json_object());
	if (!out || !gv)
		reply_internal(r, "out of memory");
	else
		reply_dom(&r->reply, 201, out);
	json_decref(out);
}

void review_invalid(struct request *r, enum api_reason reason, const char *path, const char *fmt, ...) {
	const struct review *v = r->route.review;
	struct api_errors errs = {0};
	char msg[200];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	api_errors_add(&errs, reason, path, "%s", msg);
	const struct status_details d = {.group = v->group, .causes = &errs};
	reply_status(&r->reply, 422, "Invalid", &d, ".%s \"\" is invalid: %s: %s", v->group, path, msg);
}
