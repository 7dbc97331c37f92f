/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/validate.h"

#include <string.h>

#include "api/addresspool.h"
#include "api/dom.h"
#include "apiserver/json/object.h"
#include "apiserver/write/pools.h"
#include "base/util.h"

void validate_owner_references(const json_t *obj, struct api_errors *errs) {
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

/* status.id, by which hosts know an Instance, is the only immutable field outside the desired state. */
static bool id_differs(const json_t *old, const json_t *obj) {
	const json_t *a = json_object_get(json_object_get(old, "status"), "id"),
		     *b = json_object_get(json_object_get(obj, "status"), "id");
	return a != b && !json_equal(a, b);
}

/*
 * Compares with the old state. This is parsed only if an immutable field may have changed: all of these are in the
 * desired state, except status.id. A stored object that is no longer valid (a newer server has stricter rules) may be
 * changed freely.
 */
static void check_change(const struct store *store, const struct request *r, const json_t *old, const json_t *obj,
                         const void *now, struct api_errors *errs) {
	const struct api_kind *k = r->route.kind;
	struct api_errors ignored = {0};
	void *before = NULL;
	const struct object *o = object_desired_differs(k, old, obj) || id_differs(old, obj)
	                                 ? store_get(store, r->route.kind_index, r->route.ns, r->route.name)
	                                 : NULL;
	if (o && api_parse(k, o->value->data, o->value->len, &before, &ignored) == 0)
		api_check_update(k, before, now, errs);
	api_free(k, before);
}

int validate_object(const struct store *store, const struct request *r, const json_t *old, const json_t *obj,
                    const struct buf *text, struct api_errors *errs) {
	const struct api_kind *k = r->route.kind;
	void *now = NULL;
	int e = api_parse(k, text->data, text->len, &now, errs);
	if (e == 0 && old)
		check_change(store, r, old, obj, now, errs);
	if (e == 0 && k == &api_kind_addresspool)
		pools_check(store, now, errs);
	api_free(k, now);
	return e;
}
