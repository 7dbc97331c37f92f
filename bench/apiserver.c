/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A load generator for nacre-apiserver: one thread, many keep-alive connections, one request under way on each.
 *     bench-apiserver SOCKET create|patch|get|list CONNECTIONS COUNT
 *     bench-apiserver SOCKET watch WATCHERS COUNT
 * Objects are Endpoints with three routes named b0, b1, …; `patch` and `get` want those that `create` made. `watch`
 * counts until each of the watchers has COUNT changes of b0. Prints one JSON line.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/buf.h"
#include "base/util.h"

#define URL "/apis/nacre.dev/v1alpha1/endpoints"

struct conn {
	int fd;
	struct buf in;
	uint64_t sent_ns, bytes;
	size_t events;
};

enum mode { MODE_CREATE, MODE_PATCH, MODE_GET, MODE_LIST, MODE_WATCH, MODES };
static const char *const mode_names[] = {"create", "patch", "get", "list", "watch"};

_noreturn_ static void fail(const char *what) {
	fprintf(stderr, "bench-apiserver: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int connect_to(const char *path) {
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		fail("connect");
	return fd;
}

static void send_request(struct conn *c, enum mode mode, size_t i, size_t round) {
	char body[1024] = "", req[2048];
	const char *method = "GET", *type = "application/json";
	char url[128];
	snprintf(url, sizeof(url), URL "/b%zu", i);
	if (mode == MODE_CREATE) {
		method = "POST";
		snprintf(url, sizeof(url), URL);
		snprintf(body, sizeof(body),
		         "{\"apiVersion\":\"nacre.dev/"
		         "v1alpha1\",\"kind\":\"Endpoint\",\"metadata\":{\"name\":\"b%zu\"},\"spec\":{"
		         "\"host\":\"host%zu\",\"vtep\":\"fd4e::%zx\",\"ip\":\"2001:db8::1:%zx\",\"mac\":\"02:00:00:00:"
		         "00:01\","
		         "\"routes\":[{\"prefix\":\"2001:db8:1:%zx::/64\"},{\"prefix\":\"2001:db8:2:%zx0::/"
		         "60\"},{\"prefix\":"
		         "\"198.51.100.%zu/32\"}]}}",
		         i, i % 100, i % 100 + 1, i % 0xfffe + 1, i % 0xfffe + 1, i % 0xffe + 1, i % 256);
	} else if (mode == MODE_PATCH) {
		method = "PATCH";
		type = "application/merge-patch+json";
		snprintf(body, sizeof(body), "{\"metadata\":{\"labels\":{\"round\":\"%zu\"}}}", round);
	} else if (mode == MODE_LIST)
		snprintf(url, sizeof(url), URL);
	int n = snprintf(req, sizeof(req),
	                 "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", method,
	                 url, type, strlen(body), body);
	c->sent_ns = now_monotonic_ns();
	if (write_all(c->fd, req, (size_t)n, NULL) < 0)
		fail("write");
}

static size_t read_some(struct conn *c) {
	char *p = buf_reserve(&c->in, 1 << 16);
	ssize_t n = p ? read(c->fd, p, 1 << 16) : -1;
	if (n <= 0)
		fail("read");
	c->in.len += (size_t)n;
	c->in.data[c->in.len] = '\0';
	c->bytes += (size_t)n;
	return (size_t)n;
}

/* A whole answer with Content-Length; a long body is counted, not kept. */
static bool answer_is_whole(struct conn *c) {
	char *end = c->in.data ? strstr(c->in.data, "\r\n\r\n") : NULL;
	char *length = end ? strcasestr(c->in.data, "\r\nContent-Length:") : NULL;
	if (!end || !length)
		return false;
	size_t head = (size_t)(end - c->in.data) + 4, body = strtoul(length + 17, NULL, 10);
	if (c->bytes < head + body)
		return false;
	if (strncmp(c->in.data, "HTTP/1.1 2", 10) != 0) {
		fprintf(stderr, "%.500s\n", c->in.data);
		exit(1);
	}
	buf_reset(&c->in);
	c->bytes = 0;
	return true;
}

static int cmp_u64(const void *a, const void *b) {
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void report(const char *mode, size_t clients, size_t n, uint64_t took, uint64_t *latency, size_t n_latency) {
	qsort(latency, n_latency, sizeof(*latency), cmp_u64);
	printf("{\"mode\":\"%s\",\"clients\":%zu,\"count\":%zu,\"seconds\":%.4f,\"per_second\":%.1f,\"p50_ms\":%.3f,"
	       "\"p99_ms\":%.3f}\n",
	       mode, clients, n, (double)took / 1e9, (double)n * 1e9 / (double)took,
	       (double)latency[n_latency / 2] / 1e6, (double)latency[n_latency * 99 / 100] / 1e6);
}

static void add(int ep, struct conn *c) {
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		fail("epoll_ctl");
}

static void run_requests(const char *path, enum mode mode, size_t clients, size_t count) {
	struct conn *conns = calloc(clients, sizeof(*conns));
	uint64_t *latency = calloc(count, sizeof(*latency));
	size_t sent = 0, done = 0;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	const size_t round = (size_t)now_monotonic_ns();
	for (size_t i = 0; i < clients; i++) {
		conns[i].fd = connect_to(path);
		conns[i].in.max = (size_t)1 << 30;
		add(ep, &conns[i]);
	}
	uint64_t start = now_monotonic_ns();
	for (size_t i = 0; i < clients && sent < count; i++, sent++)
		send_request(&conns[i], mode, sent, round);
	while (done < count) {
		struct epoll_event ev[64];
		int n = epoll_wait(ep, ev, 64, 30000);
		if (n <= 0)
			fail("no answer for 30 s");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			read_some(c);
			if (!answer_is_whole(c))
				continue;
			latency[done++] = now_monotonic_ns() - c->sent_ns;
			if (sent < count)
				send_request(c, mode, sent++, round);
		}
	}
	report(mode_names[mode], clients, count, now_monotonic_ns() - start, latency, count);
	for (size_t i = 0; i < clients; i++) {
		close(conns[i].fd);
		buf_free(&conns[i].in);
	}
	free(conns);
	free(latency);
	close(ep);
}

/* Events are lines; the first are those of the start. */
static size_t count_lines(struct conn *c) {
	size_t n = 0;
	for (char *p = c->in.data; (p = memchr(p, '\n', c->in.len - (size_t)(p - c->in.data))); p++)
		n += p == c->in.data || p[-1] == '}';
	buf_reset(&c->in);
	return n;
}

static void run_watch(const char *path, size_t watchers, size_t count) {
	static const char req[] =
		"GET " URL "?watch=1&fieldSelector=metadata.name%3Db0 HTTP/1.1\r\nHost: bench\r\n\r\n";
	struct conn *conns = calloc(watchers, sizeof(*conns)), writer = {.fd = connect_to(path)};
	uint64_t *latency = calloc(watchers * count, sizeof(*latency)), *when = calloc(count + 1, sizeof(*when));
	size_t ready = 0, got = 0, sent = 0, answered = 0;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	for (size_t i = 0; i < watchers; i++) {
		conns[i].fd = connect_to(path);
		if (write_all(conns[i].fd, req, sizeof(req) - 1, NULL) < 0)
			fail("write");
		add(ep, &conns[i]);
	}
	add(ep, &writer);
	uint64_t start = 0;
	while (got < watchers * count) {
		struct epoll_event ev[256];
		int n = epoll_wait(ep, ev, 256, 30000);
		if (n <= 0)
			fail("no event for 30 s");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			read_some(c);
			if (c == &writer) {
				answered += answer_is_whole(c);
				continue;
			}
			for (size_t lines = count_lines(c); lines; lines--) {
				if (c->events++ == 0)
					ready++;
				else
					latency[got++] = now_monotonic_ns() - when[c->events - 1];
			}
		}
		/* The next change goes out when the last one is stored: they don't pile up, but watchers may lag. */
		if (ready == watchers && sent == answered && sent < count) {
			if (!start)
				start = now_monotonic_ns();
			when[++sent] = now_monotonic_ns();
			send_request(&writer, MODE_PATCH, 0, when[sent]);
		}
	}
	report("watch", watchers, got, now_monotonic_ns() - start, latency, got);
	for (size_t i = 0; i < watchers; i++) {
		close(conns[i].fd);
		buf_free(&conns[i].in);
	}
	close(writer.fd);
	buf_free(&writer.in);
	free(conns);
	free(latency);
	free(when);
	close(ep);
}

int main(int argc, char **argv) {
	int64_t clients, count;
	enum mode mode = 0;
	while (argc == 5 && mode < MODES && !streq(argv[2], mode_names[mode]))
		mode++;
	if (argc != 5 || mode == MODES || parse_i64(argv[3], 1, 20000, &clients, NULL) < 0 ||
	    parse_i64(argv[4], 1, 10000000, &count, NULL) < 0) {
		fprintf(stderr, "usage: bench-apiserver SOCKET create|patch|get|list|watch CLIENTS COUNT\n");
		return 2;
	}
	if (mode == MODE_WATCH)
		run_watch(argv[1], (size_t)clients, (size_t)count);
	else
		run_requests(argv[1], mode, (size_t)clients, (size_t)count);
	return 0;
}
