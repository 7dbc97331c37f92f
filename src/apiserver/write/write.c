/* SPDX-License-Identifier: Apache-2.0 */

/* Create, update and patch. Semantics: Kubernetes API conventions; apiextensions for kinds of nacre.dev. */

#include <inttypes.h>
#include <string.h>

#include "api/account.h"
#include "api/core.h"
#include "api/format.h"
#include "api/rbac.h"
#include "apiserver/auth/authz.h"
#include "apiserver/auth/restrict.h"
#include "apiserver/fields/managed.h"
#include "apiserver/json/object.h"
#include "apiserver/json/patch.h"
#include "apiserver/json/strategic.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/body.h"
#include "apiserver/request/reply.h"
#include "apiserver/write/bounds.h"
#include "apiserver/write/finalizers.h"
#include "apiserver/write/handlers.h"
#include "apiserver/write/managers.h"
#include "apiserver/write/prune.h"
#include "apiserver/write/stage.h"
#include "apiserver/write/token_secret.h"
#include "apiserver/write/write.h"
#include "base/util.h"

#define CONFLICT_TEXT "the object has been modified; please apply your changes to the latest version and try again"

/* Stages TEXT, which R was answered with, unless R is a dry run. */
static enum write_result finish_put(const struct stage *s, struct request *r, const char *name,
                                    const struct buf *text) {
	if (request_dry_run(r))
		return WRITE_DONE;
	if (stage_put_text(s, r->route.kind_index, r->route.ns, name, text) < 0) {
		reply_internal(r, "out of memory");
		return WRITE_DONE;
	}
	return WRITE_STAGED;
}

static enum write_result write_out_of_memory(struct request *r) {
	reply_internal(r, "out of memory");
	return WRITE_DONE;
}

int write_check_type(struct request *r, const struct api_kind *k, const json_t *obj) {
	char gv[64];
	api_kind_version(k, gv);
	const char *kind = json_string_value(json_object_get(obj, "kind"));
	const char *version = json_string_value(json_object_get(obj, "apiVersion"));
	if (!kind || !version) {
		if (!object_has_generation(k))
			return 0;
		reply_bad_request(r, "Object '%s' is missing in the body; it must be %s", kind ? "apiVersion" : "Kind",
		                  kind ? gv : k->kind);
		return -EINVAL;
	}
	bool wrong_kind = !streq(kind, k->kind);
	if (object_has_generation(k) && *kind &&
	    (wrong_kind ? streq(version, gv) : !streq(version, gv) && r->route.verb == VERB_PATCH)) {
		struct api_errors errs = {0};
		api_errors_add(&errs, API_INVALID, wrong_kind ? "kind" : "apiVersion",
		               "Invalid value: \"%.100s\": must be %s", wrong_kind ? kind : version,
		               wrong_kind ? k->kind : gv);
		reply_invalid_as(r, k->group, kind, object_meta_str(obj, "name"), &errs);
		return -EINVAL;
	}
	if (wrong_kind || !streq(version, gv)) {
		reply_bad_request(r,
		                  "the API version in the data (%.100s, Kind=%.100s) does not match the expected API "
		                  "version (%s, Kind=%s)",
		                  version, kind, gv, k->kind);
		return -EINVAL;
	}
	return 0;
}

int write_check_namespace(struct request *r, const struct api_kind *k, json_t *obj) {
	const struct route *rt = &r->route;
	json_t *m = json_object_get(obj, "metadata");
	if (m && !json_is_object(m)) {
		struct api_errors errs = {0};
		api_errors_add(&errs, API_TYPE_INVALID, "metadata", "Invalid value: must be an object");
		reply_invalid_as(r, k->group, k->kind, "", &errs);
		return -EINVAL;
	}
	if (!m && json_object_set_new(obj, "metadata", json_object()) < 0) {
		write_out_of_memory(r);
		return -ENOMEM;
	}
	const char *ns = k->namespaced ? object_meta_str(obj, "namespace") : NULL;
	if (ns && !streq(ns, rt->ns)) {
		reply_bad_request(
			r, "the namespace of the provided object does not match the namespace sent on the request");
		return -EINVAL;
	}
	int e = object_set_meta_str(obj, "namespace", *rt->ns ? rt->ns : NULL);
	if (e < 0)
		write_out_of_memory(r);
	return e;
}

