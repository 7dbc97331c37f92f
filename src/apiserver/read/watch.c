/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/read/watch.h"

#include <string.h>

#include "apiserver/json/object.h"
#include "apiserver/json/table.h"
#include "apiserver/json/tree.h"
#include "apiserver/read/listreply.h"
#include "apiserver/request/reply.h"
#include "apiserver/request/stats.h"
#include "base/jsonwrite.h"
#include "base/util.h"

#define BOOKMARK_NS (60 * NSEC_PER_SEC)

/* The work of printing a byte of an object, compared with selecting it. */
#define PRINT_WORK (SELECTOR_WORK_MAX / PRINT_MAX)

/*
 * How far the initial objects have been sent, in order of keys: the key of the last one, at first "" and "". Events of
 * keys up to it are sent. Events of later keys are not, because each later object is sent in the state that it has when
 * the cursor reaches it. So nothing is kept in memory for a slow reader.
 */
struct cursor {
	char ns[64], name[254];
};

struct watch {
	struct held held; /* first */
	TAILQ_ENTRY(watch) link;
	struct watches *watches;
	struct watch_options o;
	struct cursor *initial; /* NULL: all initial objects have been sent */
	bool initial_end_due;
	uint64_t seq; /* the next event to check */
	uint64_t deadline_ns, bookmark_at_ns;
	bool bookmark_due, ending, ended;
	/*
	 * The work of selecting and printing in this turn of the loop. Beyond SELECTOR_WORK_MAX the rest is left for
	 * another turn.
	 */
	size_t work;
	/* What is being sent: head, blob and "}\n", or text. */
	const char *head;
	struct blob *blob;
	struct buf text;
	size_t at, total; /* at == total: nothing is being sent */
	bool waiting;
	void (*wake)(void *userdata);
	bool (*hold)(void *userdata, size_t bytes, struct watch_refusal *ret);
	void *userdata;
};

_Static_assert(offsetof(struct watch, held) == 0, "a reply frees it as a struct held");

static const char *const heads[] = {
	[EVENT_ADDED] = "{\"type\":\"ADDED\",\"object\":",
	[EVENT_MODIFIED] = "{\"type\":\"MODIFIED\",\"object\":",
	[EVENT_DELETED] = "{\"type\":\"DELETED\",\"object\":",
};

static bool matches(struct watch *w, const char *ns, const char *name, const struct blob *b) {
	return selector_matches(w->o.selector, ns, name, b->data, b->len, &w->work);
}

/* Returns the next initial object. NULL: continue later, or, if w->initial is then NULL, there are no more. */
static const struct object *next_initial(struct watch *w) {
	const struct store *st = w->watches->store;
	const unsigned k = w->o.kind;
	struct cursor *c = w->initial;
	const struct object *o = store_seek(st, k, c->ns, c->name);
	if (o && api_key_cmp(c->ns, c->name, o->ns, o->name) == 0)
		o = store_next(st, k, o);
	for (; o && (!*w->o.ns || streq(o->ns, w->o.ns)); o = store_next(st, k, o)) {
		bool match = matches(w, o->ns, o->name, o->value);
		if (!match && w->work <= SELECTOR_WORK_MAX)
			continue;
		snprintf(c->ns, sizeof(c->ns), "%s", o->ns);
		snprintf(c->name, sizeof(c->name), "%s", o->name);
		return match ? o : NULL;
	}
	free(w->initial);
	w->initial = NULL;
	return NULL;
}

DEFINE_CLEANUP(watch, struct watch *, watch_free)

static void watch_release(struct held *h) {
	watch_free((struct watch *)h);
}

