/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A load generator for a Kubernetes API: one thread, many keep-alive connections, one request under way on each.
 *     bench-apiserver WHERE create|patch|update|status|get|list CONNECTIONS COUNT [OBJECTS [SECONDS]]
 *     bench-apiserver WHERE watch WATCHERS COUNT [OBJECTS [SECONDS]]
 * WHERE is the path of a socket, or ADDRESS:PORT,CERTIFICATE,KEY for TLS (which doesn't verify the server). Objects are
 * Instances named b0, b1, … in the namespace default. `create` makes COUNT of them, beginning with b<OBJECTS>. The
 * other modes use OBJECTS objects in turn. `update` puts whole objects, each connection an object of its own. `watch`
 * ends when each of the watchers has received COUNT changes of b0. After SECONDS no more requests are sent. Prints one
 * JSON line with the number of answers.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/buf.h"
#include "base/util.h"

#define URL         "/apis/nacre.dev/v1alpha1/namespaces/default/instances"
#define PATIENCE_MS 120000

struct conn {
	int fd;
	gnutls_session_t tls; /* NULL: none */
	struct buf in;
	size_t head, body; /* of the current answer; head 0: the head is incomplete */
	bool chunked;
	uint64_t sent_ns;
	size_t events, object;
	char version[24]; /* of the object, for update */
};

enum mode { MODE_CREATE, MODE_PATCH, MODE_UPDATE, MODE_STATUS, MODE_GET, MODE_LIST, MODE_WATCH, MODES };
static const char *const mode_names[] = {"create", "patch", "update", "status", "get", "list", "watch"};

struct target {
	char address[108];
	uint16_t port; /* 0: a UNIX socket */
	gnutls_certificate_credentials_t credentials;
};

_noreturn_ static void fail(const char *what) {
	fprintf(stderr, "bench-apiserver: %s: %s\n", what, strerror(errno));
	exit(1);
}

_noreturn_ static void fail_tls(const char *what, int r) {
	fprintf(stderr, "bench-apiserver: %s: %s\n", what, gnutls_strerror(r));
	exit(1);
}

static void parse_target(const char *text, struct target *t) {
	char cert[256], key[256];
	unsigned port;
	int r;
	if (*text == '/') {
		snprintf(t->address, sizeof(t->address), "%s", text);
		return;
	}
	if (sscanf(text, "%63[0-9.]:%u,%255[^,],%255s", t->address, &port, cert, key) != 4) {
		fprintf(stderr, "bench-apiserver: not /PATH or ADDRESS:PORT,CERTIFICATE,KEY: %s\n", text);
		exit(2);
	}
	t->port = (uint16_t)port;
	r = gnutls_certificate_allocate_credentials(&t->credentials);
	if (r == 0)
		r = gnutls_certificate_set_x509_key_file(t->credentials, cert, key, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		fail_tls(cert, r);
}

static void start_tls(struct conn *c, const struct target *t) {
	int r = gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
	if (r == 0)
		r = gnutls_set_default_priority(c->tls);
	if (r == 0)
		r = gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, t->credentials);
	if (r < 0)
		fail_tls("TLS", r);
	gnutls_transport_set_int(c->tls, c->fd);
	do
		r = gnutls_handshake(c->tls);
	while (r < 0 && !gnutls_error_is_fatal(r));
	if (r < 0)
		fail_tls("handshake", r);
}

static void open_conn(struct conn *c, const struct target *t) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(t->port)};
	const int one = 1;
	memcpy(un.sun_path, t->address, sizeof(un.sun_path));
	inet_pton(AF_INET, t->address, &in.sin_addr);
	c->in.max = (size_t)1 << 30;
	c->fd = socket(t->port ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, t->port ? (struct sockaddr *)&in : (struct sockaddr *)&un,
	                         t->port ? sizeof(in) : sizeof(un)) < 0)
		fail("connect");
	if (t->port) {
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		start_tls(c, t);
	}
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

