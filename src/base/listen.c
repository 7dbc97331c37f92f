/* SPDX-License-Identifier: Apache-2.0 */
#include "base/listen.h"

#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"

/*
 * The socket gets its final name only after it listens and has its mode, so that whoever finds the name can connect.
 * Before, it has a temporary name in the same directory, which is reached through a descriptor: that path may be longer
 * than sun_path.
 */
static int listen_unix(const char *path, struct error *err) {
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(sa.sun_path))
		return error_set(err, ENAMETOOLONG, "socket path `%s` is longer than %zu bytes", path,
		                 sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(err, errno, "socket");
	/* If nobody answers, the socket file is left over from a process that died. */
	_close_ int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* EAGAIN: a process listens on it but does not accept. */
	if (probe >= 0 && (connect(probe, (struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EAGAIN))
		return error_set(err, EADDRINUSE, "another process listens on `%s`", path);
	char copy[sizeof(sa.sun_path)];
	_close_ int dir = open(dirname(strcpy(copy, path)), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_errno(err, errno, "open the directory of socket `%s`", path);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/.listen-%d", dir, gettid());
	unlink(sa.sun_path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return error_errno(err, errno, "listen on `%s`", path);
	if (chmod(sa.sun_path, 0600) < 0 || listen(fd, 1024) < 0 || rename(sa.sun_path, path) < 0) {
		int r = error_errno(err, errno, "listen on `%s`", path);
		unlink(sa.sun_path);
		return r;
	}
	return TAKE_FD(fd);
}

static int listen_tcp(const char *text, struct error *err) {
	char host[128];
	const char *colon = strrchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : 0;
	if (!colon || n >= sizeof(host))
		return error_set(err, EINVAL, "`%s` is not unix:/PATH or ADDRESS:PORT", text);
	bool brackets = n >= 2 && text[0] == '[' && text[n - 1] == ']';
	snprintf(host, sizeof(host), "%.*s", (int)(brackets ? n - 2 : n), brackets ? text + 1 : text);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	struct addrinfo *ai;
	int e = getaddrinfo(host, colon + 1, &hints, &ai);
	if (e)
		return error_set(err, EINVAL, "`%s` is not ADDRESS:PORT: %s", text, gai_strerror(e));
	_close_ int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1, r = 0;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1024) < 0)
		r = error_errno(err, errno, "listen on `%s`", text);
	freeaddrinfo(ai);
	return r < 0 ? r : TAKE_FD(fd);
}

int listen_socket(const char *text, int *ret_fd, struct error *err) {
	int fd = starts_with(text, "unix:") ? listen_unix(text + 5, err) : listen_tcp(text, err);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}
