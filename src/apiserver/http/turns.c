/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/http/turns.h"

#include <microhttpd.h>
#include <sys/epoll.h>

#include "apiserver/request/stats.h"
#include "base/loop.h"
#include "base/util.h"

#define TURN_NS  (10 * NSEC_PER_MSEC) /* after that no other connection continues in this turn */
#define TURN_MAX 128U                 /* connections that continue in one turn */
#define LATE_US  (50 * USEC_PER_MSEC)

void turns_init(struct turns *t, sd_event *loop, enum turn_next (*next)(struct conn *c)) {
	*t = (struct turns){.loop = loop, .next = next};
	for (size_t i = 0; i < PARKS; i++)
		TAILQ_INIT(&t->parked[i]);
}

static void unpark(struct turns *t, struct conn *c) {
	if (c->park == PARK_NONE)
		return;
	TAILQ_REMOVE(&t->parked[c->park], c, parks);
	stats_late(c->park == PARK_LATE && c->work == WORK_WATCH ? -1 : 0);
	if (c->park == PARK_INPUT)
		(void)!sd_event_source_set_enabled(c->input, SD_EVENT_OFF);
	c->park = PARK_NONE;
}

void turns_suspend(struct conn *c) {
	if (c->suspended)
		return;
	c->suspended = true;
	MHD_suspend_connection(c->mhd);
}

void turns_resume(struct turns *t, struct conn *c) {
	unpark(t, c);
	if (!c->suspended)
		return;
	c->suspended = false;
	/* MHD continues resumed connections in its next run. One run serves all that were resumed before it. */
	MHD_resume_connection(c->mhd);
	(void)!sd_event_source_set_enabled(t->soon, SD_EVENT_ONESHOT);
}

static int on_input(_unused_ sd_event_source *src, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
	struct conn *c = userdata;
	turns_park(c->conns->turns, c, PARK_TURN);
	return 0;
}

static int wait_for_input(struct turns *t, struct conn *c) {
	if (!c->input)
		return sd_event_add_io(t->loop, &c->input, c->fd, EPOLLIN, on_input, c);
	return sd_event_source_set_enabled(c->input, SD_EVENT_ON);
}

static int on_late(_unused_ sd_event_source *src, _unused_ uint64_t usec, void *userdata) {
	struct turns *t = userdata;
	struct conn *c, *last = TAILQ_LAST(&t->parked[PARK_LATE], conn_head);
	while (last && (c = TAILQ_FIRST(&t->parked[PARK_LATE]))) {
		turns_park(t, c, PARK_TURN);
		if (c == last)
			break;
	}
	return 0;
}

void turns_park(struct turns *t, struct conn *c, enum park where) {
	turns_suspend(c);
	unpark(t, c);
	c->park = where;
	stats_late(where == PARK_LATE && c->work == WORK_WATCH ? 1 : 0);
	/* A connection whose turn came but which did nothing is the next one. */
	if (c->fed && where == PARK_TURN)
		TAILQ_INSERT_HEAD(&t->parked[where], c, parks);
	else
		TAILQ_INSERT_TAIL(&t->parked[where], c, parks);
	c->fed = false;
	int r = 0;
	if (where == PARK_INPUT)
		r = wait_for_input(t, c);
	else if (where == PARK_TURN)
		r = sd_event_source_set_enabled(t->soon, SD_EVENT_ONESHOT);
	else if (TAILQ_FIRST(&t->parked[where]) == TAILQ_LAST(&t->parked[where], conn_head))
		r = loop_timer(t->loop, &t->timer, LATE_US, on_late, t);
	/* Without memory to wait, it is closed. */
	if (r < 0) {
		shutdown(c->fd, SHUT_RDWR);
		turns_resume(t, c);
	}
}

void turns_forget(struct turns *t, struct conn *c) {
	unpark(t, c);
	c->input = sd_event_source_disable_unref(c->input);
}

void turns_begin(struct turns *t, struct limits *l, uint64_t now) {
	struct conn *c;
	unsigned n = 0;
	t->until = now + TURN_NS;
	t->owed = true;
	while (n < TURN_MAX && (c = TAILQ_FIRST(&t->parked[PARK_TURN]))) {
		switch (t->next(c)) {
		case TURN_GO:
			turns_resume(t, c);
			c->fed = true;
			n++;
			break;
		case TURN_DROP: unpark(t, c); break;
		case TURN_LATE: turns_park(t, c, PARK_LATE); break;
		}
		/* Half of the turn is left for what these connections do. */
		if (limits_settle(l) + TURN_NS / 2 >= t->until)
			break;
	}
}

bool turns_wait(struct turns *t, const struct conn *c, uint64_t now) {
	if (now >= t->until && !(c->fed && t->owed))
		return true;
	t->owed &= !c->fed;
	return false;
}

bool turns_more(const struct turns *t) {
	return !TAILQ_EMPTY(&t->parked[PARK_TURN]);
}

void turns_done(struct turns *t) {
	t->timer = sd_event_source_disable_unref(t->timer);
}