int watch_new(struct watch **ret, struct watches *ws, const struct watch_options *o) {
	_cleanup_(cleanup_watch) struct watch *w = calloc(1, sizeof(*w));
	if (!w) {
		selector_free(o->selector);
		return -ENOMEM;
	}
	w->held.free = watch_release;
	w->o = *o;
	w->o.ns = strdup(o->ns);
	w->watches = ws;
	if (!w->o.ns)
		return -ENOMEM;
	w->seq = store_event_end(ws->store, o->kind);
	if (o->initial) {
		w->initial = calloc(1, sizeof(*w->initial));
		if (!w->initial)
			return -ENOMEM;
		snprintf(w->initial->ns, sizeof(w->initial->ns), "%s", o->ns);
	} else {
		int r = store_event_after(ws->store, o->kind, o->after, &w->seq);
		if (r < 0)
			return r;
	}
	w->initial_end_due = o->initial_end;
	w->deadline_ns = now_monotonic_ns() + o->timeout_s * NSEC_PER_SEC;
	w->bookmark_at_ns = now_monotonic_ns() + BOOKMARK_NS;
	w->text.max = (size_t)16 << 20;
	TAILQ_INSERT_TAIL(&ws->by_kind[o->kind], w, link);
	stats_watch(1);
	*ret = TAKE_PTR(w);
	return 0;
}

struct watch *watch_free(struct watch *w) {
	if (!w)
		return NULL;
	if (w->link.tqe_prev) {
		TAILQ_REMOVE(&w->watches->by_kind[w->o.kind], w, link);
		stats_watch(-1);
	}
	free(w->initial);
	blob_unref(w->blob);
	buf_free(&w->text);
	selector_free(w->o.selector);
	free((char *)w->o.ns);
	free(w);
	return NULL;
}

void watch_set_wake(struct watch *w, void (*wake)(void *userdata),
                    bool (*hold)(void *userdata, size_t bytes, struct watch_refusal *ret), void *userdata) {
	w->wake = wake;
	w->hold = hold;
	w->userdata = userdata;
}

static void watch_wake(struct watch *w) {
	if (!w->waiting)
		return;
	w->waiting = false;
	if (w->wake)
		w->wake(w->userdata);
}

void watch_end(struct watch *w) {
	w->ending = true;
	watch_wake(w);
}

bool watch_cut(struct watch *w) {
	w->ended |= w->ending;
	return w->ending;
}

/*
 * The type of E for this watch, or -1 if it is not sent. An object that begins to match the selector is ADDED, one that
 * no longer matches is DELETED.
 */
static int event_type_for(struct watch *w, const struct watch_event *e) {
	if (*w->o.ns && !streq(w->o.ns, e->ns))
		return -1;
	if (w->initial && api_key_cmp(w->initial->ns, w->initial->name, e->ns, e->name) < 0)
		return -1;
	bool now = e->type != EVENT_DELETED && matches(w, e->ns, e->name, e->value);
	if (!w->o.selector)
		return (int)e->type;
	bool before = e->prev && matches(w, e->ns, e->name, e->prev);
	if (now)
		return before ? EVENT_MODIFIED : EVENT_ADDED;
	return before ? EVENT_DELETED : -1;
}

/*
 * Skips events that are not sent. Returns the type of the event at w->seq; -1: there is none; -2: it has been
 * forgotten; -3: continue in another turn.
 */
static int peek_event(struct watch *w) {
	const struct store *st = w->watches->store;
	while (w->seq < store_event_end(st, w->o.kind)) {
		if (w->work > SELECTOR_WORK_MAX)
			return -3;
		const struct watch_event *e = store_event(st, w->o.kind, w->seq);
		if (!e)
			return -2;
		int type = event_type_for(w, e);
		if (type >= 0)
			return type;
		w->seq++;
	}
	return -1;
}

static void send_blob(struct watch *w, int type, struct blob *b) {
	blob_unref(w->blob);
	w->blob = NULL;
	w->at = 0;
	if (!w->o.table && !w->o.partial) {
		w->head = heads[type];
		w->blob = blob_ref(b);
		w->total = strlen(w->head) + b->len + 2;
		return;
	}
	w->work += PRINT_WORK * b->len;
	buf_reset(&w->text);
	buf_puts(&w->text, heads[type]);
	/* The version of the Table isn't used by clients; the row's object has its own. */
	if (w->o.partial)
		partial_print(&w->text, b->data, b->len);
	else {
		const struct json_span item = {b->data, b->len};
		table_print(&w->text, api_kinds[w->o.kind], &item, store_version(w->watches->store),
		            w->o.table_object ? TABLE_OBJECT : TABLE_METADATA, now_realtime_us());
	}
	buf_puts(&w->text, "}\n");
	w->head = NULL;
	w->total = w->text.len;
}

