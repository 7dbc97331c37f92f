/* SPDX-License-Identifier: Apache-2.0 */
#include "api/sshkey.h"

#include <ctype.h>
#include <string.h>

#include "base/base64.h"

/* The header of keys of OpenSSH and of PEM, and of PuTTY. */
static bool sshkey_is_private(const char *s, size_t n) {
	static const char pem[] = "PRIVATE KEY", putty[] = "PuTTY-User-Key-File";
	return memmem(s, n, pem, strlen(pem)) || (n >= strlen(putty) && memcmp(s, putty, strlen(putty)) == 0);
}

static bool sshkey_has_form(const char *s, size_t n) {
	static const char head[] = "AAAA"; /* the length of the name of the type, as 32 bits (RFC 4253, section 6.6) */
	size_t type = 0, at;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] > 0x7e)
			return false;
	while (type < n &&
	       (islower((unsigned char)s[type]) || isdigit((unsigned char)s[type]) || strchr("@.-", s[type])))
		type++;
	if (type == 0 || !islower((unsigned char)s[0]) || type == n || s[type] != ' ')
		return false;
	const char *blob = s + type + 1;
	const size_t rest = n - type - 1;
	const char *end = memchr(blob, ' ', rest);
	const size_t len = end ? (size_t)(end - blob) : rest;
	return len >= strlen(head) && memcmp(blob, head, strlen(head)) == 0 && base64_decode(NULL, blob, len, &at) == 0;
}

int sshkey_check(const char *s, size_t n, struct error *err) {
	if (sshkey_is_private(s, n))
		return error_set(err, EINVAL, SSHKEY_PRIVATE);
	if (n > SSHKEY_MAX)
		return error_set(err, EINVAL, "must be at most %d bytes long", SSHKEY_MAX);
	return sshkey_has_form(s, n) ? 0 : error_set(err, EINVAL, SSHKEY_FORM);
}

static int sshkey_check_string(const char *s, struct error *err) {
	return sshkey_check(s, strlen(s), err);
}

const struct api_format api_format_ssh_key = {
	.name = "SSH public key", .check = sshkey_check_string, .max = SSHKEY_MAX};
