/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/stage.h"

#include <inttypes.h>
#include <string.h>

#include "api/addresspool.h"
#include "api/core.h"
#include "api/dom.h"
#include "api/instance.h"
#include "api/roles.h"
#include "apiserver/auth/escalate.h"
#include "apiserver/auth/restrict.h"
#include "apiserver/json/object.h"
#include "apiserver/json/selector.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/reply.h"
#include "apiserver/write/finalizers.h"
#include "apiserver/write/prepare.h"
#include "apiserver/write/quota.h"
#include "base/log.h"
#include "base/util.h"

static int set_version(struct store *st, json_t *obj) {
	char rv[24];
	snprintf(rv, sizeof(rv), "%" PRId64, store_next_version(st));
	return object_set_meta_str(obj, "resourceVersion", rv);
}

static int dump(const struct api_kind *k, const json_t *obj, struct buf *text, struct tree_size *ret_size) {
	_json_decref_ json_t *ordered = object_ordered(k, obj);
	if (!ordered)
		return -ENOMEM;
	*ret_size = tree_dump(text, ordered);
	return text->failed ? -ENOMEM : 0;
}

/* What Kubernetes says of fields that the schema doesn't know depends on what the client asked. */
static int check_unknown(struct request *r, const char *name, const struct api_errors *unknown) {
	const char *how = request_param(r, "fieldValidation");
	const struct api_kind *k = r->route.kind;
	if (!unknown->n || streq(how, "Ignore"))
		return 0;
	if (!streq(how, "Strict")) {
		for (size_t i = 0; i < unknown->n; i++)
			reply_warn(&r->reply, "%s", unknown->v[i].msg);
		return 0;
	}
	_buf_free_ struct buf b = {.max = 4096};
	for (size_t i = 0; i < unknown->n; i++)
		buf_printf(&b, "%s%s", i ? ", " : "", unknown->v[i].msg);
	/* Kubernetes names only the kind here; whose field it is helps more. */
	reply_bad_request(r, "%s \"%s\" in version \"%s\" cannot be handled as a %s: strict decoding error: %.3500s",
	                  k->kind, name ? name : "", k->version, k->kind, b.data);
	return -EINVAL;
}

/* Two pools that could hand out one value: the later one is refused. */
static void check_pools(const struct stage *s, unsigned kind, const struct addresspool *pool, struct api_errors *errs) {
	for (const struct object *o = store_seek(s->store, kind, "", ""); o; o = store_next(s->store, kind, o)) {
		struct api_errors ignored = {0};
		void *other;
		if (streq(o->name, pool->meta.name) ||
		    api_parse(&api_kind_addresspool, o->value->data, o->value->len, &other, &ignored) < 0)
			continue;
		bool mac = pool->spec->mac_prefix != NULL;
		if (addresspool_overlaps(pool->spec, ((struct addresspool *)other)->spec))
			api_errors_add(errs, API_INVALID, mac ? "spec.macPrefix" : "spec.prefix",
			               "Invalid value: \"%s\": overlaps AddressPool %s",
			               mac ? pool->spec->mac_prefix : pool->spec->prefix, o->name);
		api_free(&api_kind_addresspool, other);
	}
}

/* Of which kinds owners are is anybody's guess, but not of this one. One of them at most manages an object. */
static void check_owners(const json_t *obj, struct api_errors *errs) {
	size_t i, n = 0;
	json_t *owner;
	json_array_foreach(json_object_get(object_meta(obj), "ownerReferences"), i, owner) {
		const char *version = json_string_value(json_object_get(owner, "apiVersion"));
		const char *slash = version ? strchr(version, '/') : NULL;
		n += json_is_true(json_object_get(owner, "controller"));
		if (slash && strchr(slash + 1, '/'))
			api_errors_add(errs, API_INVALID, "metadata.ownerReferences.apiVersion",
			               "Invalid value: \"%.100s\": must be GROUP/VERSION", version);
		if (streq(version, "v1") && streq(json_string_value(json_object_get(owner, "kind")), "Event"))
			api_errors_add(errs, API_INVALID, "metadata.ownerReferences",
			               "Invalid value: an Event owns nothing");
	}
	if (n > 1)
		api_errors_add(errs, API_INVALID, "metadata.ownerReferences",
		               "Invalid value: only one reference can have controller set to true, not %zu", n);
}

