/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The API server without its sockets: the store, the queue of writes, the watches, the collector. HTTP comes from
 * apiserver/http/http.h, or from a test.
 *
 * Writes run one after the other against what is on disk: while a batch is being written new ones wait, then all
 * that wait make the next batch. So a write sees every acknowledged one, and many clients share one fsync.
 */

#include "apiserver/request/request.h"
#include "base/metrics.h"

struct gc;
struct authn;
struct audit;
struct quota;
struct limits;
struct http;

struct server {
	sd_event *loop; /* NULL in tests: all happens at once */
	TAILQ_HEAD(http_list, http) listeners;
	struct store *store;
	TAILQ_HEAD(write_list, write) queue, staged;
	sd_event_source *commit_soon;
	uint64_t commit_since; /* of the thread's clock: since when it is to come; 0: it is not */
	bool running;          /* inside the queue: a write must not run another one */
	bool again;            /* the queue is to be run soon, though there may be nothing to commit */
	TAILQ_HEAD(watch_list, watch) * watches; /* by kind */
	struct gc *gc;
	struct authn *authn; /* owned; NULL: no tokens */
	struct audit *audit; /* owned; NULL: no audit log */
	struct rbac *rbac;
	struct keep *keep;
	struct quota *quota;
	struct limits *limits;
	void (*on_turn)(void);     /* without a loop: another turn begins; may be NULL */
	uint64_t changed;          /* kinds, while a batch is becoming visible */
	struct error write_failed; /* why the last batch failed; code 0: it did not */
	bool stopping;
	bool read_only; /* on hold: no request and no collection changes anything */
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

/* Puts a write into the queue; its done() is called when it is durable, has failed, or changed nothing. */
void server_write(struct server *s, struct write *w);

/*
 * Requests were served, until NOW of the thread's clock. A commit comes when nothing is ready any more; that may never
 * be, and then it comes here, so that those who only read can't keep others from writing.
 */
void server_served(struct server *s, uint64_t now);

/* To be called every second: bookmarks, time-outs of watches, expiry of events. */
void server_tick(struct server *s);

/* Ends all watches (their streams end) and refuses new ones. */
void server_stop(struct server *s);

#define KIND_COUNT_MAX 64
