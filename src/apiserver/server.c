/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/server.h"

#include <inttypes.h>
#include <string.h>

#include "api/core.h"
#include "apiserver/auth/authn.h"
#include "apiserver/auth/authz.h"
#include "apiserver/auth/restrict.h"
#include "apiserver/auth/review.h"
#include "apiserver/http/audit.h"
#include "apiserver/read/read.h"
#include "apiserver/request/body.h"
#include "apiserver/request/limits.h"
#include "apiserver/request/reply.h"
#include "apiserver/request/stats.h"
#include "apiserver/schema/other.h"
#include "apiserver/write/gc.h"
#include "apiserver/write/handlers.h"
#include "apiserver/write/keep.h"
#include "apiserver/write/quota.h"
#include "base/loop.h"
#include "base/util.h"

static void server_on_event(void *userdata, unsigned kind, const struct watch_event *e) {
	struct server *s = userdata;
	gc_notice(s->gc, kind, e);
	rbac_notice(s->auth.rbac, kind, e);
	keep_notice(s->keep, kind, e);
	quota_notice(s->stage.quota, kind, e);
	authn_notice(s->auth.authn, kind, e);
	stats_objects(e->type == EVENT_ADDED ? 1 : e->type == EVENT_DELETED ? -1 : 0);
	s->changed |= UINT64_C(1) << kind;
}

static void on_commit(void *userdata, int r, const struct error *cause) {
	struct server *s = userdata;
	uint64_t changed = s->changed;
	s->changed = 0;
	quota_settled(s->stage.quota);
	s->write_failed = r < 0 ? *cause : (struct error){0};
	for (unsigned k = 0; api_kinds[k]; k++)
		if (changed & UINT64_C(1) << k)
			watches_notify(&s->watches, k);
	const struct store_cost cost = store_cost(s->store);
	if (cost.changes)
		stats_commit(cost.changes, cost.took_ns, r == 0);
	queue_settled(&s->queue, r, cause);
	gc_run(s->gc);
	keep_run(s->keep);
	queue_run(&s->queue);
}

/* ---- requests ---- */

static enum write_result run_request(struct queue *q, struct write *w) {
	struct server *s = (struct server *)q;
	struct request *r = (struct request *)w;
	if (r->route.scale)
		return handle_scale(&s->stage, r);
	switch (r->route.verb) {
	case VERB_CREATE: return handle_create(&s->stage, r);
	case VERB_UPDATE: return handle_update(&s->stage, r);
	case VERB_PATCH: return handle_patch(&s->stage, r);
	case VERB_DELETE: return handle_delete(&s->stage, r);
	default: return handle_delete_collection(&s->stage, r);
	}
}

static enum write_result run_list(_unused_ struct queue *q, struct write *w) {
	list_more((struct request *)w);
	return WRITE_DONE;
}

static void request_done(struct queue *q, struct write *w, int r, const struct error *cause) {
	struct request *rq = (struct request *)w;
	if (r < 0)
		reply_internal(rq, "the change could not be stored: %s", cause->msg);
	else if (rq->rest) {
		queue_write(q, w);
		return;
	}
	rq->answered = true;
	if (rq->done)
		rq->done(rq);
}

static bool queue_request(struct server *s, struct request *r,
                          enum write_result (*run)(struct queue *, struct write *)) {
	r->answered = false;
	r->write.run = run;
	r->write.done = request_done;
	queue_write(&s->queue, &r->write);
	return r->answered;
}

static void answer_other(const struct server *s, struct request *r) {
	const struct health health = {.database = s->write_failed.code ? s->write_failed.msg : NULL,
	                              .stopping = s->watches.ended};
	handle_other(&health, r);
}

bool server_handle(struct server *s, struct request *r) {
	r->answered = true;
	if (r->reply.code || route_parse(r) < 0 || !authz_request(s->auth.rbac, r) || route_check(r) < 0 ||
	    restrict_request(&s->auth, r) < 0)
		return true;
	if (r->route.review) {
		if (body_parse(r) == 0)
			review_answer(&s->auth, r);
		return true;
	}
	/*
	 * fabric8 first tries to watch by WebSocket, and reads an answer without WebSocket to its end before it watches
	 * by plain HTTP. It would read the stream of a watch for ever.
	 */
	if (r->websocket && r->route.verb == VERB_WATCH) {
		reply_text(&r->reply, 200, "");
		return true;
	}
	void (*get)(const struct store *, struct request *) = r->route.scale ? handle_scale_get : handle_get;
	switch (r->route.verb) {
	case VERB_NONE: answer_other(s, r); return true;
	case VERB_GET: get(s->store, r); return true;
	case VERB_LIST: handle_list(s->store, r); return r->rest ? queue_request(s, r, run_list) : true;
	case VERB_WATCH: handle_watch(&s->watches, r); return true;
	default: break;
	}
	if (s->queue.read_only) {
		const struct status_details d = {.group = r->route.kind->group, .kind = r->route.kind->plural};
		reply_status(&r->reply, 503, "ServiceUnavailable", &d,
		             "this nacre-apiserver is on hold (--read-only) and changes nothing: its cloud is being "
		             "moved to another API server");
		return true;
	}
	if (body_parse(r) < 0)
		return true;
	return queue_request(s, r, run_request);
}

