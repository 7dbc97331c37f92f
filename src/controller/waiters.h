/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who waits for what, and who is woken when something becomes free. This module knows only names: no API, no cache, no
 * loop.
 *
 * A waiter waits for one topic, such as "hosts" or "quota of namespace a", in a class. All waiters of one class of a
 * topic have the same demand: if one of them finds nothing, none of them does. When something of a topic becomes free
 * (an event), waiters_wake() wakes only the oldest waiter that can use it. When that waiter has been looked at, the
 * next one is woken, and so on until nobody can use the event. A waiter that was woken either took something, and
 * something may be left; or it waits again, and its class is skipped until the next event. So an event wakes only as
 * many waiters as can use it, and at most one more of each class. A waiter that was woken and went away leaves what it
 * did not take to the next one. No event is lost.
 *
 * Classes are asked in the order of their oldest waiters. If a class can't use an event, it can't use it later either,
 * unless more becomes free, which is another event. So an event asks each class once, and again only those of which it
 * woke a waiter.
 *
 * Adding, removing and events are O(log n) in the number of waiters, classes, topics and events. One call of
 * waiters_wake() asks no more classes than it is told to; further calls do the rest.
 *
 * If memory runs out the process ends (abort); otherwise somebody would wait for ever.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct waiters;

struct waiters *waiters_new(void);
struct waiters *waiters_free(struct waiters *ws);
/* Forgets everybody. */
void waiters_clear(struct waiters *ws);

/* Who a waiter is, and what it waits for. Strings are copied. */
struct waiter {
	const void *queue; /* with ns and name: its key */
	const char *ns, *name;
	const char *topic, *class;
	const char *tag;     /* for waiters_each() */
	uint64_t amount;     /* how much, for usable(); all of a class have the same */
	unsigned rank;       /* waiters of a higher rank are woken first */
	uint64_t created_us; /* the older one comes first; of equal ones the name decides */
};

/* W waits for this, and no longer for what it waited for before. */
void waiters_add(struct waiters *ws, const struct waiter *w);
/* The key is being looked at: it waits no longer, unless waiters_add() is called for it again. */
void waiters_looked_at(struct waiters *ws, const void *queue, const char *ns, const char *name);
/*
 * Something of TOPIC became free. WHAT distinguishes events of a topic, such as the name of a host; "" if there is only
 * one sort.
 */
void waiters_event(struct waiters *ws, const char *topic, const char *what);
/* The same for all topics that begin with PREFIX. */
void waiters_event_all(struct waiters *ws, const char *prefix, const char *what);

struct waiters_ops {
	/* Whether W, and so every waiter of its class, can use WHAT. Only an event can make this true. */
	bool (*usable)(const struct waiter *w, const char *what, void *userdata);
	/*
	 * Queues W for a look; waiters_looked_at() follows, now or later. False: W is being worked on, and the look
	 * follows only after that; the waiters behind W don't wait for it.
	 */
	bool (*wake)(const struct waiter *w, void *userdata);
};

/*
 * Wakes every waiter that can be woken now: at most one of each topic, not counting those for which wake() returns
 * false. Asks at most MAX classes. Returns how many waiters were woken.
 */
size_t waiters_wake(struct waiters *ws, const struct waiters_ops *ops, size_t max, void *userdata);
/* True if waiters_wake() has more to do. */
bool waiters_pending(const struct waiters *ws);
/*
 * Wakes the waiter whose last look is the oldest, so that the reason that its status gives doesn't stay wrong: reasons
 * change although nothing became free. Wakes nobody if nothing has changed (waiters_changed()) since all waiters were
 * looked at, and nobody until the last waiter that this function woke has been looked at: a waiter that stands in the
 * queue for such a look could take what an older one is about to be woken for.
 */
void waiters_refresh(struct waiters *ws, void (*wake)(const struct waiter *w, void *userdata), void *userdata);
/* True if waiters_refresh() would wake somebody. */
bool waiters_stale(const struct waiters *ws);
/* Something changed that may be a reason for somebody's waiting. */
void waiters_changed(struct waiters *ws);
/* Calls FN with each waiter that has the tag, the oldest first. */
void waiters_each(struct waiters *ws, const char *tag, void (*fn)(const struct waiter *w, void *userdata),
                  void *userdata);
size_t waiters_count(const struct waiters *ws);