/* Sets the label by which selectors find a namespace by its name. Kubernetes sets it on every write. */
static int set_name_label(const struct api_kind *k, json_t *obj) {
	json_t *m = object_meta(obj), *labels = json_object_get(m, "labels");
	const char *name = object_meta_str(obj, "name");
	if (k != &api_kind_namespace)
		return 0;
	if (!json_is_object(labels)) {
		if (labels && !json_is_null(labels))
			return 0; /* an error that is reported later */
		labels = json_object();
		if (json_object_set_new(m, "labels", labels) < 0)
			return -ENOMEM;
	}
	return name && json_object_set_new(labels, "kubernetes.io/metadata.name", json_string(name)) < 0 ? -ENOMEM : 0;
}

/* ---- create ---- */

/* The suffix is one of 14 million. With 10,000 existing names of the same prefix one in 1,400 would be taken. */
static int generate_name(const struct stage *s, const struct route *rt, json_t *obj) {
	static const char letters[] = "bcdfghjklmnpqrstvwxz2456789";
	char name[64];
	uint8_t rnd[5];
	const char *prefix = object_meta_str(obj, "generateName");
	if (object_meta_str(obj, "name") || !prefix)
		return 0;
	/* The check of names refuses this prefix. Use it whole: cut short it might not even be UTF-8. */
	for (const char *p = prefix; *p; p++)
		if ((unsigned char)*p >= 0x80)
			return object_set_meta_str(obj, "name", prefix);
	unsigned tries = 0;
	do {
		random_bytes(rnd, sizeof(rnd));
		int n = snprintf(name, sizeof(name), "%.58s", prefix);
		for (size_t i = 0; i < sizeof(rnd); i++)
			name[n++] = letters[rnd[i] % (sizeof(letters) - 1)];
		name[n] = '\0';
	} while (store_get(s->store, rt->kind_index, rt->ns, name) && ++tries < 8);
	return object_set_meta_str(obj, "name", name);
}

static int write_check_created_name(struct request *r, const json_t *obj) {
	struct error err = {0};
	const char *name = object_meta_str(obj, "name");
	const struct api_format *f = r->route.kind->name_format ? r->route.kind->name_format : &api_format_subdomain;
	if (!name)
		reply_invalid_field(r, "", API_REQUIRED, "metadata.name",
		                    "Required value: name or generateName is required");
	else if (f->check(name, &err) < 0)
		reply_invalid_field(r, name, API_INVALID, "metadata.name", "Invalid value: %s", err.msg);
	else
		return 0;
	return -EINVAL;
}

/* Removes metadata that only the server may set. */
static void drop_server_meta(json_t *obj) {
	static const char *const dropped[] = {"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
	                                      "resourceVersion", "generation"};
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
		json_object_del(object_meta(obj), dropped[i]);
}

static int set_new_meta(const struct stage *s, const struct route *rt, json_t *obj) {
	const struct api_kind *k = rt->kind;
	char uid[37], now[TIME_STR_MAX];
	uuid_make(uid);
	int e = generate_name(s, rt, obj);
	if (e == 0)
		e = object_set_meta_str(obj, "uid", uid);
	if (e == 0)
		e = object_set_meta_str(obj, "creationTimestamp", time_str(now_realtime_us(), false, now));
	if (e == 0 && object_has_generation(k))
		e = object_set_meta_i64(obj, "generation", 1);
	if (k->has_status)
		json_object_del(obj, "status");
	if (e == 0 && k == &api_kind_namespace) {
		e = json_object_set_new(obj, "spec", json_pack("{s:[s]}", "finalizers", "kubernetes"));
		e |= json_object_set_new(obj, "status", json_pack("{s:s}", "phase", "Active"));
	}
	return e;
}

