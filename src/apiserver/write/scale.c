/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The scale subresource: an autoscaling/v1 Scale shows the count of an object, and a write to it changes only the
 * count. What the client sends is checked as a Scale. Then the object itself is written with the new count, so that all
 * rules of the object apply. The rules are those of k8s.io/apiextensions-apiserver, pkg/registry/customresource
 * (ScaleREST), and apimachinery, util/managedfields (ScaleHandler).
 */

#include <inttypes.h>
#include <string.h>

#include "api/scale.h"
#include "apiserver/fields/managed.h"
#include "apiserver/json/object.h"
#include "apiserver/json/table.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/body.h"
#include "apiserver/request/reply.h"
#include "apiserver/write/handlers.h"
#include "apiserver/write/managers.h"
#include "apiserver/write/prune.h"
#include "apiserver/write/stage.h"
#include "apiserver/write/write.h"
#include "base/util.h"

#define SCALE_VERSION "autoscaling/v1"

static enum write_result scale_out_of_memory(struct request *r) {
	reply_internal(r, "out of memory");
	return WRITE_DONE;
}

/* ---- paths such as "spec.replicas" ---- */

/* Returns the next element of *PATH and moves *PATH past it. */
static const char *element(const char **path, char out[static 64]) {
	size_t n = strcspn(*path, ".");
	snprintf(out, 64, "%.*s", (int)n, *path);
	*path += n + ((*path)[n] == '.');
	return out;
}

static json_t *value_at(json_t *obj, const char *path) {
	char name[64];
	while (obj && *path)
		obj = json_object_get(obj, element(&path, name));
	return obj;
}

static int set_at(json_t *obj, const char *path, int64_t value) {
	char name[64];
	element(&path, name);
	if (!*path)
		return json_object_set_new(obj, name, json_integer(value)) < 0 ? -ENOMEM : 0;
	/* The object that holds the count is required; see api_scale. */
	return set_at(json_object_get(obj, name), path, value);
}

static bool has_field(const struct fields *set, const char *path) {
	char name[64];
	const struct fields_node *node = NULL;
	while (*path) {
		node = set ? fields_find(set, ELEMENT_FIELD, element(&path, name)) : NULL;
		if (!node)
			return false;
		set = node->below;
	}
	return node && node->member;
}

static const struct fields *scale_fields_of(struct arena *m, const char *path) {
	char name[64];
	struct fields_builder b = {.arena = m};
	element(&path, name);
	const char *text = arena_strndup(m, name, strlen(name));
	if (text)
		fields_add(&b, ELEMENT_FIELD, text, !*path, *path ? scale_fields_of(m, path) : NULL);
	return fields_build(&b);
}

/* ---- the object as a Scale ---- */

