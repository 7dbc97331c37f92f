/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dnsname.h"

#include <string.h>

#define LABEL_MAX   63
#define LABEL_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

bool dnsname_valid(const char *name) {
	if (strlen(name) > DNSNAME_MAX)
		return false;
	for (const char *p = name;; p++) {
		size_t n = strspn(p, LABEL_CHARS);
		if (n < 1 || n > LABEL_MAX)
			return false;
		p += n;
		if (*p != '.')
			return *p == 0;
	}
}

size_t dnsname_put(const char *name, uint8_t *out, size_t room) {
	const size_t len = strlen(name) + 2;
	const char *p = name;

	if (len > room)
		return 0;
	for (size_t n; *p; p += n + (p[n] == '.')) {
		n = strcspn(p, ".");
		*out++ = (uint8_t)n;
		memcpy(out, p, n);
		out += n;
	}
	*out = 0;
	return len;
}
