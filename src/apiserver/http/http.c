/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/http/http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "apiserver/auth/authn.h"
#include "apiserver/http/audit.h"
#include "apiserver/http/conn.h"
#include "apiserver/http/turns.h"
#include "apiserver/read/listreply.h"
#include "apiserver/read/watch.h"
#include "apiserver/request/reply.h"
#include "apiserver/request/stats.h"
#include "base/listen.h"
#include "base/loop.h"
#include "base/util.h"

#define SEND_TIMEOUT_S 60U                 /* without progress */
#define RECEIVE_MAX_NS (60 * NSEC_PER_SEC) /* for a whole request, and idle between two */
#define DISCARD_MAX    ((size_t)16 << 20)  /* bytes that are read of a body that is too long */
#define SWEEP_S        5
#define RECHECK_US     (20 * USEC_PER_MSEC) /* between two parts of a recheck of connections */
#define TOKENS_MAX     64U                  /* checked at a time; each check reads two objects */
#define REFUSED_NS     NSEC_PER_SEC         /* between two refusals on a connection whose party has no time left */
#define ROUNDS_MAX     8                    /* rounds of MHD in one turn */
#define ROUNDS_NS      (5 * NSEC_PER_MSEC)  /* processor time after which no further round begins */

/* An HTTP request and its answer, from the request line to the end of the answer. */
struct exchange {
	struct http *http;
	struct MHD_Connection *mhd;
	struct conn *conn;
	char *target;
	struct request *request;
	struct bearer *bearer; /* the token of the request; NULL: it has none, or a certificate is used */
	size_t discarded;
	size_t held; /* bytes counted for the party */
	bool handled;
	bool counted; /* counts as a request or, for a watch, as a watch */
};

struct http {
	TAILQ_ENTRY(http) link;
	struct site *site;
	struct MHD_Daemon *daemon;
	char *socket; /* path to remove at the end; NULL: none */
	sd_event_source *io, *timer, *soon, *recheck;
	struct conns conns;
	struct turns turns;
	size_t busy, ticks;
};

static int http_on_timer(sd_event_source *src, uint64_t usec, void *userdata);

/*
 * The lowest priority. Of the pending sources of one priority sd-event runs a deferred one first, as if it had been
 * pending the longest. So a source that is enabled again and again would keep all others of the same or a lower
 * priority from running: signals, timers, commits.
 */
#define LAST (SD_EVENT_PRIORITY_IDLE + 1)

/* Lets other listeners continue even if clients keep H ready all the time. */
static void let_others_run(struct http *h) {
	struct http *o;
	TAILQ_FOREACH (o, &h->site->listeners, link)
		if (o != h && sd_event_source_get_enabled(o->soon, NULL) > 0)
			(void)!sd_event_source_set_priority(o->soon, SD_EVENT_PRIORITY_NORMAL);
}

/*
 * MHD needs several rounds for an answer, which it requests by a time-out of 0. A timer can't be used for that:
 * sd-event's timers are late by up to their accuracy, and a write would wait longer for the timer than for the disk.
 */
static void http_run(struct http *h) {
	struct limits *l = h->site->limits;
	const uint64_t begin = limits_settle(l);
	MHD_UNSIGNED_LONG_LONG ms = 0;
	enum MHD_Result waits = MHD_YES;
	uint64_t now = begin;
	for (unsigned i = 0; i < ROUNDS_MAX && waits == MHD_YES && ms == 0 && now < begin + ROUNDS_NS; i++) {
		turns_begin(&h->turns, l, now);
		MHD_run(h->daemon);
		waits = MHD_get_timeout(h->daemon, &ms);
		const uint64_t end = limits_settle(l);
		stats_turn(end - now);
		now = end;
	}
	limits_idle(l);
	queue_served(h->site->queue, now);
	let_others_run(h);
	if ((waits == MHD_YES && ms == 0) || turns_more(&h->turns))
		(void)!sd_event_source_set_enabled(h->soon, SD_EVENT_ONESHOT);
	else if (waits == MHD_YES)
		(void)!loop_timer(h->site->loop, &h->timer, ms * USEC_PER_MSEC, http_on_timer, h);
}

