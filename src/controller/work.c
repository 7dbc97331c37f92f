/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/work.h"

#include <string.h>

#include "base/jsonwrite.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/util.h"
#include "controller/internal.h"

/* One request of a piece of work, and what its answer is used for. */
struct op {
	struct work *work;
	struct kube_request *slot;
	const struct api_kind *kind;
	bool feed; /* the answer is an object for the cache of its kind */
	/* What 404 means. */
	enum { MISSING_IS_FINE, MISSING_IS_RACE, MISSING_FAILS } missing;
	void (*then)(struct work *w, const struct kube_response *r, const void *arg);
	_Alignas(max_align_t) char arg[WORK_ARG_MAX];
};

struct work {
	TAILQ_ENTRY(work) entry;
	struct controller_row *row;
	unsigned pending; /* requests in flight, plus one while reconcile() runs */
	int result;
	struct error err; /* of the first failure */
	struct op ops[WORK_OPS_MAX];
	unsigned n_ops;
	char key[KUBE_KEY_MAX];
};

static struct metric reconciles = METRIC_COUNTER("nacre_controller_reconciles_total", "Objects looked at.");
static struct metric errors = METRIC_COUNTER("nacre_controller_errors_total", "Reconciliations that failed.");

void work_register_metrics(void) {
	metric_register(&reconciles);
	metric_register(&errors);
}

struct controller *work_controller(const struct work *w) {
	return w->row->c;
}

const char *work_key(const struct work *w) {
	return w->key;
}

const void *work_object(const struct work *w) {
	const struct kube_cache *cache = controller_cache(w->row->c, w->row->concern->kind);
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	kube_key_split(w->key, buf, &ns, &name);
	return kube_cache_get(cache, ns, name);
}

unsigned work_room(const struct work *w) {
	return WORK_OPS_MAX - w->n_ops;
}

/* ---- begin and end ---- */

static void work_unref(struct work *w) {
	struct controller_row *row = w->row;
	if (--w->pending)
		return;
	if (w->result < 0) {
		/* Lost races are normal. The key is tried again with what is known then. */
		bool race = w->result == -ESTALE || w->result == -EEXIST || w->result == -EAGAIN;
		if (!race)
			metric_add(&errors, 1);
		log_write(race ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "reconcile failed, trying again",
		          "queue=%s object=%s error=\"%s\"", row->concern->name, w->key, w->err.msg);
		if (row->concern->failed)
			row->concern->failed(row->c, work_object(w), w->result);
	}
	TAILQ_REMOVE(&row->c->works, w, entry);
	kube_workqueue_done(row->queue, w->key, w->result);
	free(w);
}

void work_run(struct controller_row *row, const char *key) {
	struct work *w = calloc(1, sizeof(*w));
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	if (!w)
		abort(); /* the key would stay active for ever */
	*w = (struct work){.row = row, .pending = 1};
	snprintf(w->key, sizeof(w->key), "%s", key);
	TAILQ_INSERT_TAIL(&row->c->works, w, entry);
	metric_add(&reconciles, 1);
	kube_key_split(w->key, buf, &ns, &name);
	if (work_may_go_on(w)) {
		controller_tell_look(row, ns, name);
		row->concern->reconcile(w, work_object(w));
	}
	work_unref(w);
}

void work_free_all(struct controller *c) {
	struct work *w;
	while ((w = TAILQ_FIRST(&c->works))) {
		TAILQ_REMOVE(&c->works, w, entry);
		free(w);
	}
}

void work_fail(struct work *w, int r, const struct error *err) {
	if (w->result < 0)
		return;
	w->result = r;
	w->err = *err;
}

void work_fail_oom(struct work *w) {
	struct error err;
	work_fail(w, error_oom(&err), &err);
}

bool work_may_go_on(struct work *w) {
	struct error err;
	if (controller_may_act(w->row->c))
		return true;
	work_fail(w, error_set(&err, EAGAIN, "not leading"), &err);
	return false;
}

void work_again(struct work *w, uint64_t delay_us) {
	kube_workqueue_add_after(w->row->queue, w->key, delay_us);
}

/* ---- one request ---- */

/* NULL, and W has failed, while the controller may not act. */
static struct op *op_new(struct work *w, const struct api_kind *k, struct work_then then) {
	if (!work_may_go_on(w))
		return NULL;
	if (w->n_ops == WORK_OPS_MAX || then.size > WORK_ARG_MAX)
		abort();
	struct op *op = &w->ops[w->n_ops++];
	op->work = w;
	op->kind = k;
	op->feed = true;
	op->then = then.fn;
	if (then.size)
		memcpy(op->arg, then.arg, then.size);
	return op;
}

