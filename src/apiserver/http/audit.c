/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/http/audit.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "apiserver/request/stats.h"
#include "base/jsonwrite.h"
#include "base/util.h"

#define WAITING_MAX ((size_t)8 << 20)
#define EVENT_MAX   ((size_t)64 << 10)
#define AGENT_MAX   512

struct audit {
	char *path;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Guarded by the lock: */
	struct buf waiting;
	bool reopen, stop;
	uint64_t stop_at_ns;
	struct error failure;
	/* Used only by the writer: */
	int fd;
};

/* ---- the writer ---- */

static int open_log(const char *path, int *ret, struct error *err) {
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_errno(err, errno, "open audit log `%s`", path);
	*ret = fd;
	return 0;
}

/* Writes all of TEXT. On failure it truncates the log to its old length, so that no half line stays. */
static int audit_append(struct audit *a, const struct buf *text, struct error *err) {
	struct stat st;
	if (a->fd < 0) {
		int r = open_log(a->path, &a->fd, err);
		if (r < 0)
			return r;
	}
	if (fstat(a->fd, &st) < 0)
		return error_errno(err, errno, "audit log `%s`", a->path);
	int r = write_all(a->fd, text->data, text->len, err);
	if (r < 0) {
		if (S_ISREG(st.st_mode) && ftruncate(a->fd, st.st_size) < 0)
			return error_errno(err, errno, "truncate audit log `%s`", a->path);
		return error_prefix(err, "audit log `%s`", a->path);
	}
	return 0;
}

static void wait_a_second(struct audit *a) {
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec++;
	pthread_cond_timedwait(&a->changed, &a->lock, &until);
}

/* The writer takes all waiting lines. While it can't write them, more lines gather in `waiting`, up to its limit. */
static void *write_log(void *userdata) {
	struct audit *a = userdata;
	struct buf text = {.max = WAITING_MAX};
	struct error err;
	pthread_mutex_lock(&a->lock);
	for (;;) {
		while (!text.len && !a->waiting.len && !a->stop && !a->reopen)
			pthread_cond_wait(&a->changed, &a->lock);
		if (a->reopen) {
			a->reopen = false;
			a->fd = safe_close(a->fd);
		}
		if (!text.len) {
			struct buf empty = text;
			text = a->waiting;
			a->waiting = empty;
		}
		if (!text.len) {
			if (a->stop)
				break;
			continue;
		}
		pthread_mutex_unlock(&a->lock);
		err = (struct error){0};
		int r = audit_append(a, &text, &err);
		pthread_mutex_lock(&a->lock);
		a->failure = err;
		if (r == 0)
			buf_reset(&text);
		else if (a->stop && now_monotonic_ns() > a->stop_at_ns)
			break;
		else
			wait_a_second(a);
	}
	pthread_mutex_unlock(&a->lock);
	buf_free(&text);
	return NULL;
}

/* ---- lines ---- */

static void write_user(struct buf *b, const char *key, const struct user *u) {
	jw_key(b, key);
	jw_begin(b, '{');
	jw_kv_string(b, "username", u->name);
	jw_kv_string(b, "uid", u->uid);
	jw_key(b, "groups");
	jw_begin(b, '[');
	for (size_t i = 0; i < u->n_groups; i++)
		jw_string(b, u->groups[i]);
	jw_end(b, ']');
	jw_end(b, '}');
}

static void write_object(struct buf *b, const struct route *rt) {
	const struct review *v = rt->review;
	if (!rt->kind && !v)
		return;
	jw_key(b, "objectRef");
	jw_begin(b, '{');
	jw_kv_string(b, "resource", rt->kind ? rt->kind->plural : v->plural);
	jw_kv_string(b, "namespace", *rt->ns ? rt->ns : NULL);
	jw_kv_string(b, "name", *rt->name ? rt->name : NULL);
	const char *group = rt->kind ? rt->kind->group : v->group;
	jw_kv_string(b, "apiGroup", *group ? group : NULL);
	jw_kv_string(b, "apiVersion", rt->kind ? rt->kind->version : v->version);
	jw_kv_string(b, "subresource", rt->status ? "status" : rt->scale ? "scale" : v ? v->subresource : NULL);
	jw_end(b, '}');
}

