/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/index.h"

#include <string.h>

#include "api/meta.h"
#include "base/util.h"
#include "kube/internal.h"

struct index_entry {
	RB_ENTRY(index_entry) node;
	const char *value, *ns, *name; /* point into text[], or belong to a search */
	char text[];
};

static int index_entry_cmp(const struct index_entry *a, const struct index_entry *b) {
	int c = strcmp(a->value, b->value);
	if (c == 0)
		c = strcmp(a->ns, b->ns);
	return c ? c : strcmp(a->name, b->name);
}

RB_HEAD(index_entries, index_entry);
RB_GENERATE_INTERNAL(index_entries, index_entry, node, index_entry_cmp, _unused_ static)

struct kube_index {
	const struct kube_cache *cache;
	kube_index_fn fn;
	struct index_entries entries;
};

static void index_add(struct kube_index *x, const char *value, const char *ns, const char *name) {
	size_t v = strlen(value) + 1, s = strlen(ns) + 1, n = strlen(name) + 1;
	struct index_entry *e = calloc(1, sizeof(*e) + v + s + n);
	if (!e)
		abort(); /* an object missing from the index would never be found */
	e->value = memcpy(e->text, value, v);
	e->ns = memcpy(e->text + v, ns, s);
	e->name = memcpy(e->text + v + s, name, n);
	RB_INSERT(index_entries, &x->entries, e);
}

static void index_remove(struct kube_index *x, const char *value, const char *ns, const char *name) {
	struct index_entry key = {.value = value, .ns = ns, .name = name};
	struct index_entry *e = RB_FIND(index_entries, &x->entries, &key);
	if (!e)
		return;
	RB_REMOVE(index_entries, &x->entries, e);
	free(e);
}

static void index_on_change(const struct kube_change *ch, void *userdata) {
	struct kube_index *x = userdata;
	char old_buf[KUBE_KEY_MAX], new_buf[KUBE_KEY_MAX];
	if (ch->type == KUBE_SYNCED)
		return;
	const void *was = ch->type == KUBE_DELETED ? ch->obj : ch->old;
	const char *old = was ? x->fn(was, old_buf) : NULL;
	const char *now = ch->type == KUBE_DELETED ? NULL : x->fn(ch->obj, new_buf);
	if (streq(old, now))
		return;
	if (old)
		index_remove(x, old, ch->ns, ch->name);
	if (now)
		index_add(x, now, ch->ns, ch->name);
}

/* The first object from E (NULL: the end) on that has the value. The cache may lack an object that is being removed. */
static const void *index_at(const struct kube_index *x, struct index_entry *e, const char *value) {
	const void *obj = NULL;
	for (; !obj && e && streq(e->value, value); e = RB_NEXT(index_entries, &x->entries, e))
		obj = kube_cache_get(x->cache, e->ns, e->name);
	return obj;
}

const void *kube_index_first(const struct kube_index *x, const char *value) {
	struct index_entry key = {.value = value, .ns = "", .name = ""};
	return index_at(x, RB_NFIND(index_entries, (struct index_entries *)&x->entries, &key), value);
}

const void *kube_index_next(const struct kube_index *x, const char *value, const void *obj) {
	const struct api_meta *m = obj;
	struct index_entry key = {.value = value, .ns = m->ns ? m->ns : "", .name = m->name};
	struct index_entry *e = RB_NFIND(index_entries, (struct index_entries *)&x->entries, &key);
	if (e && index_entry_cmp(e, &key) == 0)
		e = RB_NEXT(index_entries, &x->entries, e);
	return index_at(x, e, value);
}

int kube_index_new(struct kube_index **ret, struct kube_cache *cache, kube_index_fn fn, struct error *err) {
	struct kube_index *x = calloc(1, sizeof(*x));
	if (!x)
		return error_oom(err);
	*x = (struct kube_index){.cache = cache, .fn = fn};
	RB_INIT(&x->entries);
	if (kube_cache_on_change_first(cache, index_on_change, x) < 0) {
		free(x);
		return error_oom(err);
	}
	*ret = x;
	return 0;
}

struct kube_index *kube_index_free(struct kube_index *x) {
	struct index_entry *e, *next;
	if (!x)
		return NULL;
	RB_FOREACH_SAFE (e, index_entries, &x->entries, next) {
		RB_REMOVE(index_entries, &x->entries, e);
		free(e);
	}
	free(x);
	return NULL;
}
