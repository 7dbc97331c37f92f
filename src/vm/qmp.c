/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/qmp.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/jsonread.h"
#include "base/jsonwrite.h"
#include "base/loop.h"
#include "base/util.h"

struct pending {
	int64_t id; /* 0 = free */
	qmp_reply_fn reply;
};

struct qmp {
	int fd;
	sd_event_source *io;
	struct qmp_ops ops;
	void *userdata;
	bool ready, over;
	int64_t next_id;
	struct buf in;
	struct buf out;   /* waiting to be sent */
	struct buf early; /* commands given before the greeting was handled */
	struct pending pending[QMP_PENDING_MAX];
};

/* The members of a message that are used; they point into its text. */
struct message {
	const char *event, *data, *ret, *error;
	size_t event_len, data_len, ret_len, error_len;
	int64_t id;
	bool greeting;
};

static void qmp_end(struct qmp *q, const struct error *err) {
	if (q->over)
		return;
	q->over = true;
	q->io = sd_event_source_disable_unref(q->io);
	for (size_t i = 0; i < QMP_PENDING_MAX; i++)
		if (q->pending[i].id) {
			q->pending[i].id = 0;
			if (q->pending[i].reply)
				q->pending[i].reply(q->userdata, err, "", 0);
		}
	if (q->ops.closed)
		q->ops.closed(q->userdata, err);
}

static void send_out(struct qmp *q) {
	struct error err;

	while (q->out.len) {
		ssize_t n = send(q->fd, q->out.data, q->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			error_errno(&err, errno, "send to QEMU's monitor");
			qmp_end(q, &err);
			return;
		}
		buf_consume(&q->out, (size_t)n);
	}
	sd_event_source_set_io_events(q->io, EPOLLIN | (q->out.len ? EPOLLOUT : 0));
}

static void put_command(struct buf *b, const char *name, const char *args, int64_t id) {
	jw_begin(b, '{');
	jw_kv_string(b, "execute", name);
	if (args) {
		jw_key(b, "arguments");
		jw_raw(b, args, strlen(args));
	}
	jw_kv_i64(b, "id", id);
	jw_end(b, '}');
	buf_putc(b, '\n');
}

int qmp_command(struct qmp *q, const char *name, const char *args, qmp_reply_fn reply, struct error *err) {
	struct buf *b = q->ready ? &q->out : &q->early;
	struct pending *p = NULL;

	if (q->over)
		return error_set(err, ENOTCONN, "QEMU's monitor is gone");
	for (size_t i = 0; i < QMP_PENDING_MAX && !p; i++)
		if (!q->pending[i].id)
			p = &q->pending[i];
	if (!p)
		return error_set(err, EBUSY, "QEMU has not answered the last %d commands", QMP_PENDING_MAX);
	put_command(b, name, args, q->next_id);
	int r = buf_error(b, "command to QEMU", err);
	if (r < 0)
		return r;
	*p = (struct pending){.id = q->next_id++, .reply = reply};
	if (q->ready)
		send_out(q);
	return 0;
}

static int qmp_parse(const char *line, size_t len, struct message *m, struct error *err) {
	_cleanup_(jr_done) struct jr r;
	const char *key, *span;
	size_t klen, slen;

	*m = (struct message){0};
	jr_init(&r, line, len);
	if (jr_object(&r) < 0)
		return jr_error(&r, err);
	while (jr_key(&r, &key, &klen) > 0) {
		struct {
			const char *name;
			const char **text;
			size_t *len;
		} want[] = {{"event", &m->event, &m->event_len},
		            {"data", &m->data, &m->data_len},
		            {"return", &m->ret, &m->ret_len},
		            {"error", &m->error, &m->error_len}};
		size_t i = 0;
		while (i < ARRAY_SIZE(want) && (strlen(want[i].name) != klen || memcmp(want[i].name, key, klen) != 0))
			i++;
		if (klen == 2 && memcmp(key, "id", 2) == 0) {
			if (jr_i64(&r, &m->id) < 0)
				break;
			continue;
		}
		m->greeting |= klen == 3 && memcmp(key, "QMP", 3) == 0;
		if (jr_skip(&r, &span, &slen) < 0)
			break;
		if (i < ARRAY_SIZE(want)) {
			*want[i].text = span;
			*want[i].len = slen;
		}
	}
	if (r.failed || jr_end(&r) < 0)
		return jr_error(&r, err);
	return 0;
}

