/* SPDX-License-Identifier: Apache-2.0 */

/* Delete and deletecollection. */

#include <inttypes.h>
#include <string.h>

#include "api/core.h"
#include "apiserver/auth/restrict.h"
#include "apiserver/json/object.h"
#include "apiserver/json/selector.h"
#include "apiserver/request/reply.h"
#include "apiserver/write/handlers.h"
#include "apiserver/write/stage.h"
#include "apiserver/write/stage_delete.h"
#include "base/util.h"

/* The limits of one batch of a deletecollection, so that it doesn't block others. */
#define SWEEP_OBJECTS 256
#define SWEEP_BYTES   ((size_t)128 << 10)

struct delete_options {
	enum propagation how;
	const char *uid, *version; /* preconditions; NULL: none */
	bool dry_run;
	bool cascade; /* orphanDependents is explicitly false; only then an object that stays is answered with 202 */
};

static int parse_propagation(struct request *r, const char *text, enum propagation *ret) {
	if (streq(text, "Background"))
		*ret = PROPAGATE_BACKGROUND;
	else if (streq(text, "Foreground"))
		*ret = PROPAGATE_FOREGROUND;
	else if (streq(text, "Orphan"))
		*ret = PROPAGATE_ORPHAN;
	else {
		reply_invalid_options(r, "DeleteOptions", API_NOT_SUPPORTED, "propagationPolicy",
		                      "Unsupported value: \"%.63s\": supported values: \"Foreground\", "
		                      "\"Background\", \"Orphan\", \"nil\"",
		                      text);
		return -EINVAL;
	}
	return 0;
}

/* Checks the types of the fields of DeleteOptions; null means absent. */
static int check_fields(struct request *r) {
	static const struct {
		const char *name;
		json_type type;
	} fields[] = {{"kind", JSON_STRING},          {"apiVersion", JSON_STRING},
	              {"preconditions", JSON_OBJECT}, {"propagationPolicy", JSON_STRING},
	              {"dryRun", JSON_ARRAY},         {"gracePeriodSeconds", JSON_INTEGER}};
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const json_t *v = json_object_get(r->json, fields[i].name);
		if (!v || json_is_null(v) || json_typeof(v) == fields[i].type)
			continue;
		reply_bad_request(r, "DeleteOptions.%s has the wrong type", fields[i].name);
		return -EINVAL;
	}
	const char *kind = json_string_value(json_object_get(r->json, "kind"));
	if (!kind || !*kind || streq(kind, "DeleteOptions"))
		return 0;
	reply_bad_request(r, "the body of a deletion must be DeleteOptions, not %.63s", kind);
	return -EINVAL;
}

/* Reads DeleteOptions from the body, or from parameters with the same names. */
static int parse_options(struct request *r, struct delete_options *o) {
	const json_t *body = r->json, *pre = json_object_get(body, "preconditions");
	const char *how = json_string_value(json_object_get(body, "propagationPolicy"));
	size_t i;
	json_t *dry;
	if (check_fields(r) < 0)
		return -EINVAL;
	if (request_param(r, "propagationPolicy"))
		how = request_param(r, "propagationPolicy");
	*o = (struct delete_options){.uid = json_string_value(json_object_get(pre, "uid")),
	                             .version = json_string_value(json_object_get(pre, "resourceVersion")),
	                             .dry_run = request_dry_run(r)};
	json_array_foreach(json_object_get(body, "dryRun"), i, dry) {
		if (!streq(json_string_value(dry), "All")) {
			reply_invalid_options(r, "DeleteOptions", API_NOT_SUPPORTED, "dryRun",
			                      "Unsupported value: supported values: \"All\"");
			return -EINVAL;
		}
		o->dry_run = true;
	}
	if (json_is_true(json_object_get(body, "orphanDependents")) || request_flag(r, "orphanDependents")) {
		if (how) {
			reply_invalid_options(r, "DeleteOptions", API_INVALID, "propagationPolicy",
			                      "Invalid value: \"%.63s\": orphanDependents and deletionPropagation "
			                      "cannot be both set",
			                      how);
			return -EINVAL;
		}
		o->how = PROPAGATE_ORPHAN;
	}
	const char *orphan = request_param(r, "orphanDependents");
	o->cascade = json_is_false(json_object_get(body, "orphanDependents")) || streq(orphan, "false") ||
	             streq(orphan, "0");
	return how ? parse_propagation(r, how, &o->how) : 0;
}

static bool is_protected(struct request *r) {
	if (r->route.kind != &api_kind_namespace)
		return false;
	if (!streq(r->route.name, "default") && !streq(r->route.name, "nacre-system"))
		return false;
	reply_forbidden(r, r->route.name, NULL, "this namespace may not be deleted");
	return true;
}

