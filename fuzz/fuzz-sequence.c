/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests by several users to one server, one after the other (sequence.h describes the input), with watches that stay
 * open across the writes. Every request must be answered, by valid JSON and not by a 500. Afterwards the stored objects
 * must be whole, each watch must have sent what a list shows, and the database, opened anew, must hold the same.
 *
 * No request may hold the server's loop for more than 50 ms, which is 150 million instructions in
 * tests/security/test_cost.py: the work of each turn of the loop, in edges and blocks of memory (work.h), must stay
 * below WORK_MAX. The rows of that table show how many instructions a unit of work is: with clang 14 between 6 (loops
 * over texts) and 19, mostly 9 to 15. So work above WORK_MAX takes more than 50 ms. Work on trees is detected from
 * about 100 ms on, and work inside libyaml not at all. The most expensive row has 13 million units.
 */

#include "fuzz.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "apiserver/read/listreply.h"
#include "apiserver/read/watch.h"
#include "base/util.h"
#include "sequence.h"
#include "stored.h"
#include "work.h"

#define REQUESTS_MAX 48
#define WATCHES_MAX  6

#define WORK_BLOCK        25 /* what a block of memory counts for, in edges */
#define WORK_INSTRUCTIONS 6  /* at least so many for each unit of work */
#define WORK_MAX          (UINT64_C(150000000) / WORK_INSTRUCTIONS)

struct follower {
	struct request *request; /* NULL: unused */
	struct step step;
	bool plain; /* its events have whole objects */
	bool from_start;
	bool ended;
	json_t *seen; /* by key: the object, null if it is gone */
	struct buf line;
};

static struct {
	struct server *server;
	struct follower followers[WATCHES_MAX];
	size_t n_followers;
	/* The current line, for messages. */
	const char *line;
	size_t line_len;
} run;

static uint64_t worst; /* most work of a turn for this line */
static bool trace;     /* FUZZ_TRACE is set: print the result of each line */

static void begin_work(void) {
	work_edges = work_blocks = 0;
}

static void end_turn(void) {
	const uint64_t work = work_edges + WORK_BLOCK * work_blocks;
	worst = MAX(worst, work);
	if (work > WORK_MAX)
		fprintf(stderr, "one turn took %" PRIu64 " edges and %" PRIu64 " blocks of memory: %.*s\n", work_edges,
		        work_blocks, (int)run.line_len, run.line);
	CHECK(work <= WORK_MAX);
	begin_work();
}

/* ---- answers ---- */

/* Reads the whole list into the body. */
static void read_list(struct request *r) {
	char bytes[4096];
	struct buf all = {0};
	ssize_t n;
	struct parts *p = parts_new(&r->reply);
	CHECK(p);
	begin_work();
	while ((n = parts_read(p, 0, bytes, sizeof(bytes))) > 0) {
		end_turn();
		buf_add(&all, bytes, (size_t)n);
		begin_work();
	}
	parts_free(p);
	CHECK(!all.failed);
	r->reply.tail = NULL;
	r->reply.body = all;
}

