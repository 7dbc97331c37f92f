/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One list shows one moment, but lists of several kinds show several moments. So everything is listed twice: objects
 * with the same versions both times all existed at the moment between the two rounds.
 */

#include <string.h>

#include "api/core.h"
#include "api/instance.h"
#include "base/util.h"
#include "move/archive.h"
#include "move/list.h"
#include "move/move.h"
#include "move/object.h"

#define SYSTEM_NS "nacre-system"

struct export {
	struct archive *archive;
	const char *const *namespaces;
	size_t n;
	const struct api_kind *kind;
	json_t *seen; /* name to version, of the objects of this kind */
};

static bool is_in(const struct export *x, const char *ns) {
	bool in = x->n == 0 || !*ns || streq(ns, SYSTEM_NS);
	for (size_t i = 0; i < x->n; i++)
		in |= streq(ns, x->namespaces[i]);
	return in;
}

/* Returns 1 if the object is to be written. */
static int select_object(struct export *x, const json_t *obj, struct error *err) {
	const struct api_kind *k = x->kind;
	const char *ns = object_meta(obj, k == &api_kind_namespace ? "name" : "namespace");
	if (!object_is_moved(k, obj))
		return 0;
	if (is_in(x, ns))
		return 1;
	if (object_is_nacre(k))
		return error_set(err, EEXIST, "%s %s/%s is in none of the given namespaces", k->kind, ns,
		                 object_meta(obj, "name"));
	return 0;
}

static void key_of(const json_t *obj, char out[static OBJECT_NAME_MAX]) {
	snprintf(out, OBJECT_NAME_MAX, "%s/%s", object_meta(obj, "namespace"), object_meta(obj, "name"));
}

static int write_object(json_t *obj, void *userdata, struct error *err) {
	struct export *x = userdata;
	char key[OBJECT_NAME_MAX];
	int r = select_object(x, obj, err);
	if (r <= 0)
		return r;
	key_of(obj, key);
	json_t *version = json_pack("[s,s]", object_meta(obj, "uid"), object_meta(obj, "resourceVersion"));
	if (!version || json_object_set_new(x->seen, key, version) < 0)
		return error_oom(err);
	r = object_strip(x->kind, obj, err);
	return r < 0 ? r : archive_add(x->archive, obj, err);
}

static int changed(const struct api_kind *k, const char *key, struct error *err) {
	return error_set(err, ESTALE,
	                 "%s %s changed while it was exported; stop the controller and put the server on hold first "
	                 "(docs/MOVING.md)",
	                 k->kind, *key == '/' ? key + 1 : key);
}

/* Removes OBJ from `seen` if its version is still the same. */
static int check_object(json_t *obj, void *userdata, struct error *err) {
	struct export *x = userdata;
	char key[OBJECT_NAME_MAX];
	int r = select_object(x, obj, err);
	if (r <= 0)
		return r;
	key_of(obj, key);
	const json_t *was = json_object_get(x->seen, key);
	if (!streq(json_string_value(json_array_get(was, 0)), object_meta(obj, "uid")) ||
	    !streq(json_string_value(json_array_get(was, 1)), object_meta(obj, "resourceVersion")))
		return changed(x->kind, key, err);
	json_object_del(x->seen, key);
	return 0;
}

/* SEEN has one entry per kind: the names and versions of the first round. */
static int each_kind(struct kube_client *c, struct export *x, json_t *seen,
                     int (*each)(json_t *obj, void *userdata, struct error *err), struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && (x->kind = object_kind(i)); i++) {
		x->seen = json_array_get(seen, i);
		if (!x->seen) {
			x->seen = json_object();
			if (!x->seen || json_array_append_new(seen, x->seen) < 0)
				return error_oom(err);
		}
		r = list_all(c, x->kind, each, x, err);
		if (r == 0 && each == check_object && json_object_size(x->seen))
			r = changed(x->kind, json_object_iter_key(json_object_iter(x->seen)), err);
	}
	return r;
}

/* True if the server refuses every change now, by any user. */
static bool is_held(struct kube_client *c) {
	static const char body[] = "{\"apiVersion\":\"nacre.dev/v1alpha1\",\"kind\":\"InstanceType\",\"metadata\":"
				   "{\"generateName\":\"hold-\"},\"spec\":{\"vcpus\":1,\"memoryMiB\":64}}";
	_buf_free_ struct buf path = {0};
	struct kube_response resp = {0};
	kube_path(&path, &api_kind_instancetype, NULL, NULL, NULL);
	kube_query(&path, "dryRun", "All");
	struct kube_spec spec = {.method = "POST", .path = path.data, .body = body, .len = strlen(body)};
	int r = path.failed ? -ENOMEM : kube_perform(c, &spec, &resp);
	kube_response_clear(&resp);
	return r < 0;
}

int move_export(struct kube_client *c, const char *path, const char *const *namespaces, size_t n,
                struct move_report *ret, struct error *err) {
	_cleanup_(cleanup_archive) struct archive *a = NULL;
	int r = archive_create(&a, path, kube_client_server(c), err);
	if (r < 0)
		return r;
	struct export x = {.archive = a, .namespaces = namespaces, .n = n};
	json_t *seen = json_array();
	r = seen ? each_kind(c, &x, seen, write_object, err) : error_oom(err);
	if (r == 0)
		r = each_kind(c, &x, seen, check_object, err);
	json_decref(seen);
	if (r == 0 && kube_client_moves(c))
		r = error_set(err, ESTALE, "the kubeconfig names another server than at the start of the export");
	if (r == 0)
		r = archive_finish(a, err);
	if (r == 0)
		*ret = (struct move_report){.objects = archive_count(a), .held = is_held(c)};
	return r;
}
