/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/bounds.h"

#include "api/core.h"
#include "api/dom.h"
#include "api/roles.h"
#include "apiserver/json/object.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

bool bounds_is_program(const struct request *r, bool create) {
	const struct user *u = r->user;
	return (user_is_agent(u) || streq(u->name, ROLES_CONTROLLER)) && !create && r->route.kind != &api_kind_event;
}

static size_t count_managed(const json_t *obj) {
	return json_array_size(json_object_get(object_meta(obj), "managedFields"));
}

static void too_many_managed(struct api_errors *errs, size_t n, int max) {
	api_errors_add(errs, API_TOO_MANY, "metadata.managedFields", "Too many: %zu: must have at most %d items", n,
	               max);
}

int bounds_check_lengths(struct request *r, const json_t *obj, size_t stored_entries) {
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

int bounds_check_values(struct request *r, const json_t *old, const json_t *managed, const json_t *obj,
                        const struct tree_size *size) {
	const bool deep = size->depth > TREE_DEPTH_MAX;
	size_t left = object_values_max(r->route.kind) + TREE_VALUES_MAX, before = SIZE_MAX;
	struct error err, ignored;
	if (!deep && size->values <= left)
		return 0;
	if (bounds_is_program(r, !old))
		left = SIZE_MAX;
	/* Charges the object with its managedFields, which are inside it at their depth. */
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

int bounds_check_size(const struct store *store, struct request *r, const json_t *old, const json_t *obj, size_t len) {
	const struct api_kind *k = r->route.kind;
	const char *name = object_meta_str(obj, "name");
	const size_t max = k->max_bytes ? k->max_bytes : OBJECT_MAX;
	const size_t stored = old ? store_size(store, r->route.kind_index, r->route.ns, r->route.name) : 0;
	/* For a kind with max_bytes, agents and nacre-controller have no extra room. */
	const size_t room = bounds_is_program(r, !old) && !k->max_bytes ? PROGRAMS_BYTES : 0;
	if (len <= max + room || (len <= stored && !k->max_bytes))
		return 0;
	reply_status(&r->reply, 413, "RequestEntityTooLarge", NULL, "%s \"%s\" would take %zu bytes; the limit is %zu",
	             k->singular, name ? name : "", len, max);
	return -EMSGSIZE;
}

void bounds_check_managed(const struct request *r, const json_t *old, const json_t *managed, const json_t *obj,
                          struct api_errors *errs) {
	const size_t n = count_managed(obj);
	const int max = user_in_group(r->user, GROUP_MASTERS) ? MANAGED_ENTRIES_MAX : MANAGED_ENTRIES_USERS;
	if (n > (size_t)max && n > json_array_size(managed) && !bounds_is_program(r, !old))
		too_many_managed(errs, n, max);
}
