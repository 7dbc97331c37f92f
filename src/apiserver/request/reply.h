/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Answers. Failures are metav1.Status objects with the reasons, codes and wording of Kubernetes, which clients
 * match on. Each function sets the reply whole and replaces an earlier one.
 */

#include "apiserver/request/request.h"

void reply_clear(struct reply *r);
/* Fails over to a bare 500 if the buffer failed. Takes the content of BODY. */
void reply_json(struct reply *r, unsigned code, struct buf *body);
void reply_text(struct reply *r, unsigned code, const char *text);
void reply_dom(struct reply *r, unsigned code, const json_t *json);
/* Adds a Warning header (RFC 9111 has code 299 no longer, Kubernetes uses it still). */
void reply_warn(struct reply *r, const char *fmt, ...) _printf_(2, 3);

struct status_details {
	const char *name, *group, *kind, *uid;
	const struct api_errors *causes;
	unsigned retry_after_s;
	const char *cause_reason;  /* one cause that is not of a field */
	const char *cause_message; /* NULL: that of the whole */
};

void reply_status(struct reply *r, unsigned code, const char *reason, const struct status_details *d, const char *fmt,
                  ...) _printf_(5, 6);
/* The same Status as text, for ERROR events of watches. */
void status_print(struct buf *b, unsigned code, const char *reason, const struct status_details *d,
                  const char *message);

/* The usual ones; the route of RQ tells what is spoken of. */
void reply_bad_request(struct request *rq, const char *fmt, ...) _printf_(2, 3);
void reply_unauthorized(struct request *rq);
void reply_not_found(struct request *rq);
void reply_route_not_found(struct request *rq);
void reply_method_not_allowed(struct request *rq);
void reply_conflict(struct request *rq, const char *fmt, ...) _printf_(2, 3);
void reply_forbidden(struct request *rq, const char *name, const char *cause_reason, const char *fmt, ...)
	_printf_(4, 5);
/* 422; NAME may be NULL for objects without one yet */
void reply_invalid(struct request *rq, const char *name, const struct api_errors *errs);
/* The same of another kind than the route's, such as one that the client named wrongly. */
void reply_invalid_as(struct request *rq, const char *group, const char *kind, const char *name,
                      const struct api_errors *errs);
/* What is wrong are the request's ListOptions or DeleteOptions. */
void reply_invalid_options(struct request *rq, const char *kind, enum api_reason reason, const char *path,
                           const char *fmt, ...) _printf_(5, 6);
void reply_invalid_field(struct request *rq, const char *name, enum api_reason reason, const char *path,
                         const char *fmt, ...) _printf_(5, 6);
void reply_internal(struct request *rq, const char *fmt, ...) _printf_(2, 3);
void reply_deleted(struct request *rq, const char *name, const char *uid);
/* An object, in the shape that the client accepts: whole, or its metadata alone. */
void reply_object(struct request *rq, unsigned code, const char *json, size_t len);
void reply_object_dom(struct request *rq, unsigned code, const json_t *obj);
/* 406: metadata of ONE thing was asked for where there is a list, or the other way about. */
void reply_not_partial(struct request *rq);

/* "instances.nacre.dev", "events" */
const char *resource_name(const struct api_kind *k, char out[static 192]);
