/* SPDX-License-Identifier: Apache-2.0 */
#include "net/bgp-password.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

int bgp_password_read(const char *path, char out[static BGP_PASSWORD_MAX + 1], struct error *err) {
	_free_ char *text = NULL;
	char self[64];
	struct stat st;
	size_t len;

	/* Mode and content are read from one descriptor, so that they belong to the same file. */
	_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, errno, "BGP password `%s`", path);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & 077))
		return error_set(
			err, EINVAL,
			"BGP password `%s`: must be a file that root alone may use; run chown root %s && chmod 0600 %s",
			path, path, path);
	int r = read_file(self, (size_t)BGP_PASSWORD_MAX + 1, &text, &len, err);
	if (r < 0)
		return error_set(err, -r, "BGP password `%s`: can't be read, or is longer than %d bytes", path,
		                 BGP_PASSWORD_MAX);
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
