/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connects libcurl's multi interface (CURLMOPT_SOCKETFUNCTION(3)) with sd-event. curl's own callbacks only store bytes.
 * The callbacks of the user run from client_pump(), outside of curl, where they may begin and cancel requests.
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

#define CONNECT_TIMEOUT_MS 10000L /* includes the TLS handshake with a busy server */
/*
 * A connection is dead if data or keep-alives stay unacknowledged for so long. This is shorter than a lease: with
 * HTTP/2 all requests share the connection, and heartbeats must get a new one in time.
 */
#define DEAD_PEER_MS      10000U
#define CHECK_NS          NSEC_PER_SEC
#define RETRY_AFTER_MAX_S 60

struct sock {
	TAILQ_ENTRY(sock) entry;
	sd_event_source *io;
};

struct kube_request {
	TAILQ_ENTRY(kube_request) entry, ready_entry;
	struct kube_client *c;
	struct kube_call call;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	char *body, *what; /* "GET /path" */
	struct buf in;     /* bytes received, not consumed yet */
	ssize_t (*data)(const char *, size_t, void *);
	bool ready, overflow, attached;
	unsigned moves; /* kube_client_moves() when the request began */
	char text[CURL_ERROR_SIZE];
};

/* How curl reaches a server. */
struct target {
	char *url, *unix_path; /* without trailing slash; path of the socket or NULL */
	char *connect_to;      /* for CURLOPT_CONNECT_TO: the real place of the host in url; NULL: the same host */
};

struct kube_client {
	sd_event *loop;
	CURLM *multi;
	sd_event_source *timer;
	const char *agent;
	struct kube_config config;
	struct target target;
	uint64_t checked; /* when the credentials were last compared with their files */
	unsigned moves;   /* see kube_client_moves() */
	sd_event_source *moved;
	TAILQ_HEAD(, kube_request) all, ready;
	TAILQ_HEAD(, sock) socks;
	struct kube_request *current; /* its data callback runs; NULL once that callback has cancelled it */
	uint64_t last_contact;
};

static struct metric requests = METRIC_COUNTER("nacre_kube_requests_total", "Requests sent to the API server.");
static struct metric failures =
	METRIC_COUNTER("nacre_kube_unanswered_total", "Requests to the API server that got no answer or a 5xx answer.");
static struct metric refused =
	METRIC_COUNTER("nacre_kube_refused_total", "Requests that the API server refused with 401 or 403.");
static struct metric reloads =
	METRIC_COUNTER("nacre_kube_credential_reloads_total", "Times that changed credentials were read.");
static struct metric bad_reloads = METRIC_COUNTER("nacre_kube_credential_reload_failures_total",
                                                  "Times that changed credentials could not be read.");

sd_event *kube_client_loop(const struct kube_client *c) {
	return c->loop;
}

const char *kube_client_server(const struct kube_client *c) {
	return c->config.server;
}

uint64_t kube_client_last_contact(const struct kube_client *c) {
	return c->last_contact;
}

/* ---- the server ---- */

static void target_clear(struct target *t) {
	free(t->url);
	free(t->unix_path);
	free(t->connect_to);
	*t = (struct target){0};
}

/* Gives the URL the host name of the server's certificate; curl connects to the real place by CURLOPT_CONNECT_TO. */
static int target_rename(struct target *t, const char *name) {
	char *host = NULL, *port = NULL, *url = NULL;
	CURLU *u = curl_url();
	bool ok = u && !curl_url_set(u, CURLUPART_URL, t->url, 0) && !curl_url_get(u, CURLUPART_HOST, &host, 0) &&
	          !curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) &&
	          !curl_url_set(u, CURLUPART_HOST, name, 0) && !curl_url_get(u, CURLUPART_URL, &url, 0);
	if (ok) {
		free(t->url);
		t->url = strdup(url);
		t->connect_to = strf("%s:%s:%s:%s", name, port, host, port);
	}
	curl_free(host);
	curl_free(port);
	curl_free(url);
	curl_url_cleanup(u);
	return ok && t->url && t->connect_to ? 0 : -EINVAL;
}

