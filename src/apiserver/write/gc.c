/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/gc.h"

#include <string.h>

#include "api/core.h"
#include "apiserver/json/object.h"
#include "apiserver/json/selector.h"
#include "apiserver/json/tree.h"
#include "apiserver/write/stage.h"
#include "apiserver/write/stage_delete.h"
#include "base/util.h"

#define KEYS_A_BATCH   256
#define BYTES_A_BATCH  ((size_t)128 << 10) /* of objects that are read */
#define NOTED_A_BATCH  4096                /* dependents of owners that were deleted */
#define EXPIRY_EVERY_S 60
#define EVENTS_A_TICK  4096 /* Events whose age is checked */

/* An object to check. */
struct key {
	RB_ENTRY(key) node;
	TAILQ_ENTRY(key) link; /* in `doing`: its changes are not on disk yet */
	unsigned kind;
	bool owner_went;  /* an owner was deleted or is being deleted, perhaps before the server started */
	const char *name; /* points behind the NUL of ns */
	char ns[];
};

/*
 * An entry of the index: the object KEY has an owner with this uid. Among the dependents of an owner, those that wait
 * for their own dependents come first.
 */
struct owned {
	RB_ENTRY(owned) node;
	char uid[40];
	bool waiting;
	struct key *key;
};

/*
 * An owner that was deleted or is being deleted. Its dependents from FROM on (NULL: all) must still be put into `todo`.
 */
struct went {
	TAILQ_ENTRY(went) link;
	char uid[40];
	struct key *from;
	bool from_waiting;
};

RB_HEAD(key_tree, key);
RB_HEAD(owned_tree, owned);

struct gc {
	struct write write; /* first */
	struct queue *queue;
	struct key_tree todo;
	TAILQ_HEAD(, key) doing;
	struct owned_tree owned;
	TAILQ_HEAD(, went) went;
	struct key *last;    /* where the next batch begins; NULL: at the first key */
	struct key *expired; /* the last Event checked in this round; NULL: no round is in progress */
	bool queued, backing_off;
	unsigned ticks;
	/* Counters of this batch. They include the owners and dependents that a key needs. */
	size_t changes, looked_at, bytes, noted, done;
};

static int key_cmp(struct key *a, struct key *b) {
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return api_key_cmp(a->ns, a->name, b->ns, b->name);
}

static int owned_cmp(struct owned *a, struct owned *b) {
	int c = strcmp(a->uid, b->uid);
	if (c)
		return c;
	if (a->waiting != b->waiting)
		return a->waiting ? -1 : 1;
	if (a->key == b->key)
		return 0;
	/* NULL sorts before all keys, which finds the first entry. */
	if (!a->key || !b->key)
		return a->key ? 1 : -1;
	return key_cmp(a->key, b->key);
}

RB_GENERATE_INTERNAL(key_tree, key, node, key_cmp, _unused_ static)
RB_GENERATE_INTERNAL(owned_tree, owned, node, owned_cmp, _unused_ static)

static struct key *key_new(unsigned kind, const char *ns, const char *name) {
	size_t n = strlen(ns) + 1, m = strlen(name) + 1;
	struct key *k = calloc(1, sizeof(*k) + n + m);
	if (!k)
		return NULL;
	k->kind = kind;
	memcpy(k->ns, ns, n);
	memcpy(k->ns + n, name, m);
	k->name = k->ns + n;
	return k;
}

/* If there is no memory for the note, the next start finds the object again. */
static void gc_look_at(struct gc *g, unsigned kind, const char *ns, const char *name, bool owner_went) {
	struct key *k = key_new(kind, ns, name), *there = k ? RB_INSERT(key_tree, &g->todo, k) : NULL;
	if (there)
		free(k);
	if (there ? there : k)
		(there ? there : k)->owner_went |= owner_went;
}

/* ---- the index of owners ---- */

/* Returns the owner references of stored JSON as a list, or NULL for none, as nearly always. */
static json_t *refs_of(const struct blob *b) {
	const char *text;
	size_t len;
	if (!b || !memmem(b->data, b->len, "\"ownerReferences\"", 17) ||
	    !json_find(b->data, b->len, "metadata.ownerReferences", &text, &len))
		return NULL;
	return tree_load(text, len);
}

