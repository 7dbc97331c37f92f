/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/store/store.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#include "apiserver/json/selector.h"
#include "base/util.h"

/* Limits of the events held for each kind: their number, and the bytes that only they hold. */
#define EVENTS_MAX      (1U << 15)
#define EVENT_BYTES_MAX ((size_t)32 << 20)
#define CHANGE_BYTES    ((size_t)512) /* what a change costs in addition to its text */

RB_HEAD(object_tree, object);

struct kind_store {
	struct object_tree objects;
	size_t count;
	struct watch_event **ring; /* event SEQ is at SEQ & (ring_size - 1) */
	size_t ring_size;          /* a power of two */
	uint64_t first, end;
	size_t event_bytes;
	int64_t horizon; /* version of the last event forgotten */
};

struct change {
	RB_ENTRY(change) node;
	unsigned kind;
	struct watch_event *event;
	struct object *object; /* memory for a new object, allocated beforehand so that applying can't fail */
	int64_t written_s;
};
RB_HEAD(change_tree, change);

struct store {
	struct kind_store *kinds;
	unsigned n_kinds;
	struct store_hooks hooks;
	int64_t version, last_given;
	struct db *db;
	/* The batch that is being staged or written. */
	struct change_tree by_key;
	struct change **changes;
	size_t n_changes, cap_changes, bytes;
	bool busy;
	struct store_cost cost; /* of the last batch; belongs to the writer thread while busy */
	int64_t *forget;        /* versions of rows no longer needed; the next batch deletes them */
	size_t n_forget, cap_forget;
	/* The writer thread. The mutex guards the fields below. */
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool work, quit, done;
	int result;
	struct error cause;
	int event_fd;
	sd_event_source *source;
};

struct blob *blob_new(const char *json, size_t len) {
	if (len > UINT32_MAX - 64)
		return NULL;
	struct blob *b = malloc(sizeof(*b) + len + 2);
	if (!b)
		return NULL;
	*b = (struct blob){.refs = 1, .len = (uint32_t)len};
	memcpy(b->data, json, len);
	b->data[len] = ',';
	b->data[len + 1] = '\0';
	return b;
}

struct blob *blob_unref(struct blob *b) {
	if (b && --b->refs == 0)
		free(b);
	return NULL;
}

void blob_note(const struct blob *b, struct noted *ret) {
	static const char *const names[] = {"uid", "deletionTimestamp", "finalizers"};
	struct json_span meta = {0}, v[3] = {0};
	*ret = (struct noted){0};
	/* Most objects are not being deleted, and this search is cheaper than parsing metadata. */
	if (!memmem(b->data, b->len, names[1], strlen(names[1]))) {
		if (!json_find(b->data, b->len, "metadata.uid", &v[0].text, &v[0].len))
			return;
	} else if (json_find(b->data, b->len, "metadata", &meta.text, &meta.len))
		json_members(meta.text, meta.len, names, v, ARRAY_SIZE(names));
	const size_t n = v[0].len > 2 ? MIN(v[0].len - 2, sizeof(ret->uid) - 1) : 0;
	memcpy(ret->uid, n ? v[0].text + 1 : "", n);
	ret->deleting = v[1].len > 0;
	ret->waiting = ret->deleting && v[2].len && memmem(v[2].text, v[2].len, "\"foregroundDeletion\"", 20);
}

static int object_cmp(struct object *a, struct object *b) {
	return api_key_cmp(a->ns, a->name, b->ns, b->name);
}

static int change_cmp(struct change *a, struct change *b) {
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return api_key_cmp(a->event->ns, a->event->name, b->event->ns, b->event->name);
}

RB_GENERATE_INTERNAL(object_tree, object, node, object_cmp, _unused_ static)
RB_GENERATE_INTERNAL(change_tree, change, node, change_cmp, _unused_ static)

/* Both structs end in "NS\0NAME\0". */
static struct object *object_new(const char *ns, const char *name) {
	size_t n = strlen(ns) + 1, m = strlen(name) + 1;
	struct object *o = calloc(1, sizeof(*o) + n + m);
	if (!o)
		return NULL;
	memcpy(o->ns, ns, n);
	memcpy(o->ns + n, name, m);
	o->name = o->ns + n;
	return o;
}

static struct watch_event *event_new(const char *ns, const char *name) {
	size_t n = strlen(ns) + 1, m = strlen(name) + 1;
	struct watch_event *e = calloc(1, sizeof(*e) + n + m);
	if (!e)
		return NULL;
	memcpy(e->ns, ns, n);
	memcpy(e->ns + n, name, m);
	e->name = e->ns + n;
	return e;
}

