/* SPDX-License-Identifier: Apache-2.0 */
#include "move/object.h"

#include <string.h>

#include "api/account.h"
#include "api/addresspool.h"
#include "api/core.h"
#include "api/endpoint.h"
#include "api/instance.h"
#include "api/rbac.h"
#include "api/roles.h"
#include "api/tenantquota.h"
#include "base/util.h"

/* ---- kinds ---- */

static bool stays(const struct api_kind *k) {
	return k == &api_kind_event || k == &api_kind_lease;
}

/* Namespaces come first. Quotas come last: they would refuse existing objects that exceed them. */
const struct api_kind *object_kind(size_t i) {
	const struct api_kind *const ends[] = {&api_kind_namespace, &api_kind_tenantquota};
	if (i == 0)
		return ends[0];
	for (const struct api_kind *const *k = api_kinds; *k; k++)
		if (!stays(*k) && *k != ends[0] && *k != ends[1] && --i == 0)
			return *k;
	return i == 1 ? ends[1] : NULL;
}

bool object_is_nacre(const struct api_kind *k) {
	return streq(k->group, "nacre.dev");
}

const struct api_kind *object_kind_of(const json_t *obj) {
	const char *version = json_string_value(json_object_get(obj, "apiVersion")),
		   *kind = json_string_value(json_object_get(obj, "kind"));
	char text[64];
	const struct api_kind *k;
	for (size_t i = 0; version && kind && (k = object_kind(i)); i++) {
		api_kind_version(k, text);
		if (streq(k->kind, kind) && streq(text, version))
			return k;
	}
	return NULL;
}

/* ---- metadata ---- */

const char *object_meta(const json_t *obj, const char *key) {
	const char *s = json_string_value(json_object_get(json_object_get(obj, "metadata"), key));
	return s ? s : "";
}

bool object_is_deleted(const json_t *obj) {
	return *object_meta(obj, "deletionTimestamp");
}

const char *object_name(const struct api_kind *k, const json_t *obj, char out[static OBJECT_NAME_MAX]) {
	const char *ns = object_meta(obj, "namespace");
	snprintf(out, OBJECT_NAME_MAX, "%s %s%s%s", k->kind, ns, *ns ? "/" : "", object_meta(obj, "name"));
	return out;
}

/* ---- what is moved ---- */

static bool is_default_role(const struct api_kind *k, const json_t *obj) {
	static json_t *defaults;
	size_t i;
	json_t *d;
	const char *name = object_meta(obj, "name");
	if (starts_with(name, "system:"))
		return true;
	if (!defaults)
		defaults = roles_defaults(true);
	json_array_foreach(defaults, i, d) {
		if (streq(json_string_value(json_object_get(d, "kind")), k->kind) &&
		    streq(object_meta(d, "name"), name) &&
		    streq(object_meta(d, "namespace"), object_meta(obj, "namespace")))
			return true;
	}
	return false;
}

bool object_is_moved(const struct api_kind *k, const json_t *obj) {
	const char *name = object_meta(obj, "name");
	const char *ns = k == &api_kind_namespace ? name : object_meta(obj, "namespace");
	if (starts_with(ns, "kube-"))
		return false;
	if (k == &api_kind_configmap)
		return !streq(name, "kube-root-ca.crt");
	if (k == &api_kind_secret)
		return !streq(json_string_value(json_object_get(obj, "type")), SECRET_TYPE_TOKEN);
	if (streq(k->group, api_kind_role.group))
		return !is_default_role(k, obj);
	return true;
}

/* Conditions refer to metadata.generation, which begins with 1 on the other server. */
static void reset_generations(json_t *status, json_int_t generation) {
	size_t i;
	json_t *c;
	json_array_foreach(json_object_get(status, "conditions"), i, c) {
		json_t *observed = json_object_get(c, "observedGeneration");
		if (observed && json_integer_value(observed) == generation)
			json_integer_set(observed, 1);
		else
			json_object_del(c, "observedGeneration");
	}
}