static int http_on_timer(sd_event_source *src, uint64_t usec, void *userdata) {
	(void)src;
	(void)usec;
	http_run(userdata);
	return 0;
}

static int http_on_io(sd_event_source *src, int fd, uint32_t revents, void *userdata) {
	(void)src;
	(void)fd;
	(void)revents;
	http_run(userdata);
	return 0;
}

static int on_soon(sd_event_source *src, void *userdata) {
	(void)!sd_event_source_set_priority(src, LAST);
	http_run(userdata);
	return 0;
}

/* ---- answers ---- */

/*
 * True if the user of a watch has no processor time left, so that the watch must send its events later. A watch that is
 * to end is ended at once without them; its client continues with a new watch.
 */
static bool is_late(const struct exchange *x) {
	return party_wait_s(x->conn->party, now_monotonic_ns()) > 0 && !watch_cut(x->request->reply.watch);
}

/* True if the party of C has no time left and was refused less than REFUSED_NS ago. */
static bool asks_too_soon(const struct conn *c) {
	const uint64_t now = now_monotonic_ns();
	return c->refused_ns && now - c->refused_ns < REFUSED_NS && party_wait_s(c->party, now) > 0;
}

static ssize_t read_watch(void *cls, uint64_t pos, char *buf, size_t max) {
	struct exchange *x = cls;
	struct conn *c = x->conn;
	struct turns *t = &x->http->turns;
	(void)pos;
	conn_work(c);
	const bool waits = turns_wait(t, c, limits_settle(x->http->site->limits));
	/*
	 * If its turn has come, it was not late, apart from the time that it took to find out whether it has something
	 * to send.
	 */
	if (waits || (!c->fed && is_late(x))) {
		turns_park(t, c, waits ? PARK_TURN : PARK_LATE);
		return 0;
	}
	c->fed = false;
	ssize_t n = watch_read(x->request->reply.watch, buf, max);
	if (n < 0)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n == 0 && watch_unfinished(x->request->reply.watch))
		turns_park(t, c, PARK_TURN);
	else if (n == 0)
		turns_suspend(c);
	return n;
}

static void wake_watch(void *userdata) {
	struct exchange *x = userdata;
	turns_park(&x->http->turns, x->conn, PARK_TURN);
}

/* Says what to do with C, whose turn has come. */
static enum turn_next next_turn(struct conn *c) {
	const struct exchange *x = c->exchange;
	struct watch *w = x && x->request ? x->request->reply.watch : NULL;
	if (!w)
		return x && !x->request && asks_too_soon(c) ? TURN_LATE : TURN_GO;
	if (is_late(x))
		return TURN_LATE;
	conn_work(c);
	return watch_due(w) ? TURN_GO : TURN_DROP;
}

/* Counts N bytes that the watch holds for sending. False: they are too many; *RET has the refusal. */
static bool hold_watch(void *userdata, size_t n, struct watch_refusal *ret) {
	struct exchange *x = userdata;
	if (party_hold(x->conn->party, &x->held, n, false))
		return true;
	ret->retry_after_s = limits_message(x->conn->party, LIMIT_MEMORY, ret->message);
	return false;
}

static void add_warnings(struct MHD_Response *resp, char *text) {
	char *save = NULL;
	for (char *p = text ? strtok_r(text, "\n", &save) : NULL; p; p = strtok_r(NULL, "\n", &save))
		MHD_add_response_header(resp, "Warning", p);
}

static bool reads(const struct request *r) {
	return r->route.verb == VERB_NONE || r->route.verb == VERB_GET || r->route.verb == VERB_LIST ||
	       r->route.verb == VERB_WATCH;
}