static const char *ref_str(const json_t *ref, const char *key) {
	const char *v = json_string_value(json_object_get(ref, key));
	return v ? v : "";
}

static void index_add(struct gc *g, unsigned kind, const char *ns, const char *name, const json_t *refs, bool waiting) {
	size_t i;
	json_t *ref;
	json_array_foreach((json_t *)refs, i, ref) {
		struct owned *o = calloc(1, sizeof(*o));
		if (o)
			o->key = key_new(kind, ns, name);
		if (!o || !o->key) {
			free(o);
			return;
		}
		o->waiting = waiting;
		snprintf(o->uid, sizeof(o->uid), "%s", ref_str(ref, "uid"));
		if (RB_INSERT(owned_tree, &g->owned, o)) {
			free(o->key);
			free(o);
		}
	}
}

static void index_remove(struct gc *g, unsigned kind, const char *ns, const char *name, const json_t *refs,
                         bool waiting) {
	size_t i;
	json_t *ref;
	struct key *k = key_new(kind, ns, name);
	json_array_foreach((json_t *)refs, i, ref) {
		struct owned want = {.key = k, .waiting = waiting};
		snprintf(want.uid, sizeof(want.uid), "%s", ref_str(ref, "uid"));
		struct owned *o = k ? RB_FIND(owned_tree, &g->owned, &want) : NULL;
		if (!o)
			continue;
		RB_REMOVE(owned_tree, &g->owned, o);
		free(o->key);
		free(o);
	}
	free(k);
}

static struct owned *first_dependent(struct gc *g, const char *uid) {
	struct owned want = {.waiting = true};
	snprintf(want.uid, sizeof(want.uid), "%s", uid);
	struct owned *o = RB_NFIND(owned_tree, &g->owned, &want);
	return o && streq(o->uid, want.uid) ? o : NULL;
}

static struct owned *next_dependent(struct owned *o) {
	struct owned *n = RB_NEXT(owned_tree, NULL, o);
	return n && streq(n->uid, o->uid) ? n : NULL;
}

/* ---- noticing ---- */

/* Finds the object that an owner reference REF in namespace NS names. False: this server doesn't know its kind. */
static bool find_owner(struct gc *g, const json_t *ref, const char *ns, unsigned *ret_kind, const struct object **ret) {
	char group[128];
	const char *gv = ref_str(ref, "apiVersion"), *slash = strchr(gv, '/');
	snprintf(group, sizeof(group), "%.*s", slash ? (int)(slash - gv) : 0, gv);
	const struct api_kind *k = api_kind_find_by_kind(group, slash ? slash + 1 : gv, ref_str(ref, "kind"));
	if (!k)
		return false;
	*ret_kind = api_kind_index(k);
	*ret = store_get(g->queue->store, *ret_kind, k->namespaced ? ns : "", ref_str(ref, "name"));
	return true;
}

/* BEFORE: the owner references that the object had in its state WAS. */
static void notice_refs(struct gc *g, unsigned kind, const struct watch_event *e, const json_t *before,
                        const struct noted *was, const struct noted *is) {
	json_t *now = e->type == EVENT_DELETED ? NULL : refs_of(e->value);
	size_t i;
	json_t *ref;
	if (before)
		index_remove(g, kind, e->ns, e->name, before, was->waiting);
	if (now) {
		index_add(g, kind, e->ns, e->name, now, is->waiting);
		if (!before || !json_equal(before, now))
			gc_look_at(g, kind, e->ns, e->name, false);
	}
	/* An owner may be waiting for the deletion of this object. */
	json_array_foreach((json_t *)before, i, ref) {
		const struct object *owner = NULL;
		unsigned owner_kind;
		if (find_owner(g, ref, e->ns, &owner_kind, &owner) && owner && owner->noted.deleting)
			gc_look_at(g, owner_kind, owner->ns, owner->name, false);
	}
	json_decref(now);
}

