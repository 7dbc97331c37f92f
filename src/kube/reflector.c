/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A cycle of requests, one at a time: LIST pages until the last, then one WATCH after the other. After a failure the
 * same request is sent again, after a pause; if the history is gone (410), it lists again.
 */

#include "kube/reflector.h"

#include <string.h>

#include "api/meta.h"
#include "base/util.h"
#include "kube/internal.h"

/* The largest list page: 2,000 objects of usual size, or a page of a few huge ones. */
#define ANSWER_MAX ((size_t)64 << 20)
#define EVENT_MAX  ((size_t)8 << 20) /* the largest event; also the most bytes that may wait to be taken */

/* As in kube-rs: pauses from 0.8 s to 30 s, doubling, with jitter; they start again from 0.8 s after 120 s without
 * failure. */
#define BACKOFF_MIN_US (800 * USEC_PER_MSEC)
#define BACKOFF_MAX_US (30 * USEC_PER_SEC)
#define BACKOFF_OK_US  (120 * USEC_PER_SEC)
/* While waiting: how often to check whether the server has answered other requests. */
#define LOOK_US USEC_PER_SEC

/* Watches end after a random time in this range, so that many clients don't reconnect at once. */
#define WATCH_MIN_S    290
#define WATCH_SPREAD_S 290
#define WATCH_MARGIN_S 5 /* a watch that is still open so long after its time-out is dead */

/* A watch that ends sooner than this without an event counts as a failure; otherwise requests would follow without
 * pause. */
#define WATCH_SHORT_NS NSEC_PER_SEC

struct kube_reflector {
	struct kube_client *client;
	const struct api_kind *kind;
	struct kube_reflector_ops ops;
	void *userdata;
	char *ns, *labels, *fields;
	uint32_t page;

	char *version;  /* resourceVersion at which the watch begins; NULL: list first */
	char *more;     /* continue token of the next page; NULL for the first page */
	bool listing;   /* list_begin was called, list_end not yet */
	bool connected; /* as last passed to `state` */
	bool told;      /* `state` was called at least once */
	struct kube_request *req;
	sd_event_source *timer;
	uint64_t backoff_us, failed_at, watch_began;
	uint64_t wait_until; /* monotonic ns */
	bool unreachable;    /* the last request failed without an answer */
	bool got_event;
	unsigned moves;   /* kube_client_moves() when the last request began */
	unsigned expired; /* how often in a row the history was gone right after a fresh list */
	int gone;         /* error of an ERROR event that ended the watch: -EKEYEXPIRED or another; 0: none */
	struct error gone_err;
};

static void reflector_start(struct kube_reflector *r);

static void reflector_set_state(struct kube_reflector *r, bool connected, const struct error *err) {
	if (r->told && r->connected == connected)
		return;
	r->told = true;
	r->connected = connected;
	if (r->ops.state)
		r->ops.state(connected, err, r->userdata);
}

static void start_after(struct kube_reflector *r, uint64_t us);

/*
 * Stops waiting if the server has meanwhile answered another request (a heartbeat is sent every few seconds): after an
 * outage the state that a host knows is minutes old and should not stay so for another 30 s.
 */
static int reflector_on_timer(sd_event_source *src, uint64_t usec, void *userdata) {
	struct kube_reflector *r = userdata;
	uint64_t now = now_monotonic_ns();
	(void)src;
	(void)usec;
	bool back = r->unreachable && kube_client_last_contact(r->client) > r->failed_at;
	if (now >= r->wait_until || back)
		reflector_start(r);
	else
		start_after(r, MIN((r->wait_until - now) / 1000 + 1, LOOK_US));
	return 0;
}

static void start_after(struct kube_reflector *r, uint64_t us) {
	if (loop_timer(kube_client_loop(r->client), &r->timer, us, reflector_on_timer, r) < 0)
		abort(); /* no memory for a timer: a restart is better than waiting for ever */
}