static size_t reply_size(const struct reply *r) {
	size_t n = r->body.len;
	for (size_t i = 0; i < r->n_items; i++)
		n += sizeof(*r->items) + r->items[i]->len;
	return n;
}

/*
 * From now on the memory counted is that of the answer. The answer of a write can't be refused any more: the write is
 * done.
 */
static void count_reply(struct exchange *x) {
	struct request *r = x->request;
	struct party *p = x->conn->party;
	party_charge(p, WORK_REQUEST, r->write.cpu_ns, now_monotonic_ns());
	party_charge(p, WORK_COMMIT, r->write.commit_ns, now_monotonic_ns());
	r->write.cpu_ns = r->write.commit_ns = 0;
	r->json = (json_decref(r->json), NULL);
	buf_free(&r->body);
	if (r->reply.watch && x->counted) {
		x->counted = party_take(p, LIMIT_WATCHES);
		party_give(p, LIMIT_REQUESTS);
		if (!x->counted)
			limits_refuse(r, p, LIMIT_WATCHES);
	}
	if (!party_hold(p, &x->held, reply_size(&r->reply), !reads(r))) {
		limits_refuse(r, p, LIMIT_MEMORY);
		(void)!party_hold(p, &x->held, reply_size(&r->reply), true);
	}
}

static enum MHD_Result send_reply(struct exchange *x) {
	struct reply *r = &x->request->reply;
	struct MHD_Response *resp;
	char retry[16];
	count_reply(x);
	if (r->code == 429)
		x->conn->refused_ns = now_monotonic_ns();
	stats_request(x->request);
	if (r->watch) {
		x->conn->work = WORK_WATCH;
		watch_set_wake(r->watch, wake_watch, hold_watch, x);
		resp = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, WATCH_CHUNK, read_watch, x, NULL);
	} else if (r->tail)
		resp = list_response(r, x->conn->party);
	else {
		size_t len = r->body.len;
		char *data = buf_steal(&r->body);
		resp = data ? MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE) : NULL;
		if (!resp)
			free(data);
	}
	if (!resp)
		return MHD_NO;
	if (r->content_type)
		MHD_add_response_header(resp, "Content-Type", r->content_type);
	MHD_add_response_header(resp, "Cache-Control", "no-cache, private");
	MHD_add_response_header(resp, "Audit-Id", x->request->audit_id);
	if (*r->etag) {
		MHD_add_response_header(resp, "ETag", r->etag);
		MHD_add_response_header(resp, "Vary", "Accept");
	}
	if (r->retry_after_s) {
		snprintf(retry, sizeof(retry), "%u", r->retry_after_s);
		MHD_add_response_header(resp, "Retry-After", retry);
	}
	if (x->conn->closing)
		MHD_add_response_header(resp, "Connection", "close");
	add_warnings(resp, r->warnings.data);
	enum MHD_Result res = MHD_queue_response(x->mhd, r->code, resp);
	MHD_destroy_response(resp);
	return res;
}

/* ---- requests ---- */

static void http_on_answer(struct request *r) {
	struct exchange *x = r->userdata;
	turns_resume(&x->http->turns, x->conn);
}

static enum MHD_Result too_large(struct exchange *x) {
	reply_status(&x->request->reply, 413, "RequestEntityTooLarge", NULL,
	             "the body of the request is larger than the limit of %zu bytes", REQUEST_BODY_MAX);
	return send_reply(x);
}

/* Finds the user of the request, or sets the reply. */
static void authenticate(struct exchange *x) {
	struct request *r = x->request;
	struct conn *c = x->conn;
	const char *header = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "Authorization");
	const char *token =
		header && strncasecmp(header, "Bearer ", 7) == 0 ? header + strspn(header + 7, " ") + 7 : "";
	conn_identify(&x->http->conns, c);
	/* On a UNIX socket a token has precedence, so that an administrator can try it. */
	if (c->user && (x->http->conns.tls || !*token))
		r->user = user_ref(c->user);
	else if (*token && authn_bearer(x->http->site->auth, token, &r->user, &x->bearer, NULL) == 0)
		return;
	else if (c->user_refused || *token)
		reply_unauthorized(r);
	else if (!(r->user = user_new_anonymous()))
		reply_internal(r, "out of memory");
}

