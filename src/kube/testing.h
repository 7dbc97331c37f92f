/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A scripted server for tests: a thread that answers one request after the other, each on its own
 * connection. Only for test-*.c files.
 */

#include "base/testing.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/listen.h"
#include "base/util.h"

struct step {
	const char *expect; /* must occur in the request; NULL ends the script */
	const char *status; /* "200 OK" */
	const char *body;
	bool hold;   /* leave the connection open */
	bool repeat; /* answers all requests that come before one that the next step expects */
};

struct server {
	pthread_t thread;
	int fd, n_held, held[16];
	char path[64], url[80], requests[16][2048];
	const struct step *steps;
	int done; /* steps answered */
	bool failed;
};

static bool read_request(int fd, char *out, size_t size) {
	size_t n = 0, body = 0;
	char *end = NULL;
	while (n + 1 < size && (!end || n < (size_t)(end + 4 - out) + body)) {
		ssize_t r = read(fd, out + n, size - n - 1);
		if (r <= 0)
			return false;
		n += (size_t)r;
		out[n] = '\0';
		const char *len = strcasestr(out, "Content-Length:");
		end = strstr(out, "\r\n\r\n");
		body = len ? strtoul(len + 15, NULL, 10) : 0;
	}
	return end;
}

static void *serve(void *arg) {
	struct server *s = arg;
	for (const struct step *st = s->steps; st->expect; st++) {
		char text[sizeof(s->requests[0])], *req;
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return NULL;
		bool whole = read_request(fd, text, sizeof(text));
		if (st > s->steps && st[-1].repeat && whole && !strstr(text, st->expect))
			st--;
		req = strcpy(s->requests[st - s->steps], text);
		if (!whole || !strstr(req, st->expect)) {
			fprintf(stderr, "step %d: `%s` is not in: %s\n", (int)(st - s->steps), st->expect, req);
			s->failed = true;
		}
		/* Before the client can tell the test that the answer came. */
		if (st->hold)
			s->held[s->n_held++] = fd;
		dprintf(fd, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n%s",
		        st->status ? st->status : "200 OK", st->body ? st->body : "");
		__atomic_store_n(&s->done, (int)(st - s->steps) + 1, __ATOMIC_SEQ_CST);
		if (!st->hold)
			close(fd);
	}
	return NULL;
}

static void server_start(struct server *s, const struct step *steps) {
	static int count;
	struct error err;
	*s = (struct server){.steps = steps};
	snprintf(s->path, sizeof(s->path), "/tmp/nacre-test-kube-%d-%d", getpid(), count++);
	snprintf(s->url, sizeof(s->url), "unix:%s", s->path);
	test_claim("dir", s->path);
	assert_int_equal(listen_socket(s->url, &s->fd, &err), 0);
	int flags = fcntl(s->fd, F_GETFL);
	fcntl(s->fd, F_SETFL, flags & ~O_NONBLOCK);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s) {
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	for (int i = 0; i < s->n_held; i++)
		close(s->held[i]);
	close(s->fd);
	unlink(s->path);
	assert_false(s->failed);
}

/* Runs the loop until *FLAG reaches WANT; the test fails after two minutes. */
static void run_until(sd_event *loop, const int *flag, int want) {
	uint64_t end = now_monotonic_ns() + 120 * NSEC_PER_SEC;
	while (__atomic_load_n(flag, __ATOMIC_SEQ_CST) < want) {
		if (now_monotonic_ns() > end)
			fail_msg("still %d of %d", *flag, want);
		assert_true(sd_event_run(loop, 50000) >= 0);
	}
}
