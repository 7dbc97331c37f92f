/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who waits for what, and who is woken when something becomes free. It knows names only: no API, no cache, no loop.
 *
 * A waiter waits for one topic, such as "hosts" or "quota of namespace a", in a class: all waiters of one class of a
 * topic have the same demand, so if one of them finds nothing, none of them does. When something of a topic becomes
 * free (an event), waiters_wake() wakes the oldest waiter that can use it, and only that one. When that one has been
 * looked at, the next is woken, and so on until an event is of no use to anybody: each waiter that was woken either
 * took something, and then perhaps something is left, or waits again, and then its class is passed over until the next
 * event. So an event wakes only as many as can use it, and one more of a class at most; a waiter that was woken and
 * went away hands on what it left; and no event is lost.
 *
 * Classes are asked in order of their oldest waiters. What was of no use to a class is of no use to it later, unless
 * more of it becomes free, which is another event: so an event asks each class once, and whom it wakes again.
 *
 * Adding, removing and events are O(log n) in the number of waiters, classes, topics and events. waiters_wake() does no
 * more at a time than it is told; what is left is done by further calls.
 *
 * Without memory the process ends (abort), since somebody would wait for ever.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct waiters;

struct waiters *waiters_new(void);
struct waiters *waiters_free(struct waiters *ws);
/* Forgets everybody. */
void waiters_clear(struct waiters *ws);

/* Whom a waiter is, and what it waits for. Strings are copied. */
struct waiter {
	const void *queue; /* with ns and name: its key */
	const char *ns, *name;
	const char *topic, *class;
	const char *tag;     /* for waiters_each() */
	uint64_t amount;     /* how much, for usable(); all of a class have the same */
	bool first;          /* before those that are not */
	uint64_t created_us; /* the older one comes first; of equal ones the name decides */
};

/* W waits for this, and no longer for what it waited for before. */
void waiters_add(struct waiters *ws, const struct waiter *w);
/* The key is being looked at: it waits no longer, unless waiters_add() is called for it again. */
void waiters_looked_at(struct waiters *ws, const void *queue, const char *ns, const char *name);
/* Something of TOPIC became free. WHAT tells events of a topic apart ("" if there is only one sort): a host, say. */
void waiters_event(struct waiters *ws, const char *topic, const char *what);
/* The same for all topics that begin with PREFIX. */
void waiters_event_all(struct waiters *ws, const char *prefix, const char *what);

struct waiters_ops {
	/* Whether W, and so everybody of its class, can use WHAT. It becomes true by an event only. */
	bool (*usable)(const struct waiter *w, const char *what, void *userdata);
	/*
	 * W is to be looked at; waiters_looked_at() follows, now or later. False: it is being worked on and can only be
	 * looked at after that. It will be, but whoever comes after it is not kept waiting.
	 */
	bool (*wake)(const struct waiter *w, void *userdata);
};

/*
 * Wakes whoever can be woken now: one at most of each topic, beside those who can't be looked at yet. MAX classes are
 * asked. Returns how many were woken.
 */
size_t waiters_wake(struct waiters *ws, const struct waiters_ops *ops, size_t max, void *userdata);
/* True if waiters_wake() has more to do. */
bool waiters_pending(const struct waiters *ws);
/*
 * Wakes the one that was looked at longest ago, so that what it says doesn't stay wrong for ever: reasons change
 * although nothing became free. Nobody is woken if nothing has changed (waiters_changed()) since all were looked at,
 * and nobody before the last one woken by this has been looked at: whoever stands in the queue for such a look could
 * take what an older one is about to be woken for.
 */
void waiters_refresh(struct waiters *ws, void (*wake)(const struct waiter *w, void *userdata), void *userdata);
/* True if waiters_refresh() would wake somebody. */
bool waiters_stale(const struct waiters *ws);
/* Something changed that may be among the reasons why somebody waits. */
void waiters_changed(struct waiters *ws);
/* Calls FN with each waiter that has the tag, the oldest first. */
void waiters_each(struct waiters *ws, const char *tag, void (*fn)(const struct waiter *w, void *userdata),
                  void *userdata);
size_t waiters_count(const struct waiters *ws);