/* The namespace of a new object must exist and must not be in deletion. */
static bool check_namespace_active(const struct stage *s, struct request *r, const char *name) {
	const struct object *ns = store_get(s->store, api_kind_index(&api_kind_namespace), "", r->route.ns);
	if (!ns) {
		const struct status_details d = {.name = r->route.ns, .kind = "namespaces"};
		reply_status(&r->reply, 404, "NotFound", &d, "namespaces \"%s\" not found", r->route.ns);
		return false;
	}
	_json_decref_ json_t *obj = object_load(ns->value->data, ns->value->len);
	if (obj && !object_deleting(obj))
		return true;
	reply_forbidden(r, name, "NamespaceTerminating",
	                "unable to create new content in namespace %s because it is being terminated", r->route.ns);
	return false;
}

static void reply_exists(struct request *r, const struct object *there, const json_t *obj) {
	char res[192];
	const struct api_kind *k = r->route.kind;
	_json_decref_ json_t *tree = object_load(there->value->data, there->value->len);
	const bool generated = object_meta_str(obj, "generateName") != NULL;
	const struct status_details d = {
		.name = there->name, .group = k->group, .kind = k->plural, .retry_after_s = generated};
	reply_status(&r->reply, 409, "AlreadyExists", &d, "%s%s \"%s\" already exists%s",
	             tree && object_deleting(tree) ? "object is being deleted: " : "", resource_name(k, res),
	             there->name,
	             generated ? ", the server was not able to generate a unique name for the object" : "");
}

/* Creates OBJ. LIST: its managedFields; NULL: they are computed here. */
static enum write_result write_create(const struct stage *s, struct request *r, json_t *obj, json_t *list) {
	const struct route *rt = &r->route;
	_json_decref_ json_t *sent = NULL, *tracked = NULL;
	_buf_free_ struct buf text = {0};
	if (bounds_check_lengths(r, obj, 0) < 0)
		return WRITE_DONE;
	sent = managers_detach(obj);
	drop_server_meta(obj);
	if (prune_object(r, rt->kind, r->duplicates, obj) < 0)
		return WRITE_DONE;
	if (set_name_label(rt->kind, obj) < 0)
		return write_out_of_memory(r);
	if (!list && managers_update(r, rt->kind, NULL, NULL, obj, sent, &tracked) < 0)
		return write_out_of_memory(r);
	if (set_new_meta(s, rt, obj) < 0 || set_name_label(rt->kind, obj) < 0)
		return write_out_of_memory(r);
	if (write_check_created_name(r, obj) < 0)
		return WRITE_DONE;
	const char *name = object_meta_str(obj, "name");
	const unsigned ns_kind = api_kind_index(&api_kind_namespace);
	if (store_staged(s->store, rt->kind_index, rt->ns, name) ||
	    (*rt->ns && store_staged(s->store, ns_kind, "", rt->ns)))
		return WRITE_LATER;
	if (*rt->ns && !check_namespace_active(s, r, name))
		return WRITE_DONE;
	if (rt->kind == &api_kind_secret && token_secret_fill(s->auth, rt->ns, obj) < 0)
		return write_out_of_memory(r);
	if (managers_attach(obj, list ? list : tracked) < 0)
		return write_out_of_memory(r);
	if (stage_check(s, r, NULL, NULL, obj, &text) < 0)
		return WRITE_DONE;
	const struct object *there = store_get(s->store, rt->kind_index, rt->ns, name);
	if (there) {
		reply_exists(r, there, obj);
		return WRITE_DONE;
	}
	reply_object(r, 201, text.data, text.len);
	return finish_put(s, r, name, &text);
}