static void answer(struct request *r) {
	begin_work();
	CHECK(server_handle(run.server, r));
	end_turn();
	const struct reply *a = &r->reply;
	/* kube-apiserver answers some invalid patches with 500. Only InternalError is an unexpected failure. */
	const bool fine = a->code >= 200 && a->code < 600 && !a->body.failed &&
	                  (a->code != 500 || !strstr(a->body.data, "InternalError") ||
	                   strstr(a->body.data, "this server issues no tokens"));
	if (!fine)
		fprintf(stderr, "%s %s: %u %.*s\n", r->method, r->path, a->code, (int)a->body.len, a->body.data);
	CHECK(fine);
	if (a->watch)
		return;
	if (a->tail)
		read_list(r);
	if (a->content_type && streq(a->content_type, "application/json") && r->reply.body.len) {
		json_t *whole = json_loadb(a->body.data, a->body.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		if (!whole)
			fprintf(stderr, "%s %s: %u %.*s\n", r->method, r->path, a->code, (int)a->body.len,
			        a->body.data);
		CHECK(whole);
		json_decref(whole);
	}
}

/* ---- watches ---- */

static json_t *key_of(const json_t *obj) {
	const json_t *m = json_object_get(obj, "metadata");
	const char *ns = json_string_value(json_object_get(m, "namespace"));
	return json_sprintf("%s/%s", ns ? ns : "", json_string_value(json_object_get(m, "name")));
}

static void see(struct follower *f) {
	json_t *e = json_loadb(f->line.data, f->line.len, JSON_ALLOW_NUL, NULL), *obj = json_object_get(e, "object");
	const char *type = json_string_value(json_object_get(e, "type"));
	CHECK(type && obj);
	if (streq(type, "ERROR"))
		f->ended = true;
	else if (!streq(type, "BOOKMARK") && f->plain) {
		json_t *key = key_of(obj);
		const char *k = json_string_value(key);
		json_t *was = json_object_get(f->seen, k);
		/* A watch from the start knows which objects existed. */
		if (f->from_start)
			CHECK(streq(type, "ADDED") == (!was || json_is_null(was)));
		json_object_set(f->seen, k, streq(type, "DELETED") ? json_null() : obj);
		json_decref(key);
	}
	json_decref(e);
	buf_reset(&f->line);
}

/* Reads at most MAX bytes of the watch. */
static void follow(struct follower *f, size_t max) {
	char bytes[512];
	ssize_t n = 0;
	for (size_t done = 0; done < max; done += (size_t)n) {
		begin_work();
		n = watch_read(f->request->reply.watch, bytes, MIN(sizeof(bytes), max - done));
		end_turn();
		if (n == 0 && watch_unfinished(f->request->reply.watch))
			continue;
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (bytes[i] == '\n')
				see(f);
			else
				buf_putc(&f->line, bytes[i]);
	}
	f->ended |= n < 0;
}

static void take_watch(const struct step *st) {
	struct request *r = st->request;
	if (run.n_followers == WATCHES_MAX) {
		request_free(r);
		return;
	}
	struct follower *f = &run.followers[run.n_followers++];
	*f = (struct follower){.request = r, .step = *st, .seen = json_object()};
	f->from_start = st->verb == 'w';
	f->plain = !memchr("TPp", st->option, 3);
	CHECK(f->seen);
}

/* The events of the watch must give what a list gives. */
static void check_follower(struct follower *f) {
	follow(f, SIZE_MAX);
	if (f->ended || !f->plain)
		return;
	CHECK(f->line.len == 0);
	char *target = NULL;
	CHECK(asprintf(&target, "%s?%s", f->request->path, f->step.selector) > 0);
	struct request *r = sequence_ask("GET", target);
	answer(r);
	CHECK(r->reply.code == 200);
	json_t *list = json_loadb(r->reply.body.data, r->reply.body.len, JSON_ALLOW_NUL, NULL), *obj,
	       *there = json_object();
	size_t i;
	json_array_foreach(json_object_get(list, "items"), i, obj) {
		json_t *key = key_of(obj);
		json_object_set(there, json_string_value(key), obj);
		json_decref(key);
	}
	const char *key;
	json_object_foreach(f->seen, key, obj) {
		json_t *now = json_object_get(there, key);
		CHECK(json_is_null(obj) ? !now : now && json_equal(now, obj));
	}
	if (f->from_start)
		json_object_foreach(there, key, obj) CHECK(json_object_get(f->seen, key));
	json_decref(list);
	json_decref(there);
	request_free(r);
	free(target);
}

/* ---- the whole ---- */

static void tick(void) {
	begin_work();
	server_tick(run.server);
	end_turn();
}

static void one(const char *line, size_t n, int64_t old_version) {
	struct step st;
	run.line = line;
	run.line_len = n;
	sequence_step(run.server, line, n, old_version, &st);
	if (st.verb == 't')
		tick();
	for (size_t i = 0; st.verb == 'R' && i < run.n_followers; i++)
		follow(&run.followers[i], 700);
	if (!st.request)
		return;
	worst = 0;
	answer(st.request);
	const struct reply *a = &st.request->reply;
	if (trace)
		fprintf(stderr, "%u %8" PRIu64 "  %.*s  %.*s\n", a->code, worst, (int)MIN(n, 150U), line,
		        a->code >= 400 ? (int)MIN(a->body.len, 300U) : 0, a->body.data);
	if (a->watch)
		take_watch(&st);
	else
		request_free(st.request);
}

static void print_stored(struct buf *b, const struct store *s) {
	for (unsigned kind = 0; api_kinds[kind]; kind++)
		for (const struct object *o = store_seek(s, kind, "", ""); o; o = store_next(s, kind, o))
			buf_printf(b, "%u %s %s %s\n", kind, o->ns, o->name, o->value->data);
	CHECK(!b->failed);
}

/* The reopened database must hold the same. */
static void check_reopened(const char *path, const struct buf *was) {
	struct store *again = NULL;
	struct error err = {0};
	struct buf now = {0};
	CHECK(store_open(&again, path, NULL, NULL, &err) == 0);
	print_stored(&now, again);
	CHECK(now.len == was->len && memcmp(now.data, was->data, now.len) == 0);
	buf_free(&now);
	store_free(again);
}

static void remove_files(const char *path) {
	static const char *const suffixes[] = {"", "-wal", "-shm", "-journal", ".lock", ".service-account.key"};
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_free_ char *file = strf("%s%s", path, suffixes[i]);
		CHECK(file);
		unlink(file);
	}
}

