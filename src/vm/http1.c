/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/http1.h"

#include <string.h>
#include <strings.h>

#include "base/util.h"

/* The characters of a token, RFC 9110, section 5.6.2. */
#define TOKEN "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

size_t http1_field(const struct http1_request *r, const char *name, const char **ret) {
	size_t n = 0;

	*ret = NULL;
	for (size_t i = 0; i < r->n_fields; i++)
		if (strcasecmp(r->fields[i].name, name) == 0 && n++ == 0)
			*ret = r->fields[i].value;
	return n;
}

/* NUL is a control character, too. Bytes from 0x80 on are allowed in values only (obs-text). */
static bool is_plain(const char *s, size_t len) {
	for (const unsigned char *p = (const unsigned char *)s, *end = p + len; p < end; p++)
		if ((*p < ' ' && *p != '\t') || *p == 0x7f)
			return false;
	return true;
}

static int parse_request_line(char *line, struct http1_request *r, int *ret_minor) {
	static const char *const methods[] = {[HTTP1_GET] = "GET", [HTTP1_HEAD] = "HEAD", [HTTP1_PUT] = "PUT"};
	char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version)
		return -400;
	*target++ = 0;
	*version++ = 0;
	if (!*line || line[strspn(line, TOKEN)] || *target != '/')
		return -400;
	for (const char *p = target; *p; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return -400;
	if (!starts_with(version, "HTTP/"))
		return -400;
	if (!streq(version, "HTTP/1.1") && !streq(version, "HTTP/1.0"))
		return -505;
	*ret_minor = version[strlen(version) - 1] - '0';
	r->method = HTTP1_OTHER;
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (streq(line, methods[i]))
			r->method = (enum http1_method)i;
	r->path = target;
	return 1;
}

static int http1_parse_field(char *line, struct http1_request *r) {
	size_t name = strspn(line, TOKEN);

	if (!name || line[name] != ':')
		return -400;
	if (r->n_fields == HTTP1_FIELDS_MAX)
		return -431;
	line[name] = 0;
	char *value = line + name + 1 + strspn(line + name + 1, " \t"), *end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = 0;
	r->fields[r->n_fields].name = line;
	r->fields[r->n_fields++].value = value;
	return 1;
}

/* True if a field `Connection` lists OPTION. */
static bool has_option(const struct http1_request *r, const char *option) {
	static const char separators[] = ", \t";

	for (size_t i = 0; i < r->n_fields; i++) {
		const char *p = r->fields[i].value;
		if (strcasecmp(r->fields[i].name, "Connection") != 0)
			continue;
		while (*(p += strspn(p, separators))) {
			size_t len = strcspn(p, separators);
			if (len == strlen(option) && strncasecmp(p, option, len) == 0)
				return true;
			p += len;
		}
	}
	return false;
}

/* What holds between the fields. A length that isn't understood is never skipped: another request may be hidden in
 * what follows. */
static int http1_check_fields(const struct http1_request *r, int minor) {
	const char *value;
	size_t hosts = http1_field(r, "Host", &value);

	if (hosts > 1 || (minor == 1 && !hosts))
		return -400;
	for (size_t i = 0; i < r->n_fields; i++)
		if (strcasecmp(r->fields[i].name, "Content-Length") == 0 && !streq(r->fields[i].value, "0"))
			return -413;
	return http1_field(r, "Transfer-Encoding", &value) ? -413 : 1;
}

int http1_parse(char *text, size_t len, struct http1_request *ret) {
	const size_t searched = MIN(len, (size_t)HTTP1_HEAD_MAX);
	const char *end = memmem(text, searched, "\r\n\r\n", 4);
	struct http1_request r = {0};
	int minor = 0, res = 1;

	if (!end)
		return len >= HTTP1_HEAD_MAX ? -431 : 0;
	r.len = (size_t)(end - text) + 4;
	for (char *line = text, *next; line < end + 2 && res > 0; line = next) {
		char *stop = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
		next = stop + 2;
		if (!is_plain(line, (size_t)(stop - line)))
			return -400;
		*stop = 0;
		res = line == text ? parse_request_line(line, &r, &minor) : http1_parse_field(line, &r);
	}
	if (res > 0)
		res = http1_check_fields(&r, minor);
	if (res < 0)
		return res;
	r.keep_alive = !has_option(&r, "close") && (minor == 1 || has_option(&r, "keep-alive"));
	*ret = r;
	return 1;
}