enum write_result handle_create(const struct stage *s, struct request *r) {
	_json_decref_ json_t *obj = tree_copy(r->json);
	if (!obj)
		return write_out_of_memory(r);
	if (write_check_type(r, r->route.kind, obj) < 0 || write_check_namespace(r, r->route.kind, obj) < 0)
		return WRITE_DONE;
	if (object_meta_str(obj, "resourceVersion")) {
		reply_bad_request(r, "resourceVersion should not be set on objects to be created");
		return WRITE_DONE;
	}
	/* These are removed before managedFields are computed, so that nobody becomes their manager. */
	json_object_del(object_meta(obj), "deletionTimestamp");
	json_object_del(object_meta(obj), "deletionGracePeriodSeconds");
	return write_create(s, r, obj, NULL);
}

/* ---- update ---- */

static int check_finalizers(struct request *r, const json_t *old, const json_t *obj) {
	size_t i;
	json_t *v;
	if (!object_deleting(old))
		return 0;
	json_array_foreach(json_object_get(object_meta(obj), "finalizers"), i, v) {
		const char *name = json_string_value(v);
		if (!name || object_has_finalizer(old, name))
			continue;
		reply_invalid_field(
			r, r->route.name, API_FORBIDDEN, "metadata.finalizers",
			"Forbidden: no new finalizers can be added if the object is being deleted, found new "
			"finalizers []string{\"%.63s\"}",
			name);
		return -EINVAL;
	}
	return 0;
}

/* Checks the preconditions in the new state: its uid and the version that it was made from. */
static int check_preconditions(struct request *r, const struct object *o, const json_t *old, const json_t *obj,
                               bool need_version) {
	const char *uid = object_meta_str(obj, "uid"), *rv = object_meta_str(obj, "resourceVersion");
	int64_t version;
	if (uid && !streq(uid, object_meta_str(old, "uid"))) {
		if (r->route.verb == VERB_PATCH) {
			reply_invalid_field(r, r->route.name, API_INVALID, "metadata.uid",
			                    "Invalid value: \"%.63s\": field is immutable", uid);
			return -EINVAL;
		}
		reply_conflict(r, "Precondition failed: UID in precondition: %.63s, UID in object meta: %s", uid,
		               object_meta_str(old, "uid"));
		return -EINVAL;
	}
	if (!rv || streq(rv, "0")) {
		if (!need_version)
			return 0;
		struct api_errors errs = {0};
		api_errors_add(&errs, API_INVALID, "metadata.resourceVersion",
		               "Invalid value: 0: must be specified for an update");
		reply_invalid_as(r, r->route.kind->group, r->route.kind->plural, r->route.name, &errs);
		return -EINVAL;
	}
	if (parse_i64(rv, 0, INT64_MAX, &version, NULL) < 0) {
		reply_invalid_field(r, r->route.name, API_INVALID, "metadata.resourceVersion",
		                    "Invalid value: \"%.63s\": must be a resourceVersion from this server", rv);
		return -EINVAL;
	}
	if (version != o->rv) {
		reply_conflict(r, CONFLICT_TEXT);
		return -EINVAL;
	}
	return 0;
}

/* Restores metadata that only the server may set. */
static int keep_server_meta(json_t *obj, const json_t *old) {
	static const char *const kept[] = {"uid", "creationTimestamp", "deletionTimestamp",
	                                   "deletionGracePeriodSeconds", "generation"};
	int e = 0;
	for (size_t i = 0; e == 0 && i < ARRAY_SIZE(kept); i++)
		e = object_keep_meta(obj, old, kept[i]);
	return e;
}

/* Restores the parts that this endpoint doesn't change. */
static int keep_other_parts(const struct route *rt, json_t *obj, const json_t *old) {
	int e = rt->kind->has_status ? object_keep(obj, old, "status") : 0;
	return e == 0 && rt->kind == &api_kind_namespace ? object_keep(obj, old, "spec") : e;
}

void stored_clear(struct stored *st) {
	json_decref(st->tree);
	json_decref(st->managed);
}

static bool same(const struct stored *st, json_t *obj, const json_t *list) {
	return object_keep_meta(obj, st->tree, "resourceVersion") == 0 && json_equal(st->tree, obj) &&
	       managed_same(st->managed, list);
}