static void send_text(struct watch *w) {
	blob_unref(w->blob);
	w->blob = NULL;
	w->head = NULL;
	w->at = 0;
	w->total = w->text.len;
}

static void send_bookmark(struct watch *w, bool initial_end) {
	char gv[64], rv[24];
	const struct api_kind *k = api_kinds[w->o.kind];
	struct buf *b = &w->text;
	api_kind_version(k, gv);
	/* Events up to w->seq have been sent; none are left, so everything up to the current version has been sent. */
	snprintf(rv, sizeof(rv), "%lld", (long long)store_version(w->watches->store));
	buf_reset(b);
	jw_begin(b, '{');
	jw_kv_string(b, "type", "BOOKMARK");
	jw_key(b, "object");
	jw_begin(b, '{');
	jw_kv_string(b, "kind", w->o.partial ? "PartialObjectMetadata" : k->kind);
	jw_kv_string(b, "apiVersion", w->o.partial ? "meta.k8s.io/v1" : gv);
	jw_key(b, "metadata");
	jw_begin(b, '{');
	jw_kv_string(b, "resourceVersion", rv);
	if (initial_end) {
		jw_key(b, "annotations");
		jw_begin(b, '{');
		jw_kv_string(b, "k8s.io/initial-events-end", "true");
		jw_end(b, '}');
	}
	jw_end(b, '}');
	jw_end(b, '}');
	jw_end(b, '}');
	buf_putc(b, '\n');
	send_text(w);
}

/* Sends an error, which ends the stream. */
static void send_error(struct watch *w, unsigned code, const char *reason, const struct status_details *d,
                       const char *message) {
	buf_reset(&w->text);
	buf_puts(&w->text, "{\"type\":\"ERROR\",\"object\":");
	status_print(&w->text, code, reason, d, message);
	buf_puts(&w->text, "}\n");
	send_text(w);
	w->ended = true;
}

/*
 * The last state in which an object matched the selector, with the version at which it stopped matching. NULL: no
 * memory.
 */
static struct blob *left_as(const struct watch_event *e) {
	char rv[24];
	struct blob *b = NULL;
	json_t *obj = tree_load(e->prev->data, e->prev->len);
	snprintf(rv, sizeof(rv), "%lld", (long long)e->rv);
	_buf_free_ struct buf text = {0};
	if (obj && object_set_meta_str(obj, "resourceVersion", rv) == 0)
		tree_dump(&text, obj);
	if (text.len && !text.failed)
		b = blob_new(text.data, text.len);
	json_decref(obj);
	return b;
}

/* Prepares the next piece. 1: there is something to send; 0: nothing now; -1: the stream has ended. */
static int next_piece(struct watch *w) {
	if (w->ended)
		return -1;
	int type = peek_event(w);
	if (type == -2) {
		send_error(w, 410, "Expired", NULL, "too old resource version: the watch fell behind; list again");
		return 1;
	}
	if (type == -3)
		return 0;
	const struct object *o = type < 0 && w->initial ? next_initial(w) : NULL;
	if (o) {
		send_blob(w, EVENT_ADDED, o->value);
		return 1;
	}
	if (w->initial && type < 0)
		return 0;
	if (w->initial_end_due && type < 0) {
		w->initial_end_due = false;
		send_bookmark(w, true);
		return 1;
	}
	if (type >= 0) {
		const struct watch_event *e = store_event(w->watches->store, w->o.kind, w->seq++);
		_blob_unref_ struct blob *left = type == EVENT_DELETED && e->type != EVENT_DELETED ? left_as(e) : NULL;
		w->work += left ? PRINT_WORK * left->len : 0;
		send_blob(w, type, left ? left : e->value);
		return 1;
	}
	if (w->bookmark_due) {
		w->bookmark_due = false;
		send_bookmark(w, false);
		return 1;
	}
	if (w->ending)
		w->ended = true;
	return w->ended ? -1 : 0;
}

