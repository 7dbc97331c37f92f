/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * HTTP/1.1 in front of a server: libmicrohttpd without threads of its own, driven by the server's loop.
 * Connections are bounded in number, in what they may send and in how long they may take to send it; a watcher that
 * doesn't read holds no more than its socket's buffers.
 */

#include "apiserver/auth/auth.h"
#include "apiserver/auth/tls.h"
#include "apiserver/request/request.h"

struct audit;
struct http;

/* What listeners serve; it outlives them, and nothing of it is theirs. */
struct site {
	sd_event *loop;
	struct queue *queue;
	struct limits *limits;
	const struct auth *auth;
	struct audit *audit; /* NULL: no audit log */
	/*
	 * Answers R. True: the answer is in r->reply now. False: it comes later, told by r->done(), and R must live on.
	 */
	bool (*handle)(void *userdata, struct request *r);
	void *userdata;
	TAILQ_HEAD(http_list, http) listeners;
};

/*
 * LISTEN as of listen_socket(). On a UNIX socket the kernel says who asks: root and the server's own user are
 * administrators, all others are refused. On TCP there is only TLS, with certificates of clients; TLS outlives the
 * listener, and may be NULL if LISTEN is a UNIX socket.
 */
int http_new(struct http **ret, struct site *site, const char *listen, size_t listeners, struct tls *tls,
             struct error *err) _must_use_;
/* Closes all connections. */
struct http *http_free(struct http *h);

/* To be called every second. */
void http_tick(struct http *h);
/* Connections with an answer under way. */
size_t http_busy(const struct http *h);