/* The key of an extra attribute is a part of the header's name: in any case, percent-encoded. */
static int add_extra(struct user *u, const char *name, const char *value) {
	_free_ char *key = strdup(name);
	if (!key)
		return -ENOMEM;
	for (char *p = key; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	MHD_http_unescape(key);
	return user_add_extra(u, key, value);
}

static enum MHD_Result add_group(void *cls, enum MHD_ValueKind kind, const char *key, const char *value) {
	static const char extra[] = "Impersonate-Extra-";
	struct user **u = cls;
	int e = 0;
	(void)kind;
	if (value && strncasecmp(key, extra, strlen(extra)) == 0)
		e = add_extra(*u, key + strlen(extra), value);
	else if (value && strcasecmp(key, "Impersonate-Group") == 0)
		e = user_add_group(*u, value);
	if (e < 0)
		*u = user_unref(*u);
	return e < 0 ? MHD_NO : MHD_YES;
}

static enum MHD_Result find_impersonation(void *cls, enum MHD_ValueKind kind, const char *key, const char *value) {
	bool *found = cls;
	(void)kind;
	*found |= strncasecmp(key, "Impersonate-", 12) == 0 && value && *value;
	return MHD_YES;
}

/*
 * Reads Impersonate-User, -Group, -Uid and -Extra, which `kubectl --as` sends. A request with headers that can't be
 * used must be refused.
 */
static void read_impersonation(struct exchange *x) {
	struct request *r = x->request;
	const char *name = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "Impersonate-User");
	if (!name || !*name) {
		bool others = false;
		MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, find_impersonation, &others);
		if (others)
			reply_bad_request(r, "to impersonate a group, uid or extra attribute you must send the header "
			                     "Impersonate-User");
		return;
	}
	r->as = user_new(name, MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "Impersonate-Uid"));
	if (r->as)
		MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, add_group, &r->as);
	if (!r->as)
		reply_bad_request(r, "the impersonated user has too many groups or extra attributes");
}

/* Uses the client's Audit-ID, which a server in front of this one may send, or makes a new one. */
static void name_request(struct request *r, const char *given) {
	size_t n = 0;
	for (const char *p = given ? given : ""; *p && n < sizeof(r->audit_id) - 1; p++)
		if (isalnum((unsigned char)*p) || strchr("-_.", *p))
			r->audit_id[n++] = *p;
	if (n == 0)
		uuid_make(r->audit_id);
}

/* Counts the request for its party. False: a limit is exceeded; the reply is set. */
static bool admit(struct exchange *x) {
	struct conn *c = x->conn;
	enum limit what;
	if (!conn_count(&x->http->conns, c, x->request->user, &what)) {
		c->closing = true;
		limits_refuse(x->request, c->party, what);
		return false;
	}
	x->counted = party_take(c->party, LIMIT_REQUESTS);
	if (!x->counted)
		limits_refuse(x->request, c->party, LIMIT_REQUESTS);
	else if (party_wait_s(c->party, now_monotonic_ns())) {
		limits_refuse(x->request, c->party, LIMIT_TIME);
		return false;
	}
	return x->counted;
}

/*
 * Estimates the memory of a parsed body: each value takes some allocations (an empty object of jansson takes 200
 * bytes), and two bytes of text are enough for a value.
 */
static size_t parsed_size(const struct buf *b) {
	size_t n = 0;
	for (size_t i = 0; i < b->len; i++) {
		char c = b->data[i];
		n += c == '{' || c == '[' || c == ',' || c == ':' || c == '\n';
	}
	return b->len + n * 128;
}

