/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/stage_delete.h"

#include <inttypes.h>

#include "api/core.h"
#include "apiserver/json/object.h"
#include "apiserver/json/selector.h"
#include "apiserver/write/stage.h"
#include "base/log.h"
#include "base/util.h"

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

/* Removes an object that can't be parsed. Its last state is the stored text with the new version. */
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
	log_warn("removed an object that can't be read: it is nested too deeply", "kind=%s namespace=%s name=%s",
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
	/* The collector removes a namespace when it is empty. */
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
