/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request/reply.h"

#include <stdarg.h>
#include <string.h>

#include "apiserver/json/object.h"
#include "apiserver/json/table.h"
#include "apiserver/json/tree.h"
#include "base/jsonwrite.h"

void reply_clear(struct reply *r) {
	buf_free(&r->body);
	buf_free(&r->warnings);
	for (size_t i = 0; i < r->n_items; i++)
		blob_unref(r->items[i]);
	free(r->items);
	held_free((struct held *)r->watch);
	*r = (struct reply){0};
}

/* Clears the reply, except for its warnings. */
static void reply_start(struct reply *r, unsigned code, const char *type) {
	struct buf warnings = r->warnings;
	r->warnings = (struct buf){0};
	reply_clear(r);
	r->warnings = warnings;
	r->code = code;
	r->content_type = type;
}

void reply_json(struct reply *r, unsigned code, struct buf *body) {
	reply_start(r, code, "application/json");
	if (body->failed) {
		r->code = 500;
		buf_puts(&r->body, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\","
		                   "\"message\":\"out of memory\",\"reason\":\"InternalError\",\"code\":500}");
		return;
	}
	r->body = *body;
	*body = (struct buf){.max = body->max};
	/* For people at a terminal. If there is no memory for the newline it is left out. */
	if (r->body.len && r->body.data[r->body.len - 1] != '\n')
		buf_putc(&r->body, '\n');
	r->body.failed = false;
}

void reply_text(struct reply *r, unsigned code, const char *text) {
	reply_start(r, code, "text/plain; charset=utf-8");
	buf_puts(&r->body, text);
}

void reply_dom(struct reply *r, unsigned code, const json_t *json) {
	_buf_free_ struct buf b = {0};
	if (json)
		tree_dump(&b, json);
	else
		b.failed = true;
	reply_json(r, code, &b);
}