static void close_conn(struct conn *c) {
	if (c->tls)
		gnutls_deinit(c->tls);
	close(c->fd);
	buf_free(&c->in);
}

/* Requests are short: they always fit into the socket. */
static void send_text(struct conn *c, const char *text, size_t len) {
	if (c->tls) {
		ssize_t r = gnutls_record_send(c->tls, text, len);
		if (r != (ssize_t)len)
			fail_tls("send", (int)r);
	} else if (write_all(c->fd, text, len, NULL) < 0)
		fail("write");
}

static void send_request(struct conn *c, enum mode mode, size_t i, size_t round) {
	char body[1024] = "", req[2048], url[160], version[64] = "";
	const char *method = "GET", *type = "application/json";
	snprintf(url, sizeof(url), URL "/b%zu%s", i, mode == MODE_STATUS ? "/status" : "");
	if (mode == MODE_UPDATE)
		snprintf(version, sizeof(version), ",\"resourceVersion\":\"%s\"", c->version);
	if (mode == MODE_CREATE || mode == MODE_UPDATE) {
		method = mode == MODE_CREATE ? "POST" : "PUT";
		if (mode == MODE_CREATE)
			snprintf(url, sizeof(url), URL);
		snprintf(body, sizeof(body),
		         "{\"apiVersion\":\"nacre.dev/v1alpha1\",\"kind\":\"Instance\",\"metadata\":{\"name\":\"b%zu\","
		         "\"namespace\":\"default\",\"labels\":{\"app\":\"bench\",\"round\":\"%zu\"}%s},\"spec\":{"
		         "\"type\":\"small\",\"image\":\"debian-12\",\"ingress\":[{\"protocol\":\"tcp\",\"port\":22},{"
		         "\"protocol\":\"tcp\",\"port\":443,\"from\":\"2001:db8:%zx::/48\"},{\"protocol\":\"icmp\"}]}}",
		         i, round, version, i % 0xfff + 1);
	} else if (mode == MODE_PATCH || mode == MODE_STATUS) {
		method = "PATCH";
		type = "application/merge-patch+json";
		snprintf(body, sizeof(body),
		         mode == MODE_PATCH ? "{\"metadata\":{\"labels\":{\"round\":\"%zu\"}}}"
		                            : "{\"status\":{\"phase\":\"Running\",\"restarts\":%zu}}",
		         round);
	} else if (mode == MODE_LIST)
		snprintf(url, sizeof(url), URL);
	int n = snprintf(req, sizeof(req),
	                 "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", method,
	                 url, type, strlen(body), body);
	c->sent_ns = now_monotonic_ns();
	c->object = i;
	send_text(c, req, (size_t)n);
}

/* Reads all available bytes. False: there were none. */
static bool read_some(struct conn *c) {
	const size_t before = c->in.len;
	for (;;) {
		char *p = buf_reserve(&c->in, 1 << 16);
		if (!p)
			fail("memory");
		ssize_t n = c->tls ? gnutls_record_recv(c->tls, p, 1 << 16) : read(c->fd, p, 1 << 16);
		if (n > 0) {
			c->in.len += (size_t)n;
			c->in.data[c->in.len] = '\0';
			continue;
		}
		bool later = c->tls ? n < 0 && !gnutls_error_is_fatal((int)n) : n < 0 && errno == EAGAIN;
		if (!later)
			fail("read");
		if (c->tls && n != GNUTLS_E_AGAIN)
			continue; /* a renewed key or a ticket came */
		return c->in.len > before;
	}
}