/* ERR's message becomes the "desc" of the error object. */
static void qmp_describe(const char *text, size_t len, struct error *err) {
	_cleanup_(jr_done) struct jr r;
	const char *key, *s;
	size_t klen, slen;

	error_set(err, EREMOTEIO, "QEMU refused the command");
	jr_init(&r, text, len);
	if (jr_object(&r) < 0)
		return;
	while (jr_key(&r, &key, &klen) > 0) {
		if (klen == 4 && memcmp(key, "desc", 4) == 0) {
			if (jr_string(&r, &s, &slen) == 0)
				error_set(err, EREMOTEIO, "QEMU: %.*s", (int)MIN(slen, (size_t)300), s);
			return;
		}
		if (jr_skip(&r, NULL, NULL) < 0)
			return;
	}
}

static int handle_reply(struct qmp *q, const struct message *m, struct error *err) {
	struct error refused;

	for (size_t i = 0; i < QMP_PENDING_MAX; i++) {
		struct pending p = q->pending[i];
		if (!p.id || p.id != m->id)
			continue;
		q->pending[i].id = 0;
		if (m->error)
			qmp_describe(m->error, m->error_len, &refused);
		if (p.reply)
			p.reply(q->userdata, m->error ? &refused : NULL, m->ret ? m->ret : "", m->ret_len);
		return 0;
	}
	return error_set(err, EBADMSG, "QEMU's monitor sent an answer without a command");
}

static int qmp_handle(struct qmp *q, const char *line, size_t len, struct error *err) {
	struct message m;
	int r = qmp_parse(line, len, &m, err);

	if (r < 0)
		return error_prefix(err, "QEMU's monitor");
	if (m.greeting) {
		if (q->ready)
			return error_set(err, EBADMSG, "QEMU's monitor greets twice");
		q->ready = true;
		/* This command has id 0, so no caller waits for its reply. */
		put_command(&q->out, "qmp_capabilities", NULL, 0);
		buf_add(&q->out, q->early.data, q->early.len);
		buf_free(&q->early);
		send_out(q);
		return 0;
	}
	if (m.event) {
		/* The name is a string in quotes; names of events have no escapes. */
		_free_ char *name = m.event_len > 2 ? strndup(m.event + 1, m.event_len - 2) : NULL;
		if (!name)
			return error_set(err, EBADMSG, "QEMU's monitor sent an event without a name");
		q->ops.event(q->userdata, name, m.data ? m.data : "", m.data_len);
		return 0;
	}
	return m.id == 0 && q->ready ? 0 : handle_reply(q, &m, err);
}

static int qmp_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	struct qmp *q = userdata;
	struct error err;
	char *nl;

	if (revents & EPOLLOUT)
		send_out(q);
	if (q->over || !(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	char *room = buf_reserve(&q->in, 16384);
	if (!room) {
		error_set(&err, EMSGSIZE, "QEMU's monitor sent a message of more than %zu bytes", QMP_MESSAGE_MAX);
		qmp_end(q, &err);
		return 0;
	}
	ssize_t n = recv(fd, room, 16384, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		if (n < 0)
			error_errno(&err, errno, "read from QEMU's monitor");
		else
			error_set(&err, ECONNRESET, "QEMU closed its monitor");
		qmp_end(q, &err);
		return 0;
	}
	q->in.len += (size_t)n;
	q->in.data[q->in.len] = 0;
	size_t done = 0;
	while (!q->over && (nl = memchr(q->in.data + done, '\n', q->in.len - done))) {
		size_t at = done;
		done = (size_t)(nl - q->in.data) + 1;
		if (nl - (q->in.data + at) > 1 &&
		    qmp_handle(q, q->in.data + at, (size_t)(nl - (q->in.data + at)), &err) < 0)
			qmp_end(q, &err);
	}
	buf_consume(&q->in, done);
	return 0;
}

int qmp_new(struct qmp **ret, sd_event *loop, int fd, const struct qmp_ops *ops, void *userdata, struct error *err) {
	struct qmp *q = calloc(1, sizeof(*q));

	if (!q) {
		safe_close(fd);
		return error_oom(err);
	}
	*q = (struct qmp){.fd = fd, .ops = *ops, .userdata = userdata, .next_id = 1};
	q->in.max = q->out.max = q->early.max = QMP_MESSAGE_MAX;
	int r = sd_event_add_io(loop, &q->io, fd, EPOLLIN, qmp_on_io, q);
	if (r < 0) {
		qmp_free(q);
		return error_errno(err, r, "watch QEMU's monitor");
	}
	*ret = q;
	return 0;
}

struct qmp *qmp_free(struct qmp *q) {
	if (!q)
		return NULL;
	sd_event_source_disable_unref(q->io);
	safe_close(q->fd);
	buf_free(&q->in);
	buf_free(&q->out);
	buf_free(&q->early);
	free(q);
	return NULL;
}
