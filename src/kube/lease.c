/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/lease.h"

#include <string.h>

#include "api/core.h"
#include "base/util.h"

const char *kube_host_lease_name(const char *host, char out[static KUBE_LEASE_NAME_MAX]) {
	snprintf(out, KUBE_LEASE_NAME_MAX, "host-%s", host);
	return out;
}

/* The lease of a heartbeat or an elector. One request runs at a time. */
struct lock {
	struct kube_client *client;
	char *ns, *name, *identity;
	int64_t duration_s;
	struct lease *seen; /* as last read or written; NULL: unknown, or there is no lease */
	struct kube_request *req;
	uint32_t timeout_ms;
};

static int lock_init(struct lock *l, struct kube_client *c, const char *ns, const char *name, const char *identity) {
	l->client = c;
	return string_set(&l->ns, ns) < 0 || string_set(&l->name, name) < 0 || string_set(&l->identity, identity) < 0
	               ? -ENOMEM
	               : 0;
}

static void lock_forget(struct lock *l) {
	api_free(&api_kind_lease, l->seen);
	l->seen = NULL;
}

static void lock_clear(struct lock *l) {
	kube_request_cancel(&l->req);
	lock_forget(l);
	free(l->ns);
	free(l->name);
	free(l->identity);
}

static bool lock_mine(const struct lock *l) {
	return l->seen && l->seen->spec && streq(l->seen->spec->holder, l->identity);
}

static int send_lease(struct lock *l, const char *method, const struct lease *body, kube_done_fn done, void *userdata,
                      struct error *err) {
	_buf_free_ struct buf path = {0};
	_buf_free_ struct buf json = {0};
	kube_path(&path, &api_kind_lease, l->ns, streq(method, "POST") ? NULL : l->name, NULL);
	if (body)
		api_print(&api_kind_lease, body, &json);
	int r = buf_error(&path, "request path", err);
	if (r == 0)
		r = buf_error(&json, "lease", err);
	if (r < 0)
		return r;
	struct kube_spec spec = {
		.method = method, .path = path.data, .body = json.data, .len = json.len, .timeout_ms = l->timeout_ms};
	return kube_request(l->client, &spec, KUBE_CALL(done, userdata, &l->req), err);
}

static int lock_get(struct lock *l, kube_done_fn done, void *userdata, struct error *err) {
	return send_lease(l, "GET", NULL, done, userdata, err);
}

/* The lease with HOLDER ("": nobody) as its holder, made from the lease last seen, or new. The caller frees it. */
static struct lease *lock_next(struct lock *l, const char *holder) {
	struct lease *n = api_new(&api_kind_lease);
	char now[TIME_STR_MAX];
	const struct lease *old = l->seen;
	bool taken = !old || !old->spec || !streq(old->spec->holder, holder);
	int64_t transitions = old && old->spec ? old->spec->transitions.v + (taken ? 1 : 0) : 0;
	time_str(now_realtime_us(), true, now);
	if (!n || !(n->spec = calloc(1, sizeof(*n->spec))))
		goto oom;
	if (string_set(&n->meta.ns, l->ns) < 0 || string_set(&n->meta.name, l->name) < 0 ||
	    (old && old->meta.resource_version &&
	     string_set(&n->meta.resource_version, old->meta.resource_version) < 0) ||
	    (old && old->meta.uid && string_set(&n->meta.uid, old->meta.uid) < 0) ||
	    (*holder && string_set(&n->spec->holder, holder) < 0) || string_set(&n->spec->renew_time, now) < 0 ||
	    string_set(&n->spec->acquire_time, !taken && old->spec->acquire_time ? old->spec->acquire_time : now) < 0)
		goto oom;
	n->spec->duration = API_I64(l->duration_s);
	n->spec->transitions = API_I64(MIN(transitions, (int64_t)INT32_MAX));
	return n;
oom:
	api_free(&api_kind_lease, n);
	return NULL;
}

/* Creates the lease, or replaces exactly the version last seen. */
static int lock_take(struct lock *l, kube_done_fn done, void *userdata, struct error *err) {
	struct lease *n = lock_next(l, l->identity);
	if (!n)
		return error_oom(err);
	int r = send_lease(l, l->seen ? "PUT" : "POST", n, done, userdata, err);
	api_free(&api_kind_lease, n);
	return r;
}

/* Stores the lease that the server returned. */
static int lock_remember(struct lock *l, const struct kube_response *resp, struct error *err) {
	void *obj;
	int r = kube_response_parse(resp, &api_kind_lease, &obj, err);
	if (r < 0)
		return r;
	lock_forget(l);
	l->seen = obj;
	return 0;
}

/* ---- heartbeat ---- */

struct kube_heartbeat {
	struct lock lock;
	sd_event_source *timer;
	uint64_t interval_us, last;
	void (*state)(const struct error *, void *);
	void *userdata;
	bool failing, told;
};

static void beat(struct kube_heartbeat *h);

static int on_beat(sd_event_source *src, uint64_t usec, void *userdata) {
	(void)src;
	(void)usec;
	beat(userdata);
	return 0;
}

