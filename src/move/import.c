/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An import has four steps; each begins only when the one before is done for all objects: create the objects (an owner
 * before its dependents), bring the objects that the server makes itself to the state of the file, write the status,
 * delete the objects that were being deleted. The next import recognises the result of each step and continues.
 */

#include <string.h>

#include "api/core.h"
#include "base/util.h"
#include "kube/lease.h"
#include "move/archive.h"
#include "move/list.h"
#include "move/move.h"
#include "move/plan.h"

#define WINDOW      16 /* requests under way at most */
#define PATIENCE_NS (60 * NSEC_PER_SEC)
#define PAUSE_US    (200 * USEC_PER_MSEC)

struct import {
	struct kube_client *client;
	sd_event *loop;
	struct plan plan;
	unsigned pending;
	uint64_t progress; /* when a request last succeeded */
	bool again;        /* a request failed because the server was busy; try again */
	struct error err;  /* the first failure */
};

/* One request for one item. */
struct op {
	struct import *im;
	struct item *item;
	int (*done)(struct import *im, struct item *i, const json_t *answer, struct error *err);
};

static void import_fail(struct import *im, const struct item *i, const struct error *err) {
	char name[OBJECT_NAME_MAX];
	if (im->err.code)
		return;
	im->err = *err;
	/* Some messages of the server do not name the object. */
	if (!strstr(err->msg, object_meta(i->obj, "name")))
		error_prefix(&im->err, "%s", object_name(i->kind, i->obj, name));
}

static void import_on_answer(const struct kube_response *r, void *userdata) {
	struct op *op = userdata;
	struct import *im = op->im;
	struct item *i = op->item;
	struct error err = r->err;
	json_t *answer = r->error == 0 ? json_loadb(r->body, r->len, 0, NULL) : NULL;
	im->pending--;
	i->busy = false;
	if (r->error == 0 && !answer)
		error_set(&err, EBADMSG, "the answer of the server is not a JSON object");
	if (answer && op->done(im, i, answer, &err) == 0)
		im->progress = now_monotonic_ns();
	else if (r->error == -EEXIST && i->create)
		i->check = true; /* the object exists now: another client made it, or we did and the answer was lost */
	else if (kube_response_retriable(r) && r->error != -ESTALE)
		im->again = true;
	else
		import_fail(im, i, &err);
	/* Gives up with this error if nothing has succeeded for too long. */
	if (im->again && !im->err.code && now_monotonic_ns() - im->progress > PATIENCE_NS)
		import_fail(im, i, &err);
	json_decref(answer);
	free(op);
}

/* Sends a request for I. Takes ownership of BODY. */
static void send_item(struct import *im, struct item *i, const char *method, const char *sub, json_t *body,
                      int (*done)(struct import *, struct item *, const json_t *, struct error *)) {
	_buf_free_ struct buf path = {0};
	const bool create = streq(method, "POST"), patch = streq(method, "PATCH");
	struct op *op = calloc(1, sizeof(*op));
	struct error err = {0};
	_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	kube_path(&path, i->kind, object_meta(i->obj, "namespace"), create ? NULL : object_meta(i->obj, "name"), sub);
	int r = !op || (body && !text) ? error_oom(&err) : buf_error(&path, "request path", &err);
	if (r == 0) {
		*op = (struct op){im, i, done};
		struct kube_spec spec = {.method = method,
		                         .path = path.data,
		                         .body = text,
		                         .len = text ? strlen(text) : 0,
		                         .content_type = patch ? "application/merge-patch+json" : NULL};
		r = kube_request(im->client, &spec, KUBE_CALL(import_on_answer, op, NULL), &err);
	}
	if (r < 0) {
		free(op);
		import_fail(im, i, &err);
		return;
	}
	i->busy = true;
	im->pending++;
}

/* ---- the steps ---- */

