/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Writes into the status of the Endpoints of instances in which groups these are. The queue has the names of
 * namespaces. Each look is a turn of one namespace, and bounded in time and writes; so a tenant that changes Firewalls
 * or labels all the time delays only what is its own. A group grows by as many writes as it has members; those that all
 * hosts hear of come at most once a second for each instance.
 */

#include <stdlib.h>
#include <string.h>

#include "api/endpoint.h"
#include "base/util.h"
#include "controller/claims.h"
#include "controller/owner.h"
#include "controller/walls.h"

#define TURN_NS  (2 * NSEC_PER_MSEC)   /* the time of a turn */
#define PAUSE_US (8 * USEC_PER_MSEC)   /* between two turns that used their time */
#define WRITE_US USEC_PER_SEC          /* between two writes of an Endpoint */
#define RACE_US  (200 * USEC_PER_MSEC) /* from a write that lost a race to the next one */
#define RETRY_US (5 * USEC_PER_SEC)    /* from a write that failed to the next one */

static uint64_t groups_now_us(void) {
	return now_monotonic_ns() / 1000;
}

void groups_queue(struct controller *c, const struct wall_ns *n) {
	concern_enqueue(c, &concern_groups, NULL, n->name);
}

static const struct endpoint *groups_endpoint(const struct controller *c, const struct instance *i) {
	char name[128];
	snprintf(name, sizeof(name), ENDPOINT_OF_INSTANCE "%.63s", instance_id(i));
	const struct endpoint *e = kube_cache_get(controller_cache(c, &api_kind_endpoint), NULL, name);
	const struct api_object_ref *o = e ? e->spec->owner : NULL;
	const bool own = o && o->ns && streq(o->kind, "Instance") && streq(o->ns, i->meta.ns) &&
	                 streq(o->name, i->meta.name) && owner_is(o, i);
	return own && !e->meta.deletion_timestamp ? e : NULL;
}

/*
 * The ids of the groups that the Endpoint E of M is to be in. Returns their number: none if E claims what its instance
 * wasn't given, or is another host's; claims.c removes it then.
 */
static size_t groups_wanted(const struct controller *c, const struct instance *i, const struct endpoint *e,
                            const struct wall_member *m, const char *ids[static ENDPOINT_GROUPS_MAX]) {
	size_t count = 0;
	if (!instance_is_bound(i) || !streq(i->status->host, e->spec->host) || claims_are_wrong(c, e))
		return 0;
	for (size_t k = 0; k < m->n_groups; k++)
		if (m->groups[k]->users)
			ids[count++] = m->groups[k]->id;
	return count;
}

static bool groups_are(const struct endpoint *e, const char *const *ids, size_t count) {
	const size_t have = e->status ? e->status->groups.n : 0;
	for (size_t k = 0; k < MIN(have, count); k++)
		if (!streq(e->status->groups.v[k], ids[k]))
			return false;
	return have == count;
}

/* The Endpoint of M if it has other groups than IDS, which are written; NULL: it hasn't, or there is none. */
static const struct endpoint *groups_outdated(const struct controller *c, const struct wall_ns *n,
                                              const struct wall_member *m, const char *ids[static ENDPOINT_GROUPS_MAX],
                                              size_t *ret_n) {
	const struct instance *i = kube_cache_get(controller_cache(c, &api_kind_instance), n->name, m->name);
	const struct endpoint *e = i ? groups_endpoint(c, i) : NULL;
	if (!e)
		return NULL;
	*ret_n = groups_wanted(c, i, e, m, ids);
	return groups_are(e, ids, *ret_n) ? NULL : e;
}

bool groups_differ(const struct controller *c, const struct wall_ns *n, const struct wall_member *m) {
	const char *ids[ENDPOINT_GROUPS_MAX];
	size_t count;
	return groups_outdated(c, n, m, ids, &count);
}

/* ---- a write ---- */

struct groups_write {
	char ns[64], name[254];
};

WORK_THEN_DEFINE(groups_written, struct groups_write)

static void groups_written(struct work *w, const struct kube_response *r, const struct groups_write *of) {
	struct wall_ns *n = wall_ns_find(walls_of(work_controller(w)), of->ns);
	struct wall_member *m = n ? wall_member_find(n, of->name) : NULL;
	if (r->error == 0 || !m || m->state == MEMBER_DIRTY)
		return;
	const bool race = r->error == -ESTALE || r->error == -ENOENT || r->error == -EAGAIN;
	wall_member_later(n, m, groups_now_us() + (race ? RACE_US : RETRY_US));
	work_again(w, race ? RACE_US : RETRY_US);
}

static int endpoint_set_groups(struct endpoint *e, const char *const *ids, size_t count) {
	char **v = count ? calloc(count, sizeof(*v)) : NULL;
	if (count && !v)
		return -ENOMEM;
	for (size_t k = 0; k < e->status->groups.n; k++)
		free(e->status->groups.v[k]);
	free(e->status->groups.v);
	e->status->groups.v = v;
	e->status->groups.n = count;
	for (size_t k = 0; k < count; k++)
		if (!(v[k] = strdup(ids[k])))
			return -ENOMEM;
	return 0;
}

