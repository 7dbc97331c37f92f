/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A tree of entries, one per object. Objects come from two sources: the reflector, in the order of the API's history,
 * and kube_cache_feed(), ahead of the reflector. If the reflector later delivers an older version of an object that was
 * fed, the entry keeps the newer one. For this purpose alone resourceVersions are compared as numbers (Kubernetes
 * KEP-5504), and only while the server stays the same.
 */

#include "kube/cache.h"

#include <string.h>

#include "api/meta.h"
#include "base/util.h"
#include "kube/internal.h"

struct entry {
	RB_ENTRY(entry) node;
	/* In text[], near the node and not in obj: of many objects, few are in a processor's cache. */
	const char *ns, *name;
	void *obj;      /* NULL with names_only */
	uint32_t epoch; /* number of the last list that held the object */
	bool fed;       /* the object is newer than what the reflector has delivered */
	char text[];
};

static int entry_cmp(const struct entry *a, const struct entry *b) {
	return api_key_cmp(a->ns, a->name, b->ns, b->name);
}

RB_HEAD(entries, entry);
RB_GENERATE_INTERNAL(entries, entry, node, entry_cmp, _unused_ static)

struct handler {
	kube_change_fn fn;
	void *userdata;
};

struct kube_cache {
	struct kube_client *client;
	const struct api_kind *kind;
	struct kube_cache_options options;
	struct kube_reflector *reflector;
	struct entries entries;
	struct handler *handlers;
	size_t n_handlers, count;
	uint32_t epoch;
	uint64_t seen;  /* version up to which the reflector has delivered */
	unsigned moves; /* kube_client_moves() when the last list began */
	bool synced, connected;
};

/* Returns 0, which is never newer than another version, if S is not a number. */
static uint64_t version_number(const char *s) {
	uint64_t v = 0;
	for (; s && *s; s++)
		if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return 0;
	return v;
}

static uint64_t obj_version(const void *obj) {
	return version_number(((const struct api_meta *)obj)->resource_version);
}

static const char *ns_of(const struct api_meta *m) {
	return m->ns ? m->ns : "";
}

static struct entry *cache_find(const struct kube_cache *c, const char *ns, const char *name) {
	struct entry key = {.ns = ns ? ns : "", .name = name};
	return RB_FIND(entries, (struct entries *)&c->entries, &key);
}

static void notify(struct kube_cache *c, enum kube_change_type type, const struct entry *e, const void *obj,
                   const void *old) {
	struct kube_change ch = {
		.type = type, .ns = e ? e->ns : NULL, .name = e ? e->name : NULL, .obj = obj, .old = old};
	for (size_t i = 0; i < c->n_handlers; i++)
		c->handlers[i].fn(&ch, c->handlers[i].userdata);
}

static struct entry *entry_new(struct kube_cache *c, const struct api_meta *m) {
	size_t ns = strlen(ns_of(m)) + 1, name = strlen(m->name) + 1;
	struct entry *e = calloc(1, sizeof(*e) + ns + name);
	if (!e)
		abort(); /* an object missing from the cache would never be acted on */
	e->ns = memcpy(e->text, ns_of(m), ns);
	e->name = memcpy(e->text + ns, m->name, name);
	RB_INSERT(entries, &c->entries, e);
	c->count++;
	return e;
}

static void entry_delete(struct kube_cache *c, struct entry *e) {
	RB_REMOVE(entries, &c->entries, e);
	c->count--;
	notify(c, KUBE_DELETED, e, e->obj, NULL);
	api_free(c->kind, e->obj);
	free(e);
}