static int target_of(const struct kube_config *k, struct target *ret, struct error *err) {
	bool is_unix = starts_with(k->server, "unix:/");
	const char *host = is_unix ? "localhost" : strstr(k->server, "://") + 3;
	_cleanup_(target_clear) struct target t = {0};
	if (!*host || *host == '/')
		return error_set(err, EINVAL, "API server `%s`: the URL has no host", k->server);
	t.url = strdup(is_unix ? "http://localhost" : k->server);
	t.unix_path = is_unix ? strdup(k->server + 5) : NULL;
	if (!t.url || (is_unix && !t.unix_path))
		return error_oom(err);
	if (k->tls_server_name && starts_with(t.url, "https:") && target_rename(&t, k->tls_server_name) < 0)
		return error_set(err, EINVAL,
		                 "API server `%s`, tls-server-name `%s`: the name can't be put into the URL", k->server,
		                 k->tls_server_name);
	for (size_t n = strlen(t.url); n && t.url[n - 1] == '/'; n--)
		t.url[n - 1] = '\0';
	*ret = t;
	t = (struct target){0};
	return 0;
}

/* ---- one request ---- */

static void mark_ready(struct kube_request *r) {
	if (!r->data || r->ready || !r->attached)
		return;
	TAILQ_INSERT_TAIL(&r->c->ready, r, ready_entry);
	r->ready = true;
}

/* curl calls this for each header line; the empty line ends the headers. */
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
	/* A child process must not keep the connection, and with it our watch, open after this process has ended. */
	(void)!fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* Fails on UNIX sockets, which don't need it: the kernel reports the end of their peer. */
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
	curl_slist_free_all(r->connect_to);
	buf_free_wiped(&r->in);
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

static bool set_blob(CURL *e, CURLoption option, const struct kube_secret *s) {
	struct curl_blob blob = {.data = s->data, .len = s->data ? strlen(s->data) : 0, .flags = CURL_BLOB_COPY};
	return !s->data || !curl_easy_setopt(e, option, &blob);
}

static bool is_tls(const struct kube_client *c) {
	return starts_with(c->target.url, "https:");
}

static bool set_tls(const struct kube_client *c, CURL *e) {
	const struct kube_config *k = &c->config;
	long check = !k->insecure;
	/* If the kubeconfig names an authority, the authorities of the system must not vouch for the server. */
	return !curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, check) &&
	       !curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, check ? 2L : 0L) &&
	       !curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
	       (!k->ca.data || !curl_easy_setopt(e, CURLOPT_CAPATH, NULL)) &&
	       set_blob(e, CURLOPT_CAINFO_BLOB, &k->ca) && set_blob(e, CURLOPT_SSLCERT_BLOB, &k->cert) &&
	       set_blob(e, CURLOPT_SSLKEY_BLOB, &k->key);
}

/* Sets how to reach the server and the credentials. All settings of sockets, certificates and tokens are here. */
static bool set_transport(struct kube_client *c, CURL *e) {
	return !curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") && !curl_easy_setopt(e, CURLOPT_PROXY, "") &&
	       (!c->target.unix_path || !curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, c->target.unix_path)) &&
	       (!is_tls(c) || set_tls(c, e)) && !curl_easy_setopt(e, CURLOPT_USERAGENT, c->agent) &&
	       !curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS) &&
	       !curl_easy_setopt(e, CURLOPT_PIPEWAIT, (long)is_tls(c)) &&
	       !curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L) && !curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, 15L) &&
	       !curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, 5L) &&
	       !curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, on_socket) &&
	       !curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS) &&
	       !curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
}

static bool set_place(struct kube_request *r) {
	const char *to = r->c->target.connect_to;
	if (!to)
		return true;
	r->connect_to = curl_slist_append(NULL, to);
	return r->connect_to && !curl_easy_setopt(r->easy, CURLOPT_CONNECT_TO, r->connect_to);
}

