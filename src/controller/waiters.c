/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Time is counted in events. Each event has a number. A class remembers the number of the last event before one of its
 * waiters found nothing, and is asked only about events that are newer.
 */

#include "controller/waiters.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/tree.h"
#include "base/util.h"

/* Something that became free, until nobody can use it. */
struct waiter_event {
	RB_ENTRY(waiter_event) node;
	TAILQ_ENTRY(waiter_event) entry;
	uint64_t number;
	char what[];
};

static int event_cmp(const struct waiter_event *a, const struct waiter_event *b) {
	return strcmp(a->what, b->what);
}

RB_HEAD(waiter_events, waiter_event);
RB_GENERATE_INTERNAL(waiter_events, waiter_event, node, event_cmp, _unused_ static)

struct waiter_item {
	TAILQ_ENTRY(waiter_item) entry; /* by the time of the last look */
	uint64_t changes;               /* the count of changes at the last look */
	struct waiter_class *class;     /* NULL: it was woken */
	struct waiter_topic *topic;
	struct waiter_tag *tag;
	/* The members that are compared on the way through a tree are near its nodes. */
	RB_ENTRY(waiter_item) tag_node, age_node, key_node;
	struct waiter w; /* ns and name in text */
	char text[];
};

static int waiter_key_cmp(const struct waiter_item *a, const struct waiter_item *b) {
	if (a->w.queue != b->w.queue)
		return (uintptr_t)a->w.queue < (uintptr_t)b->w.queue ? -1 : 1;
	int c = strcmp(a->w.ns, b->w.ns);
	return c ? c : strcmp(a->w.name, b->w.name);
}

static int waiter_age_cmp(const struct waiter_item *a, const struct waiter_item *b) {
	if (a->w.rank != b->w.rank)
		return a->w.rank > b->w.rank ? -1 : 1;
	if (a->w.created_us != b->w.created_us)
		return a->w.created_us < b->w.created_us ? -1 : 1;
	return waiter_key_cmp(a, b);
}

RB_HEAD(waiters_by_key, waiter_item);
RB_GENERATE_INTERNAL(waiters_by_key, waiter_item, key_node, waiter_key_cmp, _unused_ static)
RB_HEAD(waiters_by_age, waiter_item);
RB_GENERATE_INTERNAL(waiters_by_age, waiter_item, age_node, waiter_age_cmp, _unused_ static)

RB_HEAD(waiters_by_tag, waiter_item); /* of one tag, by age */
RB_GENERATE_INTERNAL(waiters_by_tag, waiter_item, tag_node, waiter_age_cmp, _unused_ static)

struct waiter_tag {
	RB_ENTRY(waiter_tag) node;
	struct waiters_by_tag waiters; /* never empty */
	char name[];
};

static int tag_cmp(const struct waiter_tag *a, const struct waiter_tag *b) {
	return strcmp(a->name, b->name);
}

RB_HEAD(waiter_tags, waiter_tag);
RB_GENERATE_INTERNAL(waiter_tags, waiter_tag, node, tag_cmp, _unused_ static)

struct waiter_class {
	RB_ENTRY(waiter_class) node, age_node;
	struct waiters_by_age waiters; /* never empty */
	struct waiter_item *oldest;    /* of these waiters; decides the class's place by age */
	uint64_t since;                /* number of the last event before one of them found nothing */
	char name[];
};

static int class_cmp(const struct waiter_class *a, const struct waiter_class *b) {
	return strcmp(a->name, b->name);
}

static int class_age_cmp(const struct waiter_class *a, const struct waiter_class *b) {
	return waiter_age_cmp(a->oldest, b->oldest);
}

RB_HEAD(waiter_classes, waiter_class);
RB_GENERATE_INTERNAL(waiter_classes, waiter_class, node, class_cmp, _unused_ static)
RB_HEAD(classes_by_age, waiter_class);
RB_GENERATE_INTERNAL(classes_by_age, waiter_class, age_node, class_age_cmp, _unused_ static)

struct waiter_topic {
	RB_ENTRY(waiter_topic) node;
	TAILQ_ENTRY(waiter_topic) entry; /* in the list `busy` */
	struct waiter_classes classes;
	struct classes_by_age ages;
	struct waiter_item *woken;         /* not looked at yet; the next one is woken after that; NULL: none */
	size_t away;                       /* waiters that were woken and not looked at yet */
	struct waiter_events whats;        /* but the first event is not in it while classes are being asked about it */
	TAILQ_HEAD(, waiter_event) events; /* in the order in which they were added first */
	/* About the first event: whether classes are being asked, and which class is next; NULL: all were asked. */
	bool asking;
	struct waiter_class *cursor;
	bool listed;
	char name[];
};