static bool handle_for_site(void *userdata, struct request *r) {
	return server_handle(userdata, r);
}

/* ---- life ---- */

void server_tick(struct server *s) {
	watches_tick(&s->watches, now_monotonic_ns());
	(void)limits_tick(s->limits, now_monotonic_ns());
	gc_tick(s->gc);
	keep_tick(s->keep);
}

void server_stop(struct server *s) {
	watches_end(&s->watches);
}

/* Stages the namespaces that always exist. */
static int make_namespaces(struct server *s, struct error *err) {
	static const char *const names[] = {"default", "nacre-system"};
	char uid[37], now[TIME_STR_MAX];
	const unsigned kind = api_kind_index(&api_kind_namespace);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (store_get(s->store, kind, "", names[i]))
			continue;
		uuid_make(uid);
		json_t *obj =
			json_pack("{s:{s:s, s:s, s:s, s:{s:s}}, s:{s:[s]}, s:{s:s}}", "metadata", "name", names[i],
		                  "uid", uid, "creationTimestamp", time_str(now_realtime_us(), false, now), "labels",
		                  "kubernetes.io/metadata.name", names[i], "spec", "finalizers", "kubernetes", "status",
		                  "phase", "Active");
		int r = obj ? stage_put(s->store, kind, "", names[i], obj) : -ENOMEM;
		json_decref(obj);
		if (r < 0)
			return error_oom(err);
	}
	return 0;
}

int server_new(struct server **ret, sd_event *loop, const char *database, struct error *err) {
	_cleanup_(cleanup_server) struct server *s = calloc(1, sizeof(*s));
	if (!s)
		return error_oom(err);
	s->limits = limits_new();
	if (!s->limits)
		return error_oom(err);
	const struct store_hooks hooks = {server_on_event, on_commit, s};
	int r = store_open(&s->store, database, loop, &hooks, err);
	if (r < 0)
		return r;
	s->loop = sd_event_ref(loop);
	r = queue_init(&s->queue, loop, s->store, s->limits, err);
	if (r < 0)
		return r;
	for (unsigned k = 0; api_kinds[k]; k++)
		stats_objects((int)store_count(s->store, k));
	s->auth = (struct auth){.store = s->store, .limits = s->limits};
	s->stage = (struct stage){.store = s->store, .auth = &s->auth};
	s->site = (struct site){s->loop, &s->queue, s->limits, &s->auth, .handle = handle_for_site, .userdata = s};
	TAILQ_INIT(&s->site.listeners);
	if (watches_init(&s->watches, s->store) < 0)
		return error_oom(err);
	r = rbac_new(&s->auth.rbac, s->store, err);
	if (r == 0)
		r = gc_new(&s->gc, &s->queue, err);
	if (r == 0)
		r = quota_new(&s->stage.quota, s->store, err);
	if (r == 0)
		r = keep_new(&s->keep, &s->queue, &s->auth, err);
	if (r == 0)
		r = make_namespaces(s, err);
	if (r == 0)
		r = keep_stage_defaults(s->store, err);
	if (r < 0)
		return r;
	store_commit(s->store);
	keep_run(s->keep);
	/* Nobody is served before these objects are stored. This also shows whether the disk can be written. */
	while (r >= 0 && !s->write_failed.code && (store_busy(s->store) || !keep_idle(s->keep)))
		r = sd_event_run(loop, UINT64_MAX);
	if (r < 0)
		return error_errno(err, r, "wait for the first write");
	if (s->write_failed.code) {
		*err = s->write_failed;
		return -s->write_failed.code;
	}
	*ret = TAKE_PTR(s);
	return 0;
}

struct server *server_free(struct server *s) {
	if (!s)
		return NULL;
	queue_clear(&s->queue);
	store_free(s->store);
	gc_free(s->gc);
	keep_free(s->keep);
	rbac_free(s->auth.rbac);
	authn_free(s->auth.authn);
	audit_free(s->site.audit);
	quota_free(s->stage.quota);
	limits_free(s->limits);
	watches_clear(&s->watches);
	sd_event_unref(s->loop);
	free(s);
	return NULL;
}
