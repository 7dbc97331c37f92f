/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Measures the cost of requests for tests/security/test_cost.py, which runs this under valgrind's callgrind. It sends
 * requests to a server in memory; each is one JSON object in a line of standard input:
 *
 *     {"row": "…", "user": "red", "method": "POST", "target": "/api/…", "type": "application/json", "body": "FILE",
 *      "accept": "…"}
 *
 * In bodies `@uid:NAME` is replaced by the uid of ConfigMap NAME in namespace red.
 *
 * A request with a ROW is counted from the bytes of its body to its answer, including its immediate consequences:
 * transaction, events, watches, garbage collection. Each turn of the server's loop is dumped separately under the name
 * of the row. The code of the answer is printed to standard output.
 */

#include <stdio.h>
#include <string.h>
#include <valgrind/callgrind.h>

#include "api/account.h"
#include "apiserver/read/listreply.h"
#include "apiserver/read/watch.h"
#include "apiserver/server.h"
#include "base/util.h"

static const char *counted; /* the name of the row; NULL: nothing is counted */

static void on_turn(void) {
	if (!counted)
		return;
	CALLGRIND_DUMP_STATS_AT(counted);
	CALLGRIND_ZERO_STATS;
}

static void read_watch(struct watch *w) {
	static char bytes[WATCH_CHUNK];
	while (watch_read(w, bytes, sizeof(bytes)) > 0 || watch_unfinished(w))
		on_turn();
}

static int read_list(struct reply *a) {
	static char bytes[LIST_CHUNK];
	struct parts *p = parts_new(a);
	if (!p)
		return -ENOMEM;
	while (parts_read(p, 0, bytes, sizeof(bytes)) > 0)
		on_turn();
	parts_free(p);
	return 0;
}

static struct user *cost_user_of(const char *name) {
	struct user *u = *name ? user_new(name, NULL) : user_new_admin();
	if (u && *name && user_add_group(u, GROUP_AUTHENTICATED) < 0)
		u = user_unref(u);
	return u;
}

static const char *text_of(const json_t *line, const char *key) {
	const char *s = json_string_value(json_object_get(line, key));
	return s ? s : "";
}

/* Appends the N bytes at P to B and replaces the marks of uids. */
static void cost_put_body(struct server *s, struct buf *b, const char *p, size_t n) {
	static const char mark[] = "@uid:";
	const unsigned kind = api_kind_index(&api_kind_configmap);
	const char *end = p + n, *at, *uid;
	while ((at = memmem(p, (size_t)(end - p), mark, strlen(mark)))) {
		char name[64];
		size_t len = 0;
		buf_add(b, p, (size_t)(at - p));
		p = at + strlen(mark);
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(p, "\""), p);
		p += strlen(name);
		const struct object *o = store_get(s->store, kind, "red", name);
		if (o && json_find(o->value->data, o->value->len, "metadata.uid", &uid, &len))
			buf_add(b, uid + 1, len - 2);
	}
	buf_add(b, p, (size_t)(end - p));
}

static int cost_handle(struct server *s, const json_t *line, struct error *err) {
	const char *row = text_of(line, "row"), *type = text_of(line, "type"), *body = text_of(line, "body");
	const char *accept = text_of(line, "accept");
	_cleanup_(cleanup_request) struct request *r = request_new(text_of(line, "method"), text_of(line, "target"));
	if (!r || request_set_accept(r, *accept ? accept : NULL) < 0 ||
	    request_set_content_type(r, *type ? type : NULL) < 0 || !(r->user = cost_user_of(text_of(line, "user"))))
		return error_set(err, EINVAL, "%s: no request", row);
	_free_ char *bytes = NULL;
	size_t n = 0;
	int e = *body ? read_file(body, REQUEST_BODY_MAX, &bytes, &n, err) : 0;
	if (e < 0)
		return e;
	cost_put_body(s, &r->body, bytes ? bytes : "", n);
	if (*row) {
		counted = row;
		CALLGRIND_START_INSTRUMENTATION;
		CALLGRIND_ZERO_STATS;
	}
	if (!server_handle(s, r))
		return error_set(err, EINVAL, "%s: not answered", row);
	on_turn();
	if (r->reply.watch)
		read_watch(r->reply.watch);
	if (r->reply.tail && read_list(&r->reply) < 0)
		return error_oom(err);
	on_turn();
	if (*row)
		CALLGRIND_STOP_INSTRUMENTATION;
	counted = NULL;
	const struct reply *a = &r->reply;
	printf("%s\t%u\t%.*s\n", row, a->code, a->code >= 300 ? (int)MIN(a->body.len, (size_t)300) : 0,
	       a->body.len ? a->body.data : "");
	return 0;
}

int main(void) {
	struct error err = {0};
	struct server *s = NULL;
	size_t cap = 0;
	_free_ char *text = NULL;
	json_object_seed(1); /* always the same order of members, and so always the same count */
	int r = server_new(&s, NULL, NULL, &err);
	if (!s) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	s->queue.on_turn = on_turn;
	while (r == 0 && getline(&text, &cap, stdin) > 0) {
		json_t *line = json_loads(text, 0, NULL);
		r = cost_handle(s, line, &err);
		json_decref(line);
	}
	server_free(s);
	if (r < 0)
		fprintf(stderr, "%s\n", err.msg);
	return r < 0;
}
