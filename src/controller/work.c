/* SPDX-License-Identifier: Apache-2.0 */

/* A piece of work: several requests for one key, and their common end. */

#include <string.h>

#include "base/jsonwrite.h"
#include "base/log.h"
#include "base/util.h"
#include "controller/controller.h"

static const char *const queue_names[N_QUEUES] = {"instances", "addresspools", "allocations", "endpoints",
                                                  "hosts",     "tenantquotas", "clusters"};

static struct metric reconciles = METRIC_COUNTER("nacre_controller_reconciles_total", "Objects looked at.");
static struct metric errors = METRIC_COUNTER("nacre_controller_errors_total", "Reconciliations that failed.");

struct work *work_new(struct controller *c, enum queue q, const char *key) {
	struct work *w = calloc(1, sizeof(*w));
	if (!w)
		abort(); /* the key would stay active for ever */
	*w = (struct work){.c = c, .queue = q, .pending = 1};
	snprintf(w->key, sizeof(w->key), "%s", key);
	TAILQ_INSERT_TAIL(&c->works, w, entry);
	metric_register(&reconciles);
	metric_register(&errors);
	metric_add(&reconciles, 1);
	return w;
}

static void work_unref(struct work *w) {
	struct controller *c = w->c;
	if (--w->pending)
		return;
	if (w->result < 0) {
		/* Losing a race is how things are meant to be; it is tried again with what is known then. */
		bool race = w->result == -ESTALE || w->result == -EEXIST || w->result == -EAGAIN;
		if (!race)
			metric_add(&errors, 1);
		log_write(race ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "reconcile failed, trying again",
		          "queue=%s object=%s error=\"%s\"", queue_names[w->queue], w->key, w->err.msg);
	}
	TAILQ_REMOVE(&c->works, w, entry);
	kube_workqueue_done(c->queues[w->queue], w->key, w->result);
	free(w);
}

bool work_may_go_on(struct work *w) {
	struct error err;
	if (may_act(w->c))
		return true;
	work_sent(w, error_set(&err, EAGAIN, "not leading"), &err);
	return false;
}

void work_close(struct work *w) {
	work_unref(w);
}

static void fail(struct work *w, int r, const struct error *err) {
	if (w->result < 0)
		return;
	w->result = r;
	w->err = *err;
}

struct op *work_op(struct work *w, struct kube_cache *feed) {
	if (w->n_ops == WORK_OPS_MAX)
		abort(); /* no concern begins so many */
	struct op *op = &w->ops[w->n_ops++];
	*op = (struct op){.work = w, .feed = feed};
	return op;
}

static void op_done(const struct kube_response *r, void *userdata) {
	struct op *op = userdata;
	struct work *w = op->work;
	void *obj;
	if (r->error < 0 && !(op->missing_ok && r->error == -ENOENT))
		fail(w, r->error, &r->err);
	if (r->error == 0 && op->feed && kube_response_parse(r, kube_cache_kind(op->feed), &obj, NULL) == 0)
		kube_cache_feed(op->feed, obj);
	if (op->then)
		op->then(op, r);
	work_unref(w);
}

struct kube_call op_call(struct op *op) {
	return (struct kube_call){.done = op_done, .userdata = op, .slot = &op->slot};
}

void work_sent(struct work *w, int r, const struct error *err) {
	if (r == 0)
		w->pending++;
	else
		fail(w, r, err);
}

bool has_finalizer(const struct api_meta *m, const char *finalizer) {
	for (size_t i = 0; i < m->finalizers.n; i++)
		if (streq(m->finalizers.v[i], finalizer))
			return true;
	return false;
}

void work_patch_finalizers(struct work *w, struct kube_cache *cache, const struct api_meta *m, const char *finalizer,
                           bool add) {
	_buf_free_ struct buf b = {0};
	struct error err = {0};
	jw_begin(&b, '{');
	jw_key(&b, "metadata");
	jw_begin(&b, '{');
	jw_kv_string(&b, "uid", m->uid);
	jw_kv_string(&b, "resourceVersion", m->resource_version);
	jw_key(&b, "finalizers");
	jw_begin(&b, '[');
	for (size_t i = 0; i < m->finalizers.n; i++)
		if (!streq(m->finalizers.v[i], finalizer))
			jw_string(&b, m->finalizers.v[i]);
	if (add)
		jw_string(&b, finalizer);
	jw_end(&b, ']');
	jw_end(&b, '}');
	jw_end(&b, '}');
	int r = buf_error(&b, "finalizer patch", &err);
	/* Taking the last one off deletes the object: what is answered then must not go back into the cache. */
	struct op *op = work_op(w, add ? cache : NULL);
	struct kube_call call = op_call(op);
	op->missing_ok = !add;
	if (r == 0)
		r = kube_patch(w->c->client, kube_cache_kind(cache), m->ns, m->name, NULL, KUBE_PATCH_MERGE, b.data,
		               b.len, &call, &err);
	work_sent(w, r, &err);
}

void work_delete(struct work *w, const struct api_kind *k, const struct api_meta *m) {
	struct error err = {0};
	struct op *op = work_op(w, NULL);
	struct kube_call call = op_call(op);
	op->missing_ok = true;
	work_sent(w, kube_delete(w->c->client, k, m->ns, m->name, m->uid, &call, &err), &err);
}

void *clone(const struct api_kind *k, const void *obj) {
	_buf_free_ struct buf b = {0};
	struct api_errors errs = {0};
	void *ret;
	api_print(k, obj, &b);
	return b.failed || api_parse(k, b.data, b.len, &ret, &errs) < 0 ? NULL : ret;
}
