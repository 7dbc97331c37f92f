/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>

#include "api/api.h"

const char *api_reason_str(enum api_reason r) {
	static const char *const names[] = {
		[API_INVALID] = "FieldValueInvalid",          [API_REQUIRED] = "FieldValueRequired",
		[API_DUPLICATE] = "FieldValueDuplicate",      [API_NOT_SUPPORTED] = "FieldValueNotSupported",
		[API_TYPE_INVALID] = "FieldValueTypeInvalid", [API_TOO_LONG] = "FieldValueTooLong",
		[API_TOO_MANY] = "FieldValueTooMany",         [API_FORBIDDEN] = "FieldValueForbidden",
	};
	return names[r];
}

void api_errors_add(struct api_errors *e, enum api_reason reason, const char *path, const char *fmt, ...) {
	if (e->n >= API_ERRORS_MAX)
		return;
	struct api_field_error *f = &e->v[e->n++];
	va_list ap;
	f->reason = reason;
	snprintf(f->path, sizeof(f->path), "%s", path);
	va_start(ap, fmt);
	vsnprintf(f->msg, sizeof(f->msg), fmt, ap);
	va_end(ap);
}

int api_errors_to_error(const struct api_errors *e, struct error *err) {
	_buf_free_ struct buf b = {.max = 8192};
	for (size_t i = 0; i < e->n; i++)
		buf_printf(&b, "%s%s%s%s", i ? "; " : "", e->v[i].path, *e->v[i].path ? ": " : "", e->v[i].msg);
	return error_set(err, EINVAL, "%s", b.len ? b.data : "invalid object");
}