/* Stores OBJ in E; it may be the same version as the object of E, or a newer one. With E NULL makes a new entry. */
static void put(struct kube_cache *c, struct entry *e, void *obj, bool fed) {
	struct api_meta *m = obj;
	if (e && e->obj && !streq(((struct api_meta *)e->obj)->uid, m->uid)) {
		entry_delete(c, e); /* another object of the same name */
		e = NULL;
	}
	bool added = !e;
	if (!e)
		e = entry_new(c, m);
	e->epoch = c->epoch;
	e->fed = fed;
	if (c->options.names_only) {
		notify(c, added ? KUBE_ADDED : KUBE_MODIFIED, e, obj, NULL);
		api_free(c->kind, obj);
		return;
	}
	void *old = e->obj;
	e->obj = obj;
	if (!old || !streq(((struct api_meta *)old)->resource_version, m->resource_version))
		notify(c, added ? KUBE_ADDED : KUBE_MODIFIED, e, obj, old);
	api_free(c->kind, old);
}

/* ---- the reflector's callbacks ---- */

static void on_list_begin(void *userdata) {
	struct kube_cache *c = userdata;
	unsigned moves = kube_client_moves(c->client);
	struct entry *e;
	c->epoch++;
	if (moves == c->moves)
		return;
	/* The server is another one, so its versions can't be compared with those in the cache. */
	c->moves = moves;
	c->seen = 0;
	RB_FOREACH (e, entries, &c->entries)
		e->fed = false;
}

static void on_apply(void *obj, void *userdata) {
	struct kube_cache *c = userdata;
	struct api_meta *m = obj;
	struct entry *e = cache_find(c, ns_of(m), m->name);
	uint64_t v = obj_version(obj);
	c->seen = MAX(c->seen, v);
	if (e && e->fed && obj_version(e->obj) > v && streq(((struct api_meta *)e->obj)->uid, m->uid)) {
		e->epoch = c->epoch;
		api_free(c->kind, obj);
		return;
	}
	put(c, e, obj, false);
}

static void on_remove(const struct api_meta *m, void *userdata) {
	struct kube_cache *c = userdata;
	struct entry *e = cache_find(c, ns_of(m), m->name);
	uint64_t v = version_number(m->resource_version);
	c->seen = MAX(c->seen, v);
	if (e && !(e->fed && obj_version(e->obj) > v))
		entry_delete(c, e);
}

static void on_bad(const struct api_meta *m, const struct error *err, void *userdata) {
	struct kube_cache *c = userdata;
	struct entry *e = m ? cache_find(c, ns_of(m), m->name) : NULL;
	if (e)
		e->epoch = c->epoch;
	if (c->options.bad)
		c->options.bad(m ? ns_of(m) : "", m ? m->name : "", err, c->options.userdata);
}

static void on_list_end(const char *version, void *userdata) {
	struct kube_cache *c = userdata;
	struct entry *e, *next;
	uint64_t v = version_number(version);
	c->seen = v;
	RB_FOREACH_SAFE (e, entries, &c->entries, next)
		if (e->epoch != c->epoch && !(e->fed && obj_version(e->obj) > v))
			entry_delete(c, e);
	c->synced = true;
	notify(c, KUBE_SYNCED, NULL, NULL, NULL);
}

static void cache_on_state(bool connected, const struct error *err, void *userdata) {
	struct kube_cache *c = userdata;
	c->connected = connected;
	if (c->options.state)
		c->options.state(c, connected, err, c->options.userdata);
}

/* ---- for users ---- */

void kube_cache_feed(struct kube_cache *c, void *obj) {
	struct api_meta *m = obj;
	struct entry *e = cache_find(c, ns_of(m), m->name);
	uint64_t v = obj_version(obj);
	/* If the cache lacks the object although the reflector has passed its version, it was deleted since. */
	bool stale = e && e->obj ? obj_version(e->obj) >= v : v <= c->seen;
	if (c->options.names_only || stale) {
		api_free(c->kind, obj);
		return;
	}
	put(c, e, obj, true);
}