static void object_free(struct object *o) {
	if (!o)
		return;
	blob_unref(o->value);
	free(o);
}

static void event_free(struct watch_event *e) {
	if (!e)
		return;
	blob_unref(e->value);
	blob_unref(e->prev);
	free(e);
}

static void change_free(struct change *c) {
	if (!c)
		return;
	event_free(c->event);
	object_free(c->object);
	free(c);
}

static struct object *store_find(const struct store *s, unsigned kind, const char *ns, const char *name, bool after) {
	/* The key is on the stack; it is only compared. */
	_Alignas(struct object) char mem[sizeof(struct object) + 514];
	struct object *key = (struct object *)mem;
	size_t n = strlen(ns) + 1, m = strlen(name) + 1;
	if (n + m > sizeof(mem) - sizeof(*key))
		return NULL;
	memcpy(key->ns, ns, n);
	memcpy(key->ns + n, name, m);
	key->name = key->ns + n;
	struct object_tree *tree = &s->kinds[kind].objects;
	return after ? RB_NFIND(object_tree, tree, key) : RB_FIND(object_tree, tree, key);
}

const struct object *store_get(const struct store *s, unsigned kind, const char *ns, const char *name) {
	return store_find(s, kind, ns, name, false);
}

const struct object *store_seek(const struct store *s, unsigned kind, const char *ns, const char *name) {
	return store_find(s, kind, ns, name, true);
}

const struct object *store_next(const struct store *s, unsigned kind, const struct object *o) {
	(void)s;
	(void)kind;
	return RB_NEXT(object_tree, &s->kinds[kind].objects, (struct object *)o);
}

int64_t store_version(const struct store *s) {
	return s->version;
}

size_t store_count(const struct store *s, unsigned kind) {
	return s->kinds[kind].count;
}

/* ---- events ---- */

/* The value is not counted unless it was deleted: it is the object's, or counts as the next event's previous value. */
static size_t event_size(const struct watch_event *e) {
	return sizeof(*e) + (e->prev ? e->prev->len : 0) + (e->type == EVENT_DELETED ? e->value->len : 0);
}

static struct watch_event *ring_at(const struct kind_store *k, uint64_t seq) {
	return k->ring[seq & (k->ring_size - 1)];
}

static int ring_grow(struct kind_store *k) {
	size_t size = k->ring_size ? k->ring_size * 2 : 64;
	struct watch_event **ring = calloc(size, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (uint64_t i = k->first; i < k->end; i++)
		ring[i & (size - 1)] = ring_at(k, i);
	free(k->ring);
	k->ring = ring;
	k->ring_size = size;
	return 0;
}

/*
 * Notes that a row is no longer needed, once no event that is held needs it. If there is no memory for the note, the
 * next start finds the row again.
 */
static void forget_row(struct store *s, int64_t rv) {
	if (s->n_forget == s->cap_forget) {
		size_t cap = s->cap_forget ? s->cap_forget * 2 : 256;
		int64_t *v = reallocarray(s->forget, cap, sizeof(*v));
		if (!v)
			return;
		s->forget = v;
		s->cap_forget = cap;
	}
	s->forget[s->n_forget++] = rv;
}

static void ring_drop(struct store *s, struct kind_store *k) {
	struct watch_event *e = ring_at(k, k->first);
	k->horizon = e->rv;
	k->event_bytes -= event_size(e);
	k->first++;
	if (e->prev_rv)
		forget_row(s, e->prev_rv);
	if (e->type == EVENT_DELETED)
		forget_row(s, e->rv);
	event_free(e);
}

/*
 * Takes ownership of E. If there is no memory, all events held are forgotten, and watches that need them must list
 * again.
 */
static void ring_add(struct store *s, struct kind_store *k, struct watch_event *e) {
	while (k->end > k->first &&
	       (k->end - k->first >= EVENTS_MAX || k->event_bytes + event_size(e) > EVENT_BYTES_MAX))
		ring_drop(s, k);
	if (k->end - k->first == k->ring_size && ring_grow(k) < 0)
		while (k->end > k->first)
			ring_drop(s, k);
	if (!k->ring_size) {
		k->horizon = e->rv;
		event_free(e);
		return;
	}
	k->ring[k->end++ & (k->ring_size - 1)] = e;
	k->event_bytes += event_size(e);
}

uint64_t store_event_end(const struct store *s, unsigned kind) {
	return s->kinds[kind].end;
}

const struct watch_event *store_event(const struct store *s, unsigned kind, uint64_t seq) {
	const struct kind_store *k = &s->kinds[kind];
	return seq >= k->first && seq < k->end ? ring_at(k, seq) : NULL;
}

int store_event_after(const struct store *s, unsigned kind, int64_t rv, uint64_t *ret) {
	const struct kind_store *k = &s->kinds[kind];
	if (rv < k->horizon)
		return -EXPIRED_VERSION;
	uint64_t lo = k->first, hi = k->end;
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		if (ring_at(k, mid)->rv > rv)
			hi = mid;
		else
			lo = mid + 1;
	}
	*ret = lo;
	return 0;
}

