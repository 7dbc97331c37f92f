/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/finalizers.h"

#include "api/meta.h"
#include "apiserver/auth/authz.h"
#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

#define OWN_PREFIX "nacre.dev/"

static json_t *list_of(const json_t *obj) {
	return json_object_get(object_meta(obj), "finalizers");
}

/*
 * Returns a new list of Nacre's finalizers that OLD has and OBJ lacks. There may be very many, so the loops are not
 * nested.
 */
static json_t *taken_away(const json_t *old, const json_t *obj) {
	json_t *kept = json_object(), *ret = json_array(), *v;
	size_t i;
	json_array_foreach(list_of(obj), i, v) {
		if (json_is_string(v))
			json_object_set_new(kept, json_string_value(v), json_true());
	}
	json_array_foreach(list_of(old), i, v) {
		const char *name = json_string_value(v);
		if (name && starts_with(name, OWN_PREFIX) && !json_object_get(kept, name))
			json_array_append(ret, v);
	}
	json_decref(kept);
	return ret;
}

static bool may_take_away(const struct rbac *rbac, const struct request *r) {
	const struct api_kind *k = r->route.kind;
	const struct authz_attributes a = {"update",    k->group,      k->plural, "finalizers",
	                                   r->route.ns, r->route.name, NULL};
	return authz_check(rbac, r->user, &a, NULL);
}

int finalizers_keep(const struct rbac *rbac, const struct request *r, const json_t *old, json_t *obj) {
	json_t *list = list_of(obj);
	if (!streq(r->route.kind->group, "nacre.dev") || (list && !json_is_array(list)))
		return 0;
	_json_decref_ json_t *missing = taken_away(old, obj);
	if (!json_array_size(missing) || may_take_away(rbac, r))
		return missing ? 0 : -ENOMEM;
	if (!list && json_object_set_new(object_meta(obj), "finalizers", list = json_array()) < 0)
		return -ENOMEM;
	return json_array_extend(list, missing) < 0 ? -ENOMEM : 0;
}

int finalizers_check(const struct rbac *rbac, struct request *r, const json_t *old, const json_t *obj) {
	const struct api_kind *k = r->route.kind;
	_json_decref_ json_t *missing = old && streq(k->group, "nacre.dev") ? taken_away(old, obj) : NULL;
	if (!json_array_size(missing) || may_take_away(rbac, r))
		return 0;
	reply_forbidden(r, r->route.name, NULL,
	                "metadata.finalizers: %s may not be removed: nacre-controller removes it when the object is "
	                "deleted and nothing of it is left; patch only what you want to change, or include the "
	                "finalizer in the object (user %s may not update %s/finalizers)",
	                json_string_value(json_array_get(missing, 0)), r->user->name, k->plural);
	return -EPERM;
}
