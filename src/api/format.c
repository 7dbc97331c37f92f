/* SPDX-License-Identifier: Apache-2.0 */
#include "api/format.h"

#include <string.h>

#include "base/inet.h"
#include "base/util.h"

static bool is_alnum(char c) {
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_label(const char *s, size_t n) {
	if (n == 0 || n > 63 || !is_alnum(s[0]) || !is_alnum(s[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_alnum(s[i]) && s[i] != '-')
			return false;
	return true;
}

static int check_label(const char *s, struct error *err) {
	if (is_label(s, strlen(s)))
		return 0;
	return error_set(err, EINVAL,
	                 "`%.80s` must be a label: at most 63 lower-case letters, digits and `-`, beginning and "
	                 "ending with a letter or digit",
	                 s);
}

static int check_subdomain(const char *s, struct error *err) {
	const char *p = s;
	bool ok = strlen(s) <= 253;
	while (ok) {
		size_t n = strcspn(p, ".");
		ok = is_label(p, n);
		if (!p[n])
			break;
		p += n + 1;
	}
	if (ok)
		return 0;
	return error_set(err, EINVAL,
	                 "`%.80s` must be a name: at most 253 lower-case letters, digits, `-` and `.`, each part "
	                 "beginning and ending with a letter or digit",
	                 s);
}

static int check_segment(const char *s, struct error *err) {
	const char *why = streq(s, ".")    ? "may not be '.'"
	                  : streq(s, "..") ? "may not be '..'"
	                  : strchr(s, '/') ? "may not contain '/'"
	                  : strchr(s, '%') ? "may not contain '%'"
	                                   : NULL;
	return why ? error_set(err, EINVAL, "\"%.80s\": %s", s, why) : 0;
}

static int check_key(const char *s, struct error *err) {
	size_t n = strlen(s);
	bool ok = n > 0 && n <= 253 && !streq(s, ".") && !starts_with(s, "..");
	for (size_t i = 0; ok && i < n; i++)
		ok = is_alnum((char)(s[i] | 32)) || strchr("-_.", s[i]);
	if (ok)
		return 0;
	return error_set(
		err, EINVAL,
		"Invalid value: \"%.80s\": a valid config key must consist of alphanumeric characters, '-', '_' "
		"or '.', begin with no '..' and have at most 253 characters",
		s);
}

static int check_qualified(const char *s, struct error *err) {
	const char *slash = strchr(s, '/'), *name = slash ? slash + 1 : s;
	char prefix[254];
	size_t n = strlen(name);
	bool ok = n > 0 && n <= 63;
	for (size_t i = 0; ok && i < n; i++) {
		char c = name[i] >= 'A' && name[i] <= 'Z' ? 'a' : name[i];
		ok = is_alnum(c) || (i > 0 && i < n - 1 && (c == '-' || c == '_' || c == '.'));
	}
	if (ok && slash) {
		ok = (size_t)(slash - s) < sizeof(prefix);
		if (ok) {
			snprintf(prefix, sizeof(prefix), "%.*s", (int)(slash - s), s);
			ok = check_subdomain(prefix, NULL) == 0;
		}
	}
	return ok ? 0 : error_set(err, EINVAL, "`%.80s` must be a qualified name such as example.com/name", s);
}

static int check_ip(const char *s, struct error *err) {
	struct addr a;
	return addr_parse(s, &a, err);
}

static int check_ip4(const char *s, struct error *err) {
	struct addr a;
	int r = addr_parse(s, &a, err);
	return r < 0 || a.family == AF_INET ? r : error_set(err, EINVAL, "`%s` is not an IPv4 address", s);
}

static int check_ip6(const char *s, struct error *err) {
	struct addr a;
	int r = addr_parse(s, &a, err);
	return r < 0 || a.family == AF_INET6 ? r : error_set(err, EINVAL, "`%s` must be an IPv6 address", s);
}

static int check_prefix(const char *s, struct error *err) {
	struct prefix p;
	return prefix_parse(s, &p, err);
}

static int check_prefix6(const char *s, struct error *err) {
	struct prefix p;
	int r = prefix_parse(s, &p, err);
	return r < 0 || p.addr.family == AF_INET6 ? r : error_set(err, EINVAL, "`%s` must be an IPv6 prefix", s);
}

static int check_mac(const char *s, struct error *err) {
	struct mac m;
	return mac_parse(s, &m, err);
}

static int check_time(const char *s, struct error *err) {
	uint64_t us;
	return time_parse(s, &us) < 0 ? error_set(err, EINVAL, "`%.40s` is not an RFC 3339 time", s) : 0;
}

/*
 * Go's clients accept only times with six digits after the point. One object with another time would break their lists.
 */
static int check_microtime(const char *s, struct error *err) {
	const char *point = strchr(s, '.');
	if (check_time(s, err) == 0 && point && strspn(point + 1, "0123456789") == 6)
		return 0;
	return error_set(err, EINVAL, "`%.40s` is not an RFC 3339 time with six digits of a second's fraction", s);
}

static int check_file(const char *s, struct error *err) {
	bool ok = *s && *s != '/';
	for (const char *p = s; ok && *p; p += strcspn(p, "/"), p += *p == '/') {
		size_t n = strcspn(p, "/");
		ok = n > 0 && !(n == 1 && p[0] == '.') && !(n == 2 && p[0] == '.' && p[1] == '.');
		for (size_t i = 0; ok && i < n; i++)
			ok = is_alnum((char)(p[i] | 32)) || strchr("-_.+@", p[i]);
	}
	if (ok)
		return 0;
	return error_set(err, EINVAL,
	                 "`%.80s` must be a file name relative to the image directory, of letters, digits and -_.+@, "
	                 "without `..`",
	                 s);
}

static int check_domain(const char *s, struct error *err) {
	const char *p = s;
	bool ok = strlen(s) <= 253;
	while (ok) {
		size_t n = 0;
		while (is_alnum((char)(p[n] | 32)) || (p[n] && strchr("-_", p[n])))
			n++;
		ok = n > 0 && n <= 63 && (!p[n] || p[n] == '.');
		if (!p[n])
			break;
		p += n + 1;
	}
	if (ok)
		return 0;
	return error_set(
		err, EINVAL,
		"`%.80s` must be a domain name: at most 253 characters, parts of 1 to 63 letters, digits, `-` and "
		"`_` with dots between them",
		s);
}

#define LABEL "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

const struct api_format api_format_any = {.name = "text"};
const struct api_format api_format_label = {"name", "^" LABEL "$", NULL, NULL, check_label};
const struct api_format api_format_subdomain = {"name", "^" LABEL "(\\." LABEL ")*$", NULL, NULL, check_subdomain};
const struct api_format api_format_segment = {"path segment", NULL, NULL, NULL, check_segment};
const struct api_format api_format_key = {"key", "^[-._a-zA-Z0-9]+$", NULL, NULL, check_key};
const struct api_format api_format_qualified = {"qualified name", NULL, NULL, NULL, check_qualified};
const struct api_format api_format_ip = {"IP address", NULL,     NULL,
                                         NULL,         check_ip, "isIP(self) && ip.isCanonical(self)"};
const struct api_format api_format_ip4 = {"IPv4 address", NULL, "ipv4", NULL, check_ip4, NULL};
const struct api_format api_format_ip6 = {
	"IPv6 address", NULL, "ipv6", NULL, check_ip6, "isIP(self) && ip.isCanonical(self) && ip(self).family() == 6"};
const struct api_format api_format_prefix = {
	"prefix", NULL, "cidr", NULL, check_prefix, "isCIDR(self) && string(cidr(self).masked()) == self"};
const struct api_format api_format_prefix6 = {
	"IPv6 prefix", NULL,
	"cidr",        NULL,
	check_prefix6, "isCIDR(self) && string(cidr(self).masked()) == self && cidr(self).ip().family() == 6"};
const struct api_format api_format_mac = {"MAC address", "^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$", NULL, NULL,
                                          check_mac};
const struct api_format api_format_time = {"time", NULL, "date-time", NULL, check_time};
const struct api_format api_format_microtime = {"time", NULL, "date-time", NULL, check_microtime};
const struct api_format api_format_domain = {"domain name", "^[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,63})*$", NULL,
                                             NULL, check_domain};
const struct api_format api_format_file = {"file name", "^[A-Za-z0-9_.+@-]+(/[A-Za-z0-9_.+@-]+)*$",
                                           NULL,        NULL,
                                           check_file,  "self.split('/').all(part, part != '.' && part != '..')"};
API_ENUM(condition_status, "status", "True", "False", "Unknown")
API_ENUM(direction, "direction", "ingress", "egress")
API_ENUM(selector_operator, "operator", "In", "NotIn", "Exists", "DoesNotExist")
