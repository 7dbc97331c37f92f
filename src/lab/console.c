/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/console.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include "base/util.h"
#include "lab/harmless.h"
#include "lab/seed.h"

#define ESCAPE 0x1d /* Ctrl-] */

static int open_console(const struct lab *lab, const char *instance, int *ret_fd, struct error *err) {
	struct lab_instance in;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char ns[64];
	const char *slash = strchr(instance, '/');
	if (!slash || slash == instance || !slash[1] || slash - instance >= (ptrdiff_t)sizeof(ns))
		return error_set(err, EINVAL, "`%.64s` is not TENANT/NAME", instance);
	snprintf(ns, sizeof(ns), "%.*s", (int)(slash - instance), instance);
	int r = lab_instance_get(lab, ns, slash + 1, &in, err);
	if (r < 0)
		return r;
	if (!in.host[0])
		return error_set(err, ENOENT, "instance %s is on no host: %s", instance, in.waiting);
	int n = snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s/instances/%s/console.sock", lab->dir, in.host, in.id);
	if ((size_t)n >= sizeof(a.sun_path))
		return error_set(err, ENAMETOOLONG, "the console's path is too long");
	_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return error_errno(err, errno, "the console of %s, `%s`", instance, a.sun_path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Returns 1 to continue, 0 if the console has ended. FILTER: NULL, or the filter for the bytes. */
static int console_show(int fd, int out, struct harmless *filter, struct error *err) {
	char bytes[4096];
	ssize_t n = read(fd, bytes, sizeof(bytes));
	int r;
	if (n <= 0)
		return n < 0 && errno == EINTR;
	if (filter) {
		_buf_free_ struct buf text = {0};
		harmless_add(filter, bytes, (size_t)n, &text);
		r = buf_error(&text, "output", err);
		r = r < 0 ? r : write_all(out, text.data, text.len, err);
	} else {
		r = write_all(out, bytes, (size_t)n, err);
	}
	return r < 0 ? r : 1;
}

/* Returns 1 to continue, 0 after Ctrl-]. At the end of the input, the console is told so, and *INPUT becomes -1. */
static int console_type(int *input, int fd, struct error *err) {
	char bytes[4096];
	ssize_t n = read(*input, bytes, sizeof(bytes));
	if (n < 0 && errno == EINTR)
		return 1;
	if (n <= 0) {
		*input = -1;
		shutdown(fd, SHUT_WR);
		return 1;
	}
	char *end = memchr(bytes, ESCAPE, (size_t)n);
	int r = write_all(fd, bytes, end ? (size_t)(end - bytes) : (size_t)n, err);
	return r < 0 ? r : !end;
}

int lab_console_pump(int input, int out, int fd, bool raw, struct error *err) {
	struct harmless filter = {0};
	struct pollfd p[2] = {{.fd = input, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
	for (;;) {
		int r = 1;
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return error_errno(err, errno, "poll");
		}
		if (p[1].revents)
			r = console_show(fd, out, raw ? NULL : &filter, err);
		if (r > 0 && p[0].revents)
			r = console_type(&p[0].fd, fd, err);
		if (r <= 0)
			return r;
	}
}

int lab_console(const struct lab *lab, const char *instance, bool raw_output, struct error *err) {
	_close_ int fd = -1;
	struct termios before;
	int r = open_console(lab, instance, &fd, err);
	if (r < 0)
		return r;
	bool tty = tcgetattr(0, &before) == 0;
	if (tty) {
		struct termios raw = before;
		cfmakeraw(&raw);
		tcsetattr(0, TCSANOW, &raw);
		fprintf(stderr, "Connected to the console of %s; Ctrl-] ends.\r\n", instance);
	}
	r = lab_console_pump(0, 1, fd, raw_output, err);
	if (tty) {
		tcsetattr(0, TCSANOW, &before);
		fprintf(stderr, "\n");
	}
	return r;
}