/* This message names the kind where others name the resource, as in Kubernetes. */
static void precondition_failed(struct request *r, const char *what, const char *asked, const char *is,
                                const char *why) {
	const struct api_kind *k = r->route.kind;
	const struct status_details d = {.name = r->route.name, .group = k->group, .kind = k->kind};
	reply_status(
		&r->reply, 409, "Conflict", &d,
		"Operation cannot be fulfilled on %s%s%s \"%s\": the %s in the precondition (%.63s) does not match "
		"the %s in record (%s). %s",
		k->kind, *k->group ? "." : "", k->group, r->route.name, what, asked, what, is, why);
}

static int check_preconditions(struct request *r, const struct object *o, const json_t *tree,
                               const struct delete_options *d) {
	char rv[24];
	const char *uid = object_meta_str(tree, "uid");
	snprintf(rv, sizeof(rv), "%" PRId64, o->rv);
	if (d->uid && !streq(d->uid, uid))
		precondition_failed(r, "UID", d->uid, uid, "The object might have been deleted and then recreated");
	else if (d->version && !streq(d->version, rv))
		precondition_failed(r, "ResourceVersion", d->version, rv, "The object might have been modified");
	else
		return 0;
	return -EINVAL;
}

/* Reads a string that has no escapes: gives "a" for "\"a\"". Names and uids are such strings. */
static void get_plain(const struct blob *b, const char *path, char *out, size_t size) {
	const char *text;
	size_t len;
	bool found = json_find(b->data, b->len, path, &text, &len) && len > 2;
	snprintf(out, size, "%.*s", found ? (int)len - 2 : 0, found ? text + 1 : "");
}

/* Reads what a deletion needs of an object: all of it or, if it is nested too deeply, name, namespace and uid. */
static int read_identity(const struct object *o, json_t **ret) {
	char uid[64];
	int r = object_read(o->value->data, o->value->len, ret);
	if (r != -EBADMSG)
		return r;
	get_plain(o->value, "metadata.uid", uid, sizeof(uid));
	*ret = json_pack("{s:{s:s, s:s, s:s}}", "metadata", "name", o->name, "namespace", o->ns, "uid", uid);
	return *ret ? 0 : -ENOMEM;
}

enum write_result handle_delete(const struct stage *s, struct request *r) {
	const struct route *rt = &r->route;
	struct delete_options d;
	json_t *now = NULL;
	if (parse_options(r, &d) < 0)
		return WRITE_DONE;
	if (store_staged(s->store, rt->kind_index, rt->ns, rt->name))
		return WRITE_LATER;
	const struct object *o = store_get(s->store, rt->kind_index, rt->ns, rt->name);
	json_t *tree = NULL;
	if (!o) {
		if (restrict_stored(r, NULL) == 0)
			reply_not_found(r);
		return WRITE_DONE;
	}
	if (read_identity(o, &tree) < 0) {
		reply_internal(r, "out of memory");
		return WRITE_DONE;
	}
	enum write_result result = WRITE_DONE;
	if (restrict_stored(r, tree) == 0 && !is_protected(r) && restrict_write(s->auth, r, tree, NULL, 0) == 0 &&
	    check_preconditions(r, o, tree, &d) == 0) {
		int e = stage_delete(s->store, rt->kind_index, o, d.how, d.dry_run, &now);
		if (e < 0)
			reply_internal(r, "out of memory");
		else if (now)
			reply_object_dom(r, d.cascade ? 202 : 200, now);
		else
			reply_deleted(r, rt->name, object_meta_str(tree, "uid"));
		result = e > 0 && !d.dry_run ? WRITE_STAGED : WRITE_DONE;
	}
	json_decref(now);
	json_decref(tree);
	return result;
}

/* ---- deletecollection ---- */

/*
 * The progress of a deletecollection: the first SWEPT of the reply's items are done, and the first KEPT were selected.
 */
struct sweep {
	struct held held; /* first */
	size_t swept, kept;
};

static void sweep_free(struct held *h) {
	free(h);
}

/* Collects all objects in their present state, which the answer shows of the selected ones. 0 or -ENOMEM. */
static int select_all(const struct stage *s, struct request *r) {
	const struct route *rt = &r->route;
	struct reply *reply = &r->reply;
	size_t cap = 0;
	for (const struct object *o = store_seek(s->store, rt->kind_index, rt->ns, ""); o;
	     o = store_next(s->store, rt->kind_index, o)) {
		if (*rt->ns && !streq(o->ns, rt->ns))
			break;
		if (reply->n_items == cap) {
			cap = cap ? cap * 2 : 64;
			struct blob **v = reallocarray(reply->items, cap, sizeof(*v));
			if (!v)
				return -ENOMEM;
			reply->items = v;
		}
		reply->items[reply->n_items++] = blob_ref(o->value);
	}
	return 0;
}

