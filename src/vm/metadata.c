/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/metadata.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/loop.h"
#include "base/util.h"
#include "vm/responder.h"

/* After everything else in the loop. */
#define PRIORITY (SD_EVENT_PRIORITY_NORMAL + 10)

struct connection {
	struct metadata *service;
	int fd; /* -1: not in use */
	sd_event_source *io, *timer;
	uint64_t since_ns; /* it was accepted, or its last answer was made */
	char head[HTTP1_HEAD_MAX];
	size_t len;     /* of what was received and not yet answered */
	struct buf out; /* an answer, of which `sent` bytes are sent; empty: it waits for a request */
	size_t sent;
	bool last;  /* no request is taken after this answer */
	bool ended; /* all was sent, and what comes is discarded */
};

struct metadata {
	sd_event *loop; /* borrowed */
	int listen[2];
	sd_event_source *listen_io[2];
	struct vm_config config;
	struct imds imds;
	struct imdstoken_key key;
	struct connection connections[METADATA_CONNECTIONS_MAX];
};

/* Resets the connection, unless both sides have ended it (SO_LINGER of metadata_open()). */
static void connection_drop(struct connection *c) {
	c->io = sd_event_source_disable_unref(c->io);
	c->timer = sd_event_source_disable_unref(c->timer);
	c->fd = safe_close(c->fd);
	buf_free(&c->out);
}

static int metadata_on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
	(void)s;
	(void)usec;
	connection_drop(userdata);
	return 0;
}

/* Gives the client time for its next request, or for taking the answer. False: the connection is gone. */
static bool connection_rest(struct connection *c) {
	c->since_ns = now_monotonic_ns();
	if (loop_timer(c->service->loop, &c->timer, METADATA_TIMEOUT_S * USEC_PER_SEC, metadata_on_timeout, c) >= 0)
		return true;
	connection_drop(c);
	return false;
}

/*
 * The client has sent its last byte. If it has not yet acknowledged ours, a reset could overtake them, so the
 * connection stays until its time is over.
 */
static void connection_end(struct connection *c) {
	int pending = 0;

	shutdown(c->fd, SHUT_WR);
	if (ioctl(c->fd, SIOCOUTQ, &pending) < 0 || pending <= 1) /* 1: the end itself */
		connection_drop(c);
	else
		sd_event_source_set_enabled(c->io, SD_EVENT_OFF);
}

static void connection_send(struct connection *c) {
	while (c->sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			sd_event_source_set_io_events(c->io, EPOLLOUT);
			return;
		}
		if (n < 0) {
			connection_drop(c);
			return;
		}
		c->sent += (size_t)n;
	}
	buf_free(&c->out);
	c->sent = 0;
	if (c->last) {
		c->ended = true;
		c->len = 0;
		shutdown(c->fd, SHUT_WR);
	}
	/* If the next request is there already, it has its turn after the other events. */
	sd_event_source_set_io_events(c->io, c->len ? EPOLLOUT : EPOLLIN);
}

static void connection_answer(struct connection *c) {
	struct metadata *m = c->service;
	struct http1_request q;
	int r = http1_parse(c->head, c->len, &q);

	if (r == 0) {
		sd_event_source_set_io_events(c->io, EPOLLIN);
		return;
	}
	if (r > 0)
		metadata_answer(&m->imds, &m->key, now_monotonic_ns() / NSEC_PER_SEC, &q, &c->out);
	else
		metadata_refuse(-r, &c->out);
	c->last = r < 0 || !q.keep_alive;
	if (c->out.failed) {
		connection_drop(c);
		return;
	}
	if (r > 0) {
		c->len -= q.len;
		memmove(c->head, c->head + q.len, c->len);
	}
	if (connection_rest(c))
		connection_send(c);
}

static void connection_receive(struct connection *c) {
	ssize_t n = recv(c->fd, c->head + c->len, sizeof(c->head) - c->len, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		connection_drop(c);
	} else if (n == 0) {
		connection_end(c);
	} else if (!c->ended) {
		c->len += (size_t)n;
		connection_answer(c);
	}
}

static int metadata_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)fd;
	struct connection *c = userdata;

	if (c->out.len)
		connection_send(c);
	else if (revents & EPOLLOUT)
		connection_answer(c);
	else
		connection_receive(c);
	return 0;
}

/* A connection that is not in use; if there is none, the one that has waited longest is closed. */
static struct connection *connection_free_one(struct metadata *m) {
	struct connection *oldest = &m->connections[0];

