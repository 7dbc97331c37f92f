/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The API server without its sockets: it joins the store, the queue of writes, the watches and the collectors. Requests
 * come from apiserver/http/http.h, or from a test.
 */

#include "apiserver/http/http.h"
#include "apiserver/read/watch.h"
#include "apiserver/write/stage.h"

struct gc;
struct keep;

struct server {
	struct queue queue; /* must be the first member */
	sd_event *loop;     /* NULL in tests: writes are then done before server_handle() returns */
	struct store *store;
	struct limits *limits;
	/* What each layer is given. This struct owns what these point to. */
	struct auth auth;
	struct stage stage;
	struct watches watches;
	struct site site;
	struct gc *gc;
	struct keep *keep;
	uint64_t changed;          /* kinds (at most 64) that changed, while a batch is becoming visible */
	struct error write_failed; /* the error of the last batch; code 0: it succeeded */
};

/* Opens the database DATABASE (NULL: one in memory) and creates the namespaces that always exist. */
int server_new(struct server **ret, sd_event *loop, const char *database, struct error *err) _must_use_;
struct server *server_free(struct server *s);
DEFINE_CLEANUP(server, struct server *, server_free)

/*
 * Answers R. True: the answer is in r->reply. False: the answer comes later; r->done() is then called, and R must not
 * be freed before. Without a loop the answer is always there at once.
 */
bool server_handle(struct server *s, struct request *r);

/* Must be called every second: sends bookmarks, ends watches whose time is over, deletes expired Events. */
void server_tick(struct server *s);

/* Ends all watches and refuses new ones. */
void server_stop(struct server *s);