/* Writes text from a client, which may contain anything. */
static void write_text(struct buf *b, const char *key, const char *s) {
	char clean[AGENT_MAX];
	size_t n = 0;
	for (; s && *s && n < sizeof(clean) - 1; s++)
		clean[n++] = (char)((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f ? '?' : *s);
	clean[n] = '\0';
	jw_kv_string(b, key, s ? clean : NULL);
}

static const char *verb(const struct request *r) {
	if (r->route.review)
		return "create";
	if (r->route.verb != VERB_NONE)
		return verb_name(r->route.verb);
	return streq(r->method, "GET")      ? "get"
	       : streq(r->method, "POST")   ? "create"
	       : streq(r->method, "PUT")    ? "update"
	       : streq(r->method, "PATCH")  ? "patch"
	       : streq(r->method, "DELETE") ? "delete"
	                                    : r->method;
}

static void write_event(struct buf *b, const struct request *r, const struct audit_client *c) {
	const struct user *user = r->by ? r->by : r->user, *as = r->by ? r->user : r->as;
	char begin[TIME_STR_MAX], end[TIME_STR_MAX];
	const uint64_t now = now_realtime_us(), took = (now_monotonic_ns() - r->start_ns) / 1000;
	jw_begin(b, '{');
	jw_kv_string(b, "kind", "Event");
	jw_kv_string(b, "apiVersion", "audit.k8s.io/v1");
	jw_kv_string(b, "level", "Metadata");
	jw_kv_string(b, "auditID", r->audit_id);
	jw_kv_string(b, "stage", "ResponseComplete");
	write_text(b, "requestURI", c->target);
	jw_kv_string(b, "verb", verb(r));
	if (user)
		write_user(b, "user", user);
	if (as)
		write_user(b, "impersonatedUser", as);
	jw_key(b, "sourceIPs");
	jw_begin(b, '[');
	if (c->address)
		jw_string(b, c->address);
	jw_end(b, ']');
	write_text(b, "userAgent", c->agent);
	write_object(b, &r->route);
	jw_key(b, "responseStatus");
	jw_begin(b, '{');
	jw_kv_i64(b, "code", r->reply.code);
	jw_end(b, '}');
	jw_kv_string(b, "requestReceivedTimestamp", time_str(now - took, true, begin));
	jw_kv_string(b, "stageTimestamp", time_str(now, true, end));
	jw_end(b, '}');
	buf_putc(b, '\n');
}

void audit_request(struct audit *a, const struct request *r, const struct audit_client *c) {
	_buf_free_ struct buf line = {.max = EVENT_MAX};
	write_event(&line, r, c);
	pthread_mutex_lock(&a->lock);
	if (line.failed || a->waiting.len + line.len > WAITING_MAX)
		stats_audit_dropped();
	else
		buf_add(&a->waiting, line.data, line.len);
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

/* ---- life ---- */

void audit_reopen(struct audit *a) {
	pthread_mutex_lock(&a->lock);
	a->reopen = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

void audit_state(struct audit *a, struct error *ret_failure) {
	pthread_mutex_lock(&a->lock);
	*ret_failure = a->failure;
	pthread_mutex_unlock(&a->lock);
}

int audit_new(struct audit **ret, const char *path, struct error *err) {
	struct audit *a = calloc(1, sizeof(*a));
	pthread_condattr_t attr;
	int r = a && (a->path = strdup(path)) ? 0 : error_oom(err);
	if (r == 0)
		r = open_log(path, &a->fd, err);
	if (r < 0) {
		free(a ? a->path : NULL);
		free(a);
		return r;
	}
	a->waiting.max = WAITING_MAX;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->changed, &attr);
	pthread_condattr_destroy(&attr);
	r = -pthread_create(&a->thread, NULL, write_log, a);
	if (r < 0) {
		safe_close(a->fd);
		free(a->path);
		free(a);
		return error_errno(err, r, "start the writer of the audit log");
	}
	*ret = a;
	return 0;
}

struct audit *audit_free(struct audit *a) {
	if (!a)
		return NULL;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	a->stop_at_ns = now_monotonic_ns() + NSEC_PER_SEC;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->changed);
	buf_free(&a->waiting);
	safe_close(a->fd);
	free(a->path);
	free(a);
	return NULL;
}