int object_strip(const struct api_kind *k, json_t *obj, struct error *err) {
	static const char *const servers[] = {"resourceVersion", "generation", "creationTimestamp",
	                                      "managedFields",   "selfLink",   "deletionGracePeriodSeconds",
	                                      "generateName"};
	json_t *meta = json_object_get(obj, "metadata"), *status = json_object_get(obj, "status");
	char version[64];
	reset_generations(status, json_integer_value(json_object_get(meta, "generation")));
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
		json_object_del(meta, servers[i]);
	if (!object_is_nacre(k))
		json_object_del(obj, "status");
	if (k == &api_kind_namespace)
		json_object_del(obj, "spec");
	if (k == &api_kind_serviceaccount)
		json_object_del(obj, "secrets"); /* tokens */
	bool ok = true;
	if (k == &api_kind_instance && !json_object_get(status, "id")) {
		if (!status) {
			status = json_object();
			ok = status && json_object_set_new(obj, "status", status) == 0;
		}
		ok = ok && json_object_set_new(status, "id", json_string(object_meta(obj, "uid"))) == 0;
	}
	/* Servers omit apiVersion and kind in lists. */
	api_kind_version(k, version);
	ok = ok && json_object_set_new(obj, "apiVersion", json_string(version)) == 0 &&
	     json_object_set_new(obj, "kind", json_string(k->kind)) == 0;
	return ok ? 0 : error_oom(err);
}

int object_check(const json_t *obj, struct error *err) {
	const struct api_kind *k = object_kind_of(obj);
	struct api_errors errs = {0};
	char name[OBJECT_NAME_MAX];
	void *parsed;
	if (!k)
		return error_set(err, EBADMSG, "objects of this apiVersion and kind are not moved");
	object_name(k, obj, name);
	_free_ char *text = json_dumps(obj, JSON_COMPACT);
	if (!text)
		return error_oom(err);
	if (api_parse(k, text, strlen(text), &parsed, &errs) < 0) {
		api_errors_to_error(&errs, err);
		return error_prefix(err, "%s", name);
	}
	api_free(k, parsed);
	if (!*object_meta(obj, "name") || !*object_meta(obj, "uid") ||
	    k->namespaced != (*object_meta(obj, "namespace") != '\0'))
		return error_set(err, EBADMSG,
		                 "%s: metadata.name, uid or namespace is missing, or a namespace is not allowed", name);
	if (!object_is_moved(k, obj))
		return error_set(err, EBADMSG, "%s: every server makes this object for itself", name);
	return 0;
}

/* ---- the object for the other server ---- */

/* Returns 1 if an owner has no uid on the other server yet. */
static int map_owners(json_t *meta, object_uid_fn uid, void *userdata, struct error *err) {
	json_t *refs = json_object_get(meta, "ownerReferences");
	for (size_t i = 0; i < json_array_size(refs);) {
		json_t *ref = json_array_get(refs, i);
		const char *old = json_string_value(json_object_get(ref, "uid"));
		const char *now = old ? uid(old, userdata) : NULL;
		if (!now) {
			json_array_remove(refs, i);
			continue;
		}
		if (!*now)
			return 1;
		if (json_object_set_new(ref, "uid", json_string(now)) < 0)
			return error_oom(err);
		i++;
	}
	return 0;
}

/* For an Instance this uid is its status.id, which is the same on all servers. */
static int map_spec_owner(json_t *obj, object_uid_fn uid, void *userdata, struct error *err) {
	json_t *owner = json_object_get(json_object_get(obj, "spec"), "owner");
	const char *old = json_string_value(json_object_get(owner, "uid"));
	if (!old || streq(json_string_value(json_object_get(owner, "kind")), api_kind_instance.kind))
		return 0;
	const char *now = uid(old, userdata);
	if (!now)
		return 0;
	if (!*now)
		return 1;
	return json_object_set_new(owner, "uid", json_string(now)) < 0 ? error_oom(err) : 0;
}

/* These finalizers come from a deletion with a propagation policy; the deletion on the other server adds them again. */
static void drop_deletion_finalizers(json_t *meta) {
	json_t *list = json_object_get(meta, "finalizers");
	for (size_t i = json_array_size(list); i-- > 0;) {
		const char *f = json_string_value(json_array_get(list, i));
		if (streq(f, "foregroundDeletion") || streq(f, "orphan"))
			json_array_remove(list, i);
	}
}

int object_wanted(const struct api_kind *k, const json_t *obj, object_uid_fn uid, void *userdata, json_t **ret,
                  struct error *err) {
	json_t *copy = json_deep_copy(obj), *meta = json_object_get(copy, "metadata");
	if (!copy)
		return error_oom(err);
	json_object_del(copy, "status");
	json_object_del(meta, "uid");
	json_object_del(meta, "deletionTimestamp");
	drop_deletion_finalizers(meta);
	int r = map_owners(meta, uid, userdata, err);
	if (r == 0 && (k == &api_kind_endpoint || k == &api_kind_allocation))
		r = map_spec_owner(copy, uid, userdata, err);
	if (r != 0) {
		json_decref(copy);
		copy = NULL;
	}
	*ret = copy;
	return MIN(r, 0);
}

