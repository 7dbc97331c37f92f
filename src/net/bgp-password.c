/* SPDX-License-Identifier: Apache-2.0 */
#include "net/bgp-password.h"

#include <string.h>
#include <sys/stat.h>

#include "base/util.h"

int bgp_password_read(const char *path, char out[static BGP_PASSWORD_MAX + 1], struct error *err) {
	_free_ char *text = NULL;
	struct stat st;
	size_t len;

	int r = read_file(path, (size_t)BGP_PASSWORD_MAX + 1, &text, &len, err);
	if (r < 0)
		return error_prefix(err, "BGP password");
	if (stat(path, &st) < 0)
		return error_errno(err, errno, "BGP password `%s`", path);
	if (st.st_mode & 07)
		return error_set(err, EINVAL, "BGP password `%s`: others may use the file; run chmod 0600 %s", path,
		                 path);
	if (len && text[len - 1] == '\n')
		len--;
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			len = 0;
	if (len == 0 || len > BGP_PASSWORD_MAX)
		return error_set(
			err, EINVAL,
			"BGP password `%s`: must be one line of 1 to %d printable ASCII characters without blanks",
			path, BGP_PASSWORD_MAX);
	memcpy(out, text, len);
	out[len] = 0;
	return 0;
}