/* If there is no memory for the note, the next start finds the dependents again. */
static void notice_went(struct gc *g, const char *uid) {
	struct went *w = first_dependent(g, uid) ? calloc(1, sizeof(*w)) : NULL;
	if (!w)
		return;
	snprintf(w->uid, sizeof(w->uid), "%s", uid);
	TAILQ_INSERT_TAIL(&g->went, w, link);
}

void gc_notice(struct gc *g, unsigned kind, const struct watch_event *e) {
	const unsigned ns_kind = api_kind_index(&api_kind_namespace);
	const struct object *o = e->type == EVENT_DELETED ? NULL : store_get(g->queue->store, kind, e->ns, e->name);
	struct noted now, was = {0};
	if (o)
		now = o->noted;
	else
		blob_note(e->value, &now);
	json_t *refs = refs_of(e->prev);
	if (refs || (e->prev && now.deleting && e->type != EVENT_DELETED))
		blob_note(e->prev, &was);
	notice_refs(g, kind, e, refs, &was, &now);
	json_decref(refs);
	if (e->type == EVENT_DELETED) {
		const struct object *ns = *e->ns ? store_get(g->queue->store, ns_kind, "", e->ns) : NULL;
		notice_went(g, now.uid);
		if (ns && ns->noted.deleting)
			gc_look_at(g, ns_kind, "", e->ns, false);
		return;
	}
	if (!now.deleting)
		return;
	gc_look_at(g, kind, e->ns, e->name, false);
	/* The owner may now wait for its dependents (foreground deletion). */
	if (!was.deleting)
		notice_went(g, now.uid);
}

static void went_free(struct gc *g, struct went *w) {
	TAILQ_REMOVE(&g->went, w, link);
	free(w->from);
	free(w);
}

/* Moves some dependents of deleted owners into `todo`. An owner may have thousands of dependents. */
static void look_at_dependents(struct gc *g) {
	struct went *w;
	while ((w = TAILQ_FIRST(&g->went))) {
		struct owned want = {.waiting = !w->from || w->from_waiting, .key = w->from};
		snprintf(want.uid, sizeof(want.uid), "%s", w->uid);
		struct owned *o = RB_NFIND(owned_tree, &g->owned, &want);
		for (; o && streq(o->uid, w->uid) && g->noted < NOTED_A_BATCH; o = RB_NEXT(owned_tree, NULL, o)) {
			gc_look_at(g, o->key->kind, o->key->ns, o->key->name, true);
			g->noted++;
		}
		if (!o || !streq(o->uid, w->uid)) {
			went_free(g, w);
			continue;
		}
		free(w->from);
		w->from_waiting = o->waiting;
		w->from = key_new(o->key->kind, o->key->ns, o->key->name);
		return;
	}
}

/* True if the rest of the batch must wait until others had their turn. */
static bool is_enough(const struct gc *g) {
	return g->changes >= KEYS_A_BATCH || g->looked_at >= KEYS_A_BATCH || g->bytes >= BYTES_A_BATCH;
}

/* The same inside the work on one key. Each batch makes at least one change, however large the key's own object is. */
static bool is_enough_of_key(const struct gc *g) {
	return g->changes && is_enough(g);
}

/* ---- collecting ---- */

/* Each function returns 0, -EAGAIN if something that it needs is already in the batch, or -ENOMEM. */

static int remove_finalizer(struct gc *g, unsigned kind, const struct object *o, json_t *obj, const char *name) {
	json_t *list = json_object_get(object_meta(obj), "finalizers");
	for (size_t i = json_array_size(list); i-- > 0;)
		if (streq(json_string_value(json_array_get(list, i)), name))
			json_array_remove(list, i);
	g->changes++;
	if (json_array_size(list) > 0)
		return stage_put(g->queue->store, kind, o->ns, o->name, obj);
	json_object_del(object_meta(obj), "finalizers");
	return stage_remove(g->queue->store, kind, o->ns, o->name, obj);
}

static int delete_one(struct gc *g, unsigned kind, const struct object *o, enum propagation how) {
	if (store_staged(g->queue->store, kind, o->ns, o->name))
		return -EAGAIN;
	g->bytes += o->value->len;
	int r = stage_delete(g->queue->store, kind, o, how, false, NULL);
	if (r > 0)
		g->changes++;
	return MIN(r, 0);
}