/* ---- the batch ---- */

size_t store_size(const struct store *s, unsigned kind, const char *ns, const char *name) {
	const struct object *o = store_get(s, kind, ns, name);
	return o ? o->value->len : 0;
}

bool store_busy(const struct store *s) {
	return s->busy;
}

size_t store_staged_count(const struct store *s) {
	return s->n_changes;
}

size_t store_staged_bytes(const struct store *s) {
	return s->bytes;
}

struct store_cost store_cost(const struct store *s) {
	return s->cost;
}

int64_t store_next_version(const struct store *s) {
	return s->last_given + 1;
}

bool store_staged_kind(const struct store *s, unsigned kind) {
	for (size_t i = 0; i < s->n_changes; i++)
		if (s->changes[i]->kind == kind)
			return true;
	return false;
}

bool store_staged(const struct store *s, unsigned kind, const char *ns, const char *name) {
	struct change *c = RB_ROOT(&s->by_key);
	while (c) {
		int d = kind != c->kind ? (kind < c->kind ? -1 : 1)
		                        : api_key_cmp(ns, name, c->event->ns, c->event->name);
		if (d == 0)
			return true;
		c = d < 0 ? RB_LEFT(c, node) : RB_RIGHT(c, node);
	}
	return false;
}

static int stage(struct store *s, unsigned kind, enum event_type type, const char *ns, const char *name,
                 struct blob *value) {
	const struct object *old = store_get(s, kind, ns, name);
	struct change *c = calloc(1, sizeof(*c));
	struct watch_event *e = event_new(ns, name);
	struct object *o = type == EVENT_ADDED ? object_new(ns, name) : NULL;
	if (s->n_changes == s->cap_changes) {
		size_t cap = s->cap_changes ? s->cap_changes * 2 : 64;
		struct change **v = reallocarray(s->changes, cap, sizeof(struct change *));
		if (v) {
			s->changes = v;
			s->cap_changes = cap;
		}
	}
	if (!c || !e || (type == EVENT_ADDED && !o) || s->n_changes == s->cap_changes) {
		free(c);
		event_free(e);
		object_free(o);
		blob_unref(value);
		return -ENOMEM;
	}
	e->type = type;
	e->rv = ++s->last_given;
	e->value = value;
	e->prev = old ? blob_ref(old->value) : NULL;
	e->prev_rv = old ? old->rv : 0;
	*c = (struct change){
		.kind = kind, .event = e, .object = o, .written_s = (int64_t)(now_realtime_us() / USEC_PER_SEC)};
	RB_INSERT(change_tree, &s->by_key, c);
	s->changes[s->n_changes++] = c;
	s->bytes += value->len + CHANGE_BYTES;
	return 0;
}

int store_put(struct store *s, unsigned kind, const char *ns, const char *name, struct blob *value) {
	return stage(s, kind, store_get(s, kind, ns, name) ? EVENT_MODIFIED : EVENT_ADDED, ns, name, value);
}

int store_remove(struct store *s, unsigned kind, const char *ns, const char *name, struct blob *value) {
	return stage(s, kind, EVENT_DELETED, ns, name, value);
}

static void store_apply(struct store *s, unsigned kind, struct watch_event *e, struct object *fresh,
                        int64_t written_s) {
	struct kind_store *k = &s->kinds[kind];
	struct object *o = fresh ? fresh : store_find(s, kind, e->ns, e->name, false);
	if (fresh) {
		RB_INSERT(object_tree, &k->objects, fresh);
		k->count++;
	}
	if (e->type == EVENT_DELETED) {
		RB_REMOVE(object_tree, &k->objects, o);
		k->count--;
		object_free(o);
	} else {
		blob_unref(o->value);
		o->value = blob_ref(e->value);
		o->rv = e->rv;
		o->written_s = written_s;
		blob_note(o->value, &o->noted);
	}
	s->version = e->rv;
}

