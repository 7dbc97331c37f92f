/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A recorded event is level-triggered like everything else: `count` is the count that the server should have, `sent`
 * the count that it has. A timer sends until both are equal.
 */

#include "kube/event.h"

#include <stdarg.h>
#include <string.h>

#include "api/core.h"
#include "api/meta.h"
#include "base/jsonwrite.h"
#include "base/metrics.h"
#include "base/tree.h"
#include "base/util.h"

#define EVENTS_MAX  1024
#define SOURCES_MAX 1024
#define BURST       25
#define REFILL_NS   (20 * NSEC_PER_SEC)
#define RETRY_US    (2 * USEC_PER_SEC)
#define IN_FLIGHT   8
#define MESSAGE_MAX 1024

/* How many events one object may still have. */
struct source {
	RB_ENTRY(source) node;
	TAILQ_ENTRY(source) entry; /* in order of last use */
	unsigned tokens;
	uint64_t refilled;
	char uid[64];
};

struct record {
	RB_ENTRY(record) node;
	TAILQ_ENTRY(record) entry; /* in order of last use */
	struct kube_recorder *recorder;
	struct kube_request *req;
	struct event *ev;    /* as it is sent to create it */
	int64_t count, sent; /* sent 0: not created yet */
	int64_t sending;     /* the count in the request under way */
};

static int source_cmp(const struct source *a, const struct source *b) {
	return strcmp(a->uid, b->uid);
}

static int record_cmp(const struct record *a, const struct record *b) {
	int c = strcmp(a->ev->involved->uid, b->ev->involved->uid);
	if (!c)
		c = strcmp(a->ev->type, b->ev->type);
	if (!c)
		c = strcmp(a->ev->reason, b->ev->reason);
	return c ? c : strcmp(a->ev->message, b->ev->message);
}

RB_HEAD(sources, source);
RB_GENERATE_INTERNAL(sources, source, node, source_cmp, _unused_ static)
RB_HEAD(records, record);
RB_GENERATE_INTERNAL(records, record, node, record_cmp, _unused_ static)

struct kube_recorder {
	struct kube_client *client;
	char *component, *host;
	struct records records;
	struct sources sources;
	TAILQ_HEAD(, record) lru;
	TAILQ_HEAD(, source) source_lru;
	size_t n, n_sources, in_flight;
	sd_event_source *timer;
};

static struct metric dropped = METRIC_COUNTER("nacre_kube_events_dropped_total",
                                              "Events not recorded: too many, or refused by the API server.");

static void record_free(struct record *rec) {
	struct kube_recorder *r = rec->recorder;
	if (rec->req)
		r->in_flight--;
	kube_request_cancel(&rec->req);
	RB_REMOVE(records, &r->records, rec);
	TAILQ_REMOVE(&r->lru, rec, entry);
	r->n--;
	api_free(&api_kind_event, rec->ev);
	free(rec);
}

static void event_send_all(struct kube_recorder *r);

static int event_on_timer(sd_event_source *src, uint64_t usec, void *userdata) {
	(void)src;
	(void)usec;
	event_send_all(userdata);
	return 0;
}

static void send_later(struct kube_recorder *r, uint64_t us) {
	/* Without memory for the timer, this event is sent together with the next one. */
	(void)!loop_timer(kube_client_loop(r->client), &r->timer, us, event_on_timer, r);
}

static void sent(const struct kube_response *resp, void *userdata) {
	struct record *rec = userdata;
	struct kube_recorder *r = rec->recorder;
	r->in_flight--;
	if (resp->error == 0 || (resp->error == -EEXIST && !rec->sent))
		rec->sent = rec->sending;
	else if (resp->error == -ENOENT && rec->sent)
		rec->sent = 0; /* the event expired on the server: create it again */
	else if (!kube_response_retriable(resp)) {
		metric_add(&dropped, 1);
		record_free(rec);
		rec = NULL;
	}
	if (rec && rec->sent != rec->sending && resp->error != -ENOENT)
		send_later(r, RETRY_US);
	else
		send_later(r, 0);
}