/* Removes an object that is being deleted after its last finalizer was removed. */
static enum write_result finish_removal(const struct stage *s, struct request *r, const struct stored *st,
                                        const struct put *put) {
	/* The event shows the last stored state. The answer shows the requested state with the last stored version. */
	_json_decref_ json_t *last = object_load(st->o->value->data, st->o->value->len);
	_buf_free_ struct buf text = {0};
	if (!last ||
	    (!request_dry_run(r) && stage_remove(s->store, r->route.kind_index, st->o->ns, st->o->name, last) < 0))
		return write_out_of_memory(r);
	if (object_keep_meta(put->obj, st->tree, "resourceVersion") < 0)
		return write_out_of_memory(r);
	tree_dump(&text, put->obj);
	if (text.failed)
		reply_internal(r, "out of memory");
	else
		put->answer(r, 200, text.data, text.len);
	return request_dry_run(r) ? WRITE_DONE : WRITE_STAGED;
}

int write_check_name(struct request *r, const json_t *obj) {
	const char *name = object_meta_str(obj, "name");
	if (!name)
		reply_bad_request(r,
		                  "the name of the object (%s based on URL) was undeterminable: name must be provided",
		                  r->route.name);
	else if (!streq(name, r->route.name))
		reply_bad_request(r, "the name of the object (%.253s) does not match the name on the URL (%s)", name,
		                  r->route.name);
	else
		return 0;
	return -EINVAL;
}

/* Restores all but the status. Only metadata is changed afterwards, so only metadata is copied. */
static int reset_to_status(json_t *obj, const json_t *old) {
	_json_decref_ json_t *status = json_incref(json_object_get(obj, "status"));
	json_object_clear(obj);
	if (json_object_update(obj, (json_t *)old) < 0 ||
	    json_object_set_new(obj, "metadata", json_copy(object_meta(old))) < 0)
		return -ENOMEM;
	if (!status) {
		json_object_del(obj, "status");
		return 0;
	}
	return json_object_set(obj, "status", status) < 0 ? -ENOMEM : 0;
}

enum write_result write_put(const struct stage *s, struct request *r, const struct stored *st, const struct put *put) {
	const struct route *rt = &r->route;
	const json_t *old = st->tree;
	json_t *obj = put->obj, *list = put->list;
	_json_decref_ json_t *sent = NULL, *tracked = NULL;
	_buf_free_ struct buf text = {0};
	if (bounds_check_lengths(r, obj, json_array_size(st->managed)) < 0)
		return WRITE_DONE;
	sent = managers_detach(obj);
	if (write_check_name(r, obj) < 0 || check_preconditions(r, st->o, old, obj, put->need_version) < 0)
		return WRITE_DONE;
	/* OBJ gets its final form first: a difference that pruning and defaults remove is no change. */
	if (prune_object(r, rt->kind, put->duplicates, obj) < 0)
		return WRITE_DONE;
	if (keep_server_meta(obj, old) < 0 || set_name_label(rt->kind, obj) < 0)
		return write_out_of_memory(r);
	if (rt->verb == VERB_UPDATE && finalizers_keep(s->auth->rbac, r, old, obj) < 0)
		return write_out_of_memory(r);
	if (!list && managers_update(r, rt->kind, old, st->managed, obj, sent, &tracked) < 0)
		return write_out_of_memory(r);
	if (!list)
		list = tracked;
	if ((rt->status ? reset_to_status(obj, old) : keep_other_parts(rt, obj, old)) < 0)
		return write_out_of_memory(r);
	if (check_finalizers(r, old, obj) < 0)
		return WRITE_DONE;
	if (same(st, obj, list)) {
		put->answer(r, 200, st->o->value->data, st->o->value->len);
		return WRITE_DONE;
	}
	if (!rt->status && object_has_generation(rt->kind) && object_desired_differs(rt->kind, old, obj) &&
	    object_set_meta_i64(obj, "generation", object_generation(old) + 1) < 0)
		return write_out_of_memory(r);
	if (managers_attach(obj, list) < 0)
		return write_out_of_memory(r);
	if (stage_check(s, r, old, st->managed, obj, &text) < 0)
		return WRITE_DONE;
	if (object_deleting(old) && object_finalizers(obj) == 0 && rt->kind != &api_kind_namespace)
		return finish_removal(s, r, st, put);
	put->answer(r, 200, text.data, text.len);
	return finish_put(s, r, rt->name, &text);
}

