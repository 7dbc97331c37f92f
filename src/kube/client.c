/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Glue between libcurl's multi interface (CURLMOPT_SOCKETFUNCTION(3)) and sd-event. curl's own callbacks only store
 * bytes; everything of the user runs from pump(), outside of curl, where it is free to begin and cancel requests.
 */

#include "kube/client.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/metrics.h"
#include "base/tree.h"
#include "base/util.h"
#include "kube/internal.h"

#define CONNECT_TIMEOUT_MS 5000L
#define DEAD_PEER_MS       30000U /* unacknowledged data or keep-alives for so long: the connection is dead */

struct sock {
	TAILQ_ENTRY(sock) entry;
	sd_event_source *io;
};

struct kube_request {
	TAILQ_ENTRY(kube_request) entry, ready_entry;
	struct kube_client *c;
	struct kube_call call;
	CURL *easy;
	struct curl_slist *headers;
	char *body, *what; /* "GET /path" */
	struct buf in;     /* bytes received, not consumed yet */
	ssize_t (*data)(const char *, size_t, void *);
	bool ready, overflow, attached;
	char text[CURL_ERROR_SIZE];
};

struct kube_client {
	sd_event *loop;
	CURLM *multi;
	sd_event_source *timer;
	const char *agent;
	char *url, *unix_path; /* without trailing slash; path of the socket or NULL */
	TAILQ_HEAD(, kube_request) all, ready;
	TAILQ_HEAD(, sock) socks;
	struct kube_request *current; /* whose data callback runs; NULL once it was cancelled from there */
	uint64_t last_contact;
};

static struct metric requests = METRIC_COUNTER("nacre_kube_requests_total", "Requests sent to the API server.");
static struct metric failures =
	METRIC_COUNTER("nacre_kube_unanswered_total", "Requests to the API server that got no answer, or 5xx.");

sd_event *kube_client_loop(const struct kube_client *c) {
	return c->loop;
}

uint64_t kube_client_last_contact(const struct kube_client *c) {
	return c->last_contact;
}

/* ---- one request ---- */

static void mark_ready(struct kube_request *r) {
	if (!r->data || r->ready || !r->attached)
		return;
	TAILQ_INSERT_TAIL(&r->c->ready, r, ready_entry);
	r->ready = true;
}

/* One call a header line; the empty line ends them. */
static size_t on_header(char *bytes, size_t size, size_t n, void *userdata) {
	if (size * n == 2 && bytes[0] == '\r')
		mark_ready(userdata);
	return size * n;
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *userdata) {
	struct kube_request *r = userdata;
	buf_add(&r->in, bytes, size * n);
	if (r->in.failed) {
		r->overflow = true;
		return 0;
	}
	mark_ready(r);
	return size * n;
}

static int on_socket(void *userdata, curl_socket_t fd, curlsocktype purpose) {
	unsigned ms = DEAD_PEER_MS;
	(void)userdata;
	(void)purpose;
	/* A program started meanwhile must not keep the connection, and with it our watch, alive after us. */
	(void)!fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* Fails on UNIX sockets, which need none: their peer can't vanish without a word. */
	(void)!setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	return CURL_SOCKOPT_OK;
}

static void request_free(struct kube_request *r) {
	if (r->ready)
		TAILQ_REMOVE(&r->c->ready, r, ready_entry);
	if (r->attached) {
		TAILQ_REMOVE(&r->c->all, r, entry);
		curl_multi_remove_handle(r->c->multi, r->easy);
	}
	if (r->c->current == r)
		r->c->current = NULL;
	if (r->call.slot)
		*r->call.slot = NULL;
	if (r->easy)
		curl_easy_cleanup(r->easy);
	curl_slist_free_all(r->headers);
	buf_free(&r->in);
	free(r->body);
	free(r->what);
	free(r);
}

static bool add_header(struct kube_request *r, const char *text) {
	struct curl_slist *l = curl_slist_append(r->headers, text);
	if (l)
		r->headers = l;
	return l;
}

/* How to reach the server and who we are: the one place for sockets, certificates and tokens. */
static bool set_transport(struct kube_client *c, CURL *e) {
	return !curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") && !curl_easy_setopt(e, CURLOPT_PROXY, "") &&
	       (!c->unix_path || !curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, c->unix_path)) &&
	       !curl_easy_setopt(e, CURLOPT_USERAGENT, c->agent) &&
	       !curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS) &&
	       !curl_easy_setopt(e, CURLOPT_PIPEWAIT, (long)starts_with(c->url, "https:")) &&
	       !curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L) && !curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, 15L) &&
	       !curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, 5L) &&
	       !curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, on_socket) &&
	       !curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS) &&
	       !curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
}