static void beat_after(struct kube_heartbeat *h, uint64_t us) {
	if (loop_timer(kube_client_loop(h->lock.client), &h->timer, us, on_beat, h) < 0)
		abort(); /* without the timer the heartbeat would stop for ever; a restart is better */
}

static void beat_result(struct kube_heartbeat *h, int error, const struct error *err) {
	if (error == 0)
		h->last = now_monotonic_ns();
	if (h->state && (!h->told || h->failing != (error < 0)))
		h->state(error < 0 ? err : NULL, h->userdata);
	h->told = true;
	h->failing = error < 0;
	/* After a failure the next try comes sooner, but not at once. */
	beat_after(h, error < 0 ? MIN(h->interval_us, USEC_PER_SEC) : h->interval_us);
}

static void beat_done(const struct kube_response *resp, void *userdata) {
	struct kube_heartbeat *h = userdata;
	struct error err = resp->err;
	int r = resp->error;
	if (r == 0)
		r = lock_remember(&h->lock, resp, &err);
	if (r < 0)
		lock_forget(&h->lock); /* it was deleted or changed, or its state is unknown: read it again next time */
	beat_result(h, r, &err);
}

static void beat_read(const struct kube_response *resp, void *userdata) {
	struct kube_heartbeat *h = userdata;
	struct error err = resp->err;
	int r = resp->error;
	if (r == 0)
		r = lock_remember(&h->lock, resp, &err);
	if (r == 0 || r == -ENOENT)
		r = lock_take(&h->lock, beat_done, h, &err);
	if (r < 0)
		beat_result(h, r, &err);
}

static void beat(struct kube_heartbeat *h) {
	struct error err = {0};
	int r = h->lock.seen ? lock_take(&h->lock, beat_done, h, &err) : lock_get(&h->lock, beat_read, h, &err);
	if (r < 0)
		beat_result(h, r, &err);
}

int kube_heartbeat_new(struct kube_heartbeat **ret, struct kube_client *c, const struct kube_heartbeat_options *o,
                       struct error *err) {
	_cleanup_(cleanup_kube_heartbeat) struct kube_heartbeat *h = calloc(1, sizeof(*h));
	if (!h || lock_init(&h->lock, c, o->ns, o->name, o->identity) < 0)
		return error_oom(err);
	h->lock.duration_s = o->duration_s ? o->duration_s : 15;
	h->interval_us = o->renew_ms ? o->renew_ms * USEC_PER_MSEC : (uint64_t)h->lock.duration_s * USEC_PER_SEC / 3;
	/* A request that takes longer than this is ended and sent again. */
	h->lock.timeout_ms = (uint32_t)MAX((uint64_t)1000, h->interval_us / USEC_PER_MSEC);
	h->state = o->state;
	h->userdata = o->userdata;
	int r = loop_timer(kube_client_loop(c), &h->timer, 0, on_beat, h);
	if (r < 0)
		return error_errno(err, r, "heartbeat timer");
	*ret = TAKE_PTR(h);
	return 0;
}

struct kube_heartbeat *kube_heartbeat_free(struct kube_heartbeat *h) {
	if (!h)
		return NULL;
	sd_event_source_disable_unref(h->timer);
	lock_clear(&h->lock);
	free(h);
	return NULL;
}

uint64_t kube_heartbeat_last(const struct kube_heartbeat *h) {
	return h->last;
}

/* ---- leader election ---- */

struct kube_elector {
	struct lock lock;
	sd_event_source *timer;
	struct kube_elector_options o; /* its strings are not used after kube_elector_new() */
	bool leading;                  /* as last passed to `changed` */
	uint64_t sent;     /* when the attempt began: a renewal counts from its beginning, not from its answer */
	uint64_t renewed;  /* `sent` of the last successful attempt; 0: none */
	uint64_t observed; /* when the lease was last seen to change */
	char version[64];  /* the lease's resourceVersion at that time */
};

static void attempt(struct kube_elector *e);

bool kube_elector_leading(const struct kube_elector *e) {
	return e->leading && now_monotonic_ns() - e->renewed < (uint64_t)e->o.deadline_ms * NSEC_PER_MSEC;
}

static int on_attempt(sd_event_source *src, uint64_t usec, void *userdata) {
	(void)src;
	(void)usec;
	attempt(userdata);
	return 0;
}

static void set_leading(struct kube_elector *e, bool leading, const struct error *err) {
	if (e->leading == leading)
		return;
	e->leading = leading;
	if (e->o.changed)
		e->o.changed(leading, err, e->o.userdata);
}

/* ERR says why the attempt failed; it is not used after a success. */
static void attempt_over(struct kube_elector *e, const struct error *err) {
	if (e->leading && !kube_elector_leading(e))
		set_leading(e, false, err);
	if (loop_timer(kube_client_loop(e->lock.client), &e->timer, e->o.retry_ms * USEC_PER_MSEC, on_attempt, e) < 0)
		abort(); /* without the timer it would never lead or try again */
}