/* AFTER_S is the time that the server asked to wait. */
static void reflector_fail(struct kube_reflector *r, const struct error *err, uint32_t after_s) {
	uint64_t now = now_monotonic_ns();
	uint32_t jitter;
	if (!r->backoff_us || now - r->failed_at > BACKOFF_OK_US * 1000)
		r->backoff_us = BACKOFF_MIN_US;
	else
		r->backoff_us = MIN(r->backoff_us * 2, BACKOFF_MAX_US);
	r->failed_at = now;
	random_bytes(&jitter, sizeof(jitter));
	uint64_t wait = r->backoff_us / 2 + jitter % r->backoff_us / 2 + 1;
	wait = MAX(wait, after_s * USEC_PER_SEC);
	r->wait_until = now + wait * 1000;
	start_after(r, MIN(wait, LOOK_US));
	reflector_set_state(r, false, err);
}

static void reflector_set_version(struct kube_reflector *r, const char *s, size_t len) {
	char *v = strndup(s, len);
	if (!v)
		abort(); /* an old version would skip or repeat changes */
	free(r->version);
	r->version = v;
}

/* Starts a new list at the first page: objects of an unfinished list may have been deleted since. */
static void relist(struct kube_reflector *r) {
	r->listing = false;
	free(r->version);
	r->version = NULL;
	free(r->more);
	r->more = NULL;
}

/* ---- objects ---- */

/* Reads only the metadata of an object; NULL if not even that is possible. The caller frees it with free_meta(). */
static struct api_meta *parse_meta(const char *json, size_t len) {
	struct api_meta *m = calloc(1, sizeof(*m));
	struct jr j;
	const char *key;
	size_t n;
	bool ok = false;
	jr_init(&j, json, len);
	int rc = m ? jr_object(&j) : -ENOMEM;
	while (!ok && rc >= 0 && jr_key(&j, &key, &n) == 1) {
		bool hit = n == 8 && memcmp(key, "metadata", 8) == 0;
		rc = hit ? api_parse_part(&api_desc_api_meta, &j, m) : jr_skip(&j, NULL, NULL);
		ok = hit && rc == 0;
	}
	jr_done(&j);
	if (!ok) {
		free(m);
		m = NULL;
	}
	return m;
}

static void free_meta(struct api_meta *m) {
	if (m)
		api_clear(&api_desc_api_meta, m);
	free(m);
}

static int report_bad(struct kube_reflector *r, const char *json, size_t len, const struct api_errors *errs) {
	struct error err = {0};
	struct jr j;
	void *part = api_new(r->kind);
	if (!part)
		return -ENOMEM;
	jr_init(&j, json, len);
	int rc = api_parse_part(r->kind->desc, &j, part);
	jr_done(&j);
	if (rc == -ENOMEM) {
		api_free(r->kind, part);
		return rc;
	}
	api_errors_to_error(errs, &err);
	r->ops.bad(part, &err, r->userdata);
	return 0;
}

/*
 * Parses the next object of J and delivers it. A bad object is reported and skipped; the result is negative only if the
 * JSON is bad or memory is lacking.
 */
static int take_item(struct kube_reflector *r, struct jr *j) {
	struct jr before = *j;
	struct api_errors errs = {0};
	void *obj = api_new(r->kind);
	if (!obj)
		return -ENOMEM;
	int rc = api_parse_value(r->kind->desc, j, obj, &errs);
	if (rc == 0 && r->kind->check)
		r->kind->check(obj, &errs);
	if (rc == 0 && !((struct api_meta *)obj)->name)
		api_errors_add(&errs, API_REQUIRED, "metadata.name", "is required");
	if (rc == 0 && r->kind->max_bytes && (size_t)(j->p - before.p) > r->kind->max_bytes)
		api_errors_add(&errs, API_TOO_LONG, "", "takes %zu bytes, more than %zu", (size_t)(j->p - before.p),
		               r->kind->max_bytes);
	if (rc == 0 && !errs.n) {
		r->ops.apply(obj, r->userdata);
		return 0;
	}
	api_free(r->kind, obj);
	if (rc == -ENOMEM)
		return rc;
	/* Goes back to the beginning of the object and skips it. The scratch memory may have grown since. */
	struct buf scratch = j->scratch;
	const char *span;
	size_t len;
	*j = before;
	j->scratch = scratch;
	rc = jr_skip(j, &span, &len);
	return rc < 0 ? rc : report_bad(r, span, len, &errs);
}