void reply_warn(struct reply *r, const char *fmt, ...) {
	char msg[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	r->warnings.max = 8192;
	buf_puts(&r->warnings, "299 - \"");
	for (const char *p = msg; *p; p++) {
		if (*p == '"' || *p == '\\')
			buf_putc(&r->warnings, '\\');
		buf_putc(&r->warnings, (unsigned char)*p < 0x20 ? '?' : *p);
	}
	buf_puts(&r->warnings, "\"\n");
}

const char *resource_name(const struct api_kind *k, char out[static 192]) {
	snprintf(out, 192, "%s%s%s", k->plural, *k->group ? "." : "", k->group);
	return out;
}

void status_print(struct buf *b, unsigned code, const char *reason, const struct status_details *d,
                  const char *message) {
	jw_begin(b, '{');
	jw_kv_string(b, "kind", "Status");
	jw_kv_string(b, "apiVersion", "v1");
	jw_key(b, "metadata");
	jw_begin(b, '{');
	jw_end(b, '}');
	jw_kv_string(b, "status", code < 400 ? "Success" : "Failure");
	jw_kv_string(b, "message", message);
	jw_kv_string(b, "reason", reason);
	if (d) {
		jw_key(b, "details");
		jw_begin(b, '{');
		jw_kv_string(b, "name", d->name && *d->name ? d->name : NULL);
		jw_kv_string(b, "group", d->group && *d->group ? d->group : NULL);
		jw_kv_string(b, "kind", d->kind);
		jw_kv_string(b, "uid", d->uid);
		if (d->causes || d->cause_reason) {
			jw_key(b, "causes");
			jw_begin(b, '[');
			for (size_t i = 0; d->causes && i < d->causes->n; i++) {
				const struct api_field_error *e = &d->causes->v[i];
				jw_begin(b, '{');
				jw_kv_string(b, "reason", api_reason_str(e->reason));
				jw_kv_string(b, "message", e->msg);
				jw_kv_string(b, "field", *e->path ? e->path : "<nil>");
				jw_end(b, '}');
			}
			if (d->cause_reason) {
				jw_begin(b, '{');
				jw_kv_string(b, "reason", d->cause_reason);
				jw_kv_string(b, "message", d->cause_message ? d->cause_message : message);
				jw_end(b, '}');
			}
			jw_end(b, ']');
		}
		if (d->retry_after_s)
			jw_kv_i64(b, "retryAfterSeconds", d->retry_after_s);
		jw_end(b, '}');
	}
	if (code >= 400)
		jw_kv_i64(b, "code", code);
	jw_end(b, '}');
}

static void status_v(struct reply *r, unsigned code, const char *reason, const struct status_details *d,
                     const char *fmt, va_list ap) {
	_buf_free_ struct buf msg = {.max = 64 << 10}, b = {0};
	char text[4096];
	vsnprintf(text, sizeof(text), fmt, ap);
	buf_puts(&msg, text);
	status_print(&b, code, reason, d, msg.data ? msg.data : "");
	reply_json(r, code, &b);
	if (d)
		r->retry_after_s = d->retry_after_s;
}

void reply_status(struct reply *r, unsigned code, const char *reason, const struct status_details *d, const char *fmt,
                  ...) {
	va_list ap;
	va_start(ap, fmt);
	status_v(r, code, reason, d, fmt, ap);
	va_end(ap);
}

void reply_bad_request(struct request *rq, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	status_v(&rq->reply, 400, "BadRequest", NULL, fmt, ap);
	va_end(ap);
}

void reply_internal(struct request *rq, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	status_v(&rq->reply, 500, "InternalError", NULL, fmt, ap);
	va_end(ap);
}

static struct status_details details(const struct request *rq, const char *name) {
	return (struct status_details){
		.name = name ? name : rq->route.name, .group = rq->route.kind->group, .kind = rq->route.kind->plural};
}

void reply_unauthorized(struct request *rq) {
	reply_status(&rq->reply, 401, "Unauthorized", NULL, "Unauthorized");
}

void reply_not_found(struct request *rq) {
	char res[192];
	const struct status_details d = details(rq, NULL);
	reply_status(&rq->reply, 404, "NotFound", &d, "%s \"%s\" not found", resource_name(rq->route.kind, res),
	             rq->route.name);
}

void reply_route_not_found(struct request *rq) {
	const struct status_details d = {0};
	reply_status(&rq->reply, 404, "NotFound", &d, "the server could not find the requested resource");
}

void reply_method_not_allowed(struct request *rq) {
	const struct api_kind *k = rq->route.kind;
	struct status_details d = {0};
	if (k && object_has_generation(k)) { /* kube-apiserver adds these details for custom resources only */
		d.group = k->group;
		d.kind = k->plural;
	}
	reply_status(&rq->reply, 405, "MethodNotAllowed", &d,
	             "the server does not allow this method on the requested resource");
}

void reply_conflict(struct request *rq, const char *fmt, ...) {
	char res[192], msg[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	const struct status_details d = details(rq, NULL);
	reply_status(&rq->reply, 409, "Conflict", &d, "Operation cannot be fulfilled on %s \"%s\": %s",
	             resource_name(rq->route.kind, res), rq->route.name, msg);
}

void reply_forbidden(struct request *rq, const char *name, const char *cause_reason, const char *fmt, ...) {
	char res[192], msg[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	struct status_details d = details(rq, name);
	d.cause_reason = cause_reason;
	reply_status(&rq->reply, 403, "Forbidden", &d, "%s \"%s\" is forbidden: %s", resource_name(rq->route.kind, res),
	             d.name, msg);
}

void reply_invalid_as(struct request *rq, const char *group, const char *kind, const char *name,
                      const struct api_errors *errs) {
	_buf_free_ struct buf b = {.max = 8192};
	const struct status_details d = {.name = name, .group = group, .kind = kind, .causes = errs};
	for (size_t i = 0; i < errs->n; i++) {
		const struct api_field_error *e = &errs->v[i];
		buf_printf(&b, "%s%s%s%s", i ? ", " : "", e->path, *e->path ? ": " : "", e->msg);
	}
	reply_status(&rq->reply, 422, "Invalid", &d, "%s%s%s \"%s\" is invalid: %s%.3500s%s", kind, *group ? "." : "",
	             group, name ? name : "", errs->n > 1 ? "[" : "", b.data ? b.data : "", errs->n > 1 ? "]" : "");
}

void reply_invalid(struct request *rq, const char *name, const struct api_errors *errs) {
	reply_invalid_as(rq, rq->route.kind->group, rq->route.kind->kind, name, errs);
}

/* Prints a single error of a single field. */
static void invalid_one(struct request *rq, const char *group, const char *kind, const char *name,
                        enum api_reason reason, const char *path, const char *fmt, va_list ap) _printf_(7, 0);
static void invalid_one(struct request *rq, const char *group, const char *kind, const char *name,
                        enum api_reason reason, const char *path, const char *fmt, va_list ap) {
	struct api_errors errs = {0};
	char msg[256];
	vsnprintf(msg, sizeof(msg), fmt, ap);
	api_errors_add(&errs, reason, path, "%s", msg);
	reply_invalid_as(rq, group, kind, name, &errs);
}

void reply_invalid_options(struct request *rq, const char *kind, enum api_reason reason, const char *path,
                           const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	invalid_one(rq, "meta.k8s.io", kind, NULL, reason, path, fmt, ap);
	va_end(ap);
}

void reply_invalid_field(struct request *rq, const char *name, enum api_reason reason, const char *path,
                         const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	invalid_one(rq, rq->route.kind->group, rq->route.kind->kind, name, reason, path, fmt, ap);
	va_end(ap);
}

void reply_deleted(struct request *rq, const char *name, const char *uid) {
	_buf_free_ struct buf b = {0};
	struct status_details d = details(rq, name);
	d.uid = uid;
	status_print(&b, 200, NULL, &d, NULL);
	reply_json(&rq->reply, 200, &b);
}

void reply_object(struct request *rq, unsigned code, const char *json, size_t len) {
	_buf_free_ struct buf b = {0};
	if (rq->accept == MEDIA_PARTIAL)
		partial_print(&b, json, len);
	else
		buf_add(&b, json, len);
	reply_json(&rq->reply, code, &b);
}

void reply_object_dom(struct request *rq, unsigned code, const json_t *obj) {
	_buf_free_ struct buf b = {0};
	tree_dump(&b, obj);
	if (b.failed)
		reply_internal(rq, "out of memory");
	else
		reply_object(rq, code, b.data, b.len);
}

void reply_not_partial(struct request *rq) {
	bool list = rq->accept == MEDIA_PARTIAL_LIST;
	reply_status(&rq->reply, 406, "NotAcceptable", NULL,
	             "you requested PartialObjectMetadata%s, but the requested object is %sa list", list ? "List" : "",
	             list ? "not " : "");
}