static bool hold_body(struct exchange *x, size_t n) {
	struct request *r = x->request;
	if (party_hold(x->conn->party, &x->held, n, false))
		return true;
	limits_refuse(r, x->conn->party, LIMIT_MEMORY);
	buf_free(&r->body);
	return false;
}

static enum MHD_Result http_begin(struct exchange *x, const char *method) {
	const char *length = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "Content-Length");
	int64_t n;
	x->request = request_new(method, x->target);
	if (!x->request)
		return MHD_NO;
	struct request *r = x->request;
	r->userdata = x;
	r->done = http_on_answer;
	name_request(r, MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "Audit-ID"));
	authenticate(x);
	if (!admit(x) && x->conn->closing)
		return send_reply(x);
	if (r->reply.code == 0) {
		(void)!request_set_content_type(r,
		                                MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "Content-Type"));
		(void)!request_set_accept(r, MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "Accept"));
		const char *match = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "If-None-Match");
		r->if_none_match = match ? strdup(match) : NULL;
		if (r->reply.code == 0)
			read_impersonation(x);
		const char *upgrade = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "Upgrade");
		r->websocket = upgrade && strcasecmp(upgrade, "websocket") == 0;
		const char *agent = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "User-Agent");
		r->user_agent = agent ? strdup(agent) : NULL;
	}
	/*
	 * A body that is a little too long is read, because many clients don't listen while they send. A huge body is
	 * refused at once.
	 */
	if (length && (parse_i64(length, 0, INT64_MAX, &n, NULL) < 0 || (uint64_t)n > DISCARD_MAX))
		return too_large(x);
	return MHD_YES;
}

static enum MHD_Result http_handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                   const char *version, const char *data, size_t *size, void **state) {
	struct exchange *x = *state;
	(void)url;
	(void)version;
	if (!x)
		return MHD_NO;
	if (!x->request) {
		struct http *h = cls;
		const union MHD_ConnectionInfo *ci = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
		x->http = h;
		x->mhd = mhd;
		x->conn = ci ? ci->socket_context : NULL;
		if (!x->conn)
			return MHD_NO;
		x->conn->exchange = x;
		conn_work(x->conn);
		/* When the connection resumes, MHD calls this function again with the same arguments. */
		if (asks_too_soon(x->conn)) {
			turns_park(&h->turns, x->conn, PARK_LATE);
			return MHD_YES;
		}
		x->conn->fed = false;
		return http_begin(x, method);
	}
	struct request *r = x->request;
	conn_work(x->conn);
	if (*size) {
		/* The body of a refused request is not kept. */
		if (r->reply.code || r->body.len + *size > REQUEST_BODY_MAX || !hold_body(x, r->body.len + *size))
			x->discarded += *size;
		else
			buf_add(&r->body, data, *size);
		*size = 0;
		return x->discarded > DISCARD_MAX ? MHD_NO : MHD_YES;
	}
	if (x->handled)
		return send_reply(x);
	x->handled = true;
	conn_busy(&x->http->conns, x->conn, true);
	x->http->busy++;
	if (r->reply.code == 0 && (x->discarded || r->body.failed))
		return too_large(x);
	if (r->reply.code == 0 && r->body.len && !hold_body(x, parsed_size(&r->body)))
		return send_reply(x);
	if (x->http->site->handle(x->http->site->userdata, r))
		return send_reply(x);
	turns_suspend(x->conn);
	return MHD_YES;
}

static void *on_target(void *cls, const char *target, struct MHD_Connection *mhd) {
	(void)cls;
	(void)mhd;
	struct exchange *x = calloc(1, sizeof(*x));
	if (x)
		x->target = strdup(target);
	if (x && x->target)
		return x;
	free(x);
	return NULL;
}