/* ---- list ---- */

static int take_list_meta(struct jr *j, char **ret_version, char **ret_more) {
	const char *key, *s;
	size_t n, len;
	int r = jr_object(j);
	while (r >= 0 && (r = jr_key(j, &key, &n)) == 1) {
		char **out = n == 15 && memcmp(key, "resourceVersion", 15) == 0 ? ret_version
		             : n == 8 && memcmp(key, "continue", 8) == 0        ? ret_more
		                                                                : NULL;
		if (!out)
			r = jr_skip(j, NULL, NULL);
		else if ((r = jr_string(j, &s, &len)) == 0 && len) {
			free(*out);
			*out = strndup(s, len);
			r = *out ? 0 : -ENOMEM;
		}
	}
	return r;
}

/* Delivers one page. *RET_MORE stays NULL for the last page. */
static int take_page(struct kube_reflector *r, const char *body, size_t size, char **ret_version, char **ret_more,
                     struct error *err) {
	struct jr j;
	const char *key;
	size_t n;
	jr_init(&j, body, size);
	int rc = jr_object(&j);
	while (rc >= 0 && (rc = jr_key(&j, &key, &n)) == 1) {
		if (n == 8 && memcmp(key, "metadata", 8) == 0)
			rc = take_list_meta(&j, ret_version, ret_more);
		else if (n == 5 && memcmp(key, "items", 5) == 0 && jr_peek(&j) == JR_ARRAY) {
			rc = jr_array(&j);
			while (rc >= 0 && (rc = jr_elem(&j)) == 1)
				rc = take_item(r, &j);
		} else
			rc = jr_skip(&j, NULL, NULL);
	}
	if (rc == -ENOMEM)
		error_oom(err);
	else if (rc < 0) {
		jr_error(&j, err);
		error_prefix(err, "list of %s", r->kind->plural);
	} else if (!*ret_version)
		rc = error_set(err, EBADMSG, "list of %s: no metadata.resourceVersion", r->kind->plural);
	jr_done(&j);
	return rc;
}

static void list_done(const struct kube_response *resp, void *userdata) {
	struct kube_reflector *r = userdata;
	struct error err = resp->err;
	_free_ char *version = NULL;
	_free_ char *more = NULL;
	if (resp->error == -EMSGSIZE && resp->http == 0 && r->page > 1) {
		r->page /= 2; /* the objects are huge: ask for fewer at once */
		relist(r);
		start_after(r, 0);
		return;
	}
	int rc = resp->error;
	if (rc == 0) {
		if (!r->listing) {
			r->listing = true;
			r->ops.list_begin(r->userdata);
		}
		rc = take_page(r, resp->body, resp->len, &version, &more, &err);
	}
	r->unreachable = resp->http == 0;
	if (rc) {
		/* A continue token that expired is useless, and so it is after any error that we don't know. */
		if (resp->http)
			relist(r);
		reflector_fail(r, &err, resp->retry_after_s);
		return;
	}
	reflector_set_state(r, true, NULL);
	free(r->more);
	r->more = TAKE_PTR(more);
	if (!r->more) {
		r->listing = false;
		reflector_set_version(r, version, strlen(version));
		r->ops.list_end(r->version, r->userdata);
	}
	reflector_start(r);
}

/* ---- watch ---- */

