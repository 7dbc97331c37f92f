/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A tree of entries, one per object; another one of the objects that are not understood. Objects come from two sources:
 * the reflector, in the order of the API's history, and kube_cache_feed(), ahead of the reflector. If the reflector
 * later delivers an older version of an object that was fed, the entry keeps the newer one. For this purpose alone
 * resourceVersions are compared as numbers (Kubernetes KEP-5504), and only while the server stays the same.
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
	char text[];    /* namespace, name; of an object that is not understood, the reason */
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
	struct entries bad; /* not understood; obj holds what could be read. A nameless object has the name "". */
	struct handler *handlers;
	size_t n_handlers, count, n_bad;
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

static struct entry *entries_find(const struct entries *in, const char *ns, const char *name) {
	struct entry key = {.ns = ns ? ns : "", .name = name ? name : ""};
	return RB_FIND(entries, (struct entries *)in, &key);
}

static struct entry *cache_find(const struct kube_cache *c, const char *ns, const char *name) {
	return entries_find(&c->entries, ns, name);
}

static void notify(struct kube_cache *c, enum kube_change_type type, const struct entry *e, const void *obj,
                   const void *old) {
	struct kube_change ch = {
		.type = type, .ns = e ? e->ns : NULL, .name = e ? e->name : NULL, .obj = obj, .old = old};
	for (size_t i = 0; i < c->n_handlers; i++)
		c->handlers[i].fn(&ch, c->handlers[i].userdata);
}

static struct entry *entry_new(struct entries *in, const char *ns, const char *name, const char *why) {
	size_t ns_size = strlen(ns) + 1, name_size = strlen(name) + 1, why_size = strlen(why) + 1;
	struct entry *e = calloc(1, sizeof(*e) + ns_size + name_size + why_size);
	if (!e)
		abort(); /* an object missing from the cache would never be acted on */
	e->ns = memcpy(e->text, ns, ns_size);
	e->name = memcpy(e->text + ns_size, name, name_size);
	memcpy(e->text + ns_size + name_size, why, why_size);
	RB_INSERT(entries, in, e);
	return e;
}

static void entry_free(struct kube_cache *c, struct entry *e) {
	api_free(c->kind, e->obj);
	free(e);
}

static void entry_delete(struct kube_cache *c, struct entry *e) {
	RB_REMOVE(entries, &c->entries, e);
	c->count--;
	notify(c, KUBE_DELETED, e, e->obj, NULL);
	entry_free(c, e);
}

/* ---- objects that are not understood ---- */

static const char *bad_why(const struct entry *e) {
	return e->name + strlen(e->name) + 1;
}

static void bad_remove(struct kube_cache *c, struct entry *e) {
	RB_REMOVE(entries, &c->bad, e);
	c->n_bad--;
}

/* Takes ownership of PART. */
static void bad_put(struct kube_cache *c, void *part, const struct error *err) {
	const struct api_meta *m = part;
	struct entry *e = entries_find(&c->bad, ns_of(m), m->name);
	bool news = !e || !streq(bad_why(e), err->msg);
	if (e) {
		bad_remove(c, e);
		entry_free(c, e);
	}
	e = entry_new(&c->bad, ns_of(m), m->name ? m->name : "", err->msg);
	c->n_bad++;
	e->epoch = c->epoch;
	if (c->options.names_only)
		api_free(c->kind, part);
	else
		e->obj = part;
	if (news && c->options.bad)
		c->options.bad(c, e->ns, e->name, err, c->options.userdata);
}

static void bad_end(struct kube_cache *c, const char *ns, const char *name) {
	struct entry *e = entries_find(&c->bad, ns, name);
	if (!e)
		return;
	bad_remove(c, e);
	if (c->options.good)
		c->options.good(c, e->ns, e->name, c->options.userdata);
	entry_free(c, e);
}

/* ---- changes ---- */

/* Stores OBJ in E; it may be the same version as the object of E, or a newer one. With E NULL makes a new entry. */
static void put(struct kube_cache *c, struct entry *e, void *obj, bool fed) {
	struct api_meta *m = obj;
	if (e && e->obj && !streq(((struct api_meta *)e->obj)->uid, m->uid)) {
		entry_delete(c, e); /* another object of the same name */
		e = NULL;
	}
	bool added = !e;
	if (!e) {
		e = entry_new(&c->entries, ns_of(m), m->name, "");
		c->count++;
	}
	e->epoch = c->epoch;
	e->fed = fed;
	if (c->options.names_only) {
		notify(c, added ? KUBE_ADDED : KUBE_MODIFIED, e, obj, NULL);
		bad_end(c, e->ns, e->name);
		api_free(c->kind, obj);
		return;
	}
	void *old = e->obj;
	e->obj = obj;
	if (!old || !streq(((struct api_meta *)old)->resource_version, m->resource_version))
		notify(c, added ? KUBE_ADDED : KUBE_MODIFIED, e, obj, old);
	bad_end(c, e->ns, e->name);
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
	bad_end(c, m->ns, m->name);
}

static void on_bad(void *part, const struct error *err, void *userdata) {
	struct kube_cache *c = userdata;
	struct api_meta *m = part;
	struct entry *e = cache_find(c, ns_of(m), m->name);
	if (e)
		e->epoch = c->epoch;
	if (e && e->fed && obj_version(e->obj) > version_number(m->resource_version))
		api_free(c->kind, part);
	else
		bad_put(c, part, err);
}

static void on_list_end(const char *version, void *userdata) {
	struct kube_cache *c = userdata;
	struct entry *e, *next;
	uint64_t v = version_number(version);
	struct entry *nameless = entries_find(&c->bad, NULL, NULL);
	c->seen = v;
	/* Any of the missing objects may be the one whose name could not be read. */
	if (!nameless || nameless->epoch != c->epoch)
		RB_FOREACH_SAFE (e, entries, &c->entries, next)
			if (e->epoch != c->epoch && !(e->fed && obj_version(e->obj) > v))
				entry_delete(c, e);
	RB_FOREACH_SAFE (e, entries, &c->bad, next)
		if (e->epoch != c->epoch)
			bad_end(c, e->ns, e->name);
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
	RB_INIT(&c->bad);
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
		entry_free(c, e);
	}
	RB_FOREACH_SAFE (e, entries, &c->bad, next) {
		bad_remove(c, e);
		entry_free(c, e);
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

size_t kube_cache_count_bad(const struct kube_cache *c) {
	return c->n_bad;
}

const void *kube_cache_get_bad(const struct kube_cache *c, const char *ns, const char *name) {
	struct entry *e = entries_find(&c->bad, ns, name);
	return e ? e->obj : NULL;
}

const void *kube_cache_first_bad(const struct kube_cache *c) {
	struct entry *e = RB_MIN(entries, (struct entries *)&c->bad);
	return e ? e->obj : NULL;
}

const void *kube_cache_next_bad(const struct kube_cache *c, const void *obj) {
	const struct api_meta *m = obj;
	struct entry *e = entries_find(&c->bad, m->ns, m->name);
	e = e ? RB_NEXT(entries, &c->bad, e) : NULL;
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