static int send_record(struct record *rec) {
	struct kube_recorder *r = rec->recorder;
	struct event *ev = rec->ev;
	struct kube_call *call = KUBE_CALL(sent, rec, &rec->req);
	int rc;
	rec->sending = rec->count;
	if (!rec->sent) {
		ev->count = API_I64(rec->count);
		rc = kube_create(r->client, &api_kind_event, ev, call, NULL);
	} else {
		_buf_free_ struct buf patch = {0};
		jw_begin(&patch, '{');
		jw_kv_i64(&patch, "count", rec->count);
		jw_kv_string(&patch, "lastTimestamp", ev->last_timestamp);
		jw_end(&patch, '}');
		rc = buf_error(&patch, "event patch", NULL);
		if (rc == 0)
			rc = kube_patch(r->client, &api_kind_event, ev->meta.ns, ev->meta.name, NULL, KUBE_PATCH_MERGE,
			                patch.data, patch.len, call, NULL);
	}
	if (rc == 0)
		r->in_flight++;
	return rc;
}

static void event_send_all(struct kube_recorder *r) {
	struct record *rec;
	TAILQ_FOREACH (rec, &r->lru, entry) {
		if (r->in_flight >= IN_FLIGHT)
			return; /* the answer of each request calls this function again */
		if (!rec->req && rec->count != rec->sent && send_record(rec) < 0) {
			send_later(r, RETRY_US);
			return;
		}
	}
}

/* Takes one event from the object's allowance. False if none is left. */
static bool take_token(struct kube_recorder *r, const char *uid) {
	struct source *s = calloc(1, sizeof(*s)), *have;
	uint64_t now = now_monotonic_ns();
	if (!s)
		return false;
	snprintf(s->uid, sizeof(s->uid), "%s", uid);
	s->tokens = BURST;
	s->refilled = now;
	have = RB_INSERT(sources, &r->sources, s);
	if (have) {
		free(s);
		s = have;
		TAILQ_REMOVE(&r->source_lru, s, entry);
	} else
		r->n_sources++;
	TAILQ_INSERT_TAIL(&r->source_lru, s, entry);
	uint64_t more = (now - s->refilled) / REFILL_NS;
	s->refilled += more * REFILL_NS;
	s->tokens = (unsigned)MIN(s->tokens + more, (uint64_t)BURST);
	bool ok = s->tokens > 0;
	if (ok)
		s->tokens--;
	if (r->n_sources > SOURCES_MAX) {
		struct source *old = TAILQ_FIRST(&r->source_lru);
		TAILQ_REMOVE(&r->source_lru, old, entry);
		RB_REMOVE(sources, &r->sources, old);
		r->n_sources--;
		free(old);
	}
	return ok;
}

/* "hello.18d1a2b3c4d5e6f7", as other recorders name their events. The random part keeps names of several programs
 * apart. */
static char *make_name(const char *object) {
	uint64_t x;
	random_bytes(&x, sizeof(x));
	return strf("%.200s.%016llx", object, (unsigned long long)x);
}

static struct event *make_event(const struct kube_recorder *r, const struct api_kind *k, const struct api_meta *m,
                                enum kube_event_type type, const char *reason, const char *message) {
	struct event *ev = api_new(&api_kind_event);
	char version[64], now[TIME_STR_MAX];
	api_kind_version(k, version);
	time_str(now_realtime_us(), false, now);
	if (!ev)
		return NULL;
	ev->involved = calloc(1, sizeof(*ev->involved));
	ev->source = calloc(1, sizeof(*ev->source));
	ev->meta.name = make_name(m->name);
	ev->meta.ns = strdup(m->ns && *m->ns ? m->ns : "default");
	ev->reason = strdup(reason);
	ev->message = strdup(message);
	ev->type = strdup(type == KUBE_EVENT_WARNING ? "Warning" : "Normal");
	ev->first_timestamp = strdup(now);
	ev->last_timestamp = strdup(now);
	bool ok = ev->involved && ev->source && ev->meta.name && ev->meta.ns && ev->reason && ev->message && ev->type &&
	          ev->first_timestamp && ev->last_timestamp;
	if (ok) {
		ev->involved->api_version = strdup(version);
		ev->involved->kind = strdup(k->kind);
		ev->involved->ns = m->ns ? strdup(m->ns) : NULL;
		ev->involved->name = strdup(m->name);
		ev->involved->uid = strdup(m->uid ? m->uid : "");
		ev->source->component = strdup(r->component);
		ev->source->host = r->host ? strdup(r->host) : NULL;
		ok = ev->involved->api_version && ev->involved->kind && ev->involved->name && ev->involved->uid &&
		     ev->source->component;
	}
	if (!ok) {
		api_free(&api_kind_event, ev);
		return NULL;
	}
	return ev;
}

