/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/fields/apply.h"

#include <string.h>

#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "base/buf.h"
#include "base/util.h"

#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"
/* The error lists so many conflicts; its count includes all. */
#define CONFLICTS_TOLD_MAX 1000
#define ANNOTATIONS_MAX    ((size_t)256 << 10)

void drop_nulls(json_t *v) {
	const char *key;
	json_t *child;
	void *tmp;
	size_t i;
	json_object_foreach_safe(v, tmp, key, child) {
		if (json_is_null(child))
			json_object_del(v, key);
		else
			drop_nulls(child);
	}
	json_array_foreach(v, i, child) drop_nulls(child);
}

/* ---- what is no longer applied ---- */

/*
 * Removes from MERGED what the manager applied last time and no longer applies, unless another manager owns it. The
 * three steps are those of structured-merge-diff (merge/update.go, prune): remove all of LAST, add back what any
 * manager owns, and finally remove from MERGED only what is in LAST.
 */
static json_t *apply_prune(const struct apply *a, const struct managed *e, json_t *merged, const struct fields *last) {
	const struct typed *t = a->type;
	struct arena *m = t->arena;
	if (!last)
		return json_incref(merged);
	last = typed_with_parents(t, last);
	/* BARE and PRUNED are released only at the end: sets point into the trees they were made from. */
	json_t *bare = typed_remove(t, merged, last), *pruned = NULL, *out = NULL;
	const struct fields *owned = NULL, *all = typed_with_parents(t, typed_set(t, merged));
	for (size_t i = 0; i < e->n; i++)
		owned = fields_union(m, owned, e->v[i].set);
	const struct fields *keep =
		fields_union(m, typed_with_parents(t, typed_set(t, bare)), typed_with_parents(t, owned));
	if (bare)
		pruned = typed_remove(t, merged, fields_difference(m, all, keep));
	if (pruned) {
		const struct fields *left = typed_with_parents(t, typed_set(t, pruned));
		out = typed_remove(t, merged, fields_intersection(m, fields_difference(m, all, left), last));
	}
	json_decref(bare);
	json_decref(pruned);
	return out;
}

/* ---- conflicts ---- */

static int by_manager(const void *a, const void *b) {
	const struct conflict *x = a, *y = b;
	return strcmp(x->with->manager, y->with->manager);
}

static int find_conflicts(struct managed *e, const struct managed_entry *mine, const struct fields *changed,
                          struct conflicts *ret) {
	*ret = (struct conflicts){.v = arena_alloc(e->arena, (e->n + 1) * sizeof(struct conflict))};
	if (!ret->v)
		return -ENOMEM;
	for (size_t i = 0; i < e->n; i++) {
		const struct fields *set = fields_intersection(e->arena, e->v[i].set, changed);
		if (set && &e->v[i] != mine)
			ret->v[ret->n++] = (struct conflict){&e->v[i], set};
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_manager);
	return 0;
}

/*
 * The fields that kubectl itself applied before it used server-side apply, and that nobody has changed since. They
 * cause no conflict.
 */
static const struct fields *last_applied(const struct apply *a, const json_t *live) {
	const struct typed *t = a->type;
	struct arena *m = t->arena;
	struct error err;
	const json_t *annotations = json_object_get(object_meta(live), "annotations");
	const char *text = json_string_value(json_object_get(annotations, LAST_APPLIED));
	json_t *last = text ? tree_load(text, strlen(text)) : NULL;
	const struct fields *set = NULL;
	drop_nulls(last);
	if (json_is_object(last) && streq(json_string_value(json_object_get(last, "apiVersion")), a->who->version) &&
	    typed_check(t, last, &err) == 0) {
		struct typed_diff d = typed_compare(t, last, live);
		set = fields_union(m, d.modified, fields_union(m, d.added, d.removed));
		set = fields_difference(m, typed_set(t, last), set);
		set = fields_copy(m, set);
	}
	json_decref(last);
	return set;
}

static void allow(struct conflicts *c, struct arena *m, const struct fields *allowed) {
	size_t n = 0;
	for (size_t i = 0; i < c->n; i++) {
		c->v[i].set = fields_difference(m, c->v[i].set, allowed);
		if (c->v[i].set)
			c->v[n++] = c->v[i];
	}
	c->n = n;
}

static void print_manager(struct buf *b, const struct managed_entry *x) {
	buf_printf(b, "\"%s\"", x->manager);
	if (*x->subresource)
		buf_printf(b, " with subresource \"%s\"", x->subresource);
	if (!x->apply)
		buf_printf(b, " using %s", x->version);
}

struct status {
	json_t *causes;
	struct buf message, with;
	size_t n;
	bool failed;
};

static void add_cause(void *userdata, const char *path) {
	struct status *s = userdata;
	if (s->n++ >= CONFLICTS_TOLD_MAX)
		return;
	buf_printf(&s->message, "\n- %s", path);
	if (json_array_append_new(s->causes, json_pack("{s:s, s:s, s:s}", "reason", "FieldManagerConflict", "message",
	                                               s->with.data, "field", path)) < 0)
		s->failed = true;
}