int write_find(const struct stage *s, struct request *r, struct stored *ret, enum write_result *result) {
	const struct route *rt = &r->route;
	*result = WRITE_LATER;
	if (store_staged(s->store, rt->kind_index, rt->ns, rt->name))
		return -EAGAIN;
	*result = WRITE_DONE;
	const struct object *o = store_get(s->store, rt->kind_index, rt->ns, rt->name);
	int e = o ? object_read(o->value->data, o->value->len, &ret->tree) : 0;
	if (e < 0) {
		if (e == -EBADMSG)
			reply_internal(r,
			               "the stored object can't be read, because it is nested more than %d levels "
			               "deep; delete it and create it again",
			               TREE_DEPTH_MAX);
		else
			write_out_of_memory(r);
		return e;
	}
	if (restrict_stored(r, ret->tree) < 0)
		return -EPERM;
	if (!o)
		return 0;
	ret->managed = managers_detach(ret->tree);
	ret->o = o;
	return 0;
}

static enum write_result not_found(struct request *r) {
	reply_not_found(r);
	return WRITE_DONE;
}

/*
 * Objects of other kinds may be updated without a version. For these kinds a patch needs a version as well: it has that
 * of the stored object unless it removes it.
 */
static bool needs_version(const struct api_kind *k) {
	return object_has_generation(k) || k == &api_kind_lease;
}

/* Writes OBJ, which is the body or the patched object, as the new state of ST. */
static enum write_result write_put_body(const struct stage *s, struct request *r, const struct stored *st,
                                        json_t *obj) {
	const struct put put = {.obj = obj,
	                        .duplicates = r->duplicates,
	                        .need_version = needs_version(r->route.kind),
	                        .answer = reply_object};
	return write_put(s, r, st, &put);
}

static enum write_result no_such_uid(struct request *r, const char *uid) {
	reply_conflict(r, "uid mismatch: the provided object specified uid %.63s, and no existing object was found",
	               uid);
	return WRITE_DONE;
}

enum write_result handle_update(const struct stage *s, struct request *r) {
	_cleanup_(stored_clear) struct stored st = {0};
	enum write_result result;
	const struct api_kind *k = r->route.kind;
	_json_decref_ json_t *obj = tree_copy(r->json);
	if (!obj)
		return write_out_of_memory(r);
	if (write_check_type(r, r->route.kind, obj) < 0 || write_check_namespace(r, r->route.kind, obj) < 0 ||
	    write_check_name(r, obj) < 0)
		return WRITE_DONE;
	if (write_find(s, r, &st, &result) < 0)
		return result;
	if (st.o)
		return write_put_body(s, r, &st, obj);
	/* Kinds that clients may write without having read the object. */
	bool blind = k == &api_kind_event || k == &api_kind_lease || streq(k->group, RBAC_GROUP);
	if (!blind || r->route.status)
		return not_found(r);
	if (object_meta_str(obj, "uid"))
		return no_such_uid(r, object_meta_str(obj, "uid"));
	return authz_create(s->auth->rbac, r) ? write_create(s, r, obj, NULL) : WRITE_DONE;
}

/* ---- patch ---- */