/* Of what isn't desired only this may not change: what hosts know an Instance by. */
static bool id_differs(const json_t *old, const json_t *obj) {
	const json_t *a = json_object_get(json_object_get(old, "status"), "id"),
		     *b = json_object_get(json_object_get(obj, "status"), "id");
	return a != b && !json_equal(a, b);
}

/*
 * Against the state before, which is parsed only if something may have changed that must not: immutable fields are part
 * of what is desired, but for status.id. A stored object that no longer passes (a newer server has tighter rules) may
 * be changed freely.
 */
static void check_change(const struct stage *s, const struct request *r, const json_t *old, const json_t *obj,
                         const void *now, struct api_errors *errs) {
	const struct api_kind *k = r->route.kind;
	struct api_errors ignored = {0};
	void *before = NULL;
	const struct object *o = object_desired_differs(k, old, obj) || id_differs(old, obj)
	                                 ? store_get(s->store, r->route.kind_index, r->route.ns, r->route.name)
	                                 : NULL;
	if (o && api_parse(k, o->value->data, o->value->len, &before, &ignored) == 0)
		api_check_update(k, before, now, errs);
	api_free(k, before);
}

static int validate(const struct stage *s, struct request *r, const json_t *old, const json_t *obj,
                    const struct buf *text, struct api_errors *errs) {
	const struct api_kind *k = r->route.kind;
	void *now = NULL;
	int e = api_parse(k, text->data, text->len, &now, errs);
	if (e == 0 && old)
		check_change(s, r, old, obj, now, errs);
	if (e == 0 && k == &api_kind_addresspool)
		check_pools(s, r->route.kind_index, now, errs);
	api_free(k, now);
	return e;
}

/* Kubernetes knows no empty maps and lists in metadata, nor empty maps in kinds of its own. */
static void drop_empty(const struct api_kind *k, json_t *obj) {
	static const char *const names[] = {"labels", "annotations", "finalizers", "ownerReferences"};
	json_t *m = object_meta(obj);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const json_t *v = json_object_get(m, names[i]);
		if (i < 2 ? json_is_object(v) && !json_object_size(v) : json_is_array(v) && !json_array_size(v))
			json_object_del(m, names[i]);
	}
	for (size_t i = 0; !object_has_generation(k) && i < k->desc->n_fields; i++) {
		const struct api_field *f = &k->desc->fields[i];
		const json_t *v = json_object_get(obj, f->name);
		if (f->type == API_TYPE_map && json_is_object(v) && !json_object_size(v))
			json_object_del(obj, f->name);
	}
}

/* What is there twice goes; two that differ, of one owner, are warned of alone, as kube-apiserver does. */
static void drop_repeated_owners(struct request *r, json_t *obj) {
	json_t *list = json_object_get(object_meta(obj), "ownerReferences");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *kept = json_array_get(list, i);
		const char *uid = json_string_value(json_object_get(kept, "uid"));
		bool twice = false;
		for (size_t j = i + 1; uid && j < json_array_size(list); j++) {
			const json_t *other = json_array_get(list, j);
			if (!streq(json_string_value(json_object_get(other, "uid")), uid))
				continue;
			twice = true;
			if (json_equal(kept, other))
				json_array_remove(list, j--);
		}
		if (twice)
			reply_warn(&r->reply,
			           ".metadata.ownerReferences contains duplicate entries; API server dedups owner "
			           "references in 1.20+, and may reject such requests as early as 1.24; please fix "
			           "your requests; duplicate UID(s) observed: %.63s",
			           uid);
	}
}

static size_t count_managed(const json_t *obj) {
	return json_array_size(json_object_get(object_meta(obj), "managedFields"));
}

static void too_many_managed(struct api_errors *errs, size_t n, int max) {
	api_errors_add(errs, API_TOO_MANY, "metadata.managedFields", "Too many: %zu: must have at most %d items", n,
	               max);
}

