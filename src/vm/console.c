/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/console.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/loop.h"

struct client {
	struct console *console;
	int fd;     /* -1 = free slot */
	bool ended; /* it types nothing more: once it has what is in `out`, it is disconnected */
	sd_event_source *io;
	struct buf out;
};

struct console {
	int serial, listen;
	sd_event *loop; /* borrowed */
	sd_event_source *serial_io, *listen_io;
	struct buf kept, typed;
	struct client clients[CONSOLE_CLIENTS_MAX];
};

static void console_drop(struct client *c) {
	c->io = sd_event_source_disable_unref(c->io);
	c->fd = safe_close(c->fd);
	c->ended = false;
	buf_free(&c->out);
}

static void send_client(struct client *c) {
	while (c->out.len) {
		ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			console_drop(c);
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
	if (c->ended && !c->out.len)
		console_drop(c);
	else
		sd_event_source_set_io_events(c->io, (c->ended ? 0 : EPOLLIN) | (c->out.len ? EPOLLOUT : 0));
}

static void console_give(struct client *c, const char *data, size_t len) {
	buf_add(&c->out, data, len);
	if (c->out.failed)
		console_drop(c);
	else
		send_client(c);
}

static void send_serial(struct console *c) {
	while (c->typed.len) {
		ssize_t n = send(c->serial, c->typed.data, c->typed.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buf_consume(&c->typed, (size_t)n);
	}
	sd_event_source_set_io_events(c->serial_io, EPOLLIN | (c->typed.len ? EPOLLOUT : 0));
}

static int console_on_client(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	struct client *c = userdata;
	char text[1024];

	if (revents & EPOLLOUT)
		send_client(c);
	if (c->fd < 0 || !(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	ssize_t n = recv(fd, text, sizeof(text), MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		console_drop(c);
	if (n == 0) {
		c->ended = true;
		send_client(c);
	}
	if (n > 0 && c->console->serial_io) {
		struct buf *typed = &c->console->typed;
		buf_add(typed, text, MIN((size_t)n, CONSOLE_TYPED - typed->len));
		send_serial(c->console);
	}
	return 0;
}

/* A free place, made free if need be: a client that has ended its input may never read the rest. NULL: there is none.
 */
static struct client *console_place(struct console *con) {
	struct client *ended = NULL;

	for (size_t i = 0; i < CONSOLE_CLIENTS_MAX; i++) {
		struct client *c = &con->clients[i];
		if (c->fd < 0)
			return c;
		if (c->ended && !ended)
			ended = c;
	}
	if (ended)
		console_drop(ended);
	return ended;
}

static int console_on_listen(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)revents;
	struct console *con = userdata;
	_close_ int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	struct client *c = conn >= 0 ? console_place(con) : NULL;
	if (!c || sd_event_add_io(con->loop, &c->io, conn, EPOLLIN, console_on_client, c) < 0)
		return 0;
	c->fd = TAKE_FD(conn);
	console_give(c, con->kept.data, con->kept.len);
	return 0;
}

static int on_serial(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	struct console *con = userdata;
	char text[8192];

	if (revents & EPOLLOUT)
		send_serial(con);
	if (!(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	ssize_t n = recv(fd, text, sizeof(text), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		con->serial_io = sd_event_source_disable_unref(con->serial_io);
		return 0;
	}
	if (n < 0)
		return 0;
	/* At least half of the buffer is freed at once, so that each byte is moved at most once. */
	if (con->kept.len + (size_t)n > CONSOLE_KEEP)
		buf_consume(&con->kept, MAX(CONSOLE_KEEP / 2, (size_t)n));
	buf_add(&con->kept, text, (size_t)n);
	for (size_t i = 0; i < CONSOLE_CLIENTS_MAX; i++)
		if (con->clients[i].fd >= 0 && !con->clients[i].ended)
			console_give(&con->clients[i], text, (size_t)n);
	return 0;
}

int console_new(struct console **ret, sd_event *loop, int serial_fd, int listen_fd, struct error *err) {
	_cleanup_(cleanup_console) struct console *con = calloc(1, sizeof(*con));

	if (!con) {
		safe_close(serial_fd);
		safe_close(listen_fd);
		return error_oom(err);
	}
	*con = (struct console){.serial = serial_fd, .listen = listen_fd, .loop = loop};
	con->kept.max = CONSOLE_KEEP;
	con->typed.max = CONSOLE_TYPED;
	for (size_t i = 0; i < CONSOLE_CLIENTS_MAX; i++)
		con->clients[i] = (struct client){.console = con, .fd = -1, .out = {.max = CONSOLE_BEHIND}};
	int r = sd_event_add_io(loop, &con->serial_io, serial_fd, EPOLLIN, on_serial, con);
	if (r >= 0)
		r = sd_event_add_io(loop, &con->listen_io, listen_fd, EPOLLIN, console_on_listen, con);
	if (r < 0)
		return error_errno(err, r, "watch the console");
	*ret = TAKE_PTR(con);
	return 0;
}

struct console *console_free(struct console *con) {
	if (!con)
		return NULL;
	for (size_t i = 0; i < CONSOLE_CLIENTS_MAX; i++)
		console_drop(&con->clients[i]);
	sd_event_source_disable_unref(con->serial_io);
	sd_event_source_disable_unref(con->listen_io);
	safe_close(con->serial);
	safe_close(con->listen);
	buf_free(&con->kept);
	buf_free(&con->typed);
	free(con);
	return NULL;
}
