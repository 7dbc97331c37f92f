/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/review.h"

#include <stdarg.h>

#include "apiserver/auth/authn.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

/* In a spec Kubernetes treats an empty string like an absent one. */
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

void review_answer(const struct auth *auth, struct request *r) {
	static void (*const answers[REVIEW_QUESTIONS])(const struct auth *, struct request *) = {
		[REVIEW_SELF_ACCESS] = review_self_access,     [REVIEW_ACCESS] = review_access,
		[REVIEW_LOCAL_ACCESS] = review_local_access,   [REVIEW_SELF_RULES] = review_self_rules,
		[REVIEW_SELF] = answer_self_subject_review,    [REVIEW_TOKEN] = answer_token_review,
		[REVIEW_TOKEN_REQUEST] = answer_token_request,
	};
	const struct review *v = r->route.review;
	const char *kind = json_string_value(json_object_get(r->json, "kind"));
	_free_ char *gv = strf("%s/%s", v->group, v->version);
	const char *version = json_string_value(json_object_get(r->json, "apiVersion"));
	if (gv && (!kind || streq(kind, v->kind)) && (!version || streq(version, gv)))
		answers[v->question](auth, r);
	else
		reply_bad_request(r,
		                  "the API version in the data (%.100s, Kind=%.100s) does not match the expected API "
		                  "version (%s, Kind=%s)",
		                  version ? version : "", kind ? kind : "", gv ? gv : "", v->kind);
}
