/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Time is counted in events: each has a number, and a class knows the number of the last event that came before one of
 * its waiters found nothing. A class is tried for an event only if the event is newer.
 */

#include "controller/waiters.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/tree.h"
#include "base/util.h"

/* Something that became free, until nobody can use it. */
struct waiter_event {
	TAILQ_ENTRY(waiter_event) entry;
	uint64_t number;
	char what[];
};

struct waiter_item {
	RB_ENTRY(waiter_item) key_node, age_node;
	TAILQ_ENTRY(waiter_item) entry; /* by when it was looked at */
	uint64_t changes;               /* how many there had been by then */
	struct waiter_class *class;     /* NULL: it was woken */
	struct waiter_topic *topic;
	struct waiter w; /* strings in text, but topic and class */
	char text[];
};

static int waiter_key_cmp(const struct waiter_item *a, const struct waiter_item *b) {
	if (a->w.queue != b->w.queue)
		return (uintptr_t)a->w.queue < (uintptr_t)b->w.queue ? -1 : 1;
	int c = strcmp(a->w.ns, b->w.ns);
	return c ? c : strcmp(a->w.name, b->w.name);
}

static int waiter_age_cmp(const struct waiter_item *a, const struct waiter_item *b) {
	if (a->w.first != b->w.first)
		return a->w.first ? -1 : 1;
	if (a->w.created_us != b->w.created_us)
		return a->w.created_us < b->w.created_us ? -1 : 1;
	return waiter_key_cmp(a, b);
}

RB_HEAD(waiters_by_key, waiter_item);
RB_GENERATE_INTERNAL(waiters_by_key, waiter_item, key_node, waiter_key_cmp, _unused_ static)
RB_HEAD(waiters_by_age, waiter_item);
RB_GENERATE_INTERNAL(waiters_by_age, waiter_item, age_node, waiter_age_cmp, _unused_ static)

struct waiter_class {
	RB_ENTRY(waiter_class) node;
	struct waiters_by_age waiters; /* never empty */
	uint64_t since;                /* number of the last event before one of them found nothing */
	char name[];
};

static int class_cmp(const struct waiter_class *a, const struct waiter_class *b) {
	return strcmp(a->name, b->name);
}

RB_HEAD(waiter_classes, waiter_class);
RB_GENERATE_INTERNAL(waiter_classes, waiter_class, node, class_cmp, _unused_ static)

struct waiter_topic {
	RB_ENTRY(waiter_topic) node;
	TAILQ_ENTRY(waiter_topic) entry; /* in the list of those with events */
	struct waiter_classes classes;
	struct waiter_item *woken; /* not looked at yet; NULL: none */
	TAILQ_HEAD(, waiter_event) events;
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
	TAILQ_HEAD(, waiter_item) items;
	struct waiter_item *refreshed; /* not looked at yet; NULL: none */
	TAILQ_HEAD(, waiter_topic) eventful;
	uint64_t number;  /* of the last event */
	uint64_t changes; /* how many there were */
	size_t count;
};

static void *waiters_alloc(size_t size) {
	void *p = calloc(1, size);
	if (!p)
		abort();
	return p;
}

/* ---- topics and events ---- */

static struct waiter_topic *topic_find(struct waiters *ws, const char *name) {
	struct waiter_topic *t = RB_ROOT(&ws->topics);
	int c;
	while (t && (c = strcmp(name, t->name)))
		t = c < 0 ? RB_LEFT(t, node) : RB_RIGHT(t, node);
	return t;
}

static struct waiter_topic *topic_get(struct waiters *ws, const char *name) {
	struct waiter_topic *t = topic_find(ws, name);
	if (t)
		return t;
	t = waiters_alloc(sizeof(*t) + strlen(name) + 1);
	strcpy(t->name, name);
	RB_INIT(&t->classes);
	TAILQ_INIT(&t->events);
	RB_INSERT(waiter_topics, &ws->topics, t);
	return t;
}

static void topic_remove_event(struct waiters *ws, struct waiter_topic *t, struct waiter_event *e) {
	TAILQ_REMOVE(&t->events, e, entry);
	free(e);
	if (TAILQ_EMPTY(&t->events))
		TAILQ_REMOVE(&ws->eventful, t, entry);
}

static void topic_free_if_unused(struct waiters *ws, struct waiter_topic *t) {
	if (t->woken || !RB_EMPTY(&t->classes))
		return;
	while (!TAILQ_EMPTY(&t->events))
		topic_remove_event(ws, t, TAILQ_FIRST(&t->events));
	RB_REMOVE(waiter_topics, &ws->topics, t);
	free(t);
}

static void topic_add_event(struct waiters *ws, struct waiter_topic *t, const char *what) {
	struct waiter_event *e;
	TAILQ_FOREACH (e, &t->events, entry)
		if (streq(e->what, what))
			break;
	if (e)
		TAILQ_REMOVE(&t->events, e, entry);
	else {
		e = waiters_alloc(sizeof(*e) + strlen(what) + 1);
		strcpy(e->what, what);
		if (TAILQ_EMPTY(&t->events))
			TAILQ_INSERT_TAIL(&ws->eventful, t, entry);
	}
	e->number = ++ws->number;
	TAILQ_INSERT_TAIL(&t->events, e, entry);
}

