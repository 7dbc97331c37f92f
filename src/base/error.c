/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <string.h>

static void clip(struct error *err, int len) {
	if (len >= (int)sizeof(err->msg))
		memcpy(err->msg + sizeof(err->msg) - 4, "...", 4);
}

int(error_set)(struct error *err, int code, const char *fmt, ...) {
	if (code < 0)
		code = -code;
	if (code == 0)
		code = EIO; /* a failure without an errno is still a failure */
	if (!err)
		return -code;
	va_list ap;
	va_start(ap, fmt);
	err->code = code;
	clip(err, vsnprintf(err->msg, sizeof(err->msg), fmt, ap));
	va_end(ap);
	return -code;
}

int(error_errno)(struct error *err, int code, const char *fmt, ...) {
	if (code < 0)
		code = -code;
	if (code == 0)
		code = EIO; /* a failure without an errno is still a failure */
	if (!err)
		return -code;
	va_list ap;
	va_start(ap, fmt);
	err->code = code;
	int len = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (len < (int)sizeof(err->msg))
		len += snprintf(err->msg + len, sizeof(err->msg) - (size_t)len, ": %s", strerror(code));
	clip(err, len);
	return -code;
}

int(error_prefix)(struct error *err, const char *fmt, ...) {
	if (!err || !err->code)
		return -EIO;
	struct error old = *err;
	va_list ap;
	va_start(ap, fmt);
	int len = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (len < (int)sizeof(err->msg))
		len += snprintf(err->msg + len, sizeof(err->msg) - (size_t)len, ": %s", old.msg);
	clip(err, len);
	return -err->code;
}

int(error_oom)(struct error *err) {
	return error_set(err, ENOMEM, "out of memory");
}