static int store_write_batch(struct store *s, struct error *err) {
	s->cost = (struct store_cost){0};
	_free_ struct db_row *rows = calloc(s->n_changes, sizeof(*rows));
	_free_ int64_t *horizons = calloc(s->n_kinds, sizeof(*horizons));
	if (!rows || !horizons)
		return error_oom(err);
	for (size_t i = 0; i < s->n_changes; i++) {
		const struct change *c = s->changes[i];
		rows[i] = (struct db_row){c->event->rv, c->written_s,   c->event->type,        c->kind,
		                          c->event->ns, c->event->name, c->event->value->data, c->event->value->len};
	}
	for (unsigned i = 0; i < s->n_kinds; i++)
		horizons[i] = s->kinds[i].horizon;
	const struct db_batch b = {rows, s->n_changes, s->forget, s->n_forget, horizons};
	const uint64_t start = now_monotonic_ns(), cpu = now_thread_cpu_ns();
	int r = db_write(s->db, &b, s->last_given, err);
	s->cost = (struct store_cost){now_thread_cpu_ns() - cpu, now_monotonic_ns() - start, s->n_changes, s->bytes};
	return r;
}

static void store_clear_batch(struct store *s) {
	for (size_t i = 0; i < s->n_changes; i++)
		change_free(s->changes[i]);
	s->n_changes = s->bytes = 0;
	RB_INIT(&s->by_key);
	s->busy = false;
}

static void store_finish(struct store *s, int r, const struct error *cause) {
	const uint64_t cpu = now_thread_cpu_ns();
	if (r == 0)
		s->n_forget = 0;
	for (size_t i = 0; r == 0 && i < s->n_changes; i++) {
		struct change *c = s->changes[i];
		struct watch_event *e = TAKE_PTR(c->event);
		store_apply(s, c->kind, e, TAKE_PTR(c->object), c->written_s);
		ring_add(s, &s->kinds[c->kind], e);
		const struct watch_event *held = store_event(s, c->kind, s->kinds[c->kind].end - 1);
		if (s->hooks.on_event && held)
			s->hooks.on_event(s->hooks.userdata, c->kind, held);
	}
	store_clear_batch(s);
	s->cost.cpu_ns += now_thread_cpu_ns() - cpu;
	if (s->hooks.on_commit)
		s->hooks.on_commit(s->hooks.userdata, r, cause);
}

static void *writer(void *userdata) {
	struct store *s = userdata;
	bool upkeep = true;
	pthread_mutex_lock(&s->mutex);
	for (;;) {
		while (upkeep && !s->quit) {
			bool waited_for = s->work;
			pthread_mutex_unlock(&s->mutex);
			upkeep = db_tidy(s->db, waited_for);
			pthread_mutex_lock(&s->mutex);
		}
		while (!s->work && !s->quit)
			pthread_cond_wait(&s->cond, &s->mutex);
		if (!s->work)
			break;
		upkeep = true;
		s->work = false;
		pthread_mutex_unlock(&s->mutex);
		/* The batch belongs to this thread until `done` is set. */
		struct error cause = {0};
		int r = store_write_batch(s, &cause);
		pthread_mutex_lock(&s->mutex);
		s->result = r;
		s->cause = cause;
		s->done = true;
		/* Unlock before the main thread is woken; otherwise it would have to wait for the mutex. */
		pthread_mutex_unlock(&s->mutex);
		eventfd_write(s->event_fd, 1);
		pthread_mutex_lock(&s->mutex);
	}
	pthread_mutex_unlock(&s->mutex);
	return NULL;
}

static int on_written(sd_event_source *src, int fd, uint32_t revents, void *userdata) {
	struct store *s = userdata;
	eventfd_t n;
	(void)src;
	(void)revents;
	(void)!eventfd_read(fd, &n);
	pthread_mutex_lock(&s->mutex);
	bool done = s->done;
	int r = s->result;
	struct error cause = s->cause;
	s->done = false;
	pthread_mutex_unlock(&s->mutex);
	if (done)
		store_finish(s, r, &cause);
	return 0;
}