static int topic_cmp(const struct waiter_topic *a, const struct waiter_topic *b) {
	return strcmp(a->name, b->name);
}

RB_HEAD(waiter_topics, waiter_topic);
RB_GENERATE_INTERNAL(waiter_topics, waiter_topic, node, topic_cmp, _unused_ static)

struct waiters {
	struct waiters_by_key keys;
	struct waiter_topics topics;
	struct waiter_tags tags;
	TAILQ_HEAD(, waiter_item) items;
	struct waiter_item *refreshed;   /* woken by waiters_refresh(), not looked at yet; NULL: none */
	TAILQ_HEAD(, waiter_topic) busy; /* that have events and no woken waiter */
	uint64_t number;                 /* of the last event */
	uint64_t changes;                /* how many changes there were */
	size_t count;
};

static void *waiters_alloc(size_t size) {
	void *p = calloc(1, size);
	if (!p)
		abort();
	return p;
}

/* ---- topics and events ---- */

/* The topic of that name, or else the first one after it. */
static struct waiter_topic *topic_from(struct waiters *ws, const char *name) {
	struct waiter_topic *t = RB_ROOT(&ws->topics), *after = NULL;
	int c;
	while (t && (c = strcmp(name, t->name))) {
		after = c < 0 ? t : after;
		t = c < 0 ? RB_LEFT(t, node) : RB_RIGHT(t, node);
	}
	return t ? t : after;
}

static struct waiter_topic *topic_find(struct waiters *ws, const char *name) {
	struct waiter_topic *t = topic_from(ws, name);
	return t && streq(t->name, name) ? t : NULL;
}

static struct waiter_topic *topic_get(struct waiters *ws, const char *name) {
	struct waiter_topic *t = topic_find(ws, name);
	if (t)
		return t;
	t = waiters_alloc(sizeof(*t) + strlen(name) + 1);
	strcpy(t->name, name);
	RB_INIT(&t->classes);
	RB_INIT(&t->ages);
	RB_INIT(&t->whats);
	TAILQ_INIT(&t->events);
	RB_INSERT(waiter_topics, &ws->topics, t);
	return t;
}

/* Puts the topic into the list `busy` or takes it out, after its events or its woken waiter have changed. */
static void topic_list(struct waiters *ws, struct waiter_topic *t) {
	bool list = !t->woken && !TAILQ_EMPTY(&t->events);
	if (list && !t->listed)
		TAILQ_INSERT_TAIL(&ws->busy, t, entry);
	else if (!list && t->listed)
		TAILQ_REMOVE(&ws->busy, t, entry);
	t->listed = list;
}

static void topic_remove_first_event(struct waiters *ws, struct waiter_topic *t) {
	struct waiter_event *e = TAILQ_FIRST(&t->events);
	if (!t->asking)
		RB_REMOVE(waiter_events, &t->whats, e);
	t->asking = false;
	TAILQ_REMOVE(&t->events, e, entry);
	free(e);
	topic_list(ws, t);
}

static void topic_free_if_unused(struct waiters *ws, struct waiter_topic *t) {
	if (t->away || !RB_EMPTY(&t->classes))
		return;
	while (!TAILQ_EMPTY(&t->events))
		topic_remove_first_event(ws, t);
	RB_REMOVE(waiter_topics, &ws->topics, t);
	free(t);
}

static struct waiter_event *topic_find_event(struct waiter_topic *t, const char *what) {
	return TREE_FIND_STRING(waiter_event, &t->whats, node, what, what);
}

/*
 * An event that is repeated before anybody was asked keeps its place. One that is repeated while classes are being
 * asked comes once more, after that: if it began anew each time, the last classes would never be asked.
 */
static void topic_add_event(struct waiters *ws, struct waiter_topic *t, const char *what) {
	struct waiter_event *e = topic_find_event(t, what);
	if (!e) {
		e = waiters_alloc(sizeof(*e) + strlen(what) + 1);
		strcpy(e->what, what);
		RB_INSERT(waiter_events, &t->whats, e);
		TAILQ_INSERT_TAIL(&t->events, e, entry);
	}
	e->number = ++ws->number;
	topic_list(ws, t);
}

void waiters_event(struct waiters *ws, const char *topic, const char *what) {
	struct waiter_topic *t = topic_find(ws, topic);
	if (t)
		topic_add_event(ws, t, what);
}

