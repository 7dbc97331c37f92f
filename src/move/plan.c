/* SPDX-License-Identifier: Apache-2.0 */
#include "move/plan.h"

#include <string.h>

#include "base/util.h"
#include "move/list.h"

#define TOLD_MAX 20

/* ---- items ---- */

static int by_name(const void *a, const void *b) {
	const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
	int r = strcmp(x->kind->kind, y->kind->kind);
	if (r == 0)
		r = strcmp(object_meta(x->obj, "namespace"), object_meta(y->obj, "namespace"));
	return r ? r : strcmp(object_meta(x->obj, "name"), object_meta(y->obj, "name"));
}

static int by_uid(const void *a, const void *b) {
	return strcmp((*(struct item *const *)a)->uid, (*(struct item *const *)b)->uid);
}

static int check_unique(struct item *const *sorted, size_t n, int (*cmp)(const void *, const void *), const char *what,
                        struct error *err) {
	char a[OBJECT_NAME_MAX], b[OBJECT_NAME_MAX];
	for (size_t i = 1; i < n; i++)
		if (cmp(&sorted[i - 1], &sorted[i]) == 0)
			return error_set(err, EBADMSG, "%s and %s of the file have the same %s",
			                 object_name(sorted[i - 1]->kind, sorted[i - 1]->obj, a),
			                 object_name(sorted[i]->kind, sorted[i]->obj, b), what);
	return 0;
}

int plan_init(struct plan *p, json_t *objects, struct error *err) {
	size_t i;
	json_t *obj;
	*p = (struct plan){.objects = objects, .n = json_array_size(objects)};
	p->items = calloc(p->n + 1, sizeof(*p->items));
	p->by_name = calloc(p->n + 1, sizeof(*p->by_name));
	p->by_uid = calloc(p->n + 1, sizeof(*p->by_uid));
	if (!p->items || !p->by_name || !p->by_uid)
		return error_oom(err);
	json_array_foreach(objects, i, obj) {
		const struct api_kind *k = object_kind_of(obj);
		const json_t *status = k ? object_status(k, obj) : NULL;
		p->items[i] = (struct item){.kind = k,
		                            .obj = obj,
		                            .uid = object_meta(obj, "uid"),
		                            .create = true,
		                            .status = json_object_size(status) > 0,
		                            .delete = object_is_deleted(obj)};
		p->by_name[i] = p->by_uid[i] = &p->items[i];
	}
	qsort(p->by_name, p->n, sizeof(*p->by_name), by_name);
	qsort(p->by_uid, p->n, sizeof(*p->by_uid), by_uid);
	int r = check_unique(p->by_name, p->n, by_name, "name", err);
	return r < 0 ? r : check_unique(p->by_uid, p->n, by_uid, "uid", err);
}

void plan_clear(struct plan *p) {
	for (size_t i = 0; i < p->n && p->items; i++) {
		free(p->items[i].now);
		json_decref(p->items[i].have);
	}
	free(p->items);
	free(p->by_name);
	free(p->by_uid);
	json_decref(p->objects);
	*p = (struct plan){0};
}

bool plan_item_is_done(const struct item *i) {
	return !i->create && !i->adopt && !i->status && !i->delete;
}

const char *plan_uid(const char *uid, void *userdata) {
	const struct plan *p = userdata;
	struct item key = {.uid = uid}, *k = &key;
	struct item **found = bsearch(&k, p->by_uid, p->n, sizeof(*p->by_uid), by_uid);
	return !found ? NULL : (*found)->now ? (*found)->now : "";
}

/* ---- comparison ---- */

static int differs(const struct item *i, const char *path, const char *why, struct error *err) {
	char name[OBJECT_NAME_MAX];
	return error_set(err, EEXIST, "%s is there already, and %s %s", object_name(i->kind, i->obj, name), path, why);
}

int plan_look(struct plan *p, struct item *i, const json_t *have, struct error *err) {
	char path[OBJECT_PATH_MAX];
	json_t *want;
	if (object_is_deleted(have) && !i->delete)
		return differs(i, "it", "is being deleted", err);
	free(i->now);
	i->now = strdup(object_meta(have, "uid"));
	if (!i->now)
		return error_oom(err);
	int r = object_wanted(i->kind, i->obj, plan_uid, p, &want, err);
	if (r < 0)
		return r;
	bool same = want && object_same(i->kind, want, have, path);
	if (!want)
		snprintf(path, sizeof(path), "metadata.ownerReferences");
	json_decref(want);
	i->create = false;
	i->adopt = !same && object_is_adopted(i->kind, i->obj);
	if (!same && !i->adopt)
		return differs(i, path, "differs from the file's", err);
	const json_t *status = object_status(i->kind, have);
	if (json_object_size(status) > 0 || !i->status) {
		if (!object_equal(object_status(i->kind, i->obj), status, "status", path))
			return differs(i, path, "differs from the file's: it is in use there", err);
		i->status = false;
	}
	i->delete = i->delete &&!object_is_deleted(have);
	return 0;
}

struct listing {
	struct plan *plan;
	const struct api_kind *kind;
};

static void conflict(struct plan *p, const char *msg) {
	if (p->conflicts++ < TOLD_MAX)
		fprintf(stderr, "%s\n", msg);
}

static int remember(json_t *obj, void *userdata, struct error *err) {
	struct listing *l = userdata;
	struct plan *p = l->plan;
	struct item key = {.kind = l->kind, .obj = obj}, *k = &key;
	char name[OBJECT_NAME_MAX], msg[OBJECT_NAME_MAX + 64];
	struct item **found = bsearch(&k, p->by_name, p->n, sizeof(*p->by_name), by_name);
	if (!found) {
		snprintf(msg, sizeof(msg), "%s is there already, but not in the file", object_name(l->kind, obj, name));
		if (object_is_nacre(l->kind))
			conflict(p, msg);
		return 0;
	}
	(*found)->have = json_incref(obj);
	(*found)->now = strdup(object_meta(obj, "uid"));
	return (*found)->now ? 0 : error_oom(err);
}

int plan_compare(struct plan *p, struct kube_client *c, struct error *err) {
	struct listing l = {.plan = p};
	int r = 0;
	for (size_t i = 0; r == 0 && (l.kind = object_kind(i)); i++)
		r = list_all(c, l.kind, remember, &l, err);
	/* Owner references are compared by uid, so this waits until the uids of all objects are known. */
	for (size_t i = 0; r == 0 && i < p->n; i++) {
		struct item *it = &p->items[i];
		if (!it->have)
			continue;
		r = plan_look(p, it, it->have, err);
		json_decref(it->have);
		it->have = NULL;
		if (r == -EEXIST) {
			conflict(p, err->msg);
			r = 0;
		}
	}
	if (r == 0 && p->conflicts > TOLD_MAX)
		fprintf(stderr, "… and %zu more\n", p->conflicts - TOLD_MAX);
	return r;
}