void store_commit(struct store *s) {
	if (s->busy || s->n_changes == 0)
		return;
	s->busy = true;
	if (!s->has_thread) {
		struct error cause = {0};
		int r = store_write_batch(s, &cause);
		(void)db_tidy(s->db, true);
		store_finish(s, r, &cause);
		return;
	}
	pthread_mutex_lock(&s->mutex);
	s->work = true;
	pthread_mutex_unlock(&s->mutex);
	pthread_cond_signal(&s->cond);
}

/* ---- opening ---- */

static int store_load_row(void *userdata, const struct db_row *r, struct error *err) {
	struct store *s = userdata;
	struct kind_store *k = &s->kinds[r->kind];
	const struct object *old = store_get(s, r->kind, r->ns, r->name);
	struct watch_event *e = event_new(r->ns, r->name);
	struct object *fresh = old || r->type == EVENT_DELETED ? NULL : object_new(r->ns, r->name);
	struct blob *value = blob_new(r->value, r->len);
	if (!e || !value || (!old && !fresh && r->type != EVENT_DELETED)) {
		event_free(e);
		object_free(fresh);
		blob_unref(value);
		return error_oom(err);
	}
	e->type = r->type;
	e->rv = r->rv;
	e->value = value;
	e->prev = old ? blob_ref(old->value) : NULL;
	e->prev_rv = old ? old->rv : 0;
	if (fresh || old)
		store_apply(s, r->kind, e, fresh, r->written_s);
	if (e->rv > k->horizon) {
		ring_add(s, k, e);
		return 0;
	}
	/* A superseded row that an earlier run could not note as no longer needed. */
	if (e->prev_rv)
		forget_row(s, e->prev_rv);
	if (e->type == EVENT_DELETED)
		forget_row(s, e->rv);
	event_free(e);
	return 0;
}

static int start_writer(struct store *s, sd_event *loop, struct error *err) {
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->event_fd < 0)
		return error_errno(err, errno, "eventfd");
	int r = sd_event_add_io(loop, &s->source, s->event_fd, EPOLLIN, on_written, s);
	if (r < 0)
		return error_errno(err, r, "wait for the writer thread");
	/* The main thread handles signals. */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&s->thread, NULL, writer, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return error_errno(err, r, "start the writer thread");
	s->has_thread = true;
	return 0;
}

DEFINE_CLEANUP(store, struct store *, store_free)

int store_open(struct store **ret, const char *path, sd_event *loop, const struct store_hooks *hooks,
               struct error *err) {
	_cleanup_(cleanup_store) struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return error_oom(err);
	s->event_fd = -1;
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->cond, NULL);
	if (hooks)
		s->hooks = *hooks;
	s->n_kinds = api_kinds_count();
	s->kinds = calloc(s->n_kinds, sizeof(*s->kinds));
	_free_ int64_t *horizons = calloc(s->n_kinds, sizeof(*horizons));
	if (!s->kinds || !horizons)
		return error_oom(err);
	int r = db_open(&s->db, path, err);
	if (r < 0)
		return r;
	r = db_horizons(s->db, horizons, err);
	for (unsigned i = 0; i < s->n_kinds; i++)
		s->kinds[i].horizon = horizons[i];
	int64_t rv = 0;
	if (r == 0)
		r = db_load(s->db, DB_ALL, store_load_row, s, &rv, err);
	if (r < 0)
		return r;
	s->version = s->last_given = rv;
	if (loop && (r = start_writer(s, loop, err)) < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

struct store *store_free(struct store *s) {
	if (!s)
		return NULL;
	if (s->has_thread) {
		pthread_mutex_lock(&s->mutex);
		s->quit = true;
		pthread_cond_signal(&s->cond);
		pthread_mutex_unlock(&s->mutex);
		pthread_join(s->thread, NULL);
	}
	sd_event_source_disable_unref(s->source);
	safe_close(s->event_fd);
	store_clear_batch(s);
	free(s->changes);
	free(s->forget);
	for (unsigned i = 0; s->kinds && i < s->n_kinds; i++) {
		struct kind_store *k = &s->kinds[i];
		struct object *o, *next;
		RB_FOREACH_SAFE (o, object_tree, &k->objects, next) {
			RB_REMOVE(object_tree, &k->objects, o);
			object_free(o);
		}
		for (uint64_t j = k->first; j < k->end; j++)
			event_free(ring_at(k, j));
		free(k->ring);
	}
	free(s->kinds);
	db_close(s->db);
	pthread_mutex_destroy(&s->mutex);
	pthread_cond_destroy(&s->cond);
	free(s);
	return NULL;
}