/* Makes room: forgets the event that has been unused for longest, even if it was not sent. */
static void evict(struct kube_recorder *r) {
	struct record *old = TAILQ_FIRST(&r->lru);
	if (old->sent != old->count)
		metric_add(&dropped, 1);
	record_free(old);
}

static void again(struct record *rec) {
	struct kube_recorder *r = rec->recorder;
	char now[TIME_STR_MAX];
	char *text = strdup(time_str(now_realtime_us(), false, now));
	rec->count = MIN(rec->count + 1, (int64_t)INT32_MAX);
	if (text) {
		free(rec->ev->last_timestamp);
		rec->ev->last_timestamp = text;
	}
	TAILQ_REMOVE(&r->lru, rec, entry);
	TAILQ_INSERT_TAIL(&r->lru, rec, entry);
	/* An event that repeats is written at most once a second. */
	send_later(r, USEC_PER_SEC);
}

void kube_event(struct kube_recorder *r, const struct api_kind *k, const void *obj, enum kube_event_type type,
                const char *reason, const char *fmt, ...) {
	const struct api_meta *m = obj;
	char message[MESSAGE_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	struct record *rec = calloc(1, sizeof(*rec));
	if (!rec || !(rec->ev = make_event(r, k, m, type, reason, message))) {
		free(rec);
		metric_add(&dropped, 1);
		return;
	}
	rec->recorder = r;
	struct record *have = RB_FIND(records, &r->records, rec);
	if (have || !take_token(r, rec->ev->involved->uid)) {
		if (have)
			again(have);
		else
			metric_add(&dropped, 1);
		api_free(&api_kind_event, rec->ev);
		free(rec);
		return;
	}
	rec->count = 1;
	RB_INSERT(records, &r->records, rec);
	TAILQ_INSERT_TAIL(&r->lru, rec, entry);
	if (++r->n > EVENTS_MAX)
		evict(r);
	event_send_all(r);
}

int kube_recorder_new(struct kube_recorder **ret, struct kube_client *c, const char *component, const char *host,
                      struct error *err) {
	_cleanup_(cleanup_kube_recorder) struct kube_recorder *r = calloc(1, sizeof(*r));
	if (!r)
		return error_oom(err);
	r->client = c;
	RB_INIT(&r->records);
	RB_INIT(&r->sources);
	TAILQ_INIT(&r->lru);
	TAILQ_INIT(&r->source_lru);
	r->component = strdup(component);
	r->host = host ? strdup(host) : NULL;
	if (!r->component || (host && !r->host))
		return error_oom(err);
	metric_register(&dropped);
	*ret = TAKE_PTR(r);
	return 0;
}

struct kube_recorder *kube_recorder_free(struct kube_recorder *r) {
	struct source *s;
	if (!r)
		return NULL;
	while (!TAILQ_EMPTY(&r->lru))
		record_free(TAILQ_FIRST(&r->lru));
	while ((s = TAILQ_FIRST(&r->source_lru))) {
		TAILQ_REMOVE(&r->source_lru, s, entry);
		free(s);
	}
	sd_event_source_disable_unref(r->timer);
	free(r->component);
	free(r->host);
	free(r);
	return NULL;
}