int kube_cache_new(struct kube_cache **ret, struct kube_client *client, const struct api_kind *k,
                   const struct kube_cache_options *o, struct error *err) {
	static const struct kube_reflector_ops ops = {.list_begin = on_list_begin,
	                                              .apply = on_apply,
	                                              .remove = on_remove,
	                                              .bad = on_bad,
	                                              .list_end = on_list_end,
	                                              .state = cache_on_state};
	_cleanup_(cleanup_kube_cache) struct kube_cache *c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	c->client = client;
	c->kind = k;
	if (o)
		c->options = *o;
	RB_INIT(&c->entries);
	int r = kube_reflector_new(&c->reflector, client, k, &c->options.select, &ops, c, err);
	if (r < 0)
		return r;
	c->options.select = (struct kube_reflector_options){0}; /* its strings belong to the caller */
	*ret = TAKE_PTR(c);
	return 0;
}

struct kube_cache *kube_cache_free(struct kube_cache *c) {
	struct entry *e, *next;
	if (!c)
		return NULL;
	kube_reflector_free(c->reflector);
	RB_FOREACH_SAFE (e, entries, &c->entries, next) {
		RB_REMOVE(entries, &c->entries, e);
		api_free(c->kind, e->obj);
		free(e);
	}
	free(c->handlers);
	free(c);
	return NULL;
}

static int add_handler(struct kube_cache *c, size_t at, kube_change_fn fn, void *userdata) {
	struct handler *v = reallocarray(c->handlers, c->n_handlers + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	memmove(v + at + 1, v + at, (c->n_handlers - at) * sizeof(*v));
	v[at] = (struct handler){fn, userdata};
	c->handlers = v;
	c->n_handlers++;
	return 0;
}

int kube_cache_on_change(struct kube_cache *c, kube_change_fn fn, void *userdata) {
	return add_handler(c, c->n_handlers, fn, userdata);
}

int kube_cache_on_change_first(struct kube_cache *c, kube_change_fn fn, void *userdata) {
	return add_handler(c, 0, fn, userdata);
}

const struct api_kind *kube_cache_kind(const struct kube_cache *c) {
	return c->kind;
}

bool kube_cache_synced(const struct kube_cache *c) {
	return c->synced;
}

bool kube_cache_connected(const struct kube_cache *c) {
	return c->connected;
}

size_t kube_cache_count(const struct kube_cache *c) {
	return c->count;
}

const void *kube_cache_get(const struct kube_cache *c, const char *ns, const char *name) {
	struct entry *e = cache_find(c, ns, name);
	return e ? e->obj : NULL;
}

const void *kube_cache_first(const struct kube_cache *c) {
	struct entry *e = RB_MIN(entries, (struct entries *)&c->entries);
	return e ? e->obj : NULL;
}

const void *kube_cache_first_in(const struct kube_cache *c, const char *ns) {
	struct entry key = {.ns = ns, .name = ""};
	struct entry *e = RB_NFIND(entries, (struct entries *)&c->entries, &key);
	return e && streq(e->ns, ns) ? e->obj : NULL;
}

const void *kube_cache_next(const struct kube_cache *c, const void *obj) {
	const struct api_meta *m = obj;
	struct entry *e = cache_find(c, ns_of(m), m->name);
	e = e ? RB_NEXT(entries, &c->entries, e) : NULL;
	return e ? e->obj : NULL;
}

const char *kube_key(const char *ns, const char *name, char out[static KUBE_KEY_MAX]) {
	snprintf(out, KUBE_KEY_MAX, "%s%s%s", ns ? ns : "", ns && *ns ? "/" : "", name);
	return out;
}

void kube_key_split(const char *key, char buf[static KUBE_KEY_MAX], const char **ret_ns, const char **ret_name) {
	snprintf(buf, KUBE_KEY_MAX, "%s", key);
	char *slash = strchr(buf, '/');
	*ret_ns = slash ? buf : "";
	*ret_name = slash ? slash + 1 : buf;
	if (slash)
		*slash = '\0';
}