static int looked(struct import *im, struct item *i, const json_t *answer, struct error *err) {
	i->check = false;
	return plan_look(&im->plan, i, answer, err);
}

static int created(struct import *im, struct item *i, const json_t *answer, struct error *err) {
	(void)im;
	free(i->now);
	i->now = strdup(object_meta(answer, "uid"));
	if (!i->now)
		return error_oom(err);
	i->create = false;
	return *i->now ? 0 : error_set(err, EBADMSG, "the server answers without metadata.uid");
}

/* False if no request was sent: nothing is left to do, an owner does not exist yet, or the import failed. */
static bool step_create(struct import *im, struct item *i) {
	struct error err = {0};
	json_t *body;
	if (!i->create)
		return false;
	if (i->check) {
		send_item(im, i, "GET", NULL, NULL, looked);
		return true;
	}
	int r = object_wanted(i->kind, i->obj, plan_uid, &im->plan, &body, &err);
	if (r < 0)
		import_fail(im, i, &err);
	if (r < 0 || !body)
		return false;
	send_item(im, i, "POST", NULL, body, created);
	return true;
}

static int adopted(struct import *im, struct item *i, const json_t *answer, struct error *err) {
	(void)im, (void)answer, (void)err;
	i->adopt = false;
	return 0;
}

static bool step_adopt(struct import *im, struct item *i) {
	struct error err = {0};
	json_t *body;
	if (!i->adopt)
		return false;
	if (object_wanted(i->kind, i->obj, plan_uid, &im->plan, &body, &err) < 0 || !body) {
		import_fail(im, i, &err);
		return false;
	}
	send_item(im, i, "PATCH", NULL, body, adopted);
	return true;
}

static int status_written(struct import *im, struct item *i, const json_t *answer, struct error *err) {
	char path[OBJECT_PATH_MAX];
	(void)im;
	if (!object_equal(object_status(i->kind, i->obj), json_object_get(answer, "status"), "status", path))
		return error_set(
			err, EPROTO,
			"the server keeps another %s than the import sent; does it have the CRDs of this version "
			"(nacre crds)?",
			path);
	i->status = false;
	return 0;
}

static bool step_status(struct import *im, struct item *i) {
	if (!i->status)
		return false;
	json_t *body = json_pack("{s:{s:s}, s:O}", "metadata", "uid", i->now, "status", object_status(i->kind, i->obj));
	struct error err = {0};
	if (!body) {
		error_oom(&err);
		import_fail(im, i, &err);
		return false;
	}
	send_item(im, i, "PATCH", "status", body, status_written);
	return true;
}

static int deleted(struct import *im, struct item *i, const json_t *answer, struct error *err) {
	(void)im, (void)answer, (void)err;
	i->delete = false;
	return 0;
}

static bool has_finalizer(const json_t *obj, const char *name) {
	size_t n;
	json_t *f;
	json_array_foreach(json_object_get(json_object_get(obj, "metadata"), "finalizers"), n, f) {
		if (streq(json_string_value(f), name))
			return true;
	}
	return false;
}

static bool step_delete(struct import *im, struct item *i) {
	if (!i->delete)
		return false;
	const char *how = has_finalizer(i->obj, "foregroundDeletion") ? "Foreground"
	                  : has_finalizer(i->obj, "orphan")           ? "Orphan"
	                                                              : "Background";
	json_t *body = json_pack("{s:s, s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "DeleteOptions",
	                         "propagationPolicy", how, "preconditions", "uid", i->now);
	send_item(im, i, "DELETE", NULL, body, deleted);
	return true;
}

/* ---- running the steps ---- */

static bool import_run(struct import *im, unsigned below) {
	while (im->pending > below)
		if (sd_event_run(im->loop, UINT64_MAX) < 0)
			return false;
	return true;
}

static bool is_left(const struct import *im, size_t step) {
	for (size_t n = 0; n < im->plan.n; n++) {
		const struct item *i = &im->plan.items[n];
		if (step == 0 ? i->create : step == 1 ? i->adopt : step == 2 ? i->status : i->delete)
			return true;
	}
	return false;
}