static void observe(struct kube_elector *e) {
	const char *v = e->lock.seen && e->lock.seen->meta.resource_version ? e->lock.seen->meta.resource_version : "";
	if (!e->observed || !streq(v, e->version))
		e->observed = now_monotonic_ns();
	snprintf(e->version, sizeof(e->version), "%s", v);
}

static void taken(const struct kube_response *resp, void *userdata) {
	struct kube_elector *e = userdata;
	struct error err = resp->err;
	int r = resp->error;
	if (r == 0)
		r = lock_remember(&e->lock, resp, &err);
	if (r == 0) {
		e->renewed = e->sent;
		observe(e);
		set_leading(e, true, NULL);
	} else
		lock_forget(&e->lock); /* it was changed, or its state is unknown: read it again next time */
	attempt_over(e, &err);
}

/* True if the lease has no holder, or a holder that does not renew it. */
static bool is_free(const struct kube_elector *e) {
	const struct lease_spec *s = e->lock.seen ? e->lock.seen->spec : NULL;
	if (!s || !s->holder || !*s->holder || lock_mine(&e->lock))
		return true;
	uint64_t ms = s->duration.set ? (uint64_t)s->duration.v * 1000 : e->o.duration_ms;
	return now_monotonic_ns() - e->observed > ms * NSEC_PER_MSEC;
}

static void try_take(struct kube_elector *e) {
	struct error err = {0};
	e->sent = now_monotonic_ns();
	if (lock_take(&e->lock, taken, e, &err) < 0)
		attempt_over(e, &err);
}

static void read_done(const struct kube_response *resp, void *userdata) {
	struct kube_elector *e = userdata;
	struct error err = resp->err;
	int r = resp->error;
	if (r == 0)
		r = lock_remember(&e->lock, resp, &err);
	if (r < 0 && r != -ENOENT) {
		attempt_over(e, &err);
		return;
	}
	observe(e);
	if (is_free(e)) {
		try_take(e);
		return;
	}
	error_set(&err, EBUSY, "lease %s/%s was taken by %s", e->lock.ns, e->lock.name, e->lock.seen->spec->holder);
	set_leading(e, false, &err);
	attempt_over(e, &err);
}

static void attempt(struct kube_elector *e) {
	struct error err = {0};
	if (lock_mine(&e->lock))
		try_take(e);
	else if (lock_get(&e->lock, read_done, e, &err) < 0)
		attempt_over(e, &err);
}

int kube_elector_new(struct kube_elector **ret, struct kube_client *c, const struct kube_elector_options *o,
                     struct error *err) {
	_cleanup_(cleanup_kube_elector) struct kube_elector *e = calloc(1, sizeof(*e));
	if (!e || lock_init(&e->lock, c, o->ns, o->name, o->identity) < 0)
		return error_oom(err);
	e->o = *o;
	e->o.duration_ms = o->duration_ms ? o->duration_ms : 15000;
	e->o.deadline_ms = o->deadline_ms ? o->deadline_ms : 10000;
	e->o.retry_ms = o->retry_ms ? o->retry_ms : 2000;
	if (e->o.deadline_ms >= e->o.duration_ms || e->o.retry_ms >= e->o.deadline_ms)
		return error_set(err, EINVAL,
		                 "leader election: retry (%u ms) < deadline (%u ms) < duration (%u ms) must hold",
		                 e->o.retry_ms, e->o.deadline_ms, e->o.duration_ms);
	e->lock.duration_s = MAX((e->o.duration_ms + 999) / 1000, 1U);
	e->lock.timeout_ms = MAX(e->o.deadline_ms / 2, 500U);
	int r = loop_timer(kube_client_loop(c), &e->timer, 0, on_attempt, e);
	if (r < 0)
		return error_errno(err, r, "leader election timer");
	*ret = TAKE_PTR(e);
	return 0;
}

/* Writes the lease without a holder. If that fails, the lease expires by itself. */
static void release(struct kube_elector *e) {
	struct kube_response resp = {0};
	_buf_free_ struct buf path = {0};
	_buf_free_ struct buf json = {0};
	struct lease *n = lock_next(&e->lock, "");
	if (n) {
		kube_path(&path, &api_kind_lease, e->lock.ns, e->lock.name, NULL);
		api_print(&api_kind_lease, n, &json);
		struct kube_spec spec = {
			.method = "PUT", .path = path.data, .body = json.data, .len = json.len, .timeout_ms = 1000};
		if (!path.failed && !json.failed)
			(void)!kube_perform(e->lock.client, &spec, &resp);
	}
	kube_response_clear(&resp);
	api_free(&api_kind_lease, n);
}

struct kube_elector *kube_elector_free(struct kube_elector *e) {
	if (!e)
		return NULL;
	kube_request_cancel(&e->lock.req);
	if (e->leading && lock_mine(&e->lock))
		release(e);
	sd_event_source_disable_unref(e->timer);
	lock_clear(&e->lock);
	free(e);
	return NULL;
}