int stage_check_lengths(struct request *r, const json_t *obj, size_t stored_entries) {
	struct api_errors errs = {0};
	const size_t n = count_managed(obj);
	if (n > MANAGED_ENTRIES_MAX && n > stored_entries)
		too_many_managed(&errs, n, MANAGED_ENTRIES_MAX);
	api_check_lengths(r->route.kind->desc, obj, &errs);
	if (!errs.n)
		return 0;
	reply_invalid(r, object_meta_str(obj, "name"), &errs);
	return -EINVAL;
}

int stage_prepare(struct request *r, json_t *obj) {
	struct api_errors unknown = r->duplicates ? *r->duplicates : (struct api_errors){0};
	/* Known, but kept by nobody any more. */
	json_object_del(object_meta(obj), "selfLink");
	if (prepare_nulls(r->route.kind, obj) < 0) {
		reply_internal(r, "out of memory");
		return -ENOMEM;
	}
	api_prune(r->route.kind->desc, obj, &unknown);
	if (check_unknown(r, object_meta_str(obj, "name"), &unknown) < 0)
		return -EINVAL;
	drop_repeated_owners(r, obj);
	drop_empty(r->route.kind, obj);
	int e = prepare_object(r, obj);
	if (e < 0)
		return e;
	if (api_default(r->route.kind->desc, obj) == 0)
		return 0;
	reply_internal(r, "out of memory");
	return -ENOMEM;
}

/* 0: there is none. */
static size_t stored_size(const struct stage *s, unsigned kind, const char *ns, const char *name) {
	const struct object *o = store_get(s->store, kind, ns, name);
	return o ? o->value->len : 0;
}

/*
 * A change by one of Nacre's programs: statuses and finalizers must not fail because a tenant has filled its namespace
 * or the object. No status is an Event, though.
 */
static bool is_ours(const struct request *r, bool create) {
	const struct user *u = r->user;
	return (user_in_group(u, ROLES_HOSTS) || user_in_group(u, ROLES_EDGES) || streq(u->name, ROLES_CONTROLLER)) &&
	       !create && r->route.kind != &api_kind_event;
}

/* Administrators may fill a namespace. */
static bool may_exceed(const struct request *r, bool create) {
	return is_ours(r, create) || user_in_group(r->user, GROUP_MASTERS);
}

/* ---- bounds of one object ---- */

/*
 * OBJ is of SIZE. The bounds are for users. What Nacre's programs write has bounds of its own and may take an object
 * past these; then users may still write what makes the object no larger.
 */
static int check_values(struct request *r, const json_t *old, const json_t *managed, const json_t *obj,
                        const struct tree_size *size) {
	const bool deep = size->depth > TREE_DEPTH_MAX;
	size_t left = OBJECT_VALUES_MAX, before = SIZE_MAX;
	struct error err, ignored;
	if (!deep && size->values <= left)
		return 0;
	if (is_ours(r, !old))
		left = SIZE_MAX;
	/* The object with its managedFields, which are nested as the object is, and a little more. */
	if (tree_charge(obj, 0, &left, NULL, &err) == 0)
		return 0;
	if (!deep && old && tree_charge(old, 0, &before, NULL, &ignored) == 0 &&
	    (!managed || tree_charge(managed, 2, &before, NULL, &ignored) == 0) && size->values <= SIZE_MAX - before)
		return 0;
	const char *name = object_meta_str(obj, "name");
	reply_status(&r->reply, 422, "Invalid", NULL, "%s \"%s\" is invalid: %s", r->route.kind->singular,
	             name ? name : "", err.msg);
	return -EINVAL;
}

static int check_size(const struct stage *s, struct request *r, const json_t *old, const json_t *obj, size_t len) {
	const struct api_kind *k = r->route.kind;
	const char *name = object_meta_str(obj, "name");
	const size_t max = k->max_bytes ? k->max_bytes : OBJECT_MAX;
	const size_t stored = old ? stored_size(s, r->route.kind_index, r->route.ns, r->route.name) : 0;
	/* Agents and nacre-controller take no more than max_bytes of a kind that has it. */
	const size_t room = is_ours(r, !old) && !k->max_bytes ? PROGRAMS_BYTES : 0;
	if (len <= max + room || (len <= stored && !k->max_bytes))
		return 0;
	reply_status(&r->reply, 413, "RequestEntityTooLarge", NULL, "%s \"%s\" would take %zu bytes; the limit is %zu",
	             k->singular, name ? name : "", len, max);
	return -EMSGSIZE;
}

