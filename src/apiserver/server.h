/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The API server without its sockets: the store, the queue of writes, the watches, the collector. HTTP comes from
 * apiserver/http/http.h, or from a test.
 */

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"
#include "base/metrics.h"

struct gc;
struct audit;
struct quota;
struct limits;
struct http;

struct server {
	struct queue queue; /* first */
	sd_event *loop;     /* NULL in tests: all happens at once */
	TAILQ_HEAD(http_list, http) listeners;
	struct store *store;
	TAILQ_HEAD(watch_list, watch) * watches; /* by kind */
	struct auth auth;                        /* what it points to is owned */
	struct gc *gc;
	struct audit *audit; /* owned; NULL: no audit log */
	struct keep *keep;
	struct quota *quota;
	struct limits *limits;
	uint64_t changed;          /* kinds, while a batch is becoming visible */
	struct error write_failed; /* why the last batch failed; code 0: it did not */
	bool stopping;
};

/* DATABASE NULL: in memory. Makes the namespaces that are always there. */
int server_new(struct server **ret, sd_event *loop, const char *database, struct error *err) _must_use_;
struct server *server_free(struct server *s);
DEFINE_CLEANUP(server, struct server *, server_free)

/*
 * Answers R. True: the answer is in r->reply now. False: it comes later, told by r->done(), and R must live on.
 * Without a loop it is always there at once.
 */
bool server_handle(struct server *s, struct request *r);

/* To be called every second: bookmarks, time-outs of watches, expiry of events. */
void server_tick(struct server *s);

/* Ends all watches (their streams end) and refuses new ones. */
void server_stop(struct server *s);

#define KIND_COUNT_MAX 64
