/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * HTTP/1.1 in front of a server, by libmicrohttpd without threads of its own, driven by the server's loop. Connections
 * are limited in number, in the bytes that they may send and in the time for sending them. A watch whose client doesn't
 * read holds no more than the socket's buffers.
 */

#include "apiserver/auth/auth.h"
#include "apiserver/auth/tls.h"
#include "apiserver/request/request.h"

struct audit;
struct http;

/* What all listeners share. It must outlive them and owns none of its members. */
struct site {
	sd_event *loop;
	struct queue *queue;
	struct limits *limits;
	const struct auth *auth;
	struct audit *audit; /* NULL: no audit log */
	/*
	 * Answers R. True: the answer is in r->reply. False: the answer comes later; r->done() is then called, and R
	 * must not be freed before.
	 */
	bool (*handle)(void *userdata, struct request *r);
	void *userdata;
	TAILQ_HEAD(http_list, http) listeners;
};

/*
 * Opens a listener at LISTEN; see listen_socket(). On a UNIX socket the kernel identifies the client: root and the
 * server's own user are administrators, others must send a token. TCP requires TLS. TLS must outlive the listener, and
 * may be NULL if LISTEN is a UNIX socket. LISTENERS is the number of all listeners.
 */
int http_new(struct http **ret, struct site *site, const char *listen, size_t listeners, struct tls *tls,
             struct error *err) _must_use_;
/* Closes all connections. H may be NULL; returns NULL. */
struct http *http_free(struct http *h);

/* Must be called every second. */
void http_tick(struct http *h);
/* The number of connections with an answer under way. */
size_t http_busy(const struct http *h);