/* The token is sent only over TLS or a UNIX socket, so that nobody else can read it (as client-go does). */
static bool set_token(struct kube_request *r) {
	const char *token = r->c->config.token.data;
	if (!token || (!is_tls(r->c) && !r->c->target.unix_path))
		return true;
	_free_ char *header = strf("Authorization: Bearer %s", token);
	return header && add_header(r, header);
}

static bool set_message(struct kube_request *r, const struct kube_spec *s) {
	_free_ char *url = strf("%s%s", r->c->target.url, s->path);
	_free_ char *type = strf("Content-Type: %s", s->content_type ? s->content_type : "application/json");
	bool ok = url && type && !curl_easy_setopt(r->easy, CURLOPT_URL, url) &&
	          !curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, s->method) &&
	          add_header(r, "Accept: application/json") && set_token(r);
	if (ok && s->body) {
		r->body = malloc(s->len + 1);
		if (r->body)
			memcpy(r->body, s->body, s->len);
		/* No "Expect: 100-continue": it would cost a round trip. */
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

static int on_moved(sd_event_source *src, uint64_t usec, void *userdata);

/* Reads credentials again whose files have changed. If they can't be read, the old ones stay in use and reading is
 * retried. */
static void refresh(struct kube_client *c) {
	uint64_t now = now_monotonic_ns();
	if (now - c->checked < CHECK_NS)
		return;
	c->checked = now;
	if (!kube_config_changed(&c->config))
		return;
	_kube_config_ struct kube_config fresh = {0};
	struct target target;
	bool ok = kube_config_reload(&c->config, &fresh, NULL) >= 0 && target_of(&fresh, &target, NULL) >= 0;
	metric_add(ok ? &reloads : &bad_reloads, 1);
	if (!ok)
		return;
	bool moved = !streq(c->config.server, fresh.server) || !streq(c->config.ca.data, fresh.ca.data);
	c->moves += moved;
	/* Callbacks must come from the loop. Without memory for the timer these requests end when the old server ends
	 * them. */
	if (moved && c->loop)
		(void)!loop_timer(c->loop, &c->moved, 0, on_moved, c);
	kube_config_clear(&c->config);
	c->config = fresh;
	fresh = (struct kube_config){0};
	target_clear(&c->target);
	c->target = target;
}

unsigned kube_client_moves(struct kube_client *c) {
	refresh(c);
	return c->moves;
}

static int request_new(struct kube_client *c, const struct kube_spec *s, struct kube_request **ret, struct error *err) {
	refresh(c);
	struct kube_request *r = calloc(1, sizeof(*r));
	if (!r)
		return error_oom(err);
	r->c = c;
	r->moves = c->moves;
	r->data = s->data;
	r->in.max = s->max ? s->max : BUF_MAX_DEFAULT;
	r->easy = curl_easy_init();
	r->what = strf("%s %.*s", s->method, (int)strcspn(s->path, "?"), s->path);
	if (!r->easy || !r->what || !set_transport(c, r->easy) || !set_place(r) || !set_message(r, s)) {
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
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE: return -EPROTO;
	default: return -ECONNRESET;
	}
}

/* Why the request got no answer. Of a UNIX socket curl would say "localhost port 80". */
static const char *request_failure(const struct kube_request *r, CURLcode code) {
	long reason = 0;
	if (code == CURLE_COULDNT_CONNECT && r->c->target.unix_path)
		curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &reason);
	if (reason == ENOENT)
		return "no such socket: is nacre-apiserver running here? Use --kubeconfig or $KUBECONFIG for another "
		       "server";
	if (reason)
		return strerror((int)reason);
	return *r->text ? r->text : curl_easy_strerror(code);
}