static void parse_head(struct conn *c) {
	char *end = c->in.data ? strstr(c->in.data, "\r\n\r\n") : NULL;
	if (!end)
		return;
	*end = '\0';
	const char *length = strcasestr(c->in.data, "\r\nContent-Length:");
	c->chunked = !length && strcasestr(c->in.data, "\r\nTransfer-Encoding: chunked");
	c->body = length ? strtoul(length + 17, NULL, 10) : 0;
	c->head = (size_t)(end - c->in.data) + 4;
	*end = '\r';
	if (strncmp(c->in.data, "HTTP/1.1 2", 10) != 0 && c->in.len >= c->head + MIN(c->body, (size_t)100)) {
		fprintf(stderr, "%.1500s\n", c->in.data);
		exit(1);
	}
}

static bool answer_is_whole(struct conn *c) {
	static const char last[] = "0\r\n\r\n";
	if (!c->head)
		parse_head(c);
	if (!c->head)
		return false;
	if (c->chunked ? c->in.len < c->head + 5 || memcmp(c->in.data + c->in.len - 5, last, 5) != 0
	               : c->in.len < c->head + c->body)
		return false;
	const char *v = strstr(c->in.data + c->head, "\"resourceVersion\":\"");
	if (v)
		snprintf(c->version, sizeof(c->version), "%.*s", (int)strspn(v + 19, "0123456789"), v + 19);
	buf_reset(&c->in);
	c->head = 0;
	return true;
}

static int cmp_u64(const void *a, const void *b) {
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void report(const char *mode, size_t clients, size_t n, uint64_t took, uint64_t *latency, size_t n_latency) {
	const size_t middle = n_latency / 2;
	qsort(latency, n_latency, sizeof(*latency), cmp_u64);
	const size_t late = n_latency * 99 / 100;
	printf("{\"mode\":\"%s\",\"clients\":%zu,\"count\":%zu,\"seconds\":%.4f,\"per_second\":%.1f,\"p50_ms\":%.3f,"
	       "\"p99_ms\":%.3f}\n",
	       mode, clients, n, (double)took / 1e9, (double)n * 1e9 / (double)took, (double)latency[middle] / 1e6,
	       (double)latency[late] / 1e6);
}

static void add(int ep, struct conn *c) {
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		fail("epoll_ctl");
}

static void run_requests(const struct target *target, enum mode mode, size_t clients, size_t count, size_t objects,
                         uint64_t limit_ns) {
	struct conn *conns = calloc(clients, sizeof(*conns));
	uint64_t *latency = calloc(count, sizeof(*latency)), start = 0;
	const size_t round = (size_t)now_monotonic_ns(), warm = mode == MODE_UPDATE ? clients : 0;
	size_t sent = 0, done = 0;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	for (size_t i = 0; i < clients; i++) {
		open_conn(&conns[i], target);
		add(ep, &conns[i]);
	}
	/* Updates need the version first. */
	start = now_monotonic_ns();
	for (size_t i = 0; i < clients && sent < count + warm; i++, sent++)
		send_request(&conns[i], warm ? MODE_GET : mode, mode == MODE_CREATE ? objects + sent : sent % objects,
		             round);
	while (done < sent) {
		struct epoll_event ev[64];
		int n = epoll_wait(ep, ev, 64, PATIENCE_MS);
		if (n <= 0)
			fail("no answer for two minutes");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			if (!read_some(c) || !answer_is_whole(c))
				continue;
			if (done >= warm)
				latency[done - warm] = now_monotonic_ns() - c->sent_ns;
			if (++done == warm)
				start = now_monotonic_ns();
			bool over = done >= warm && now_monotonic_ns() - start > limit_ns;
			if (sent < count + warm && !over) {
				send_request(c, mode,
				             mode == MODE_CREATE   ? objects + sent
				             : mode == MODE_UPDATE ? c->object
				                                   : sent % objects,
				             round + sent);
				sent++;
			}
		}
	}
	report(mode_names[mode], clients, done - warm, now_monotonic_ns() - start, latency, done - warm);
	for (size_t i = 0; i < clients; i++)
		close_conn(&conns[i]);
	free(conns);
	free(latency);
	close(ep);
}