int write_patch(struct request *r, const struct api_kind *k, const json_t *old, json_t **ret) {
	struct error err = {0};
	int e;
	if (streq(r->content_type, TYPE_STRATEGIC)) {
		e = strategic_merge(k->desc, old, r->json, ret, &err);
		if (e == -EINVAL)
			reply_bad_request(r, "invalid strategic merge patch: %s", err.msg);
		else if (e == -EMSGSIZE)
			reply_status(&r->reply, 413, "RequestEntityTooLarge", NULL, "%s", err.msg);
		else if (e == -ENOKEY)
			reply_status(&r->reply, 500, NULL, NULL, "%s", err.msg);
		else if (e == -EBADMSG) {
			struct api_errors errs = {0};
			api_errors_add(&errs, API_INVALID, "patch", "Invalid value: %.200s", err.msg);
			const struct status_details d = {.causes = &errs};
			reply_status(&r->reply, 422, "Invalid", &d, " \"\" is invalid: patch: %s", errs.v[0].msg);
		}
		if (e < 0 && e != -ENOMEM)
			return e;
	} else if (!streq(r->content_type, TYPE_JSON_PATCH)) {
		if (!json_is_object(r->json)) {
			reply_bad_request(r, "a merge patch must be an object");
			return -EINVAL;
		}
		/* The result shares parts with the target and will be changed, so patch a copy. */
		_json_decref_ json_t *copy = tree_copy(old);
		e = copy ? patch_merge(copy, r->json, ret) : -ENOMEM;
	} else {
		e = patch_json(old, r->json, ret, &err);
		if (e == -EINVAL)
			reply_bad_request(r, "invalid JSON patch: %s", err.msg);
		else if (e == -ENOENT || e == -EMSGSIZE)
			reply_status(&r->reply, 422, "Invalid", NULL,
			             "the server rejected our request due to an error in our "
			             "request: the patch can't be applied: %s",
			             err.msg);
		else if (e == -E2BIG)
			reply_status(&r->reply, 413, "RequestEntityTooLarge", NULL, "%s", err.msg);
		if (e < 0 && e != -ENOMEM)
			return e;
	}
	if (e < 0)
		write_out_of_memory(r);
	return e;
}

static enum write_result handle_apply(const struct stage *s, struct request *r, const struct stored *st) {
	_json_decref_ json_t *obj = NULL, *list = NULL;
	if (!st->o && r->route.status)
		return not_found(r);
	if (managers_apply(r, st->tree, st->managed, &obj, &list) < 0 ||
	    write_check_namespace(r, r->route.kind, obj) < 0)
		return WRITE_DONE;
	if (st->o) {
		const struct put put = {.obj = obj, .list = list, .duplicates = r->duplicates, .answer = reply_object};
		return write_put(s, r, st, &put);
	}
	if (write_check_name(r, obj) < 0)
		return WRITE_DONE;
	if (object_meta_str(obj, "uid"))
		return no_such_uid(r, object_meta_str(obj, "uid"));
	return authz_create(s->auth->rbac, r) ? write_create(s, r, obj, list) : WRITE_DONE;
}

enum write_result handle_patch(const struct stage *s, struct request *r) {
	_cleanup_(stored_clear) struct stored st = {0};
	enum write_result result;
	_json_decref_ json_t *obj = NULL;
	if (write_find(s, r, &st, &result) < 0)
		return result;
	if (request_is_apply(r))
		return handle_apply(s, r, &st);
	if (!st.o)
		return not_found(r);
	/* A patch may change managedFields. A merge patch shows whether it does; without them there is less to copy. */
	const bool merge = streq(r->content_type, TYPE_MERGE_PATCH);
	if ((!merge || json_object_get(object_meta(r->json), "managedFields")) &&
	    managers_attach(st.tree, st.managed) < 0)
		return write_out_of_memory(r);
	if (write_patch(r, r->route.kind, st.tree, &obj) < 0)
		return WRITE_DONE;
	json_decref(managers_detach(st.tree));
	if (!json_is_object(obj)) {
		reply_bad_request(r, "the patch leaves no object");
		return WRITE_DONE;
	}
	if (write_check_type(r, r->route.kind, obj) < 0 || write_check_namespace(r, r->route.kind, obj) < 0)
		return WRITE_DONE;
	return write_put_body(s, r, &st, obj);
}