static void start(const char *path) {
	struct error err = {0};
	CHECK(server_new(&run.server, NULL, path, &err) == 0);
	run.server->queue.on_turn = end_turn;
}

/*
 * Makes a database with what every server has, and the tenant's rights. Making it anew takes longer than many
 * sequences.
 */
static void make_first(const char *path, char **ret, size_t *ret_len) {
	struct error err = {0};
	start(path);
	struct request *r = sequence_ask("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings");
	buf_puts(&r->body, "{\"metadata\":{\"name\":\"admin\"},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\","
	                   "\"kind\":\"ClusterRole\",\"name\":\"admin\"},\"subjects\":[{\"apiGroup\":"
	                   "\"rbac.authorization.k8s.io\",\"kind\":\"User\",\"name\":\"red\"}]}");
	CHECK(request_set_content_type(r, "application/json") == 0);
	answer(r);
	CHECK(r->reply.code == 201);
	request_free(r);
	run.server = server_free(run.server);
	CHECK(read_file(path, SIZE_MAX / 2, ret, ret_len, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static char path[256], *first;
	static size_t first_len;
	struct error err = {0};
	struct buf all = {0};
	if (!first) {
		work_init();
		trace = getenv("FUZZ_TRACE");
		json_object_seed(1);
		const char *dir = getenv("TMPDIR");
		snprintf(path, sizeof(path), "%s/fuzz-%d.db", dir ? dir : "/dev/shm", (int)getpid());
		make_first(path, &first, &first_len);
	}
	CHECK(write_file_atomic(path, first, first_len, 0600, &err) == 0);
	run.line = "";
	run.line_len = 0;
	run.n_followers = 0;
	start(path);
	const int64_t old_version = store_version(run.server->store);
	const char *p = (const char *)data, *end = p + size;
	for (int i = 0; i < REQUESTS_MAX && p < end; i++) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		one(p, (size_t)((stop ? stop : end) - p), old_version);
		p = stop ? stop + 1 : end;
	}
	/* Gives the collector time to finish. */
	for (int i = 0; i < 3; i++)
		tick();
	check_stored(run.server->store);
	for (size_t i = 0; i < run.n_followers; i++) {
		struct follower *f = &run.followers[i];
		check_follower(f);
		request_free(f->request);
		json_decref(f->seen);
		buf_free(&f->line);
	}
	print_stored(&all, run.server->store);
	run.server = server_free(run.server);
	check_reopened(path, &all);
	remove_files(path);
	buf_free(&all);
	return 0;
}