json_t *conflicts_status(const struct conflicts *c) {
	struct status s = {.causes = json_array(), .message.max = 1 << 20};
	json_t *out = NULL;
	for (size_t i = 0; i < c->n; i++) {
		buf_printf(&s.message, "%sconflicts with ", i ? "\n" : "");
		print_manager(&s.message, c->v[i].with);
		buf_putc(&s.message, ':');
		buf_reset(&s.with);
		buf_puts(&s.with, "conflict with ");
		print_manager(&s.with, c->v[i].with);
		fields_each(c->v[i].set, add_cause, &s);
	}
	const json_t *only = json_array_get(s.causes, 0);
	_free_ char *text =
		s.n == 1 ? strf("Apply failed with 1 conflict: %s: %s",
	                        json_string_value(json_object_get(only, "message")),
	                        json_string_value(json_object_get(only, "field")))
			 : strf("Apply failed with %zu conflicts: %s", s.n, s.message.data ? s.message.data : "");
	if (text && !s.failed && !s.with.failed)
		out = json_pack("{s:s, s:s, s:{}, s:s, s:s, s:s, s:{s:O}, s:i}", "kind", "Status", "apiVersion", "v1",
		                "metadata", "status", "Failure", "message", text, "reason", "Conflict", "details",
		                "causes", s.causes, "code", 409);
	json_decref(s.causes);
	buf_free(&s.message);
	buf_free(&s.with);
	return out;
}

/* ---- applying ---- */

/*
 * If the object has kubectl's annotation with the last applied configuration, updates it, so that a user may go back to
 * client-side apply. Removes it if the annotations become too large.
 */
static int note_applied(json_t *obj, const json_t *config) {
	json_t *annotations = json_object_get(object_meta(obj), "annotations"), *value;
	const char *key;
	size_t size = 0;
	if (!json_string_length(json_object_get(annotations, LAST_APPLIED)))
		return 0;
	json_t *copy = tree_copy(config);
	json_object_del(json_object_get(object_meta(copy), "annotations"), LAST_APPLIED);
	_free_ char *text = copy ? json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	_free_ char *line = text ? strf("%s\n", text) : NULL;
	json_decref(copy);
	if (!line || json_object_set_new(annotations, LAST_APPLIED, json_string(line)) < 0)
		return -ENOMEM;
	json_object_foreach(annotations, key, value) size += strlen(key) + json_string_length(value);
	if (size > ANNOTATIONS_MAX)
		json_object_del(annotations, LAST_APPLIED);
	return 0;
}

/* For an object that has no managedFields yet: "before-first-apply" becomes the manager of all its fields. */
static void adopt(const struct apply *a, struct managed *e, const json_t *live) {
	struct writer *before = arena_alloc(e->arena, sizeof(*before));
	if (!before)
		return;
	*before = *a->who;
	before->manager = "before-first-apply";
	managed_update(a->type, e, NULL, live, a->ignored, before);
}

int apply(const struct apply *a, struct managed *e, json_t *live, json_t *config, json_t **ret,
          struct conflicts *ret_conflicts) {
	struct arena *m = a->type->arena;
	const bool kubectl = streq(a->who->manager, "kubectl");
	if (live && !e->n)
		adopt(a, e, live);
	json_t *merged = live ? typed_merge(a->type, live, config) : json_incref(config);
	struct managed_entry *mine = managed_get(e, a->who, true);
	if (!merged || !mine || m->failed) {
		json_decref(merged);
		return -ENOMEM;
	}
	const struct fields *last = mine->set;
	const struct fields *set = fields_without(m, typed_set(a->type, config), a->ignored);
	mine->set = set;
	mine->version = a->who->version;
	json_t *obj = live ? apply_prune(a, e, merged, last) : json_incref(merged);
	json_decref(merged);
	struct typed_diff d = {0};
	if (live && obj)
		d = typed_compare(a->type, live, obj);
	const struct fields *changed = fields_without(m, fields_union(m, d.added, d.modified), a->ignored);
	int r = obj ? find_conflicts(e, mine, changed, ret_conflicts) : -ENOMEM;
	if (r == 0 && ret_conflicts->n && !a->force) {
		if (kubectl)
			allow(ret_conflicts, m, last_applied(a, live));
		r = ret_conflicts->n ? -EEXIST : 0;
	}
	if (r == 0) {
		managed_take(e, changed, fields_without(m, d.removed, a->ignored), a->who->version, mine);
		mine->set = managed_strip(m, set);
		bool moved = !live || !json_equal(live, obj);
		if (moved)
			mine->time = a->who->now;
		if (moved || !fields_equal(mine->set, last))
			mine->json = NULL;
	}
	json_t *copy = r == 0 ? tree_copy(obj) : NULL;
	json_decref(obj);
	if (r == 0 && (!copy || m->failed || (kubectl && note_applied(copy, config) < 0)))
		r = -ENOMEM;
	if (r == 0)
		*ret = copy;
	else
		json_decref(copy);
	return r;
}