void waiters_event_all(struct waiters *ws, const char *prefix, const char *what) {
	for (struct waiter_topic *t = topic_from(ws, prefix); t && starts_with(t->name, prefix);
	     t = RB_NEXT(waiter_topics, &ws->topics, t))
		topic_add_event(ws, t, what);
}

/* ---- waiters ---- */

static struct waiter_class *class_get(struct waiter_topic *t, const char *name) {
	struct waiter_class *cl = TREE_FIND_STRING(waiter_class, &t->classes, node, name, name);
	if (cl)
		return cl;
	cl = waiters_alloc(sizeof(*cl) + strlen(name) + 1);
	strcpy(cl->name, name);
	RB_INIT(&cl->waiters);
	RB_INSERT(waiter_classes, &t->classes, cl);
	return cl;
}

/* Moves the class to its place by age if it has another oldest waiter now; takes it out of the tree if it has none. */
static void class_place(struct waiter_topic *t, struct waiter_class *cl) {
	struct waiter_item *oldest = RB_MIN(waiters_by_age, &cl->waiters);
	if (oldest == cl->oldest)
		return;
	if (cl->oldest) {
		if (t->cursor == cl)
			t->cursor = RB_NEXT(classes_by_age, &t->ages, cl);
		RB_REMOVE(classes_by_age, &t->ages, cl);
	}
	cl->oldest = oldest;
	if (!oldest)
		return;
	RB_INSERT(classes_by_age, &t->ages, cl);
	/* The class may have moved to just before the cursor, where it would be missed. */
	if (t->asking && RB_NEXT(classes_by_age, &t->ages, cl) == t->cursor)
		t->cursor = cl;
}

static void waiter_join_class(struct waiter_item *it, struct waiter_class *cl) {
	it->class = cl;
	RB_INSERT(waiters_by_age, &cl->waiters, it);
	class_place(it->topic, cl);
}

/* Takes IT out of its class, and removes the class if IT was the last waiter in it. */
static void waiter_leave_class(struct waiter_item *it) {
	struct waiter_class *cl = it->class;
	it->class = NULL;
	RB_REMOVE(waiters_by_age, &cl->waiters, it);
	class_place(it->topic, cl);
	if (!RB_EMPTY(&cl->waiters))
		return;
	RB_REMOVE(waiter_classes, &it->topic->classes, cl);
	free(cl);
}

static void waiter_join_tag(struct waiters *ws, struct waiter_item *it, const char *name) {
	struct waiter_tag *tag = TREE_FIND_STRING(waiter_tag, &ws->tags, node, name, name);
	if (!tag) {
		tag = waiters_alloc(sizeof(*tag) + strlen(name) + 1);
		strcpy(tag->name, name);
		RB_INIT(&tag->waiters);
		RB_INSERT(waiter_tags, &ws->tags, tag);
	}
	it->tag = tag;
	it->w.tag = tag->name;
	RB_INSERT(waiters_by_tag, &tag->waiters, it);
}

static void waiter_leave_tag(struct waiters *ws, struct waiter_item *it) {
	struct waiter_tag *tag = it->tag;
	RB_REMOVE(waiters_by_tag, &tag->waiters, it);
	if (!RB_EMPTY(&tag->waiters))
		return;
	RB_REMOVE(waiter_tags, &ws->tags, tag);
	free(tag);
}

static char *waiter_append(char **at, const char *s) {
	char *p = *at;
	strcpy(p, s);
	*at += strlen(s) + 1;
	return p;
}

void waiters_add(struct waiters *ws, const struct waiter *w) {
	waiters_looked_at(ws, w->queue, w->ns, w->name);
	struct waiter_item *it = waiters_alloc(sizeof(*it) + strlen(w->ns) + strlen(w->name) + 2);
	char *at = it->text;
	it->w = *w;
	it->changes = ws->changes;
	it->w.ns = waiter_append(&at, w->ns);
	it->w.name = waiter_append(&at, w->name);
	RB_INSERT(waiters_by_key, &ws->keys, it);
	TAILQ_INSERT_TAIL(&ws->items, it, entry);
	waiter_join_tag(ws, it, w->tag);
	it->topic = topic_get(ws, w->topic);
	struct waiter_class *cl = class_get(it->topic, w->class);
	cl->since = ws->number;
	it->w.topic = it->topic->name;
	it->w.class = cl->name;
	waiter_join_class(it, cl);
	ws->count++;
}