void waiters_event(struct waiters *ws, const char *topic, const char *what) {
	struct waiter_topic *t = topic_find(ws, topic);
	if (t)
		topic_add_event(ws, t, what);
}

void waiters_event_all(struct waiters *ws, const char *prefix, const char *what) {
	struct waiter_topic *t;
	RB_FOREACH (t, waiter_topics, &ws->topics)
		if (starts_with(t->name, prefix))
			topic_add_event(ws, t, what);
}

/* ---- waiters ---- */

static struct waiter_class *class_get(struct waiter_topic *t, const char *name) {
	struct waiter_class *cl = RB_ROOT(&t->classes);
	int c;
	while (cl && (c = strcmp(name, cl->name)))
		cl = c < 0 ? RB_LEFT(cl, node) : RB_RIGHT(cl, node);
	if (cl)
		return cl;
	cl = waiters_alloc(sizeof(*cl) + strlen(name) + 1);
	strcpy(cl->name, name);
	RB_INIT(&cl->waiters);
	RB_INSERT(waiter_classes, &t->classes, cl);
	return cl;
}

/* Takes IT out of its class, which goes if it was the last one. */
static void waiter_leave_class(struct waiter_item *it) {
	struct waiter_class *cl = it->class;
	it->class = NULL;
	RB_REMOVE(waiters_by_age, &cl->waiters, it);
	if (!RB_EMPTY(&cl->waiters))
		return;
	RB_REMOVE(waiter_classes, &it->topic->classes, cl);
	free(cl);
}

static char *waiter_append(char **at, const char *s) {
	char *p = *at;
	strcpy(p, s);
	*at += strlen(s) + 1;
	return p;
}

void waiters_add(struct waiters *ws, const struct waiter *w) {
	waiters_looked_at(ws, w->queue, w->ns, w->name);
	struct waiter_item *it = waiters_alloc(sizeof(*it) + strlen(w->ns) + strlen(w->name) + strlen(w->tag) + 3);
	char *at = it->text;
	it->w = *w;
	it->changes = ws->changes;
	it->w.ns = waiter_append(&at, w->ns);
	it->w.name = waiter_append(&at, w->name);
	it->w.tag = waiter_append(&at, w->tag);
	RB_INSERT(waiters_by_key, &ws->keys, it);
	TAILQ_INSERT_TAIL(&ws->items, it, entry);
	it->topic = topic_get(ws, w->topic);
	it->class = class_get(it->topic, w->class);
	it->class->since = ws->number;
	it->w.topic = it->topic->name;
	it->w.class = it->class->name;
	RB_INSERT(waiters_by_age, &it->class->waiters, it);
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
		t->woken = NULL;
	RB_REMOVE(waiters_by_key, &ws->keys, it);
	TAILQ_REMOVE(&ws->items, it, entry);
	if (ws->refreshed == it)
		ws->refreshed = NULL;
	free(it);
	ws->count--;
	topic_free_if_unused(ws, t);
}

/* ---- waking ---- */

/* The oldest waiter that can use E; NULL: none. */
static struct waiter_item *event_taker(struct waiter_topic *t, const struct waiter_event *e,
                                       const struct waiters_ops *ops, void *userdata) {
	struct waiter_item *best = NULL;
	struct waiter_class *cl;
	RB_FOREACH (cl, waiter_classes, &t->classes) {
		struct waiter_item *it = RB_MIN(waiters_by_age, &cl->waiters);
		if (cl->since < e->number && (!best || waiter_age_cmp(it, best) < 0) &&
		    ops->usable(&it->w, e->what, userdata))
			best = it;
	}
	return best;
}

/* True if somebody was woken. */
static bool topic_wake(struct waiters *ws, struct waiter_topic *t, const struct waiters_ops *ops, void *userdata) {
	struct waiter_item *it = NULL;
	while (!it && !TAILQ_EMPTY(&t->events)) {
		struct waiter_event *e = TAILQ_FIRST(&t->events);
		it = event_taker(t, e, ops, userdata);
		if (!it)
			topic_remove_event(ws, t, e);
	}
	if (!it)
		return false;
	waiter_leave_class(it);
	it->w.class = "";
	t->woken = it;
	ops->wake(&it->w, userdata);
	return true;
}

size_t waiters_wake(struct waiters *ws, const struct waiters_ops *ops, void *userdata) {
	struct waiter_topic *t, *next;
	size_t n = 0;
	TAILQ_FOREACH_SAFE (t, &ws->eventful, entry, next)
		if (!t->woken)
			n += topic_wake(ws, t, ops, userdata);
	return n;
}

void waiters_changed(struct waiters *ws) {
	ws->changes++;
}

void waiters_refresh(struct waiters *ws, void (*wake)(const struct waiter *w, void *userdata), void *userdata) {
	struct waiter_item *it = TAILQ_FIRST(&ws->items);
	if (!it || ws->refreshed || it->changes == ws->changes)
		return;
	ws->refreshed = it;
	wake(&it->w, userdata);
}

void waiters_each(struct waiters *ws, const char *tag, void (*fn)(const struct waiter *w, void *userdata),
                  void *userdata) {
	struct waiter_item *it;
	RB_FOREACH (it, waiters_by_key, &ws->keys)
		if (streq(it->w.tag, tag))
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
	TAILQ_INIT(&ws->items);
	TAILQ_INIT(&ws->eventful);
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