static void audit(struct exchange *x) {
	const union MHD_ConnectionInfo *ci = MHD_get_connection_info(x->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct audit_client c = {.target = x->target,
	                         .agent = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, "User-Agent")};
	char text[INET6_ADDRSTRLEN];
	const struct sockaddr *sa = ci ? ci->client_addr : NULL;
	if (sa && sa->sa_family == AF_INET)
		c.address = inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, text, sizeof(text));
	else if (sa && sa->sa_family == AF_INET6)
		c.address = inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)sa)->sin6_addr, text, sizeof(text));
	audit_request(x->http->site->audit, x->request, &c);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **state, enum MHD_RequestTerminationCode why) {
	struct exchange *x = *state;
	(void)cls;
	(void)mhd;
	(void)why;
	if (!x)
		return;
	if (x->request && x->http->site->audit)
		audit(x);
	if (x->conn) {
		if (x->counted && x->request)
			party_give(x->conn->party, x->request->reply.watch ? LIMIT_WATCHES : LIMIT_REQUESTS);
		(void)!party_hold(x->conn->party, &x->held, 0, true);
		if (x->conn->busy)
			x->http->busy--;
		x->conn->exchange = NULL;
		x->conn->work = WORK_REQUEST;
		conn_busy(&x->http->conns, x->conn, false);
	}
	request_free(x->request);
	bearer_free(x->bearer);
	free(x->target);
	free(x);
	*state = NULL;
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *sa, _unused_ socklen_t len) {
	struct http *h = cls;
	return conns_accept(&h->conns, sa) ? MHD_YES : MHD_NO;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code) {
	struct http *h = cls;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*context)
			conn_close(&h->conns, *context);
		*context = NULL;
		return;
	}
	const union MHD_ConnectionInfo *fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	const union MHD_ConnectionInfo *sa = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const union MHD_ConnectionInfo *tls =
		h->conns.tls ? MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION) : NULL;
	if (fd)
		*context = conn_open(&h->conns, mhd, fd->connect_fd, tls ? tls->tls_session : NULL,
		                     sa ? sa->client_addr : NULL);
}

/* The target is decoded later, only once, by request_new(). */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s) {
	(void)cls;
	(void)mhd;
	return strlen(s);
}

/* ---- life ---- */

DEFINE_CLEANUP(http, struct http *, http_free)

int http_new(struct http **ret, struct site *site, const char *listen, size_t listeners, struct tls *tls,
             struct error *err) {
	_close_ int fd = -1;
	bool local = starts_with(listen, "unix:");
	if (!local && !tls)
		return error_set(err, EINVAL,
		                 "can't listen on `%s`: TCP requires TLS; give --tls-cert, --tls-key and "
		                 "--client-ca (`nacre pki` makes them), or listen on unix:/PATH",
		                 listen);
	int r = listen_socket(listen, &fd, err);
	if (r < 0)
		return r;
	_cleanup_(cleanup_http) struct http *h = calloc(1, sizeof(*h));
	if (!h)
		return error_oom(err);
	h->site = site;
	conns_init(&h->conns, local ? NULL : tls, site->limits, listeners);
	turns_init(&h->turns, site->loop, next_turn);
	h->conns.turns = &h->turns;
	if (local && !(h->socket = strdup(listen + strlen("unix:"))))
		return error_oom(err);
	const struct MHD_OptionItem options[] = {
		{MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES},
		{MHD_OPTION_HTTPS_MEM_CERT, 0, h->conns.tls ? (void *)tls_cert_pem(tls) : NULL},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, h->conns.tls ? (void *)tls_key_pem(tls) : NULL},
		{MHD_OPTION_END, 0, NULL},
	};
	const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
	h->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (h->conns.tls ? MHD_USE_TLS : 0), 0, on_accept, h,
		http_handle, h, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->conns.max,
		MHD_OPTION_CONNECTION_TIMEOUT, SEND_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384,
		MHD_OPTION_URI_LOG_CALLBACK, on_target, h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, h,
		MHD_OPTION_ARRAY, h->conns.tls ? options : none, MHD_OPTION_END);
	if (!h->daemon)
		return error_set(err, EIO, "start the HTTP server on `%s`", listen);
	(void)TAKE_FD(fd); /* MHD closes it */
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	r = info ? sd_event_add_io(site->loop, &h->io, info->epoll_fd, EPOLLIN, http_on_io, h) : -EIO;
	if (r >= 0)
		r = sd_event_add_defer(site->loop, &h->soon, on_soon, h);
	if (r >= 0)
		r = sd_event_source_set_enabled(h->soon, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_source_set_priority(h->soon, LAST);
	if (r < 0)
		return error_errno(err, r, "watch the HTTP server on `%s`", listen);
	h->turns.soon = h->soon;
	TAILQ_INSERT_TAIL(&site->listeners, h, link);
	*ret = TAKE_PTR(h);
	return 0;
}

