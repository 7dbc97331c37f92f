/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/prune.h"

#include "api/dom.h"
#include "apiserver/json/object.h"
#include "apiserver/request/reply.h"
#include "apiserver/write/prepare.h"
#include "base/util.h"

/* The client chooses (fieldValidation) whether unknown fields are ignored, cause warnings or an error. */
static int check_unknown(struct request *r, const struct api_kind *k, const char *name,
                         const struct api_errors *unknown) {
	const char *how = request_param(r, "fieldValidation");
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
	/* Kubernetes names only the kind here. We also name the object, which helps the client more. */
	reply_bad_request(r, "%s \"%s\" in version \"%s\" cannot be handled as a %s: strict decoding error: %.3500s",
	                  k->kind, name ? name : "", k->version, k->kind, b.data);
	return -EINVAL;
}

/* Kubernetes drops empty maps and lists in metadata, and empty maps in its own kinds. */
static void prune_drop_empty(const struct api_kind *k, json_t *obj) {
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

/*
 * Removes owner references that occur twice. Two different references to one owner only cause a warning, as in
 * kube-apiserver.
 */
static void drop_repeated_owner_references(struct request *r, json_t *obj) {
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

int prune_object(struct request *r, const struct api_kind *k, const struct api_errors *duplicates, json_t *obj) {
	struct api_errors unknown = duplicates ? *duplicates : (struct api_errors){0};
	/* A known field that no server sets any more. */
	json_object_del(object_meta(obj), "selfLink");
	if (prepare_nulls(k, obj) < 0) {
		reply_internal(r, "out of memory");
		return -ENOMEM;
	}
	api_prune(k->desc, obj, &unknown);
	if (check_unknown(r, k, object_meta_str(obj, "name"), &unknown) < 0)
		return -EINVAL;
	drop_repeated_owner_references(r, obj);
	prune_drop_empty(k, obj);
	int e = prepare_object(r, k, obj);
	if (e < 0)
		return e;
	if (api_default(k->desc, obj) == 0)
		return 0;
	reply_internal(r, "out of memory");
	return -ENOMEM;
}