/* The object of an ERROR event is a Status. */
static int take_error(struct kube_reflector *r, const char *json, size_t len) {
	struct kube_response status = {.http = 500, .body = json, .len = len};
	struct jr j;
	const char *key;
	size_t n;
	int64_t code;
	jr_init(&j, json, len);
	int rc = jr_object(&j);
	while (rc >= 0 && jr_key(&j, &key, &n) == 1) {
		if (n != 4 || memcmp(key, "code", 4) != 0)
			rc = jr_skip(&j, NULL, NULL);
		else if ((rc = jr_i64(&j, &code)) == 0 && code >= 400 && code < 600)
			status.http = (int)code;
	}
	jr_done(&j);
	kube_response_decode(&status, "watch");
	r->gone = status.error;
	r->gone_err = status.err;
	return status.error;
}

static int take_object(struct kube_reflector *r, const char *json, size_t len, bool deleted) {
	struct jr j;
	struct api_meta *m = parse_meta(json, len);
	int rc = 0;
	if (deleted && m && m->name)
		r->ops.remove(m, r->userdata);
	else if (!deleted) {
		jr_init(&j, json, len);
		rc = take_item(r, &j);
		jr_done(&j);
	}
	/* The version advances only after the event was delivered. */
	if (rc == 0 && m && m->resource_version)
		reflector_set_version(r, m->resource_version, strlen(m->resource_version));
	free_meta(m);
	return rc;
}

static int take_event(struct kube_reflector *r, const char *line, size_t len) {
	struct jr j;
	const char *key, *s, *object = NULL;
	char type[16] = "";
	size_t n, sl, object_len = 0;
	jr_init(&j, line, len);
	int rc = jr_object(&j);
	while (rc >= 0 && (rc = jr_key(&j, &key, &n)) == 1) {
		if (n == 4 && memcmp(key, "type", 4) == 0) {
			rc = jr_string(&j, &s, &sl);
			if (rc == 0)
				snprintf(type, sizeof(type), "%.*s", (int)MIN(sl, sizeof(type) - 1), s);
		} else if (n == 6 && memcmp(key, "object", 6) == 0)
			rc = jr_skip(&j, &object, &object_len);
		else
			rc = jr_skip(&j, NULL, NULL);
	}
	jr_done(&j);
	if (rc < 0 || !object)
		return -EBADMSG;
	if (streq(type, "ERROR"))
		return take_error(r, object, object_len);
	r->got_event = true;
	r->expired = 0;
	if (streq(type, "ADDED") || streq(type, "MODIFIED"))
		return take_object(r, object, object_len, false);
	if (streq(type, "DELETED"))
		return take_object(r, object, object_len, true);
	if (streq(type, "BOOKMARK")) {
		struct api_meta *m = parse_meta(object, object_len);
		if (m && m->resource_version)
			reflector_set_version(r, m->resource_version, strlen(m->resource_version));
		free_meta(m);
	}
	return 0;
}

static ssize_t watch_data(const char *bytes, size_t len, void *userdata) {
	struct kube_reflector *r = userdata;
	size_t used = 0;
	const char *nl;
	reflector_set_state(r, true, NULL);
	while ((nl = memchr(bytes + used, '\n', len - used))) {
		size_t n = (size_t)(nl - bytes) - used;
		int rc = n ? take_event(r, bytes + used, n) : 0;
		if (rc < 0)
			return rc;
		used += n + 1;
	}
	return (ssize_t)used;
}

static void watch_done(const struct kube_response *resp, void *userdata) {
	struct kube_reflector *r = userdata;
	struct error err = resp->err;
	bool brief = !r->got_event && now_monotonic_ns() - r->watch_began < WATCH_SHORT_NS;
	int rc = resp->error;
	if (r->gone) {
		rc = r->gone;
		err = r->gone_err;
	} else if (rc == 0 && brief)
		rc = error_set(&err, ECONNRESET, "watch of %s: the server ended the watch at once", r->kind->plural);
	bool cut = resp->error == -ECONNRESET || resp->error == -ETIMEDOUT;
	r->unreachable = resp->http == 0 || (cut && !brief);
	if (rc == -EKEYEXPIRED) {
		relist(r);
		if (r->expired++ == 0)
			reflector_start(r);
		else
			reflector_fail(r, &err, 0);
	} else if (rc < 0) {
		/* A version that the server refuses (504 if it lost its store) is not requested again. */
		bool busy = resp->http == 0 || resp->http == 429 || resp->http == 503 || rc == -EBUSY;
		if (!busy || rc == -EINVAL || rc == -EBADMSG)
			relist(r);
		reflector_fail(r, &err, resp->retry_after_s);
	} else
		reflector_start(r);
}