/* Does one step for all items: repeats passes over them until nothing of the step is left. */
static int do_step(struct import *im, size_t step, struct error *err) {
	static bool (*const steps[])(struct import *, struct item *) = {step_create, step_adopt, step_status,
	                                                                step_delete};
	im->progress = now_monotonic_ns();
	while (is_left(im, step)) {
		size_t begun = 0;
		im->again = false;
		for (size_t n = 0; n < im->plan.n && !im->err.code; n++) {
			begun += steps[step](im, &im->plan.items[n]);
			/* Objects of later kinds may need those of earlier kinds, so all requests of a kind end before
			 * the next kind begins. */
			bool last = n + 1 == im->plan.n || im->plan.items[n + 1].kind != im->plan.items[n].kind;
			if (!import_run(im, last ? 0 : WINDOW - 1))
				return error_set(err, EIO, "the event loop failed");
		}
		if (!import_run(im, 0))
			return error_set(err, EIO, "the event loop failed");
		if (im->err.code) {
			*err = im->err;
			return -im->err.code;
		}
		if (begun == 0)
			return error_set(err, ELOOP, "each of the remaining objects is owned by another remaining one");
		if (im->again)
			usleep(PAUSE_US);
	}
	return 0;
}

/* ---- checks before the import ---- */

struct worker {
	char name[256];
};

/* Fails if a program of Nacre is running against the server; its Lease shows that. */
static int find_worker(json_t *obj, void *userdata, struct error *err) {
	const json_t *spec = json_object_get(obj, "spec");
	const char *renewed = json_string_value(json_object_get(spec, "renewTime")),
		   *holder = json_string_value(json_object_get(spec, "holderIdentity"));
	uint64_t at, term = (uint64_t)json_integer_value(json_object_get(spec, "leaseDurationSeconds")) * USEC_PER_SEC;
	(void)userdata;
	if (!streq(object_meta(obj, "namespace"), KUBE_SYSTEM_NS) || !holder || !*holder || !renewed ||
	    time_parse(renewed, &at) < 0 || at + term < now_realtime_us())
		return 0;
	return error_set(err, EBUSY,
	                 "%s is at work on this server (Lease %s/%s); stop it until the import is done "
	                 "(docs/MOVING.md)",
	                 holder, KUBE_SYSTEM_NS, object_meta(obj, "name"));
}

static int import(struct import *im, struct move_report *ret, struct error *err) {
	int r = plan_compare(&im->plan, im->client, err);
	if (r < 0)
		return r;
	if (im->plan.conflicts)
		return error_set(err, EEXIST, "the file conflicts with %zu object%s of %s; nothing was changed",
		                 im->plan.conflicts, im->plan.conflicts == 1 ? "" : "s",
		                 kube_client_server(im->client));
	struct move_report report = {.objects = im->plan.n};
	for (size_t i = 0; i < im->plan.n; i++)
		report.made += !plan_item_is_done(&im->plan.items[i]);
	if (report.made)
		r = list_all(im->client, &api_kind_lease, find_worker, NULL, err);
	for (size_t step = 0; r == 0 && step < 4; step++)
		r = do_step(im, step, err);
	if (r < 0)
		return r;
	*ret = report;
	return 0;
}

int move_import(struct kube_client *c, const char *path, struct move_report *ret, struct error *err) {
	struct import im = {.client = c, .loop = kube_client_loop(c)};
	json_t *objects;
	int r = archive_read(path, &objects, err);
	if (r < 0)
		return r;
	_plan_ struct plan plan = {0};
	r = plan_init(&plan, objects, err);
	if (r < 0)
		return r;
	im.plan = plan;
	r = import(&im, ret, err);
	/* The copy now owns the items. */
	plan = im.plan;
	return r;
}