static enum write_result begin_collection(const struct stage *s, struct request *r) {
	const char *version = request_param(r, "resourceVersion");
	if (r->route.kind == &api_kind_namespace)
		reply_method_not_allowed(r);
	else if (version && *version && parse_i64(version, 0, INT64_MAX, &(int64_t){0}, NULL) < 0)
		reply_bad_request(r,
		                  "invalid resource version: resourceVersion: Invalid value: \"%.80s\": not a number",
		                  version);
	else if (request_check_selector(r) == 0) {
		struct sweep *sweep = select_all(s, r) == 0 ? calloc(1, sizeof(*sweep)) : NULL;
		if (sweep) {
			sweep->held.free = sweep_free;
			r->rest = &sweep->held;
			return WRITE_STAGED;
		}
		reply_internal(r, "out of memory");
	}
	return WRITE_DONE;
}

/* Finds the object that B is an earlier state of. NULL: it has been deleted (another one may have its name). */
static const struct object *find_still(const struct stage *s, unsigned kind, const char *ns, const char *name,
                                       const struct blob *b) {
	char uid[64], uid_now[64];
	get_plain(b, "metadata.uid", uid, sizeof(uid));
	const struct object *o = store_get(s->store, kind, ns, name);
	if (o)
		get_plain(o->value, "metadata.uid", uid_now, sizeof(uid_now));
	return o && streq(uid, uid_now) ? o : NULL;
}

/*
 * Deletes the next selected objects. 1: changes are staged; 0: none are; -EAGAIN: this must wait for the next batch;
 * -ENOMEM.
 */
static int delete_some(const struct stage *s, struct request *r, struct sweep *sweep, const struct delete_options *d) {
	const unsigned kind = r->route.kind_index;
	struct blob **items = r->reply.items;
	size_t bytes = 0, changes = 0, work = 0;
	for (; sweep->swept < r->reply.n_items && changes < SWEEP_OBJECTS && bytes < SWEEP_BYTES &&
	       work < SELECTOR_WORK_MAX;
	     sweep->swept++) {
		struct blob *b = items[sweep->swept];
		char ns[64], name[256];
		get_plain(b, "metadata.namespace", ns, sizeof(ns));
		get_plain(b, "metadata.name", name, sizeof(name));
		if (!selector_matches(r->selector, ns, name, b->data, b->len, &work)) {
			items[sweep->swept] = blob_unref(b);
			continue;
		}
		const struct object *o = d->dry_run ? NULL : find_still(s, kind, ns, name, b);
		if (o && store_staged(s->store, kind, o->ns, o->name))
			return changes ? 1 : -EAGAIN;
		int e = o ? stage_delete(s->store, kind, o, d->how, false, NULL) : 0;
		if (e < 0)
			return e;
		bytes += o ? o->value->len : 0;
		changes += e > 0;
		items[sweep->swept] = NULL;
		items[sweep->kept++] = b;
	}
	return changes > 0;
}

static void reply_collection(const struct stage *s, struct request *r, size_t n) {
	char gv[64];
	struct buf b = {0};
	struct blob **items = TAKE_PTR(r->reply.items);
	r->reply.n_items = 0;
	api_kind_version(r->route.kind, gv);
	buf_printf(&b,
	           "{\"kind\":\"%sList\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%" PRId64
	           "\"},\"items\":[",
	           r->route.kind->kind, gv, store_version(s->store));
	reply_json(&r->reply, 200, &b);
	r->reply.items = items;
	r->reply.n_items = n;
	r->reply.tail = "]}";
}

/*
 * As in Kubernetes each object is deleted by itself. The objects are selected at the beginning and deleted batch by
 * batch, so that others have their turn in between. If one deletion fails, the earlier ones remain.
 */
enum write_result handle_delete_collection(const struct stage *s, struct request *r) {
	struct delete_options d;
	if (parse_options(r, &d) < 0)
		return WRITE_DONE;
	if (!r->rest && begin_collection(s, r) == WRITE_DONE)
		return WRITE_DONE;
	struct sweep *sweep = (struct sweep *)r->rest;
	int e = delete_some(s, r, sweep, &d);
	if (e == -EAGAIN)
		return WRITE_LATER;
	if (e < 0)
		reply_internal(r, "out of memory");
	else if (sweep->swept == r->reply.n_items)
		reply_collection(s, r, sweep->kept);
	if (r->reply.code) {
		r->rest = NULL;
		sweep_free(&sweep->held);
	}
	return e > 0 || (e < 0 && store_staged_count(s->store)) ? WRITE_STAGED : WRITE_DONE;
}