static int reflector_begin(struct kube_reflector *r, struct error *err) {
	_buf_free_ struct buf path = {0};
	struct kube_spec spec = {.method = "GET"};
	char text[32];
	unsigned moves = kube_client_moves(r->client);
	if (moves != r->moves)
		relist(r); /* our version is that of another server */
	r->moves = moves;
	bool watch = r->version;
	kube_path(&path, r->kind, r->ns, NULL, NULL);
	if (r->labels)
		kube_query(&path, "labelSelector", r->labels);
	if (r->fields)
		kube_query(&path, "fieldSelector", r->fields);
	if (watch) {
		uint32_t seconds;
		random_bytes(&seconds, sizeof(seconds));
		seconds = WATCH_MIN_S + seconds % WATCH_SPREAD_S;
		snprintf(text, sizeof(text), "%u", seconds);
		kube_query(&path, "watch", "true");
		kube_query(&path, "allowWatchBookmarks", "true");
		kube_query(&path, "resourceVersion", r->version);
		kube_query(&path, "timeoutSeconds", text);
		spec.timeout_ms = (seconds + WATCH_MARGIN_S) * 1000;
		spec.data = watch_data;
		spec.max = EVENT_MAX;
		r->watch_began = now_monotonic_ns();
		r->got_event = false;
		r->gone = 0;
	} else {
		snprintf(text, sizeof(text), "%u", r->page);
		kube_query(&path, "limit", text);
		if (r->more)
			kube_query(&path, "continue", r->more);
		spec.max = ANSWER_MAX;
	}
	int rc = buf_error(&path, "request path", err);
	spec.path = path.data;
	return rc < 0 ? rc : kube_request(r->client, &spec, KUBE_CALL(watch ? watch_done : list_done, r, &r->req), err);
}

static void reflector_start(struct kube_reflector *r) {
	struct error err = {0};
	r->wait_until = 0;
	if (reflector_begin(r, &err) < 0)
		reflector_fail(r, &err, 0);
}

static int reflector_copy(char **out, const char *s) {
	*out = s && *s ? strdup(s) : NULL;
	return s && *s && !*out ? -ENOMEM : 0;
}

int kube_reflector_new(struct kube_reflector **ret, struct kube_client *c, const struct api_kind *k,
                       const struct kube_reflector_options *o, const struct kube_reflector_ops *ops, void *userdata,
                       struct error *err) {
	static const struct kube_reflector_options none;
	_cleanup_(cleanup_kube_reflector) struct kube_reflector *r = calloc(1, sizeof(*r));
	if (!o)
		o = &none;
	if (!r)
		return error_oom(err);
	*r = (struct kube_reflector){.client = c, .kind = k, .ops = *ops, .userdata = userdata};
	r->page = o->page ? o->page : 2000;
	if (reflector_copy(&r->ns, o->ns) < 0 || reflector_copy(&r->labels, o->label_selector) < 0 ||
	    reflector_copy(&r->fields, o->field_selector) < 0)
		return error_oom(err);
	int rc = reflector_begin(r, err);
	if (rc < 0)
		return rc;
	*ret = TAKE_PTR(r);
	return 0;
}

struct kube_reflector *kube_reflector_free(struct kube_reflector *r) {
	if (!r)
		return NULL;
	kube_request_cancel(&r->req);
	sd_event_source_disable_unref(r->timer);
	free(r->ns);
	free(r->labels);
	free(r->fields);
	free(r->version);
	free(r->more);
	free(r);
	return NULL;
}
