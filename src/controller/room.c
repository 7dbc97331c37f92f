/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/room.h"

#include <string.h>

#include "api/addresspool.h"
#include "api/cluster.h"
#include "api/host.h"
#include "api/tenantquota.h"
#include "base/util.h"
#include "controller/addresses.h"
#include "controller/placement.h"
#include "controller/waiters.h"

#define TOPIC_HOSTS  "hosts"
#define TOPIC_VALUES "values "
#define TOPIC_QUOTA  "quota "
#define TOPIC_TYPE   "type"
#define TOPIC_NAME   "name "
#define TOPIC_MAX    384

/* Answers come first, then this, then keys are handed out (kube/workqueue.c). */
#define PRIORITY (SD_EVENT_PRIORITY_NORMAL + 5)

/* How many classes of waiters are asked in one turn of the loop. */
#define ASK_MAX 256

/* The reasons for waiting change even if nothing becomes free, so one waiter is looked at anew in each interval. */
#define REFRESH_US (50 * USEC_PER_MSEC)

#define HOLD_US USEC_PER_SEC /* after a write has failed */

struct room {
	struct controller *c;
	struct waiters *waiters;
	sd_event_source *defer, *refresh, *held;
	uint64_t held_until_us; /* monotonic: nobody is woken before */
	bool owed;              /* somebody has a turn before nobody is woken again */
	bool refreshing;        /* the timer is set */
};

static int room_on_refresh(sd_event_source *src, uint64_t usec, void *userdata);

static struct room *room_of(const struct controller *c) {
	return concern_state(c, &concern_room);
}

/* room_open() made the source; enabling it needs no memory. */
static void room_wake_soon(struct room *room) {
	if (waiters_pending(room->waiters))
		(void)!sd_event_source_set_enabled(room->defer, SD_EVENT_ONESHOT);
}

/* The timer runs only while some waiter must be looked at anew. */
static void room_refresh_soon(struct room *room) {
	if (room->refreshing || !waiters_stale(room->waiters))
		return;
	room->refreshing = loop_timer(controller_loop(room->c), &room->refresh, REFRESH_US, room_on_refresh, room) >= 0;
}

/* ---- who waits ---- */

static const char *room_topic(const struct room_want *want, char out[static TOPIC_MAX]) {
	switch (want->sort) {
	case ROOM_HOSTS: return TOPIC_HOSTS;
	case ROOM_TYPE: return TOPIC_TYPE;
	case ROOM_VALUES: snprintf(out, TOPIC_MAX, TOPIC_VALUES "%s", want->of); break;
	case ROOM_QUOTA: snprintf(out, TOPIC_MAX, TOPIC_QUOTA "%s", want->of); break;
	case ROOM_NAME: snprintf(out, TOPIC_MAX, TOPIC_NAME "%s", want->of); break;
	}
	return out;
}

/* Everything that decides whether a waiter can use what became free. */
static void room_class(const struct concern *concern, const struct room_want *want, struct buf *out) {
	buf_printf(out, "%s %zu", concern->name, want->n);
	if (want->size) {
		const struct resources size = instancetype_size(want->size);
		char text[RESOURCES_TEXT_MAX];
		buf_printf(out, " %s", resources_print(&size, RESOURCES_OF_TYPES, text));
	}
	for (size_t i = 0; want->sort == ROOM_HOSTS && i < want->spec->host_selector.n; i++)
		buf_printf(out, " %s=%s", want->spec->host_selector.v[i].key, want->spec->host_selector.v[i].value);
}

void room_wait(struct controller *c, const struct concern *concern, const struct api_meta *m,
               const struct room_want *want) {
	_buf_free_ struct buf class = {0};
	char topic[TOPIC_MAX];
	uint64_t created = 0;
	room_class(concern, want, &class);
	if (class.failed)
		abort(); /* it would wait for ever */
	(void)!time_parse(m->creation_timestamp ? m->creation_timestamp : "", &created);
	const struct waiter w = {.queue = concern,
	                         .ns = m->ns,
	                         .name = m->name,
	                         .topic = room_topic(want, topic),
	                         .class = class.data,
	                         .tag = want->spec->type,
	                         .amount = want->n,
	                         .rank = want->rank,
	                         .created_us = created};
	waiters_add(room_of(c)->waiters, &w);
}

