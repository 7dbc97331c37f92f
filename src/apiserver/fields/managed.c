/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/fields/managed.h"

#include <string.h>

#include "base/util.h"

static const char *managed_str(const json_t *entry, const char *key) {
	const char *s = json_string_value(json_object_get(entry, key));
	return s ? s : "";
}

static struct managed_entry *managed_add(struct managed *e) {
	if (e->n == e->cap) {
		size_t cap = e->cap ? e->cap * 2 : 8;
		struct managed_entry *v = arena_alloc(e->arena, cap * sizeof(*v));
		if (!v)
			return NULL;
		if (e->n)
			memcpy(v, e->v, e->n * sizeof(*v));
		e->v = v;
		e->cap = cap;
	}
	return &e->v[e->n++];
}

static struct managed_entry *managed_find_entry(struct managed *e, const char *manager, const char *version,
                                                const char *subresource, bool apply) {
	for (size_t i = 0; i < e->n; i++) {
		struct managed_entry *x = &e->v[i];
		if (x->apply == apply && strcmp(x->manager, manager) == 0 && strcmp(x->subresource, subresource) == 0 &&
		    (apply || strcmp(x->version, version) == 0))
			return x;
	}
	return NULL;
}

struct managed_entry *managed_find(struct managed *e, const struct writer *who, bool apply) {
	return managed_find_entry(e, who->manager, who->version, who->subresource, apply);
}

struct managed_entry *managed_get(struct managed *e, const struct writer *who, bool apply) {
	struct managed_entry *x = managed_find(e, who, apply);
	if (x || !(x = managed_add(e)))
		return x;
	*x = (struct managed_entry){who->manager, who->version, who->subresource, "", apply, NULL, NULL};
	return x;
}

static int read_entry(struct managed *e, const json_t *json) {
	const char *operation = managed_str(json, "operation");
	struct managed_entry x = {.manager = managed_str(json, "manager"),
	                          .version = managed_str(json, "apiVersion"),
	                          .subresource = managed_str(json, "subresource"),
	                          .time = managed_str(json, "time"),
	                          .apply = streq(operation, "Apply"),
	                          .json = json};
	const json_t *set = json_object_get(json, "fieldsV1");
	uint64_t us;
	if ((!x.apply && !streq(operation, "Update")) || !*x.version ||
	    !streq(managed_str(json, "fieldsType"), "FieldsV1") || strlen(x.manager) > MANAGER_NAME_MAX ||
	    strlen(x.subresource) > 256 || (*x.time && time_parse(x.time, &us) < 0))
		return -EINVAL;
	int r = set && !json_is_null(set) ? fields_parse(e->arena, set, &x.set) : 0;
	if (r < 0)
		return r;
	struct managed_entry *slot = managed_find_entry(e, x.manager, x.version, x.subresource, x.apply);
	if (!slot)
		slot = managed_add(e);
	if (!slot)
		return -ENOMEM;
	*slot = x;
	return 0;
}

int managed_read(struct arena *m, const json_t *list, struct managed *ret) {
	struct managed e = {.arena = m};
	size_t i;
	json_t *json;
	int r = !list || json_is_array(list) ? 0 : -EINVAL;
	*ret = e;
	json_array_foreach((json_t *)list, i, json) {
		if (r == 0)
			r = read_entry(&e, json);
	}
	if (r == 0)
		*ret = e;
	return r;
}

/* ---- printing ---- */

static uint64_t seconds(const struct managed_entry *x) {
	uint64_t us = 0;
	return *x->time && time_parse(x->time, &us) == 0 ? us / USEC_PER_SEC : 0;
}

static int order(const void *a, const void *b) {
	const struct managed_entry *x = a, *y = b;
	if (x->apply != y->apply)
		return x->apply ? -1 : 1;
	uint64_t s = seconds(x), t = seconds(y);
	int c = (s > t) - (s < t);
	c = c ? c : strcmp(x->manager, y->manager);
	c = c ? c : strcmp(x->version, y->version);
	return c ? c : strcmp(x->subresource, y->subresource);
}

static json_t *print_entry(const struct managed_entry *x) {
	if (x->json)
		return json_incref((json_t *)x->json);
	json_t *out = json_pack("{s:s, s:s, s:s}", "manager", x->manager, "operation", x->apply ? "Apply" : "Update",
	                        "apiVersion", x->version);
	int r = out ? 0 : -1;
	if (*x->time)
		r |= json_object_set_new(out, "time", json_string(x->time));
	r |= json_object_set_new(out, "fieldsType", json_string("FieldsV1"));
	r |= json_object_set_new(out, "fieldsV1", fields_print(x->set));
	if (*x->subresource)
		r |= json_object_set_new(out, "subresource", json_string(x->subresource));
	if (r == 0)
		return out;
	json_decref(out);
	return NULL;
}