/* Removes from OBJ the owner references for which FORGET is true. FORGET gets USERDATA. */
static int forget_owners(struct gc *g, unsigned kind, const struct object *o, json_t *obj,
                         bool (*forget)(void *userdata, const json_t *ref), void *userdata) {
	json_t *refs = json_object_get(object_meta(obj), "ownerReferences");
	if (store_staged(g->queue->store, kind, o->ns, o->name))
		return -EAGAIN;
	for (size_t i = json_array_size(refs); i-- > 0;)
		if (forget(userdata, json_array_get(refs, i)))
			json_array_remove(refs, i);
	if (json_array_size(refs) == 0)
		json_object_del(object_meta(obj), "ownerReferences");
	g->changes++;
	return stage_put(g->queue->store, kind, o->ns, o->name, obj);
}

static bool has_uid(void *userdata, const json_t *ref) {
	return streq(ref_str(ref, "uid"), userdata);
}

static int orphan_one(struct gc *g, const struct key *k, char *uid) {
	const struct object *o = store_get(g->queue->store, k->kind, k->ns, k->name);
	json_t *obj = NULL;
	g->bytes += o ? o->value->len : 0;
	int r = o ? object_read(o->value->data, o->value->len, &obj) : 0;
	if (obj)
		r = forget_owners(g, k->kind, o, obj, has_uid, uid);
	else if (r == -EBADMSG)
		r = 0;
	json_decref(obj);
	return r;
}

/*
 * Works on an object that is being deleted. With foreground deletion it is removed when it has no dependents left.
 * check_owners() deletes these one by one, and each deletion causes a call of this function. With orphaning deletion
 * the dependents lose their owner references here.
 */
static int do_propagation(struct gc *g, unsigned kind, const struct object *o, json_t *obj) {
	_free_ char *uid = strdup(object_meta_str(obj, "uid") ? object_meta_str(obj, "uid") : "");
	bool orphan = object_has_finalizer(obj, "orphan");
	int r = 0;
	if (!uid)
		return -ENOMEM;
	struct owned *d = first_dependent(g, uid);
	if (!orphan && !object_has_finalizer(obj, "foregroundDeletion"))
		return 0;
	if (!d)
		return remove_finalizer(g, kind, o, obj, orphan ? "orphan" : "foregroundDeletion");
	for (; orphan && d && !is_enough_of_key(g); d = next_dependent(d)) {
		int one = orphan_one(g, d->key, uid);
		r = one < 0 ? one : r;
	}
	return orphan && d ? -EAGAIN : r;
}

/* The state of an owner as Kubernetes distinguishes them (pkg/controller/garbagecollector, classifyReferences). */
enum owner {
	OWNER_SOLID,    /* the owner exists, or this server doesn't know its kind */
	OWNER_DANGLING, /* the owner doesn't exist */
	OWNER_WAITING,  /* the owner is being deleted in the foreground and waits for this object */
};

struct dependent {
	struct gc *gc;
	const char *ns;
};

static enum owner owner_of(const struct dependent *d, const json_t *ref) {
	const struct object *owner = NULL;
	unsigned kind;
	if (!find_owner(d->gc, ref, d->ns, &kind, &owner))
		return OWNER_SOLID;
	if (!owner || !streq(owner->noted.uid, ref_str(ref, "uid")))
		return OWNER_DANGLING;
	return owner->noted.waiting ? OWNER_WAITING : OWNER_SOLID;
}

static bool is_not_solid(void *userdata, const json_t *ref) {
	return owner_of(userdata, ref) != OWNER_SOLID;
}

/* True if the object with UID has a dependent that itself waits for its dependents. Those may include that object. */
static bool has_waiting_dependent(struct gc *g, const char *uid) {
	const struct owned *o = first_dependent(g, uid);
	return o && o->waiting;
}

/*
 * An object with an existing owner stays. If another of its owners was deleted, it loses its references to all owners
 * that don't exist. A reference to an owner that never existed stays until then or until the server starts again: at
 * the start nobody can tell whether the owner never existed, or was deleted before a crash of the server.
 */