/* ---- what became free ---- */

void room_reasons_changed(struct controller *c) {
	waiters_changed(room_of(c)->waiters);
	room_refresh_soon(room_of(c));
}

static void room_event(struct controller *c, const char *topic, const char *what) {
	struct room *room = room_of(c);
	room_reasons_changed(c);
	waiters_event(room->waiters, topic, what);
	room_wake_soon(room);
}

void room_write_failed(struct controller *c, int error) {
	/* An error of one object, or a lost race, says nothing about the writes of others. */
	bool own = error == -ESTALE || error == -EEXIST || error == -ENOENT || error == -EINVAL || error == -EMSGSIZE ||
	           error == -EACCES || error == -EPERM;
	struct room *room = room_of(c);
	uint64_t now = now_monotonic_ns() / 1000;
	/* Writes of one tenant that fail all the time must not keep everybody waiting. */
	if (own || now < room->held_until_us || (room->owed && waiters_pending(room->waiters)))
		return;
	room->held_until_us = now + HOLD_US;
	room->owed = true;
}

void room_on_host(struct controller *c, const char *host) {
	room_event(c, TOPIC_HOSTS, host);
}

void room_of_values(struct controller *c, const char *use) {
	char topic[TOPIC_MAX];
	snprintf(topic, sizeof(topic), TOPIC_VALUES "%s", use);
	room_event(c, topic, "");
}

void room_in_quota(struct controller *c, const char *ns) {
	char topic[TOPIC_MAX];
	snprintf(topic, sizeof(topic), TOPIC_QUOTA "%s", ns);
	room_event(c, topic, "");
}

/* ---- who is woken ---- */

/* What W wants to place, from the cache as it is now; NULL: W is gone. */
static const struct instance_spec *room_spec(const struct controller *c, const struct waiter *w) {
	if (w->queue == &concern_clusters) {
		const struct cluster *cl = kube_cache_get(controller_cache(c, &api_kind_cluster), w->ns, w->name);
		return cl ? cl->spec->template : NULL;
	}
	const struct instance *i = kube_cache_get(controller_cache(c, &api_kind_instance), w->ns, w->name);
	return i ? i->spec : NULL;
}

/* False only if W would certainly find nothing. */
static bool room_is_usable(const struct waiter *w, const char *what, void *userdata) {
	const struct room *room = userdata;
	const struct controller *c = room->c;
	if (starts_with(w->topic, TOPIC_VALUES))
		return addresses_room(addresses_of(c), w->topic + strlen(TOPIC_VALUES)) >= w->amount;
	if (!streq(w->topic, TOPIC_HOSTS))
		return true;
	const struct instance_spec *spec = room_spec(c, w);
	const struct instancetype *type =
		spec ? kube_cache_get(controller_cache(c, &api_kind_instancetype), NULL, spec->type) : NULL;
	return !type || placement_fits(placement_of(c), what, spec, type);
}

static bool room_wake(const struct waiter *w, void *userdata) {
	const struct room *room = userdata;
	/* W goes ahead of all keys in the queue: one of them could take what W, which is older, is woken for. */
	return concern_enqueue_first(room->c, w->queue, w->ns, w->name);
}

static void room_wake_in_turn(const struct waiter *w, void *userdata) {
	const struct room *room = userdata;
	concern_enqueue(room->c, w->queue, w->ns, w->name);
}

static const struct waiters_ops room_ops = {.usable = room_is_usable, .wake = room_wake};

static int room_on_held(sd_event_source *src, uint64_t usec, void *userdata) {
	(void)src;
	(void)usec;
	room_wake_soon(userdata);
	return 0;
}

static int room_on_defer(sd_event_source *src, void *userdata) {
	struct room *room = userdata;
	uint64_t now = now_monotonic_ns() / 1000;
	(void)src;
	if (now < room->held_until_us)
		return loop_timer(controller_loop(room->c), &room->held, room->held_until_us - now, room_on_held, room);
	room->owed = false;
	waiters_wake(room->waiters, &room_ops, ASK_MAX, room);
	room_wake_soon(room);
	return 0;
}