static void check_managed(const struct request *r, const json_t *old, const json_t *managed, const json_t *obj,
                          struct api_errors *errs) {
	const size_t n = count_managed(obj);
	const int max = user_in_group(r->user, GROUP_MASTERS) ? MANAGED_ENTRIES_MAX : MANAGED_ENTRIES_USERS;
	if (n > (size_t)max && n > json_array_size(managed) && !is_ours(r, !old))
		too_many_managed(errs, n, max);
}

/* Quotas, and what a namespace may store. */
static bool has_room(const struct stage *s, const struct request *r, const json_t *old, const json_t *obj,
                     const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]) {
	const struct route *rt = &r->route;
	const char *name = object_meta_str(obj, "name");
	const size_t was = name ? stored_size(s, rt->kind_index, rt->ns, name) : 0;
	/* Of a name that is taken it takes none, and is refused for that. */
	if (!old && was)
		return true;
	if (!old && rt->kind == &api_kind_instance && !quota_allows(s->quota, rt->ns, text, msg))
		return false;
	return may_exceed(r, !old) || quota_stores(s->quota, rt->kind_index, rt->ns, was, text->len, msg);
}

int stage_check(const struct stage *s, struct request *r, const json_t *old, const json_t *managed, json_t *obj,
                struct buf *ret_text) {
	const struct api_kind *k = r->route.kind;
	struct api_errors errs = {0};
	_buf_free_ struct buf text = {0};

	struct tree_size size;
	int e;
	/* A rehearsal makes no version. */
	int v = !request_dry_run(r) ? set_version(s->store, obj)
	        : old               ? object_keep_meta(obj, old, "resourceVersion")
	                            : object_set_meta_str(obj, "resourceVersion", NULL);
	if (v < 0 || dump(k, obj, &text, &size) < 0) {
		reply_internal(r, "out of memory");
		return -ENOMEM;
	}
	if ((e = check_values(r, old, managed, obj, &size)) < 0 || (e = check_size(s, r, old, obj, text.len)) < 0)
		return e;
	check_owners(obj, &errs);
	check_managed(r, old, managed, obj, &errs);
	e = validate(s, r, old, obj, &text, &errs);
	if (errs.n) {
		reply_invalid(r, object_meta_str(obj, "name"), &errs);
		return -EINVAL;
	}
	if (e < 0) {
		reply_internal(r, "out of memory");
		return e;
	}
	if ((e = restrict_write(s->auth, r, old, obj, text.len)) < 0)
		return e;
	char msg[QUOTA_MESSAGE_MAX];
	if (!has_room(s, r, old, obj, &text, msg)) {
		reply_forbidden(r, object_meta_str(obj, "name"), NULL, "%s", msg);
		return -EDQUOT;
	}
	if ((e = finalizers_check(s->auth->rbac, r, old, obj)) < 0 ||
	    (e = escalate_check(s->auth->rbac, r, old, obj)) < 0)
		return e;
	*ret_text = text;
	text = (struct buf){0};
	return 0;
}

int stage_put_text(const struct stage *s, unsigned kind, const char *ns, const char *name, const struct buf *text) {
	if (quota_stage(s->quota, kind, ns, stored_size(s, kind, ns, name), text) < 0)
		return -ENOMEM;
	struct blob *b = blob_new(text->data, text->len);
	return b ? store_put(s->store, kind, ns, name, b) : -ENOMEM;
}

static int make_blob(struct store *st, unsigned kind, json_t *obj, struct blob **ret) {
	_buf_free_ struct buf b = {0};
	struct tree_size size;
	if (set_version(st, obj) < 0 || dump(api_kinds[kind], obj, &b, &size) < 0)
		return -ENOMEM;
	*ret = blob_new(b.data, b.len);
	return *ret ? 0 : -ENOMEM;
}

