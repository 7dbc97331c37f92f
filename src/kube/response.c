/* SPDX-License-Identifier: Apache-2.0 */

/* Answers of the API server: the Status object of a failure (metav1.Status), and objects. */

#include <string.h>

#include "api/meta.h"
#include "base/util.h"
#include "kube/internal.h"

static void response_copy(char *out, size_t size, const char *s, size_t len) {
	snprintf(out, size, "%.*s", (int)MIN(len, size - 1), s);
}

/* Reads reason and message of a Status; leaves both as they are if the body is not a Status. */
static void decode_status(const struct kube_response *r, char *reason, size_t reason_size, char *msg, size_t msg_size) {
	struct jr j;
	const char *key, *s;
	size_t n, len;
	jr_init(&j, r->body, r->len);
	if (r->len && jr_peek(&j) == JR_OBJECT && jr_object(&j) == 0)
		while (jr_key(&j, &key, &n) == 1) {
			char *out = n == 6 && memcmp(key, "reason", 6) == 0    ? reason
			            : n == 7 && memcmp(key, "message", 7) == 0 ? msg
			                                                       : NULL;
			if (!out || jr_peek(&j) != JR_STRING) {
				if (jr_skip(&j, NULL, NULL) < 0)
					break;
			} else if (jr_string(&j, &s, &len) == 0)
				response_copy(out, out == msg ? msg_size : reason_size, s, len);
			else
				break;
		}
	jr_done(&j);
}

static int http_errno(int http, const char *reason) {
	switch (http) {
	case 400:
	case 422: return EINVAL;
	case 401:
	case 403: return EACCES;
	case 404: return ENOENT;
	case 409: return streq(reason, "AlreadyExists") ? EEXIST : ESTALE;
	case 410: return EKEYEXPIRED;
	case 413: return EMSGSIZE;
	case 429: return EBUSY;
	default: return EIO;
	}
}

void kube_response_decode(struct kube_response *r, const char *what) {
	char msg[384] = "";
	if (r->http / 100 == 2)
		return;
	decode_status(r, r->reason, sizeof(r->reason), msg, sizeof(msg));
	if (*msg)
		r->error = error_set(&r->err, http_errno(r->http, r->reason), "%s", msg);
	else
		r->error = error_set(&r->err, http_errno(r->http, r->reason), "%s: the API server answered %d", what,
		                     r->http);
}

bool kube_response_retriable(const struct kube_response *r) {
	return r->error < 0 && (r->http == 0 || r->http == 429 || r->http >= 500 || r->error == -ESTALE);
}

void kube_response_clear(struct kube_response *r) {
	buf_free_wiped(&r->data); /* it may be a Secret */
	*r = (struct kube_response){0};
}

int kube_response_parse(const struct kube_response *r, const struct api_kind *k, void **ret, struct error *err) {
	struct api_errors errs = {0};
	int rc = api_parse(k, r->body, r->len, ret, &errs);
	if (rc == -ENOMEM)
		return error_oom(err);
	if (rc < 0) {
		api_errors_to_error(&errs, err);
		return error_prefix(err, "%s from the API server", k->kind);
	}
	return 0;
}