/* Returns the Scale of OBJ, a new reference; NULL: no memory. A count of 0 is left out, as in Kubernetes. */
static json_t *scale_of(const struct api_kind *k, json_t *obj) {
	static const char *const kept[] = {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"};
	const json_int_t want = json_integer_value(value_at(obj, k->scale->spec_replicas));
	const json_int_t have = json_integer_value(value_at(obj, k->scale->status_replicas));
	json_t *selector = value_at(obj, k->scale->selector);
	json_t *out = json_pack("{s:s, s:s, s:{}, s:{}, s:{s:I, s:O*}}", "kind", "Scale", "apiVersion", SCALE_VERSION,
	                        "metadata", "spec", "status", "replicas", have, "selector", selector);
	int e = out ? 0 : -ENOMEM;
	for (size_t i = 0; e == 0 && i < ARRAY_SIZE(kept); i++)
		e = object_keep_meta(out, obj, kept[i]);
	if (e == 0 && want)
		e = set_at(out, "spec.replicas", want);
	if (e == 0)
		return out;
	json_decref(out);
	return NULL;
}

static void reply_table(struct request *r, const json_t *scale, int64_t version) {
	_buf_free_ struct buf text = {0}, b = {0};
	tree_dump(&text, scale);
	if (text.failed) {
		scale_out_of_memory(r);
		return;
	}
	const struct json_span item = {text.data, text.len};
	table_print(&b, &api_kind_scale, &item, version, TABLE_METADATA, now_realtime_us());
	reply_json(&r->reply, 200, &b);
}

void handle_scale_get(const struct store *store, struct request *r) {
	const struct route *rt = &r->route;
	const struct object *o = store_get(store, rt->kind_index, rt->ns, rt->name);
	if (!o) {
		reply_not_found(r);
		return;
	}
	_json_decref_ json_t *tree = object_load(o->value->data, o->value->len),
			     *scale = tree ? scale_of(rt->kind, tree) : NULL;
	if (!scale)
		scale_out_of_memory(r);
	else if (r->accept == MEDIA_PARTIAL_LIST)
		reply_not_partial(r);
	else if (r->accept == MEDIA_TABLE)
		reply_table(r, scale, o->rv);
	else
		reply_object_dom(r, 200, scale);
}

/* ---- managers of the count ---- */

/* The object's entries that have the count, as entries of a Scale. */
static json_t *managers_of_scale(struct arena *m, const struct api_kind *k, const json_t *list) {
	struct managed all, e = {.arena = m};
	char gv[64];
	api_kind_version(k, gv);
	if (managed_read(m, list, &all) < 0)
		return json_array(); /* as if there were no managers */
	const struct fields *count = scale_fields_of(m, "spec.replicas");
	for (size_t i = 0; i < all.n; i++) {
		const struct managed_entry *x = &all.v[i];
		struct writer who = {x->manager, SCALE_VERSION, x->subresource, ""};
		if (!streq(x->version, gv) || !has_field(x->set, k->scale->spec_replicas))
			continue;
		struct managed_entry *y = managed_get(&e, &who, x->apply);
		if (!y)
			return NULL;
		y->set = count;
		y->time = x->time;
	}
	return managed_print(&e);
}

/*
 * The reverse: the managers of the count in SCALE are put into the object's LIST. An Apply entry that still has the
 * count stays. All other entries lose it to entries of the same name from SCALE, which have no time at first.
 */
static json_t *managers_of_object(struct arena *m, const struct api_kind *k, const json_t *list, const json_t *scale) {
	struct managed all, counts, e = {.arena = m};
	char gv[64];
	api_kind_version(k, gv);
	if (managed_read(m, list, &all) < 0)
		all = (struct managed){0};
	if (managed_read(m, scale, &counts) < 0)
		return NULL;
	const struct fields *count = scale_fields_of(m, k->scale->spec_replicas);
	e.v = arena_alloc(m, (all.n + counts.n + 1) * sizeof(*e.v));
	if (!e.v)
		return NULL;
	for (size_t i = 0; i < all.n; i++) {
		struct managed_entry *x = &all.v[i], *y = NULL;
		const struct writer who = {x->manager, SCALE_VERSION, x->subresource, ""};
		/* Entries of versions that don't exist are dropped. */
		if (!streq(x->version, gv))
			continue;
		if (has_field(x->set, k->scale->spec_replicas)) {
			y = x->apply ? managed_find(&counts, &who, true) : NULL;
			if (!y) {
				x->set = fields_difference(m, x->set, count);
				x->json = NULL;
			} else
				y->set = NULL;
		}
		if (x->set)
			e.v[e.n++] = *x;
	}
	for (size_t i = 0; i < counts.n; i++) {
		const struct managed_entry *x = &counts.v[i];
		if (has_field(x->set, "spec.replicas"))
			e.v[e.n++] = (struct managed_entry){x->manager, gv, x->subresource, "", x->apply, count, NULL};
	}
	return managed_print(&e);
}

/* ---- writing ---- */

/* Checks the result of a patch like a Scale that was sent; only the code of the answer differs. */
static int check_values(struct request *r, const json_t *scale) {
	struct api_errors errs = {0};
	_buf_free_ struct buf text = {0};
	void *value = NULL;
	tree_dump(&text, scale);
	int e = text.failed ? -ENOMEM : api_parse(&api_kind_scale, text.data, text.len, &value, &errs);
	api_free(&api_kind_scale, value);
	if (e == 0)
		return 0;
	if (e == -ENOMEM || !errs.n)
		scale_out_of_memory(r);
	else if (r->route.verb == VERB_PATCH)
		reply_invalid_as(r, api_kind_scale.group, api_kind_scale.kind, r->route.name, &errs);
	else
		reply_bad_request(r, "Scale in version \"v1\" cannot be handled as a Scale: %s: %s", errs.v[0].path,
		                  errs.v[0].msg);
	return -EINVAL;
}

/* Returns in *RET the new Scale that R asks for, after checking it. A negative errno: the reply is set. */
static int new_scale(struct request *r, const json_t *old, json_t **ret) {
	const struct api_kind *k = &api_kind_scale;
	_json_decref_ json_t *scale = NULL;
	if (r->route.verb == VERB_PATCH) {
		if (write_patch(r, k, old, &scale) < 0)
			return -EINVAL;
	} else if (!(scale = tree_copy(r->json))) {
		scale_out_of_memory(r);
		return -ENOMEM;
	}
	if (!json_is_object(scale)) {
		reply_bad_request(r, "the patch leaves no object");
		return -EINVAL;
	}
	if (write_check_type(r, k, scale) < 0 || write_check_namespace(r, k, scale) < 0 ||
	    write_check_name(r, scale) < 0)
		return -EINVAL;
	json_decref(managers_detach(scale));
	if (prune_object(r, k, r->duplicates, scale) < 0 || check_values(r, scale) < 0)
		return -EINVAL;
	/* A count of 0 is removed, so that a dry run without a change is seen as one. */
	if (json_integer_value(value_at(scale, "spec.replicas")) == 0)
		json_object_del(json_object_get(scale, "spec"), "replicas");
	*ret = TAKE_PTR(scale);
	return 0;
}

/* Returns the object with the new count and the preconditions in SCALE. */
static json_t *new_object(const struct request *r, const json_t *old, json_t *scale) {
	const char *version = object_meta_str(scale, "resourceVersion"), *uid = object_meta_str(scale, "uid");
	json_t *obj = tree_copy(old);
	int e = obj ? object_set_meta_str(obj, "resourceVersion", version) : -ENOMEM;
	if (e == 0 && uid && r->route.verb == VERB_UPDATE)
		e = object_set_meta_str(obj, "uid", uid);
	if (e == 0)
		e = set_at(obj, r->route.kind->scale->spec_replicas,
		           json_integer_value(value_at(scale, "spec.replicas")));
	if (e == 0)
		return obj;
	json_decref(obj);
	return NULL;
}

/* The object at JSON was written; the answer is its Scale. */
static void answer_scale(struct request *r, unsigned code, const char *json, size_t len) {
	_json_decref_ json_t *obj = tree_load(json, len), *scale = obj ? scale_of(r->route.kind, obj) : NULL;
	/*
	 * The change is already staged and will be stored. The answer is the whole Scale or an error, never a part of
	 * it.
	 */
	if (scale)
		reply_object_dom(r, code, scale);
	else
		reply_internal(r, "out of memory");
}

static enum write_result write_scale(const struct stage *s, struct request *r, const struct stored *st,
                                     struct arena *m) {
	const struct api_kind *k = r->route.kind;
	_json_decref_ json_t *old = NULL, *scale = NULL, *was = NULL, *now = NULL, *list = NULL, *obj = NULL;
	if (st->o && !(old = scale_of(k, st->tree)))
		return scale_out_of_memory(r);
	if ((old || r->route.verb == VERB_UPDATE) && new_scale(r, old, &scale) < 0)
		return WRITE_DONE;
	if (!st->o) {
		reply_not_found(r);
		return WRITE_DONE;
	}
	if (!(was = managers_of_scale(m, k, st->managed)) ||
	    managers_update(r, &api_kind_scale, old, was, scale, NULL, &now) < 0 ||
	    !(list = managers_of_object(m, k, st->managed, now)) || !(obj = new_object(r, st->tree, scale)))
		return scale_out_of_memory(r);
	/* Repeated keys of the Scale have already been reported; the object comes from the store and has none. */
	return write_put(s, r, st, &(struct put){.obj = obj, .list = list, .answer = answer_scale});
}

enum write_result handle_scale(const struct stage *s, struct request *r) {
	_cleanup_(stored_clear) struct stored st = {0};
	_arena_free_ struct arena m = {0};
	enum write_result result;
	if (write_find(s, r, &st, &result) < 0)
		return result;
	if (!request_is_apply(r))
		return write_scale(s, r, &st, &m);
	if (!st.o)
		reply_not_found(r);
	else
		reply_status(&r->reply, 415, "UnsupportedMediaType", NULL,
		             "the scale subresource does not support apply: patch it, or apply %s of the object itself",
		             r->route.kind->scale->spec_replicas);
	return WRITE_DONE;
}