static void op_done(const struct kube_response *r, void *userdata) {
	struct op *op = userdata;
	struct work *w = op->work;
	void *obj;
	/* The object is gone. If this lost a race, the key is looked at once more, with what is known then. */
	if (r->error == -ENOENT && op->missing != MISSING_FAILS) {
		if (op->missing == MISSING_IS_RACE)
			work_fail(w, -ESTALE, &r->err);
	} else if (r->error < 0)
		work_fail(w, r->error, &r->err);
	if (r->error == 0 && op->feed && kube_response_parse(r, op->kind, &obj, NULL) == 0)
		kube_cache_feed(controller_cache(w->row->c, op->kind), obj);
	if (op->then)
		op->then(w, r, op->arg);
	work_unref(w);
}

static struct kube_call op_call(struct op *op) {
	return (struct kube_call){.done = op_done, .userdata = op, .slot = &op->slot};
}

/* R is what beginning the request of OP, the newest of its work, returned. */
static bool op_begun(struct op *op, int r, const struct error *err) {
	struct work *w = op->work;
	if (r == 0) {
		w->pending++;
		return true;
	}
	w->n_ops--;
	if (r != -EALREADY)
		work_fail(w, r, err);
	return false;
}

/* ---- what concerns begin ---- */

bool work_create(struct work *w, const struct api_kind *k, const void *obj, struct work_then then) {
	struct error err = {0};
	struct op *op = op_new(w, k, then);
	if (!op)
		return false;
	struct kube_call call = op_call(op);
	op->missing = MISSING_FAILS;
	return op_begun(op, kube_create(w->row->c->client, k, obj, &call, &err), &err);
}

bool work_patch_status(struct work *w, const struct api_kind *k, const void *old, const void *new,
                       struct work_then then) {
	struct error err = {0};
	struct op *op = op_new(w, k, then);
	if (!op)
		return false;
	struct kube_call call = op_call(op);
	op->missing = MISSING_IS_RACE;
	return op_begun(op, kube_patch_status(w->row->c->client, k, old, new, &call, &err), &err);
}

static bool work_begin_patch(struct work *w, const struct api_kind *k, const struct api_meta *m,
                             const struct buf *patch, bool feed) {
	struct error err = {0};
	struct op *op = op_new(w, k, WORK_NO_THEN);
	if (!op)
		return false;
	struct kube_call call = op_call(op);
	op->feed = feed;
	op->missing = feed ? MISSING_IS_RACE : MISSING_IS_FINE;
	int r = buf_error(patch, "patch", &err);
	if (r == 0)
		r = kube_patch(w->row->c->client, k, m->ns, m->name, NULL, KUBE_PATCH_MERGE, patch->data, patch->len,
		               &call, &err);
	return op_begun(op, r, &err);
}

bool work_patch(struct work *w, const struct api_kind *k, const struct api_meta *m, const struct buf *patch) {
	return work_begin_patch(w, k, m, patch, true);
}

bool has_finalizer(const struct api_meta *m, const char *finalizer) {
	for (size_t i = 0; i < m->finalizers.n; i++)
		if (streq(m->finalizers.v[i], finalizer))
			return true;
	return false;
}

bool work_patch_finalizers(struct work *w, const struct api_kind *k, const struct api_meta *m, const char *finalizer,
                           bool add) {
	_buf_free_ struct buf b = {0};
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
	/* Removing the last finalizer deletes the object, so the answer must not go back into the cache. */
	return work_begin_patch(w, k, m, &b, add);
}

static bool work_begin_delete(struct work *w, const struct api_kind *k, const struct api_meta *m, bool exact) {
	struct error err = {0};
	struct op *op = op_new(w, k, WORK_NO_THEN);
	if (!op)
		return false;
	struct kube_call call = op_call(op);
	op->feed = false;
	int r = exact ? kube_delete_exact(w->row->c->client, k, m, &call, &err)
	              : kube_delete(w->row->c->client, k, m->ns, m->name, m->uid, &call, &err);
	return op_begun(op, r, &err);
}

bool work_delete(struct work *w, const struct api_kind *k, const struct api_meta *m) {
	return work_begin_delete(w, k, m, false);
}

bool work_delete_exact(struct work *w, const struct api_kind *k, const struct api_meta *m) {
	return work_begin_delete(w, k, m, true);
}

bool work_get(struct work *w, const struct api_kind *k, const char *ns, const char *name, struct work_then then) {
	struct error err = {0};
	struct op *op = op_new(w, k, then);
	if (!op)
		return false;
	struct kube_call call = op_call(op);
	return op_begun(op, kube_get(w->row->c->client, k, ns, name, &call, &err), &err);
}
