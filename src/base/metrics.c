/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <microhttpd.h>
#include <string.h>
#include <sys/resource.h>

#include "base/loop.h"
#include "base/util.h"

static struct metric *metrics;

static struct collector {
	void (*fn)(void *);
	void *userdata;
} * collectors;
static size_t n_collectors;

void metrics_forget(void *userdata) {
	for (size_t i = 0; i < n_collectors; i++)
		if (collectors[i].userdata == userdata)
			collectors[i--] = collectors[--n_collectors];
}

void metrics_collect(void (*fn)(void *), void *userdata) {
	metrics_forget(userdata);
	struct collector *more = reallocarray(collectors, n_collectors + 1, sizeof(*more));
	if (!more)
		abort(); /* without this collector its gauges would keep old values, and nobody would know */
	collectors = more;
	collectors[n_collectors++] = (struct collector){fn, userdata};
}

void metric_register(struct metric *m) {
	struct metric **p = &metrics;
	while (*p) {
		if (*p == m)
			return;
		p = &(*p)->next;
	}
	*p = m;
}

static void render_process(struct buf *out) {
	struct rusage u;
	long pages = 0;
	_fclose_ FILE *f = fopen("/proc/self/statm", "re");
	if (f && fscanf(f, "%*d %ld", &pages) != 1)
		pages = 0;
	getrusage(RUSAGE_SELF, &u);
	buf_printf(out,
	           "# HELP process_cpu_seconds_total Total user and system CPU time spent.\n"
	           "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %ld.%06ld\n"
	           "# HELP process_resident_memory_bytes Resident memory size.\n"
	           "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %lld\n",
	           u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000000,
	           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) % 1000000, (long long)pages * sysconf(_SC_PAGESIZE));
}

void metrics_render(struct buf *out) {
	const char *last = "";
	for (size_t i = 0; i < n_collectors; i++)
		collectors[i].fn(collectors[i].userdata);
	for (struct metric *m = metrics; m; m = m->next) {
		if (strcmp(m->name, last) != 0)
			buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->type);
		last = m->name;
		buf_printf(out, "%s%s%s%s %.15g\n", m->name, m->labels ? "{" : "", m->labels ? m->labels : "",
		           m->labels ? "}" : "",
		           (double)__atomic_load_n(&m->value, __ATOMIC_RELAXED) * (m->scale != 0 ? m->scale : 1));
	}
	render_process(out);
}

struct metrics_server {
	struct MHD_Daemon *mhd;
	sd_event_source *io, *timer;
	sd_event *loop;
	bool (*ready)(void *);
	void *userdata;
};

static enum MHD_Result metrics_handle(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                      const char *version, const char *body, size_t *body_len, void **state) {
	struct metrics_server *s = cls;
	static int seen;
	unsigned status = MHD_HTTP_OK;
	(void)version;
	(void)body;
	if (!*state) {
		*state = &seen;
		return MHD_YES;
	}
	if (*body_len) { /* no path here takes a body: drop it */
		*body_len = 0;
		return MHD_YES;
	}
	_buf_free_ struct buf out = {0};
	if (strcmp(method, "GET") != 0) {
		status = MHD_HTTP_METHOD_NOT_ALLOWED;
		buf_puts(&out, "only GET\n");
	} else if (strcmp(url, "/metrics") == 0)
		metrics_render(&out);
	else if (strcmp(url, "/healthz") == 0)
		buf_puts(&out, "ok\n");
	else if (strcmp(url, "/readyz") == 0) {
		bool ready = !s->ready || s->ready(s->userdata);
		status = ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
		buf_puts(&out, ready ? "ok\n" : "not ready\n");
	} else {
		status = MHD_HTTP_NOT_FOUND;
		buf_puts(&out, "try /metrics, /healthz or /readyz\n");
	}
	size_t len = out.len;
	char *data = buf_steal(&out);
	if (!data)
		return MHD_NO;
	struct MHD_Response *resp = MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE);
	if (!resp) {
		free(data);
		return MHD_NO;
	}
	MHD_add_response_header(resp, "Content-Type", "text/plain; version=0.0.4");
	enum MHD_Result r = MHD_queue_response(c, status, resp);
	MHD_destroy_response(resp);
	return r;
}

static int metrics_on_timer(sd_event_source *src, uint64_t usec, void *userdata);

static void metrics_run(struct metrics_server *s) {
	MHD_UNSIGNED_LONG_LONG ms;
	MHD_run(s->mhd);
	if (MHD_get_timeout(s->mhd, &ms) == MHD_YES)
		(void)!loop_timer(s->loop, &s->timer, ms * USEC_PER_MSEC, metrics_on_timer, s);
}

static int metrics_on_timer(sd_event_source *src, uint64_t usec, void *userdata) {
	(void)src;
	(void)usec;
	metrics_run(userdata);
	return 0;
}

static int metrics_on_io(sd_event_source *src, int fd, uint32_t revents, void *userdata) {
	(void)src;
	(void)fd;
	(void)revents;
	metrics_run(userdata);
	return 0;
}

DEFINE_CLEANUP(metrics_server, struct metrics_server *, metrics_server_free)

int metrics_server_new(struct metrics_server **ret, sd_event *loop, const char *text, bool (*ready)(void *),
                       void *userdata, struct error *err) {
	_close_ int fd = -1;
	int r = listen_socket(text, &fd, err);
	if (r < 0)
		return r;
	_cleanup_(cleanup_metrics_server) struct metrics_server *s = calloc(1, sizeof(*s));
	if (!s)
		return error_oom(err);
	*s = (struct metrics_server){.loop = sd_event_ref(loop), .ready = ready, .userdata = userdata};
	s->mhd = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, metrics_handle, s, MHD_OPTION_LISTEN_SOCKET, fd,
	                          MHD_OPTION_CONNECTION_LIMIT, 64U, MHD_OPTION_CONNECTION_TIMEOUT, 30U, MHD_OPTION_END);
	if (!s->mhd)
		return error_set(err, EIO, "start the HTTP server on `%s`", text);
	(void)TAKE_FD(fd); /* MHD closes it */
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	r = info ? sd_event_add_io(loop, &s->io, info->epoll_fd, EPOLLIN, metrics_on_io, s) : -EIO;
	if (r < 0)
		return error_errno(err, r, "watch the HTTP server on `%s`", text);
	*ret = TAKE_PTR(s);
	return 0;
}

struct metrics_server *metrics_server_free(struct metrics_server *s) {
	if (!s)
		return NULL;
	sd_event_source_disable_unref(s->io);
	sd_event_source_disable_unref(s->timer);
	if (s->mhd)
		MHD_stop_daemon(s->mhd);
	sd_event_unref(s->loop);
	free(s);
	return NULL;
}