static bool set_message(struct kube_request *r, const struct kube_spec *s) {
	_free_ char *url = strf("%s%s", r->c->url, s->path);
	_free_ char *type = strf("Content-Type: %s", s->content_type ? s->content_type : "application/json");
	bool ok = url && type && !curl_easy_setopt(r->easy, CURLOPT_URL, url) &&
	          !curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, s->method) &&
	          add_header(r, "Accept: application/json");
	if (ok && s->body) {
		r->body = malloc(s->len + 1);
		if (r->body)
			memcpy(r->body, s->body, s->len);
		/* No "Expect: 100-continue": it costs a round trip. */
		ok = r->body && add_header(r, type) && add_header(r, "Expect:") &&
		     !curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, r->body) &&
		     !curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)s->len);
	}
	return ok && !curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers) &&
	       !curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, (long)(s->timeout_ms ? s->timeout_ms : 30000)) &&
	       !curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_bytes) &&
	       !curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r) &&
	       !curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, on_header) &&
	       !curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r) && !curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r) &&
	       !curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->text) &&
	       !curl_easy_setopt(r->easy, CURLOPT_BUFFERSIZE, 256L * 1024);
}

static int request_new(struct kube_client *c, const struct kube_spec *s, struct kube_request **ret, struct error *err) {
	struct kube_request *r = calloc(1, sizeof(*r));
	if (!r)
		return error_oom(err);
	r->c = c;
	r->data = s->data;
	r->in.max = s->max ? s->max : BUF_MAX_DEFAULT;
	r->easy = curl_easy_init();
	r->what = strf("%s %.*s", s->method, (int)strcspn(s->path, "?"), s->path);
	if (!r->easy || !r->what || !set_transport(c, r->easy) || !set_message(r, s)) {
		request_free(r);
		return error_oom(err);
	}
	metric_add(&requests, 1);
	*ret = r;
	return 0;
}

static int curl_errno(CURLcode code) {
	switch (code) {
	case CURLE_COULDNT_CONNECT: return -ECONNREFUSED;
	case CURLE_COULDNT_RESOLVE_HOST: return -EHOSTUNREACH;
	case CURLE_OPERATION_TIMEDOUT: return -ETIMEDOUT;
	case CURLE_OUT_OF_MEMORY: return -ENOMEM;
	default: return -ECONNRESET;
	}
}

/* Fills RET from the ended request; takes its bytes. ERROR: what the data callback returned, or 0. */
static void request_result(struct kube_request *r, CURLcode code, int error, struct kube_response *ret) {
	long http = 0;
	*ret = (struct kube_response){0};
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &http);
	if (error < 0)
		ret->error = error_set(&ret->err, error, "%s: the answer makes no sense", r->what);
	else if (r->overflow)
		ret->error = error_set(&ret->err, EMSGSIZE, "%s: the answer is over the limit of %zu bytes", r->what,
		                       r->in.max);
	else if (code != CURLE_OK)
		ret->error = error_set(&ret->err, curl_errno(code), "%s at %s: %s", r->what,
		                       r->c->unix_path ? r->c->unix_path : r->c->url,
		                       *r->text ? r->text : curl_easy_strerror(code));
	else
		ret->http = (int)http;
	ret->data = r->in;
	r->in = (struct buf){0};
	ret->body = ret->data.data ? ret->data.data : "";
	ret->len = ret->data.len;
	if (ret->http)
		kube_response_decode(ret, r->what);
	if (ret->http && ret->http < 500)
		r->c->last_contact = now_monotonic_ns();
	else
		metric_add(&failures, 1);
}

static void request_finish(struct kube_request *r, CURLcode code, int error) {
	struct kube_response resp;
	struct kube_call call = r->call;
	request_result(r, code, error, &resp);
	request_free(r);
	if (call.done)
		call.done(&resp, call.userdata);
	kube_response_clear(&resp);
}

/* Hands a stream's bytes to its user. False if the request is no more. */
static bool request_deliver(struct kube_request *r) {
	long http = 0;
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &http);
	if (!r->data || http / 100 != 2)
		return true;
	struct kube_client *c = r->c;
	c->current = r;
	c->last_contact = now_monotonic_ns();
	ssize_t n = r->data(r->in.data ? r->in.data : "", r->in.len, r->call.userdata);
	if (c->current != r)
		return false;
	c->current = NULL;
	if (n < 0) {
		request_finish(r, CURLE_OK, (int)n);
		return false;
	}
	if (n > 0)
		buf_consume(&r->in, MIN((size_t)n, r->in.len));
	return true;
}

static void pump(struct kube_client *c) {
	struct kube_request *r;
	CURLMsg *m;
	int left;
	while ((r = TAILQ_FIRST(&c->ready))) {
		TAILQ_REMOVE(&c->ready, r, ready_entry);
		r->ready = false;
		request_deliver(r);
	}
	while ((m = curl_multi_info_read(c->multi, &left))) {
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode code = m->data.result;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
		if (request_deliver(r))
			request_finish(r, code, 0);
	}
}

int kube_request(struct kube_client *c, const struct kube_spec *spec, const struct kube_call *call, struct error *err) {
	struct kube_request *r;
	int rc = request_new(c, spec, &r, err);
	if (rc < 0)
		return rc;
	if (curl_multi_add_handle(c->multi, r->easy) != CURLM_OK) {
		request_free(r);
		return error_oom(err);
	}
	r->attached = true;
	TAILQ_INSERT_TAIL(&c->all, r, entry);
	if (call)
		r->call = *call;
	if (r->call.slot)
		*r->call.slot = r;
	return 0;
}

