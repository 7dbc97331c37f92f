/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sets the answer to a request. Failures are metav1.Status objects with Kubernetes' reasons, codes and wording, which
 * clients compare. Each function sets the whole reply and replaces an earlier one.
 */

#include "apiserver/request/request.h"

void reply_clear(struct reply *r);
/* Takes the content of BODY. If the buffer has failed, the reply is a 500 without details. */
void reply_json(struct reply *r, unsigned code, struct buf *body);
void reply_text(struct reply *r, unsigned code, const char *text);
void reply_dom(struct reply *r, unsigned code, const json_t *json);
/* Adds a Warning header with code 299 (RFC 9111 no longer defines it, but Kubernetes still uses it). */
void reply_warn(struct reply *r, const char *fmt, ...) _printf_(2, 3);

struct status_details {
	const char *name, *group, *kind, *uid;
	const struct api_errors *causes;
	unsigned retry_after_s;
	const char *cause_reason;  /* one cause that is not about a field */
	const char *cause_message; /* NULL: the message of the Status */
};

void reply_status(struct reply *r, unsigned code, const char *reason, const struct status_details *d, const char *fmt,
                  ...) _printf_(5, 6);
/* The same Status as text, for ERROR events of watches. */
void status_print(struct buf *b, unsigned code, const char *reason, const struct status_details *d,
                  const char *message);

/* Common failures. They name the object or resource of RQ's route. */
void reply_bad_request(struct request *rq, const char *fmt, ...) _printf_(2, 3);
void reply_unauthorized(struct request *rq);
void reply_not_found(struct request *rq);
void reply_route_not_found(struct request *rq);
void reply_method_not_allowed(struct request *rq);
void reply_conflict(struct request *rq, const char *fmt, ...) _printf_(2, 3);
void reply_forbidden(struct request *rq, const char *name, const char *cause_reason, const char *fmt, ...)
	_printf_(4, 5);
/* 422. NAME may be NULL for an object that has no name yet. */
void reply_invalid(struct request *rq, const char *name, const struct api_errors *errs);
/* The same for another kind than the route's, for example one that the client named wrongly. */
void reply_invalid_as(struct request *rq, const char *group, const char *kind, const char *name,
                      const struct api_errors *errs);
/* 422 for the request's ListOptions or DeleteOptions (KIND). */
void reply_invalid_options(struct request *rq, const char *kind, enum api_reason reason, const char *path,
                           const char *fmt, ...) _printf_(5, 6);
void reply_invalid_field(struct request *rq, const char *name, enum api_reason reason, const char *path,
                         const char *fmt, ...) _printf_(5, 6);
void reply_internal(struct request *rq, const char *fmt, ...) _printf_(2, 3);
void reply_deleted(struct request *rq, const char *name, const char *uid);
/* An object in the form that the client accepts: whole, or only its metadata. */
void reply_object(struct request *rq, unsigned code, const char *json, size_t len);
void reply_object_dom(struct request *rq, unsigned code, const json_t *obj);
/* 406: the client asked for metadata of a single object, but the answer is a list, or the other way round. */
void reply_not_partial(struct request *rq);

/* The resource's full name: "instances.nacre.dev", "events". */
const char *resource_name(const struct api_kind *k, char out[static 192]);