int stage_put(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) {
	struct blob *b;
	int r = make_blob(st, kind, obj, &b);
	return r < 0 ? r : store_put(st, kind, ns, name, b);
}

int stage_remove(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) {
	struct blob *b;
	int r = make_blob(st, kind, obj, &b);
	return r < 0 ? r : store_remove(st, kind, ns, name, b);
}

static int add_finalizer(json_t *obj, const char *name) {
	json_t *list = json_object_get(object_meta(obj), "finalizers");
	if (object_has_finalizer(obj, name))
		return 0;
	if (!list) {
		list = json_array();
		if (json_object_set_new(object_meta(obj), "finalizers", list) < 0)
			return -ENOMEM;
	}
	return json_array_append_new(list, json_string(name)) < 0 ? -ENOMEM : 0;
}

static int mark(json_t *obj, unsigned kind) {
	char now[TIME_STR_MAX];
	int r = object_set_meta_str(obj, "deletionTimestamp", time_str(now_realtime_us(), false, now));
	if (r == 0)
		r = object_set_meta_i64(obj, "deletionGracePeriodSeconds", 0);
	if (r == 0 && object_generation(obj) > 0)
		r = object_set_meta_i64(obj, "generation", object_generation(obj) + 1);
	if (r == 0 && api_kinds[kind] == &api_kind_namespace)
		r = json_object_set_new(obj, "status", json_pack("{s:s}", "phase", "Terminating"));
	return r < 0 ? -ENOMEM : 0;
}

/* Its last state is the stored text with its version replaced. */
static int remove_unreadable(struct store *st, unsigned kind, const struct object *o) {
	const char *json = o->value->data, *version;
	size_t len;
	_buf_free_ struct buf text = {0};
	if (json_find(json, o->value->len, "metadata.resourceVersion", &version, &len)) {
		buf_add(&text, json, (size_t)(version - json));
		buf_printf(&text, "\"%" PRId64 "\"", store_next_version(st));
		buf_add(&text, version + len, o->value->len - (size_t)(version + len - json));
	} else
		buf_add(&text, json, o->value->len);
	struct blob *b = text.failed ? NULL : blob_new(text.data, text.len);
	if (!b)
		return -ENOMEM;
	log_warn("object that can't be read removed: it is nested too deeply", "kind=%s namespace=%s name=%s",
	         api_kinds[kind]->kind, o->ns, o->name);
	return store_remove(st, kind, o->ns, o->name, b);
}

int stage_delete(struct store *st, unsigned kind, const struct object *o, enum propagation how, bool dry_run,
                 json_t **ret) {
	json_t *obj = NULL;
	int r = object_read(o->value->data, o->value->len, &obj);
	if (r == -EBADMSG) {
		r = dry_run ? 0 : remove_unreadable(st, kind, o);
		if (r == 0 && ret)
			*ret = NULL;
		return r < 0 ? r : 1;
	}
	/* A namespace goes once it is empty, which the collector sees to. */
	bool is_namespace = api_kinds[kind] == &api_kind_namespace;
	bool marked = obj && object_deleting(obj);
	if (r == 0 && !marked && how == PROPAGATE_FOREGROUND && !is_namespace)
		r = add_finalizer(obj, "foregroundDeletion");
	if (r == 0 && !marked && how == PROPAGATE_ORPHAN && !is_namespace)
		r = add_finalizer(obj, "orphan");
	bool stays = is_namespace || object_finalizers(obj) > 0;
	if (r == 0 && stays && !marked)
		r = mark(obj, kind);
	bool change = !stays || !marked;
	if (r == 0 && change && !dry_run)
		r = stays ? stage_put(st, kind, o->ns, o->name, obj) : stage_remove(st, kind, o->ns, o->name, obj);
	if (r == 0 && ret && stays)
		*ret = json_incref(obj);
	else if (r == 0 && ret)
		*ret = NULL;
	json_decref(obj);
	return r < 0 ? r : change;
}
