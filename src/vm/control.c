/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/control.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/jsonread.h"
#include "base/jsonwrite.h"
#include "base/loop.h"

struct client {
	struct control *control;
	int fd; /* -1 = free slot */
	sd_event_source *io;
	struct buf in;
};

struct control {
	int listen;
	sd_event *loop; /* borrowed */
	sd_event_source *listen_io;
	struct control_ops ops;
	void *userdata;
	struct client clients[CONTROL_CLIENTS_MAX];
};

static void control_drop(struct client *c) {
	c->io = sd_event_source_disable_unref(c->io);
	c->fd = safe_close(c->fd);
	buf_free(&c->in);
}

/* A line is far smaller than a socket's buffer: if it does not fit, the client does not read, and is disconnected. */
static void control_give(struct client *c, const struct buf *line) {
	if (line->failed || send(c->fd, line->data, line->len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)line->len)
		control_drop(c);
}

static void control_print_status(struct control *c, struct buf *line) {
	c->ops.status(c->userdata, line);
	buf_putc(line, '\n');
}

static int parse_command(const char *text, size_t len, char name[static 32], struct error *err) {
	_cleanup_(jr_done) struct jr r;
	const char *key, *s;
	size_t klen, slen;

	name[0] = 0;
	jr_init(&r, text, len);
	if (jr_object(&r) < 0)
		return jr_error(&r, err);
	while (jr_key(&r, &key, &klen) > 0) {
		if (klen != 7 || memcmp(key, "command", 7) != 0)
			return error_set(err, EINVAL, "%.*s: unknown field", (int)MIN(klen, (size_t)64), key);
		if (jr_string(&r, &s, &slen) < 0)
			return jr_error(&r, err);
		snprintf(name, 32, "%.*s", (int)MIN(slen, (size_t)31), s);
	}
	if (r.failed || jr_end(&r) < 0)
		return jr_error(&r, err);
	return name[0] ? 0 : error_set(err, EINVAL, "command: is missing");
}

static void on_line(struct client *c, const char *text, size_t len) {
	_buf_free_ struct buf line = {.max = CONTROL_LINE_MAX};
	struct error err = {0};
	char name[32];
	int r = parse_command(text, len, name, &err);

	if (r >= 0)
		r = c->control->ops.command(c->control->userdata, name, &err);
	/* The command may have changed the status, and sending that may have disconnected this client. */
	if (c->fd < 0)
		return;
	jw_begin(&line, '{');
	jw_kv_string(&line, "error", r < 0 ? err.msg : "");
	jw_end(&line, '}');
	buf_putc(&line, '\n');
	control_give(c, &line);
}

static int on_client(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)revents;
	struct client *c = userdata;
	char *nl, *room = buf_reserve(&c->in, 512);
	ssize_t n = room ? recv(fd, room, 512, MSG_DONTWAIT) : -1;

	if (n < 0 && room && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		control_drop(c);
		return 0;
	}
	c->in.len += (size_t)n;
	c->in.data[c->in.len] = 0;
	while (c->fd >= 0 && (nl = memchr(c->in.data, '\n', c->in.len))) {
		size_t len = (size_t)(nl - c->in.data);
		on_line(c, c->in.data, len);
		if (c->fd >= 0)
			buf_consume(&c->in, len + 1);
	}
	return 0;
}

static int on_listen(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)revents;
	struct control *con = userdata;
	_close_ int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	_buf_free_ struct buf line = {.max = CONTROL_LINE_MAX};

	for (size_t i = 0; conn >= 0 && i < CONTROL_CLIENTS_MAX; i++) {
		struct client *c = &con->clients[i];
		if (c->fd >= 0)
			continue;
		if (sd_event_add_io(con->loop, &c->io, conn, EPOLLIN, on_client, c) < 0)
			return 0;
		c->fd = TAKE_FD(conn);
		control_print_status(con, &line);
		control_give(c, &line);
	}
	return 0;
}

void control_changed(struct control *c) {
	_buf_free_ struct buf line = {.max = CONTROL_LINE_MAX};

	control_print_status(c, &line);
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (c->clients[i].fd >= 0)
			control_give(&c->clients[i], &line);
}

int control_new(struct control **ret, sd_event *loop, int listen_fd, const struct control_ops *ops, void *userdata,
                struct error *err) {
	struct control *c = calloc(1, sizeof(*c));

	if (!c) {
		safe_close(listen_fd);
		return error_oom(err);
	}
	*c = (struct control){.listen = listen_fd, .loop = loop, .ops = *ops, .userdata = userdata};
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
		c->clients[i] = (struct client){.control = c, .fd = -1, .in = {.max = CONTROL_LINE_MAX}};
	int r = sd_event_add_io(loop, &c->listen_io, listen_fd, EPOLLIN, on_listen, c);
	if (r < 0) {
		control_free(c);
		return error_errno(err, r, "watch the control socket");
	}
	*ret = c;
	return 0;
}

struct control *control_free(struct control *c) {
	if (!c)
		return NULL;
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
		control_drop(&c->clients[i]);
	sd_event_source_disable_unref(c->listen_io);
	safe_close(c->listen);
	free(c);
	return NULL;
}