json_t *managed_print(struct managed *e) {
	json_t *list = json_array();
	int r = list && !e->arena->failed ? 0 : -1;
	if (e->n)
		qsort(e->v, e->n, sizeof(*e->v), order);
	for (size_t i = 0; i < e->n && r == 0; i++)
		if (e->v[i].set)
			r = json_array_append_new(list, print_entry(&e->v[i]));
	if (r == 0)
		return list;
	json_decref(list);
	return NULL;
}

bool managed_same(const json_t *a, const json_t *b) {
	size_t i;
	json_t *x;
	if (json_array_size(a) != json_array_size(b))
		return false;
	json_array_foreach((json_t *)a, i, x) {
		json_t *y = json_array_get(b, i);
		if (x == y)
			continue;
		json_t *c = json_copy(x), *d = json_copy(y);
		json_object_del(c, "time");
		json_object_del(d, "time");
		bool same = json_equal(c, d);
		json_decref(c);
		json_decref(d);
		if (!same)
			return false;
	}
	return true;
}

/* ---- updates ---- */

#define NOBODYS(name) \
	{ ELEMENT_FIELD, true, name, NULL }
static const struct fields nobodys_meta = {
	.n = 9,
	.v = {NOBODYS("clusterName"), NOBODYS("creationTimestamp"), NOBODYS("generation"), NOBODYS("managedFields"),
              NOBODYS("name"), NOBODYS("namespace"), NOBODYS("resourceVersion"), NOBODYS("selfLink"), NOBODYS("uid")},
};
static const struct fields nobodys = {
	.n = 3,
	.v = {NOBODYS("apiVersion"), NOBODYS("kind"), {ELEMENT_FIELD, true, "metadata", &nobodys_meta}},
};

const struct fields *managed_strip(struct arena *m, const struct fields *set) {
	return fields_difference(m, set, &nobodys);
}

void managed_take(struct managed *e, const struct fields *changed, const struct fields *removed, const char *version,
                  const struct managed_entry *except) {
	for (size_t i = 0; i < e->n; i++) {
		struct managed_entry *x = &e->v[i];
		if (x == except)
			continue;
		const struct fields *left = fields_difference(e->arena, x->set, changed);
		left = fields_difference(e->arena, left, removed);
		/*
		 * An object can't be converted to a version that doesn't exist, so entries of other versions are
		 * dropped.
		 */
		if (strcmp(x->version, version) != 0)
			left = NULL;
		if (fields_equal(left, x->set))
			continue;
		x->set = left;
		x->json = NULL;
	}
}

static void managed_drop_empty(struct managed *e) {
	size_t n = 0;
	for (size_t i = 0; i < e->n; i++)
		if (e->v[i].set)
			e->v[n++] = e->v[i];
	e->n = n;
}

static int older(const void *a, const void *b) {
	const struct managed_entry *x = *(struct managed_entry *const *)a, *y = *(struct managed_entry *const *)b;
	uint64_t s = seconds(x), t = seconds(y);
	return s != t ? (s > t) - (s < t) : strcmp(x->manager, y->manager);
}

/* If there are more than UPDATE_MANAGERS_MAX entries of updates, unites the oldest into one. */
static void cap(struct managed *e) {
	struct managed_entry **v = arena_alloc(e->arena, (e->n + 1) * sizeof(struct managed_entry *)), *old;
	size_t n = 0;
	for (size_t i = 0; v && i < e->n; i++)
		if (!e->v[i].apply)
			v[n++] = &e->v[i];
	if (n <= UPDATE_MANAGERS_MAX)
		return;
	qsort(v, n, sizeof(*v), older);
	old = managed_find_entry(e, "ancient-changes", v[0]->version, "", false);
	if (!old) {
		old = v[0];
		old->manager = "ancient-changes";
		old->subresource = "";
		old->json = NULL;
	}
	for (size_t i = 0, left = n; i < n && left > UPDATE_MANAGERS_MAX; i++) {
		if (v[i] == old)
			continue;
		old->set = fields_union(e->arena, old->set, v[i]->set);
		old->time = v[i]->time;
		old->json = NULL;
		v[i]->set = NULL;
		left--;
	}
	managed_drop_empty(e);
}

void managed_update(const struct typed *t, struct managed *e, const json_t *old, const json_t *obj,
                    const struct fields *ignored, const struct writer *who) {
	struct arena *m = e->arena;
	struct typed_diff d = typed_compare(t, old, obj);
	const struct fields *changed = fields_without(m, fields_union(m, d.added, d.modified), ignored);
	managed_take(e, changed, fields_without(m, d.removed, ignored), who->version, NULL);
	const struct fields *mine = managed_strip(m, changed);
	struct managed_entry *x = mine ? managed_get(e, who, false) : NULL;
	if (x) {
		x->set = fields_union(m, x->set, mine);
		x->time = who->now;
		x->json = NULL;
	}
	managed_drop_empty(e);
	cap(e);
}