struct http *http_free(struct http *h) {
	if (!h)
		return NULL;
	if (h->link.tqe_prev)
		TAILQ_REMOVE(&h->site->listeners, h, link);
	sd_event_source_disable_unref(h->io);
	sd_event_source_disable_unref(h->timer);
	sd_event_source_disable_unref(h->recheck);
	/* MHD doesn't stop while connections are suspended. */
	struct conn *c;
	TAILQ_FOREACH (c, &h->conns.list, link)
		turns_resume(&h->turns, c);
	if (h->daemon)
		MHD_stop_daemon(h->daemon);
	turns_done(&h->turns);
	sd_event_source_disable_unref(h->soon);
	if (h->socket)
		unlink(h->socket);
	free(h->socket);
	free(h);
	return NULL;
}

size_t http_busy(const struct http *h) {
	return h->busy;
}

/*
 * Does for tokens what conns_recheck() does for certificates: they expire, or their ServiceAccount or Secret is
 * deleted.
 */
static bool recheck_tokens(struct http *h) {
	unsigned n = 0;
	struct conn *c;
	TAILQ_FOREACH (c, &h->conns.list, link) {
		const struct exchange *x = c->busy ? c->exchange : NULL;
		if (!x || !x->bearer || !bearer_may_have_ended(h->site->auth, x->bearer))
			continue;
		if (n++ == TOKENS_MAX)
			return true;
		if (!bearer_is_good(h->site->auth, x->bearer))
			shutdown(c->fd, SHUT_RDWR);
	}
	return false;
}

static int on_recheck(_unused_ sd_event_source *src, _unused_ uint64_t usec, void *userdata) {
	struct http *h = userdata;
	bool more = conns_recheck(&h->conns);
	more |= recheck_tokens(h);
	/* If there is no memory for the timer, the next tick continues. */
	if (more)
		(void)!loop_timer(h->site->loop, &h->recheck, RECHECK_US, on_recheck, h);
	return 0;
}

/*
 * A suspended connection isn't read from, so nobody would notice that its client has gone; and a client that sends a
 * byte from time to time never times out. This function looks for both. After shutdown() MHD ends the connection.
 */
void http_tick(struct http *h) {
	uint64_t now = now_monotonic_ns();
	struct conn *c;
	(void)on_recheck(NULL, 0, h);
	if (++h->ticks % SWEEP_S)
		return;
	TAILQ_FOREACH (c, &h->conns.list, link) {
		if (!c->busy && now - c->since_ns > RECEIVE_MAX_NS)
			shutdown(c->fd, SHUT_RDWR);
		struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
		struct watch *w =
			c->exchange && c->suspended && c->exchange->request ? c->exchange->request->reply.watch : NULL;
		if (w && poll(&p, 1, 0) > 0) {
			/* The watch waits for its turn and its client has gone: close at once. */
			if (c->park != PARK_NONE)
				shutdown(c->fd, SHUT_RDWR);
			watch_end(w);
		}
	}
}
