/* SPDX-License-Identifier: Apache-2.0 */
#include "node/vmclient.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/jsonread.h"
#include "base/util.h"
#include "vm/control.h"

/* More than READS_MAX reads in READS_US are more than any honest nacre-vm needs. */
#define READS_MAX 20
#define READS_US  (100 * USEC_PER_MSEC)

struct vmclient {
	int fd;
	sd_event_source *io;
	struct vmclient_ops ops;
	void *userdata;
	struct buf in;
};

int vmclient_connect(const char *dir, const char *name, int *ret_fd, struct error *err) {
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_close_ int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (dir_fd < 0 || fd < 0)
		return error_errno(err, errno, "open `%s`", dir);
	/* The address of a socket has room for 108 bytes. */
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return error_errno(err, errno, "connect to `%s/%s`", dir, name);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* An answer is {"error":""} or {"error":"…"}: 1 and the text; 0 if LINE is not an answer. */
static int parse_answer(const char *line, size_t len, char text[static 256]) {
	_cleanup_(jr_done) struct jr r;
	const char *k, *v;
	size_t klen, vlen;

	jr_init(&r, line, len);
	if (jr_object(&r) < 0 || jr_key(&r, &k, &klen) <= 0 || klen != 5 || memcmp(k, "error", 5) != 0 ||
	    jr_string(&r, &v, &vlen) < 0)
		return 0;
	snprintf(text, 256, "%.*s", (int)MIN(vlen, (size_t)255), v);
	vm_status_plain(text);
	return 1;
}

static bool vmclient_on_line(struct vmclient *c, const char *line, size_t len) {
	struct vm_status status;
	char text[256];

	if (parse_answer(line, len, text)) {
		if (text[0])
			c->ops.refused(c->userdata, text);
		return true;
	}
	if (vm_status_parse(line, len, &status, NULL) < 0)
		return false;
	c->ops.status(c->userdata, &status);
	return true;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)revents;
	struct vmclient *c = userdata;
	char *nl, *room = buf_reserve(&c->in, 1024);
	ssize_t n = room ? recv(fd, room, 1024, MSG_DONTWAIT) : 0;
	bool good = n > 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (good) {
		c->in.len += (size_t)n;
		c->in.data[c->in.len] = 0;
	}
	while (good && (nl = memchr(c->in.data, '\n', c->in.len))) {
		size_t len = (size_t)(nl - c->in.data);
		good = vmclient_on_line(c, c->in.data, len);
		buf_consume(&c->in, len + 1);
	}
	if (!good) {
		c->io = sd_event_source_disable_unref(c->io);
		c->ops.closed(c->userdata);
	}
	return 0;
}

int vmclient_new(struct vmclient **ret, sd_event *loop, const char *dir, const struct vmclient_ops *ops, void *userdata,
                 struct error *err) {
	_close_ int fd = -1;
	int r = vmclient_connect(dir, "control.sock", &fd, err);

	if (r < 0)
		return r;
	struct vmclient *c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	*c = (struct vmclient){
		.fd = TAKE_FD(fd), .ops = *ops, .userdata = userdata, .in = {.max = 2 * CONTROL_LINE_MAX}};
	r = sd_event_add_io(loop, &c->io, c->fd, EPOLLIN, on_io, c);
	/* A nacre-vm that never stops sending would keep all sources with a lower priority from their turn. */
	if (r >= 0)
		r = sd_event_source_set_ratelimit(c->io, READS_US, READS_MAX);
	if (r < 0) {
		vmclient_free(c);
		return error_errno(err, r, "watch the control socket");
	}
	*ret = c;
	return 0;
}

struct vmclient *vmclient_free(struct vmclient *c) {
	if (!c)
		return NULL;
	sd_event_source_disable_unref(c->io);
	safe_close(c->fd);
	buf_free(&c->in);
	free(c);
	return NULL;
}

int vmclient_command(struct vmclient *c, const char *name, struct error *err) {
	char line[64];
	int n = snprintf(line, sizeof(line), "{\"command\":\"%s\"}\n", name);

	if (send(c->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		return error_errno(err, errno ? errno : EAGAIN, "command the machine to %s", name);
	return 0;
}
