/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The API server without its sockets: the store, the queue of writes, the watches, the collector. HTTP comes from
 * apiserver/http/http.h, or from a test.
 */

#include "apiserver/http/http.h"
#include "apiserver/read/watch.h"
#include "apiserver/write/stage.h"

struct gc;
struct keep;

struct server {
	struct queue queue; /* first */
	sd_event *loop;     /* NULL in tests: all happens at once */
	struct store *store;
	struct limits *limits;
	/* What each layer is given; what these point to is owned here. */
	struct auth auth;
	struct stage stage;
	struct watches watches;
	struct site site;
	struct gc *gc;
	struct keep *keep;
	uint64_t changed;          /* kinds, of which there are 64 at most, while a batch is becoming visible */
	struct error write_failed; /* why the last batch failed; code 0: it did not */
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