	for (size_t i = 0; i < METADATA_CONNECTIONS_MAX; i++) {
		struct connection *c = &m->connections[i];
		if (c->fd < 0)
			return c;
		if (c->since_ns < oldest->since_ns)
			oldest = c;
	}
	connection_drop(oldest);
	return oldest;
}

static int metadata_on_listen(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)revents;
	struct metadata *m = userdata;
	_close_ int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (conn < 0)
		return 0;
	struct connection *c = connection_free_one(m);
	if (sd_event_add_io(m->loop, &c->io, conn, EPOLLIN, metadata_on_io, c) < 0)
		return 0;
	c->fd = TAKE_FD(conn);
	c->len = c->sent = 0;
	c->last = c->ended = false;
	if (sd_event_source_set_priority(c->io, PRIORITY) < 0)
		connection_drop(c);
	else
		(void)!connection_rest(c);
	return 0;
}

int metadata_open(const char *ifname, int family, int *ret_fd, struct error *err) {
	const struct linger reset = {.l_onoff = 1};
	const int on = 1, hops = 1;
	const bool six = family == AF_INET6;
	struct sockaddr_in at4 = {.sin_family = AF_INET, .sin_port = htons(METADATA_PORT)};
	struct sockaddr_in6 at6 = {.sin6_family = AF_INET6, .sin6_port = htons(METADATA_PORT)};
	/* Accepted sockets inherit the device, SO_LINGER and the limit of hops. */
	const struct responder_option options[] = {
		{SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)},
		{SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)},
		{six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_FREEBIND : IP_FREEBIND, &on, sizeof(on)},
		{six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_UNICAST_HOPS : IP_TTL, &hops, sizeof(hops)},
	};
	const struct responder_socket s = {.what = "serve metadata",
	                                   .family = family,
	                                   .type = SOCK_STREAM,
	                                   .options = options,
	                                   .n_options = ARRAY_SIZE(options),
	                                   .address = six ? (void *)&at6 : &at4,
	                                   .address_len = six ? sizeof(at6) : sizeof(at4)};
	_close_ int fd = -1;

	inet_pton(AF_INET, METADATA_ADDRESS4, &at4.sin_addr);
	inet_pton(AF_INET6, METADATA_ADDRESS6, &at6.sin6_addr);
	int r = responder_open(&s, ifname, &fd, err);
	if (r < 0)
		return r;
	if (listen(fd, METADATA_CONNECTIONS_MAX) < 0)
		return error_errno(err, errno, "listen for requests of metadata on `%s`", ifname);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int metadata_new(struct metadata **ret, sd_event *loop, int fd4, int fd6, const struct vm_config *config,
                 struct error *err) {
	_cleanup_(cleanup_metadata) struct metadata *m = calloc(1, sizeof(*m));
	int r = 0;

	if (!m) {
		safe_close(fd4);
		safe_close(fd6);
		return error_oom(err);
	}
	*m = (struct metadata){.loop = loop, .listen = {fd4, fd6}, .config = *config, .imds = {.seed = -1}};
	m->imds.config = &m->config;
	random_bytes(&m->key, sizeof(m->key));
	for (size_t i = 0; i < METADATA_CONNECTIONS_MAX; i++)
		m->connections[i] = (struct connection){.service = m, .fd = -1, .out = {.max = METADATA_ANSWER_MAX}};
	r = seed_open(config->seed, &m->imds.seed, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(m->listen) && r >= 0; i++) {
		if (m->listen[i] < 0)
			continue;
		r = sd_event_add_io(loop, &m->listen_io[i], m->listen[i], EPOLLIN, metadata_on_listen, m);
		if (r >= 0)
			r = sd_event_source_set_priority(m->listen_io[i], PRIORITY);
	}
	if (r < 0)
		return error_errno(err, r, "watch for requests of metadata");
	*ret = TAKE_PTR(m);
	return 0;
}

struct metadata *metadata_free(struct metadata *m) {
	if (!m)
		return NULL;
	for (size_t i = 0; i < METADATA_CONNECTIONS_MAX; i++)
		connection_drop(&m->connections[i]);
	for (size_t i = 0; i < ARRAY_SIZE(m->listen); i++) {
		sd_event_source_disable_unref(m->listen_io[i]);
		safe_close(m->listen[i]);
	}
	safe_close(m->imds.seed);
	free(m);
	return NULL;
}
