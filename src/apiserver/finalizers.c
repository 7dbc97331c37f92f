/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/finalizers.h"

#include "api/meta.h"
#include "apiserver/authz.h"
#include "apiserver/object.h"
#include "apiserver/reply.h"
#include "base/util.h"

#define OWN_PREFIX "nacre.dev/"

static json_t *list_of(const json_t *obj) {
	return json_object_get(object_meta(obj), "finalizers");
}

/* One of ours that OLD has and OBJ has not, as a new reference. A tenant may have made very many: no loop in a loop. */
static json_t *taken_away(const json_t *old, const json_t *obj) {
	json_t *kept = json_object(), *ret = NULL, *v;
	size_t i;
	json_array_foreach(list_of(obj), i, v) {
		if (json_is_string(v))
			json_object_set_new(kept, json_string_value(v), json_true());
	}
	json_array_foreach(list_of(old), i, v) {
		const char *name = json_string_value(v);
		if (!ret && name && starts_with(name, OWN_PREFIX) && !json_object_get(kept, name))
			ret = json_incref(v);
	}
	json_decref(kept);
	return ret;
}

int finalizers_check(const struct server *s, struct request *r, const json_t *old, const json_t *obj) {
	const struct api_kind *k = r->route.kind;
	json_t *name = old && streq(k->group, "nacre.dev") ? taken_away(old, obj) : NULL;
	const struct authz_attributes a = {"update",    k->group,      k->plural, "finalizers",
	                                   r->route.ns, r->route.name, NULL};
	if (!name || authz_check(s, r->user, &a, NULL)) {
		json_decref(name);
		return 0;
	}
	reply_forbidden(
		r, r->route.name, NULL,
		"metadata.finalizers: %s may not be left out: nacre-controller takes it away once the object is "
		"deleted and nothing of it is left; send the object with the finalizer in it, or patch what is to "
		"change (user %s may not update %s/finalizers)",
		json_string_value(name), r->user->name, k->plural);
	json_decref(name);
	return -EPERM;
}