/* An Endpoint that seems wrong is looked at again: what it claims may have come to the caches later than it. */
static void groups_doubt(const struct controller *c, struct wall_ns *n, struct wall_member *m) {
	const struct instance *i = kube_cache_get(controller_cache(c, &api_kind_instance), n->name, m->name);
	const struct endpoint *e = i ? groups_endpoint(c, i) : NULL;
	if (e && m->n_groups && claims_are_wrong(c, e))
		wall_member_later(n, m, groups_now_us() + WRITE_US);
}

/* Writes the groups of M if its Endpoint has others, or notes that this is to be done later. */
static void groups_write(struct work *w, struct wall_ns *n, struct wall_member *m) {
	const char *ids[ENDPOINT_GROUPS_MAX];
	size_t count;
	struct groups_write of;
	const struct endpoint *e = groups_outdated(work_controller(w), n, m, ids, &count);
	if (!e) {
		groups_doubt(work_controller(w), n, m);
		return;
	}
	if (m->due_us > groups_now_us()) {
		wall_member_later(n, m, m->due_us);
		return;
	}
	m->due_us = groups_now_us() + WRITE_US;
	snprintf(of.ns, sizeof(of.ns), "%s", n->name);
	snprintf(of.name, sizeof(of.name), "%s", m->name);
	struct endpoint *changed = api_copy_with_status(&api_kind_endpoint, e);
	if (changed && endpoint_set_groups(changed, ids, count) == 0)
		work_patch_status(w, &api_kind_endpoint, e, changed, groups_written_then(&of));
	else
		work_fail_oom(w);
	api_free(&api_kind_endpoint, changed);
	groups_doubt(work_controller(w), n, m);
}

/* ---- a pass ---- */

static void pass_begin(struct wall_ns *n) {
	if (n->passing || (!n->everything && n->done == n->changes))
		return;
	n->passing = true;
	n->to = n->changes;
	n->passed = wall_member_first(n);
}

static void pass_end(struct controller *c, struct wall_ns *n) {
	const uint64_t from = n->everything ? 0 : n->done;
	struct wall *w, *next;
	n->passing = n->everything = false;
	n->done = n->to;
	TAILQ_FOREACH_REVERSE(w, &n->recent, wall_list, entry) {
		if (w->changed <= from)
			break;
		wall_queue_status(c, n, w);
	}
	TAILQ_FOREACH_SAFE (w, &n->gone, entry, next)
		if (w->changed <= n->done)
			wall_forget(n, w);
}

/* ---- a turn ---- */

enum groups_step { STEP_ON, STEP_IDLE, STEP_NO_ROOM, STEP_NO_TIME };

/* Chooses the instance to evaluate. False: there is none. */
static bool groups_choose(struct controller *c, struct work *w, struct wall_ns *n) {
	pass_begin(n);
	if (n->passing && !n->passed) {
		pass_end(c, n);
		pass_begin(n);
	}
	struct wall_member *dirty = TAILQ_FIRST(&n->dirty), *pass = n->passing ? n->passed : NULL;
	if (!dirty && !pass)
		return n->passing;
	n->turn = !n->turn;
	struct wall_member *m = pass && (n->turn || !dirty) ? pass : dirty;
	if (m == pass || m->evaluate)
		evaluation_begin(n, m, m == pass && !n->everything ? n->done : 0);
	else {
		wall_member_clean(n, m);
		groups_write(w, n, m);
	}
	return true;
}

static enum groups_step groups_step(struct controller *c, struct work *w, struct wall_ns *n, uint64_t deadline_ns) {
	bool differ = false;
	if (!work_room(w))
		return STEP_NO_ROOM;
	if (now_monotonic_ns() > deadline_ns)
		return STEP_NO_TIME;
	if (!n->now.member)
		return groups_choose(c, w, n) ? STEP_ON : STEP_IDLE;
	struct wall_member *m = n->now.member;
	const struct instance *i = kube_cache_get(controller_cache(c, &api_kind_instance), n->name, m->name);
	if (!i || !evaluation_run(c, n, i, deadline_ns, &differ))
		return i ? STEP_NO_TIME : STEP_IDLE;
	if (n->passed == m)
		n->passed = wall_member_next(m);
	differ |= m->state == MEMBER_LATER;
	wall_member_clean(n, m);
	if (differ)
		groups_write(w, n, m);
	return STEP_ON;
}

static void groups_reconcile(struct work *w, _unused_ const void *obj) {
	struct controller *c = work_controller(w);
	/* Firewalls queue themselves; what is to be done for them is known by their namespace. */
	struct wall_ns *n = strchr(work_key(w), '/') ? NULL : wall_ns_find(walls_of(c), work_key(w));
	const uint64_t deadline = now_monotonic_ns() + TURN_NS;
	enum groups_step step;
	if (!n)
		return;
	wall_members_wake(n, groups_now_us());
	while ((step = groups_step(c, w, n, deadline)) == STEP_ON)
		;
	const uint64_t now = groups_now_us(), due = wall_members_wake(n, now);
	if (step != STEP_IDLE)
		work_again(w, step == STEP_NO_TIME ? PAUSE_US : 0);
	else if (due)
		work_again(w, due - now);
}

const struct concern concern_groups = {
	.name = "groups",
	.kind = &api_kind_firewall,
	.watches = {{.kind = &api_kind_instance}, {.kind = &api_kind_endpoint}},
	.reconcile = groups_reconcile,
};