static int check_owners(struct gc *g, const struct key *k, const struct object *o, json_t *obj, const json_t *refs) {
	struct dependent d = {g, o->ns};
	const char *uid = object_meta_str(obj, "uid");
	size_t i, n[3] = {0};
	json_t *ref;
	json_array_foreach((json_t *)refs, i, ref) n[owner_of(&d, ref)]++;
	const bool forget = n[OWNER_WAITING] || (n[OWNER_DANGLING] && k->owner_went);
	if (n[OWNER_SOLID])
		return forget ? forget_owners(g, k->kind, o, obj, is_not_solid, &d) : 0;
	/* Objects that wait for each other in a circle are deleted in the background. */
	bool foreground = n[OWNER_WAITING] && uid && first_dependent(g, uid) && !has_waiting_dependent(g, uid);
	return delete_one(g, k->kind, o, foreground ? PROPAGATE_FOREGROUND : PROPAGATE_BACKGROUND);
}

/* Deletes all objects in a namespace that is being deleted, then the namespace. */
static int empty_namespace(struct gc *g, const struct object *ns, json_t *obj) {
	struct store *st = g->queue->store;
	bool empty = true;
	for (unsigned kind = 0; api_kinds[kind]; kind++) {
		if (!api_kinds[kind]->namespaced)
			continue;
		for (const struct object *o = store_seek(st, kind, ns->name, ""); o && streq(o->ns, ns->name);
		     o = store_next(st, kind, o)) {
			empty = false;
			if (is_enough_of_key(g))
				return -EAGAIN;
			int r = o->noted.deleting ? 0 : delete_one(g, kind, o, PROPAGATE_BACKGROUND);
			if (r == -ENOMEM)
				return r;
		}
	}
	/* Each deletion of an object, or of a finalizer, causes a call of this function. */
	if (!empty || object_finalizers(obj) > 0)
		return 0;
	g->changes++;
	return stage_remove(st, api_kind_index(&api_kind_namespace), "", ns->name, obj);
}

static int do_key(struct gc *g, const struct key *k) {
	const struct object *o = store_get(g->queue->store, k->kind, k->ns, k->name);
	if (!o)
		return 0;
	if (store_staged(g->queue->store, k->kind, k->ns, k->name))
		return -EAGAIN;
	const int64_t now_s = (int64_t)(now_realtime_us() / USEC_PER_SEC);
	if (api_kinds[k->kind] == &api_kind_event && o->written_s + EVENT_TTL_S < now_s)
		return delete_one(g, k->kind, o, PROPAGATE_BACKGROUND);
	json_t *obj = NULL;
	int r = object_read(o->value->data, o->value->len, &obj);
	json_t *refs = json_object_get(object_meta(obj), "ownerReferences");
	g->bytes += o->value->len;
	if (r == -EBADMSG) /* the object stays until it is deleted or expires */
		return 0;
	if (obj && object_deleting(obj))
		r = api_kinds[k->kind] == &api_kind_namespace ? empty_namespace(g, o, obj)
		                                              : do_propagation(g, k->kind, o, obj);
	else if (json_array_size(refs) > 0)
		r = check_owners(g, k, o, obj, refs);
	json_decref(obj);
	return r;
}

/* Keys that fail stay in TODO. So that the others have their turn, each batch begins where the last one ended. */
static struct key *first_key(struct gc *g) {
	struct key *k = g->last ? RB_NFIND(key_tree, &g->todo, g->last) : NULL;
	free(g->last);
	g->last = NULL;
	return k ? k : RB_MIN(key_tree, &g->todo);
}

static enum write_result gc_write_run(_unused_ struct queue *q, struct write *w) {
	struct gc *g = (struct gc *)w;
	struct key *k, *next;
	g->changes = g->looked_at = g->bytes = g->noted = g->done = 0;
	look_at_dependents(g);
	for (k = first_key(g); k; k = next) {
		next = RB_NEXT(key_tree, &g->todo, k);
		if (is_enough(g)) {
			g->last = key_new(k->kind, k->ns, k->name);
			break;
		}
		g->looked_at++;
		if (do_key(g, k) < 0)
			continue;
		g->done++;
		RB_REMOVE(key_tree, &g->todo, k);
		TAILQ_INSERT_TAIL(&g->doing, k, link);
	}
	return g->changes ? WRITE_STAGED : WRITE_DONE;
}