/* Fills RET from the ended request and takes over its bytes. ERROR is what the data callback returned, or 0. */
static void request_result(struct kube_request *r, CURLcode code, int error, struct kube_response *ret) {
	long http = 0;
	*ret = (struct kube_response){0};
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &http);
	if (error < 0)
		ret->error = error_set(&ret->err, error, "%s: the answer could not be processed", r->what);
	else if (r->overflow)
		ret->error = error_set(&ret->err, EMSGSIZE, "%s: the answer is over the limit of %zu bytes", r->what,
		                       r->in.max);
	else if (code != CURLE_OK)
		ret->error = error_set(&ret->err, curl_errno(code), "%s at %s: %s", r->what, r->c->config.server,
		                       request_failure(r, code));
	else
		ret->http = (int)http;
	ret->data = r->in;
	r->in = (struct buf){0};
	ret->body = ret->data.data ? ret->data.data : "";
	ret->len = ret->data.len;
	if (ret->http)
		kube_response_decode(ret, r->what);
	if (ret->http >= 400) {
		curl_off_t wait = 0;
		curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &wait);
		ret->retry_after_s = wait < 0 ? 0 : (uint32_t)MIN(wait, (curl_off_t)RETRY_AFTER_MAX_S);
	}
	if (ret->http == 401) {
		/* The server's own message is only "Unauthorized". */
		const struct kube_config *k = &r->c->config;
		error_set(&ret->err, EACCES, "%s at %s: the server does not accept the credentials%s%s%s", r->what,
		          k->server, k->path ? " of `" : "", k->path ? k->path : "", k->path ? "`" : "");
	}
	if (ret->error == -EACCES)
		metric_add(&refused, 1);
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

/* Ends the requests to a server that the kubeconfig no longer names: their answers are about that server's objects. */
static int on_moved(sd_event_source *src, uint64_t usec, void *userdata) {
	struct kube_client *c = userdata;
	struct kube_request *r = TAILQ_FIRST(&c->all);
	(void)src;
	(void)usec;
	while (r) {
		if (r->moves == c->moves) {
			r = TAILQ_NEXT(r, entry);
			continue;
		}
		snprintf(r->text, sizeof(r->text), "the kubeconfig names another API server now");
		request_finish(r, CURLE_RECV_ERROR, 0);
		r = TAILQ_FIRST(&c->all); /* the callback may have ended other requests */
	}
	return 0;
}

/* Passes a stream's bytes to its user. False if the request has ended. */
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

static void client_pump(struct kube_client *c) {
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

static int client_on_io(sd_event_source *src, int fd, uint32_t revents, void *userdata) {
	struct kube_client *c = userdata;
	int running, mask = (revents & EPOLLIN ? CURL_CSELECT_IN : 0) | (revents & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
	                    (revents & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
	(void)src;
	curl_multi_socket_action(c->multi, fd, mask, &running);
	client_pump(c);
	return 0;
}

static int client_on_timer(sd_event_source *src, uint64_t usec, void *userdata) {
	struct kube_client *c = userdata;
	int running;
	(void)src;
	(void)usec;
	curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	client_pump(c);
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
	if (!s || sd_event_add_io(c->loop, &s->io, fd, events, client_on_io, c) < 0) {
		free(s);
		return -1; /* curl then fails the transfer */
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
	return loop_timer(c->loop, &c->timer, (uint64_t)ms * USEC_PER_MSEC, client_on_timer, c) < 0 ? -1 : 0;
}

/* ---- the client ---- */

int kube_client_open(struct kube_client **ret, sd_event *loop, const struct kube_access *access, const char *agent,
                     struct error *err) {
	_cleanup_(cleanup_kube_client) struct kube_client *c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	*c = (struct kube_client){.loop = sd_event_ref(loop), .agent = agent};
	TAILQ_INIT(&c->all);
	TAILQ_INIT(&c->ready);
	TAILQ_INIT(&c->socks);
	int r = kube_config_load(access, &c->config, err);
	if (r >= 0)
		r = target_of(&c->config, &c->target, err);
	if (r < 0)
		return r;
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
	metric_register(&refused);
	metric_register(&reloads);
	metric_register(&bad_reloads);
	*ret = TAKE_PTR(c);
	return 0;
}

int kube_client_new(struct kube_client **ret, sd_event *loop, const char *endpoint, const char *agent,
                    struct error *err) {
	return kube_client_open(ret, loop, &(struct kube_access){.api = endpoint}, agent, err);
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
	sd_event_source_disable_unref(c->moved);
	sd_event_unref(c->loop);
	kube_config_clear(&c->config);
	target_clear(&c->target);
	free(c);
	return NULL;
}