/* Events end in "}\n". The first ones are the existing objects. */
static size_t count_events(struct conn *c) {
	size_t n = 0;
	for (char *p = c->in.data; (p = memchr(p, '\n', c->in.len - (size_t)(p - c->in.data))); p++)
		n += p > c->in.data && p[-1] == '}';
	buf_reset(&c->in);
	return n;
}

static void run_watch(const struct target *target, size_t watchers, size_t count, uint64_t limit_ns) {
	static const char req[] =
		"GET " URL "?watch=1&fieldSelector=metadata.name%3Db0 HTTP/1.1\r\nHost: bench\r\n\r\n";
	struct conn *conns = calloc(watchers, sizeof(*conns)), writer = {0};
	uint64_t *latency = calloc(watchers * count, sizeof(*latency)), *when = calloc(count + 1, sizeof(*when));
	size_t ready = 0, got = 0, sent = 0, answered = 0;
	bool over = false;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	open_conn(&writer, target);
	for (size_t i = 0; i < watchers; i++) {
		open_conn(&conns[i], target);
		send_text(&conns[i], req, sizeof(req) - 1);
		add(ep, &conns[i]);
	}
	add(ep, &writer);
	uint64_t start = 0;
	while (got < watchers * count && !(over && got == watchers * sent)) {
		struct epoll_event ev[256];
		int n = epoll_wait(ep, ev, 256, PATIENCE_MS);
		if (n <= 0)
			fail("no event for two minutes");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			if (!read_some(c))
				continue;
			if (c == &writer) {
				answered += answer_is_whole(c);
				continue;
			}
			for (size_t events = count_events(c); events; events--) {
				if (c->events++ == 0)
					ready++;
				else if (got < watchers * count)
					latency[got++] = now_monotonic_ns() - when[c->events - 1];
			}
		}
		/* The next change is sent when the last one is stored: changes don't pile up, but watchers may lag. */
		over = start && now_monotonic_ns() - start > limit_ns;
		if (ready == watchers && sent == answered && sent < count && !over) {
			if (!start)
				start = now_monotonic_ns();
			when[++sent] = now_monotonic_ns();
			send_request(&writer, MODE_PATCH, 0, when[sent]);
		}
	}
	report("watch", watchers, got, now_monotonic_ns() - start, latency, got);
	for (size_t i = 0; i < watchers; i++)
		close_conn(&conns[i]);
	close_conn(&writer);
	free(conns);
	free(latency);
	free(when);
	close(ep);
}

int main(int argc, char **argv) {
	int64_t clients, count, objects = INT64_MAX, seconds = 3600;
	struct target target = {0};
	enum mode mode = 0;
	while (argc >= 5 && mode < MODES && !streq(argv[2], mode_names[mode]))
		mode++;
	if (argc < 5 || argc > 7 || mode == MODES || parse_i64(argv[3], 1, 20000, &clients, NULL) < 0 ||
	    parse_i64(argv[4], 1, 10000000, &count, NULL) < 0 ||
	    (argc >= 6 && parse_i64(argv[5], mode != MODE_CREATE, INT64_MAX, &objects, NULL) < 0) ||
	    (argc == 7 && parse_i64(argv[6], 1, 3600, &seconds, NULL) < 0)) {
		fprintf(stderr, "usage: bench-apiserver WHERE MODE CLIENTS COUNT [OBJECTS [SECONDS]]; "
		                "see bench/apiserver.c\n");
		return 2;
	}
	if (argc < 6 && mode == MODE_CREATE)
		objects = 0;
	parse_target(argv[1], &target);
	if (mode == MODE_WATCH)
		run_watch(&target, (size_t)clients, (size_t)count, (uint64_t)seconds * NSEC_PER_SEC);
	else
		run_requests(&target, mode, (size_t)clients, (size_t)count, (size_t)objects,
		             (uint64_t)seconds * NSEC_PER_SEC);
	return 0;
}