static void gc_write_done(_unused_ struct queue *q, struct write *w, int r, _unused_ const struct error *cause) {
	struct gc *g = (struct gc *)w;
	struct key *k;
	g->queued = false;
	/* A failed write, for example because the disk is full, is tried again at the next tick. */
	g->backing_off = r < 0;
	while ((k = TAILQ_FIRST(&g->doing))) {
		TAILQ_REMOVE(&g->doing, k, link);
		struct key *there = r < 0 ? RB_INSERT(key_tree, &g->todo, k) : NULL;
		if (there)
			there->owner_went |= k->owner_went;
		if (r == 0 || there)
			free(k);
	}
	/* Nothing was changed, so no commit will call gc_run(). If every key failed, the next tick does. */
	if (r == 0 && !g->changes && ((g->done && is_enough(g)) || !TAILQ_EMPTY(&g->went)))
		gc_run(g);
}

void gc_run(struct gc *g) {
	if (g->queued || g->backing_off || g->queue->read_only || (RB_EMPTY(&g->todo) && TAILQ_EMPTY(&g->went)))
		return;
	g->queued = true;
	g->write.run = gc_write_run;
	g->write.done = gc_write_done;
	queue_write(g->queue, &g->write);
}

/* Begins where the last tick stopped, or at the first Event. */
static void expire_events(struct gc *g) {
	const unsigned kind = api_kind_index(&api_kind_event);
	const int64_t now_s = (int64_t)(now_realtime_us() / USEC_PER_SEC);
	const struct store *st = g->queue->store;
	const struct object *o =
		store_seek(st, kind, g->expired ? g->expired->ns : "", g->expired ? g->expired->name : "");
	for (size_t i = 0; o && i < EVENTS_A_TICK; i++, o = store_next(st, kind, o))
		if (o->written_s + EVENT_TTL_S < now_s)
			gc_look_at(g, kind, o->ns, o->name, false);
	free(g->expired);
	g->expired = o ? key_new(kind, o->ns, o->name) : NULL;
}

void gc_tick(struct gc *g) {
	g->backing_off = false;
	if (g->expired || g->ticks++ % EXPIRY_EVERY_S == 0)
		expire_events(g);
	gc_run(g);
}

/* ---- life ---- */

int gc_new(struct gc **ret, struct queue *q, struct error *err) {
	struct gc *g = calloc(1, sizeof(*g));
	if (!g)
		return error_oom(err);
	g->queue = q;
	TAILQ_INIT(&g->doing);
	TAILQ_INIT(&g->went);
	for (unsigned kind = 0; api_kinds[kind]; kind++)
		for (const struct object *o = store_seek(q->store, kind, "", ""); o;
		     o = store_next(q->store, kind, o)) {
			json_t *refs = refs_of(o->value);
			if (refs)
				index_add(g, kind, o->ns, o->name, refs, o->noted.waiting);
			/*
			 * Owners may have been deleted shortly before the server stopped, so that their dependents were
			 * not yet checked.
			 */
			if (refs || o->noted.deleting)
				gc_look_at(g, kind, o->ns, o->name, refs);
			json_decref(refs);
		}
	*ret = g;
	return 0;
}

struct gc *gc_free(struct gc *g) {
	struct key *k, *next_key;
	struct owned *o, *next;
	if (!g)
		return NULL;
	RB_FOREACH_SAFE (k, key_tree, &g->todo, next_key) {
		RB_REMOVE(key_tree, &g->todo, k);
		free(k);
	}
	free(g->last);
	free(g->expired);
	while (!TAILQ_EMPTY(&g->went))
		went_free(g, TAILQ_FIRST(&g->went));
	while ((k = TAILQ_FIRST(&g->doing))) {
		TAILQ_REMOVE(&g->doing, k, link);
		free(k);
	}
	RB_FOREACH_SAFE (o, owned_tree, &g->owned, next) {
		RB_REMOVE(owned_tree, &g->owned, o);
		free(o->key);
		free(o);
	}
	free(g);
	return NULL;
}