const json_t *object_status(const struct api_kind *k, const json_t *obj) {
	return k->has_status && object_is_nacre(k) ? json_object_get(obj, "status") : NULL;
}

/* ---- comparison ---- */

static bool is_nothing(const json_t *v) {
	return !v || json_is_null(v) ||
	       ((json_is_object(v) || json_is_array(v)) && json_object_size(v) == 0 && json_array_size(v) == 0);
}

/* ALL: B must have nothing that A lacks. */
static bool move_object_compare(const json_t *a, const json_t *b, bool all, const char *where,
                                char path[static OBJECT_PATH_MAX]) {
	const char *key;
	json_t *v;
	snprintf(path, OBJECT_PATH_MAX, "%s", where);
	if (is_nothing(a))
		return !all || is_nothing(b);
	if (json_is_object(a) && json_is_object(b)) {
		char inner[OBJECT_PATH_MAX];
		const json_t *const sides[] = {a, b};
		for (size_t side = 0; side < (all ? 2U : 1U); side++)
			json_object_foreach((json_t *)sides[side], key, v) {
				int n = snprintf(inner, sizeof(inner), "%s%s%s", where, *where ? "." : "", key);
				if ((size_t)n < sizeof(inner) &&
				    !move_object_compare(json_object_get(a, key), json_object_get(b, key), true, inner,
				                         path))
					return false;
				if ((size_t)n >= sizeof(inner) &&
				    !json_equal(json_object_get(a, key), json_object_get(b, key)))
					return false;
			}
		return true;
	}
	if (json_is_array(a) && json_is_array(b) && json_array_size(a) == json_array_size(b)) {
		for (size_t i = 0; i < json_array_size(a); i++)
			if (!move_object_compare(json_array_get(a, i), json_array_get(b, i), true, where, path))
				return false;
		return true;
	}
	return json_equal(a, b);
}

bool object_equal(const json_t *a, const json_t *b, const char *where, char path[static OBJECT_PATH_MAX]) {
	return move_object_compare(a, b, true, where, path);
}

/* The server computes the rules of a role with an aggregationRule. */
static bool is_servers(const struct api_kind *k, const json_t *obj, const char *key) {
	return streq(key, "metadata") || streq(key, "status") || streq(key, "apiVersion") || streq(key, "kind") ||
	       (k == &api_kind_namespace && streq(key, "spec")) ||
	       (k == &api_kind_serviceaccount && streq(key, "secrets")) ||
	       (k == &api_kind_clusterrole && streq(key, "rules") && json_object_get(obj, "aggregationRule"));
}

bool object_same(const struct api_kind *k, const json_t *want, const json_t *have, char path[static OBJECT_PATH_MAX]) {
	const json_t *wm = json_object_get(want, "metadata"), *hm = json_object_get(have, "metadata");
	const json_t *const sides[] = {want, have};
	const char *key;
	json_t *v;
	if (!move_object_compare(json_object_get(wm, "labels"), json_object_get(hm, "labels"), false, "metadata.labels",
	                         path) ||
	    !move_object_compare(json_object_get(wm, "annotations"), json_object_get(hm, "annotations"), false,
	                         "metadata.annotations", path) ||
	    !move_object_compare(json_object_get(wm, "ownerReferences"), json_object_get(hm, "ownerReferences"), true,
	                         "metadata.ownerReferences", path))
		return false;
	json_t *meta = json_deep_copy(hm);
	drop_deletion_finalizers(meta);
	bool same = (meta || !hm) &&
	            move_object_compare(json_object_get(wm, "finalizers"), json_object_get(meta, "finalizers"), true,
	                                "metadata.finalizers", path);
	json_decref(meta);
	for (size_t side = 0; same && side < ARRAY_SIZE(sides); side++)
		json_object_foreach((json_t *)sides[side], key, v) {
			if (same && !is_servers(k, want, key))
				same = move_object_compare(json_object_get(want, key), json_object_get(have, key), true,
				                           key, path);
		}
	return same;
}

bool object_is_adopted(const struct api_kind *k, const json_t *obj) {
	return k == &api_kind_namespace ||
	       (k == &api_kind_serviceaccount && streq(object_meta(obj, "name"), "default"));
}