void waiters_looked_at(struct waiters *ws, const void *queue, const char *ns, const char *name) {
	struct waiter_item key = {.w = {.queue = queue, .ns = ns, .name = name}};
	struct waiter_item *it = RB_FIND(waiters_by_key, &ws->keys, &key);
	if (!it)
		return;
	struct waiter_topic *t = it->topic;
	if (it->class)
		waiter_leave_class(it);
	else
		t->away--;
	if (t->woken == it) {
		t->woken = NULL;
		topic_list(ws, t);
	}
	waiter_leave_tag(ws, it);
	RB_REMOVE(waiters_by_key, &ws->keys, it);
	TAILQ_REMOVE(&ws->items, it, entry);
	if (ws->refreshed == it)
		ws->refreshed = NULL;
	free(it);
	ws->count--;
	topic_free_if_unused(ws, t);
}

/* ---- waking ---- */

static void waiter_wake(struct waiters *ws, struct waiter_item *it, const struct waiters_ops *ops, void *userdata) {
	struct waiter_topic *t = it->topic;
	waiter_leave_class(it);
	it->w.class = "";
	t->away++;
	if (ops->wake(&it->w, userdata))
		t->woken = it;
	topic_list(ws, t);
}

/* Asks up to *LEFT more classes about the first event; removes it when all were asked. True if a waiter was woken. */
static bool topic_ask(struct waiters *ws, struct waiter_topic *t, const struct waiters_ops *ops, size_t *left,
                      void *userdata) {
	struct waiter_event *e = TAILQ_FIRST(&t->events);
	if (!t->asking) {
		t->cursor = RB_MIN(classes_by_age, &t->ages);
		RB_REMOVE(waiter_events, &t->whats, e);
	}
	t->asking = true;
	while (t->cursor && *left) {
		struct waiter_class *cl = t->cursor;
		t->cursor = RB_NEXT(classes_by_age, &t->ages, cl);
		--*left;
		if (cl->since < e->number && ops->usable(&cl->oldest->w, e->what, userdata)) {
			waiter_wake(ws, cl->oldest, ops, userdata);
			return true;
		}
	}
	if (!t->cursor)
		topic_remove_first_event(ws, t);
	return false;
}

size_t waiters_wake(struct waiters *ws, const struct waiters_ops *ops, size_t max, void *userdata) {
	struct waiter_topic *t;
	size_t n = 0;
	while (max && (t = TAILQ_FIRST(&ws->busy))) {
		n += topic_ask(ws, t, ops, &max, userdata);
		/* The other topics have their turn before this one is asked again. */
		if (t->listed) {
			TAILQ_REMOVE(&ws->busy, t, entry);
			TAILQ_INSERT_TAIL(&ws->busy, t, entry);
		}
	}
	return n;
}

bool waiters_pending(const struct waiters *ws) {
	return !TAILQ_EMPTY(&ws->busy);
}

void waiters_changed(struct waiters *ws) {
	ws->changes++;
}

bool waiters_stale(const struct waiters *ws) {
	const struct waiter_item *it = TAILQ_FIRST(&ws->items);
	return it && !ws->refreshed && it->changes != ws->changes;
}

void waiters_refresh(struct waiters *ws, void (*wake)(const struct waiter *w, void *userdata), void *userdata) {
	if (!waiters_stale(ws))
		return;
	ws->refreshed = TAILQ_FIRST(&ws->items);
	wake(&ws->refreshed->w, userdata);
}

void waiters_each(struct waiters *ws, const char *tag, void (*fn)(const struct waiter *w, void *userdata),
                  void *userdata) {
	struct waiter_tag *t = TREE_FIND_STRING(waiter_tag, &ws->tags, node, name, tag);
	struct waiter_item *it;
	if (t)
		RB_FOREACH (it, waiters_by_tag, &t->waiters)
			fn(&it->w, userdata);
}

size_t waiters_count(const struct waiters *ws) {
	return ws->count;
}

/* ---- ---- */

struct waiters *waiters_new(void) {
	struct waiters *ws = waiters_alloc(sizeof(*ws));
	RB_INIT(&ws->keys);
	RB_INIT(&ws->topics);
	RB_INIT(&ws->tags);
	TAILQ_INIT(&ws->items);
	TAILQ_INIT(&ws->busy);
	return ws;
}

void waiters_clear(struct waiters *ws) {
	struct waiter_item *it;
	while ((it = RB_MIN(waiters_by_key, &ws->keys)))
		waiters_looked_at(ws, it->w.queue, it->w.ns, it->w.name);
}

struct waiters *waiters_free(struct waiters *ws) {
	if (!ws)
		return NULL;
	waiters_clear(ws);
	free(ws);
	return NULL;
}