void kube_request_cancel(struct kube_request **slot) {
	if (*slot)
		request_free(*slot);
}

int kube_perform(struct kube_client *c, const struct kube_spec *spec, struct kube_response *ret) {
	struct kube_request *r;
	*ret = (struct kube_response){0};
	ret->error = request_new(c, spec, &r, &ret->err);
	if (ret->error < 0)
		return ret->error;
	request_result(r, curl_easy_perform(r->easy), 0, ret);
	request_free(r);
	return ret->error;
}

/* ---- curl and sd-event ---- */

static int on_io(sd_event_source *src, int fd, uint32_t revents, void *userdata) {
	struct kube_client *c = userdata;
	int running, mask = (revents & EPOLLIN ? CURL_CSELECT_IN : 0) | (revents & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
	                    (revents & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
	(void)src;
	curl_multi_socket_action(c->multi, fd, mask, &running);
	pump(c);
	return 0;
}

static int on_timer(sd_event_source *src, uint64_t usec, void *userdata) {
	struct kube_client *c = userdata;
	int running;
	(void)src;
	(void)usec;
	curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	pump(c);
	return 0;
}

static int socket_cb(CURL *easy, curl_socket_t fd, int what, void *userdata, void *assigned) {
	struct kube_client *c = userdata;
	struct sock *s = assigned;
	uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0U) | (what & CURL_POLL_OUT ? EPOLLOUT : 0U);
	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s) {
			TAILQ_REMOVE(&c->socks, s, entry);
			sd_event_source_disable_unref(s->io);
			free(s);
			curl_multi_assign(c->multi, fd, NULL);
		}
		return 0;
	}
	if (s)
		return sd_event_source_set_io_events(s->io, events) < 0 ? -1 : 0;
	s = calloc(1, sizeof(*s));
	if (!s || sd_event_add_io(c->loop, &s->io, fd, events, on_io, c) < 0) {
		free(s);
		return -1; /* the transfer fails with it */
	}
	TAILQ_INSERT_TAIL(&c->socks, s, entry);
	curl_multi_assign(c->multi, fd, s);
	return 0;
}

static int timer_cb(CURLM *multi, long ms, void *userdata) {
	struct kube_client *c = userdata;
	(void)multi;
	if (ms < 0)
		return c->timer && sd_event_source_set_enabled(c->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
	return loop_timer(c->loop, &c->timer, (uint64_t)ms * USEC_PER_MSEC, on_timer, c) < 0 ? -1 : 0;
}

/* ---- the client ---- */

int kube_client_new(struct kube_client **ret, sd_event *loop, const char *endpoint, const char *agent,
                    struct error *err) {
	bool is_unix = starts_with(endpoint, "unix:/");
	const char *host = starts_with(endpoint, "http://")    ? endpoint + 7
	                   : starts_with(endpoint, "https://") ? endpoint + 8
	                                                       : NULL;
	if (!is_unix && (!host || !*host || *host == '/'))
		return error_set(err, EINVAL,
		                 "API server `%s`: must be http://HOST:PORT, https://HOST:PORT or unix:/PATH",
		                 endpoint);
	_cleanup_(cleanup_kube_client) struct kube_client *c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	*c = (struct kube_client){.loop = sd_event_ref(loop), .agent = agent};
	TAILQ_INIT(&c->all);
	TAILQ_INIT(&c->ready);
	TAILQ_INIT(&c->socks);
	c->url = strdup(is_unix ? "http://localhost" : endpoint);
	c->unix_path = is_unix ? strdup(endpoint + 5) : NULL;
	if (!c->url || (is_unix && !c->unix_path))
		return error_oom(err);
	for (size_t n = strlen(c->url); n && c->url[n - 1] == '/'; n--)
		c->url[n - 1] = '\0';
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(c->multi = curl_multi_init()) ||
	    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, socket_cb) ||
	    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) ||
	    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, timer_cb) ||
	    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) ||
	    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, 64L) ||
	    curl_multi_setopt(c->multi, CURLMOPT_MAX_HOST_CONNECTIONS, 64L))
		return error_set(err, ENOMEM, "set up libcurl");
	metric_register(&requests);
	metric_register(&failures);
	*ret = TAKE_PTR(c);
	return 0;
}

struct kube_client *kube_client_free(struct kube_client *c) {
	struct kube_request *r;
	struct sock *s;
	if (!c)
		return NULL;
	while ((r = TAILQ_FIRST(&c->all)))
		request_free(r);
	if (c->multi)
		curl_multi_cleanup(c->multi);
	while ((s = TAILQ_FIRST(&c->socks))) {
		TAILQ_REMOVE(&c->socks, s, entry);
		sd_event_source_disable_unref(s->io);
		free(s);
	}
	sd_event_source_disable_unref(c->timer);
	sd_event_unref(c->loop);
	free(c->url);
	free(c->unix_path);
	free(c);
	return NULL;
}