static size_t copy_part(const char *part, size_t part_len, size_t *at, char *buf, size_t max) {
	if (*at >= part_len) {
		*at -= part_len;
		return 0;
	}
	size_t n = MIN(part_len - *at, max);
	memcpy(buf, part + *at, n);
	*at = 0;
	return n;
}

static size_t copy_piece(struct watch *w, char *buf, size_t max) {
	size_t at = w->at, n = 0;
	if (w->head) {
		n = copy_part(w->head, strlen(w->head), &at, buf, max);
		n += copy_part(w->blob->data, w->blob->len, &at, buf + n, max - n);
		n += copy_part("}\n", 2, &at, buf + n, max - n);
	} else
		n = copy_part(w->text.data, w->text.len, &at, buf, max);
	w->at += n;
	return n;
}

/* Ends the watch with an error if the next piece is more than its reader may be sent now. */
static void check_piece(struct watch *w) {
	struct watch_refusal why;
	if (w->ended || !w->hold || w->hold(w->userdata, w->total, &why))
		return;
	const struct status_details d = {.retry_after_s = why.retry_after_s};
	send_error(w, 429, "TooManyRequests", &d, why.message);
}

/* Releases the memory of the last piece while there is nothing to send. */
static void drop_piece(struct watch *w) {
	struct watch_refusal why;
	w->blob = blob_unref(w->blob);
	buf_free(&w->text);
	w->head = NULL;
	w->at = w->total = 0;
	if (w->hold)
		(void)!w->hold(w->userdata, 0, &why);
}

ssize_t watch_read(struct watch *w, char *buf, size_t max) {
	size_t n = 0;
	w->work = 0;
	while (n < max) {
		if (w->at == w->total) {
			if (n && w->work > SELECTOR_WORK_MAX)
				break;
			int r = next_piece(w);
			if (w->text.failed || (r < 0 && n == 0))
				return -1;
			if (r <= 0)
				break;
			check_piece(w);
		}
		n += copy_piece(w, buf + n, max - n);
	}
	if (n == 0)
		drop_piece(w);
	w->waiting = n == 0;
	return (ssize_t)n;
}

bool watch_unfinished(const struct watch *w) {
	return w->work > SELECTOR_WORK_MAX;
}

bool watch_due(struct watch *w) {
	w->work = 0;
	if (w->ended || w->ending || w->bookmark_due || w->initial || w->initial_end_due || w->at < w->total)
		return true;
	w->waiting = peek_event(w) == -1;
	return !w->waiting;
}

/* Each watch finds out in its own turn whether it has something to send. */
void watches_notify(struct watches *ws, unsigned kind) {
	struct watch *w, *next;
	TAILQ_FOREACH_SAFE (w, &ws->by_kind[kind], link, next)
		watch_wake(w);
}

static void tick(struct watch *w, uint64_t now_ns) {
	bool over = now_ns >= w->deadline_ns;
	if (w->o.bookmarks && (now_ns >= w->bookmark_at_ns || (over && !w->ending))) {
		w->bookmark_due = true;
		w->bookmark_at_ns = now_ns + BOOKMARK_NS;
	}
	if (over)
		w->ending = true;
	if (w->bookmark_due || w->ending)
		watch_wake(w);
}

void watches_tick(struct watches *ws, uint64_t now_ns) {
	struct watch *w, *next;
	for (unsigned k = 0; api_kinds[k]; k++)
		TAILQ_FOREACH_SAFE (w, &ws->by_kind[k], link, next)
			tick(w, now_ns);
}

void watches_end(struct watches *ws) {
	struct watch *w, *next;
	ws->ended = true;
	for (unsigned k = 0; api_kinds[k]; k++)
		TAILQ_FOREACH_SAFE (w, &ws->by_kind[k], link, next)
			watch_end(w);
}

int watches_init(struct watches *ws, const struct store *store) {
	ws->store = store;
	ws->by_kind = calloc(api_kinds_count(), sizeof(*ws->by_kind));
	if (!ws->by_kind)
		return -ENOMEM;
	for (unsigned k = 0; api_kinds[k]; k++)
		TAILQ_INIT(&ws->by_kind[k]);
	return 0;
}

void watches_clear(struct watches *ws) {
	free(ws->by_kind);
}