static int room_on_refresh(sd_event_source *src, uint64_t usec, void *userdata) {
	struct room *room = userdata;
	(void)src;
	(void)usec;
	room->refreshing = false;
	if (controller_may_act(room->c) && now_monotonic_ns() / 1000 >= room->held_until_us)
		waiters_refresh(room->waiters, room_wake_in_turn, room);
	room_refresh_soon(room);
	return 0;
}

static void room_looked_at(struct controller *c, const struct concern *whose, const char *ns, const char *name) {
	struct room *room = room_of(c);
	waiters_looked_at(room->waiters, whose, ns, name);
	room_wake_soon(room);
	room_refresh_soon(room);
}

/* Nobody waits any more: all objects are looked at when the controller acts again. */
static void room_stopped(struct controller *c) {
	waiters_clear(room_of(c)->waiters);
}

/* ---- changes ---- */

static void room_instance_changed(struct controller *c, const struct kube_change *ch) {
	char topic[TOPIC_MAX];
	if (ch->type != KUBE_DELETED)
		return;
	snprintf(topic, sizeof(topic), TOPIC_NAME "%s/%s", ch->ns, ch->name);
	room_event(c, topic, "");
}

/*
 * Queues everything that names this InstanceType, whatever it waits for: the type was created or deleted, and a new
 * type may have another size. An update can't change a size.
 */
static void room_type_changed(struct controller *c, const struct kube_change *ch) {
	struct room *room = room_of(c);
	if (ch->type != KUBE_MODIFIED)
		waiters_each(room->waiters, ch->name, room_wake_in_turn, room);
}

static void room_host_changed(struct controller *c, const struct kube_change *ch) {
	if (ch->type == KUBE_DELETED)
		room_reasons_changed(c);
	else
		room_on_host(c, ch->name);
}

static void room_pool_changed(struct controller *c, _unused_ const struct kube_change *ch) {
	room_reasons_changed(c);
}

static void room_quota_changed(struct controller *c, const struct kube_change *ch) {
	struct room *room = room_of(c);
	const struct tenantquota *now = ch->obj, *old = ch->old;
	room_reasons_changed(c);
	if (ch->type == KUBE_MODIFIED && api_equal(&api_desc_tenantquota_spec, now->spec, old->spec))
		return;
	/* A new quota can allow more than the default quota, which held until now. */
	if (streq(ch->ns, TENANTQUOTA_DEFAULT_NS) && streq(ch->name, TENANTQUOTA_DEFAULT))
		waiters_event_all(room->waiters, TOPIC_QUOTA, "");
	room_in_quota(c, ch->ns);
}

static int room_open(struct controller *c, _unused_ const struct controller_options *o, void **ret, struct error *err) {
	struct room *room = calloc(1, sizeof(*room));
	if (!room)
		return error_oom(err);
	room->c = c;
	room->waiters = waiters_new();
	*ret = room;
	int r = sd_event_add_defer(controller_loop(c), &room->defer, room_on_defer, room);
	if (r >= 0)
		r = sd_event_source_set_enabled(room->defer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_source_set_priority(room->defer, PRIORITY);
	return r < 0 ? error_errno(err, r, "source for what waits for room") : 0;
}

static void room_close(void *state) {
	struct room *room = state;
	sd_event_source_disable_unref(room->defer);
	sd_event_source_disable_unref(room->refresh);
	sd_event_source_disable_unref(room->held);
	waiters_free(room->waiters);
	free(room);
}

const struct concern concern_room = {
	.name = "room",
	.watches = {{.kind = &api_kind_instance, .changed = room_instance_changed},
                    {.kind = &api_kind_instancetype, .changed = room_type_changed},
                    {.kind = &api_kind_tenantquota, .changed = room_quota_changed},
                    {.kind = &api_kind_addresspool, .changed = room_pool_changed},
                    {.kind = &api_kind_host, .changed = room_host_changed},
                    {.kind = &api_kind_cluster}},
	.open = room_open,
	.looked_at = room_looked_at,
	.stopped = room_stopped,
	.close = room_close,
};
