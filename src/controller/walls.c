/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/walls.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"

static int wall_cmp(const struct wall *a, const struct wall *b) {
	return strcmp(a->name, b->name);
}

static int wall_group_cmp(const struct wall_group *a, const struct wall_group *b) {
	return strcmp(a->id, b->id);
}

static int wall_member_cmp(const struct wall_member *a, const struct wall_member *b) {
	return strcmp(a->name, b->name);
}

static int wall_member_time_cmp(const struct wall_member *a, const struct wall_member *b) {
	return a->due_us != b->due_us ? (a->due_us < b->due_us ? -1 : 1) : strcmp(a->name, b->name);
}

static int wall_ns_cmp(const struct wall_ns *a, const struct wall_ns *b) {
	return strcmp(a->name, b->name);
}

RB_GENERATE_INTERNAL(walls_by_name, wall, node, wall_cmp, _unused_ static)
RB_GENERATE_INTERNAL(wall_groups, wall_group, node, wall_group_cmp, _unused_ static)
RB_GENERATE_INTERNAL(wall_members, wall_member, node, wall_member_cmp, _unused_ static)
RB_GENERATE_INTERNAL(wall_members_by_time, wall_member, by_time, wall_member_time_cmp, _unused_ static)
RB_HEAD(wall_nss, wall_ns);
RB_GENERATE_INTERNAL(wall_nss, wall_ns, node, wall_ns_cmp, _unused_ static)

struct walls {
	struct wall_nss namespaces;
	struct sums *sums;
};

struct walls *walls_of(const struct controller *c) {
	return concern_state(c, &concern_walls);
}

struct sums *walls_sums(const struct controller *c) {
	return walls_of(c)->sums;
}

static void *walls_alloc(size_t size) {
	void *p = calloc(1, size);
	if (!p)
		abort(); /* an instance would miss in its groups */
	return p;
}

/* ---- namespaces ---- */

struct wall_ns *wall_ns_find(const struct walls *w, const char *ns) {
	return TREE_FIND_STRING(wall_ns, &w->namespaces, node, name, ns);
}

static struct wall_ns *wall_ns_get(struct walls *w, const char *ns) {
	struct wall_ns *n = wall_ns_find(w, ns);
	if (n)
		return n;
	n = walls_alloc(sizeof(*n) + strlen(ns) + 1);
	strcpy(n->name, ns);
	RB_INIT(&n->walls);
	TAILQ_INIT(&n->recent);
	TAILQ_INIT(&n->gone);
	RB_INIT(&n->groups);
	RB_INIT(&n->members);
	TAILQ_INIT(&n->dirty);
	RB_INIT(&n->later);
	RB_INSERT(wall_nss, &w->namespaces, n);
	return n;
}

/* Frees N if nothing is in it. */
static void wall_ns_release(struct walls *w, struct wall_ns *n) {
	if (!RB_EMPTY(&n->walls) || !RB_EMPTY(&n->members))
		return;
	while (!TAILQ_EMPTY(&n->gone))
		wall_forget(n, TAILQ_FIRST(&n->gone));
	RB_REMOVE(wall_nss, &w->namespaces, n);
	free(n->numbers);
	free(n->now.bits);
	free(n);
}

/* ---- groups ---- */

/* TO, which is empty, becomes a copy of FROM, which doesn't stay: the cache may exchange an object for an equal one. */
static void wall_copy_selector(const struct api_selector *from, struct api_selector *to) {
	_buf_free_ struct buf text = {0};
	struct api_errors errs = {0};
	struct jr r;
	api_print_value(&api_desc_api_selector, from, &text);
	if (text.failed)
		abort();
	jr_init(&r, text.data, text.len);
	if (api_parse_value(&api_desc_api_selector, &r, to, &errs) < 0)
		abort(); /* no memory: what is printed can be parsed */
	jr_done(&r);
}

static struct wall_group *wall_group_get(struct wall_ns *n, const struct firewall_group *from) {
	struct wall_group *g = TREE_FIND_STRING(wall_group, &n->groups, node, id, from->id);
	if (g)
		return g;
	g = walls_alloc(sizeof(*g));
	strcpy(g->id, from->id);
	wall_copy_selector(from->peers, &g->peers);
	RB_INSERT(wall_groups, &n->groups, g);
	return g;
}

static void wall_group_release(struct wall_ns *n, struct wall_group *g) {
	if (g->users || g->members)
		return;
	RB_REMOVE(wall_groups, &n->groups, g);
	api_clear(&api_desc_api_selector, &g->peers);
	free(g);
}

void wall_group_ref(struct wall_group *g) {
	g->members++;
}

void wall_group_unref(struct wall_ns *n, struct wall_group *g) {
	g->members--;
	wall_group_release(n, g);
}

/* ---- Firewalls ---- */

struct wall *wall_find(const struct wall_ns *n, const char *name) {
	return TREE_FIND_STRING(wall, &n->walls, node, name, name);
}

struct wall *wall_first(const struct wall_ns *n) {
	return RB_MIN(walls_by_name, (struct walls_by_name *)&n->walls);
}

struct wall *wall_next(struct wall *w) {
	return RB_NEXT(walls_by_name, NULL, w);
}

bool wall_bit(const uint64_t *bits, const struct wall *w) {
	return bits[w->number / 64] >> (w->number % 64) & 1;
}

void wall_set_bit(uint64_t *bits, const struct wall *w, bool on) {
	const uint64_t bit = UINT64_C(1) << (w->number % 64);
	bits[w->number / 64] = on ? bits[w->number / 64] | bit : bits[w->number / 64] & ~bit;
}

static size_t wall_new_number(struct wall_ns *n) {
	size_t word = 0;
	while (word < n->words && n->numbers[word] == UINT64_MAX)
		word++;
	if (word == n->words) {
		uint64_t *numbers = reallocarray(n->numbers, n->words + 1, sizeof(*numbers));
		if (!numbers)
			abort();
		numbers[n->words++] = 0;
		n->numbers = numbers;
	}
	return word * 64 + (size_t)__builtin_ctzll(~n->numbers[word]);
}

void wall_touch(struct wall_ns *n, struct wall *w) {
	w->changed = ++n->changes;
	TAILQ_REMOVE(&n->recent, w, entry);
	TAILQ_INSERT_TAIL(&n->recent, w, entry);
	n->now.member = NULL;
}

bool wall_is_evaluated(const struct wall_ns *n, const struct wall *w) {
	return !n->everything && n->done >= w->changed;
}

void wall_queue_status(struct controller *c, const struct wall_ns *n, const struct wall *w) {
	/* After a delay, so that many changes cause one look. */
	concern_enqueue_after(c, &concern_firewalls, n->name, w->name, 200 * USEC_PER_MSEC);
}

static void wall_drop_groups(struct wall_ns *n, struct wall_group **groups, size_t count) {
	for (size_t i = 0; groups && i < count; i++) {
		groups[i]->users--;
		wall_group_release(n, groups[i]);
	}
	free(groups);
}

/* W becomes what OBJ says. */
static void wall_measure(struct wall_ns *n, struct wall *w, const struct firewall *obj) {
	struct firewall_size was = w->size;
	struct wall_group **groups = w->groups;
	if (firewall_measure(obj, &w->size) < 0)
		abort();
	api_clear(&api_desc_api_selector, &w->instances);
	wall_copy_selector(obj->spec->instances, &w->instances);
	w->groups = NULL;
	if (w->size.groups) {
		w->groups = walls_alloc(w->size.n_groups * sizeof(*w->groups));
		for (size_t i = 0; i < w->size.n_groups; i++) {
			w->groups[i] = wall_group_get(n, &w->size.groups[i]);
			w->groups[i]->users++;
			w->size.groups[i].peers = NULL; /* belongs to OBJ */
		}
	}
	wall_drop_groups(n, groups, was.n_groups);
	firewall_size_clear(&was);
}

static void wall_add(struct wall_ns *n, const struct firewall *obj) {
	struct wall *w = walls_alloc(sizeof(*w) + strlen(obj->meta.name) + 1);
	strcpy(w->name, obj->meta.name);
	w->number = wall_new_number(n);
	wall_set_bit(n->numbers, w, true);
	RB_INSERT(walls_by_name, &n->walls, w);
	TAILQ_INSERT_TAIL(&n->recent, w, entry);
	n->n_walls++;
	wall_measure(n, w, obj);
	wall_touch(n, w);
}

/* The Firewall is gone. Its number stays in use until no instance has its bit. */
static void wall_remove(struct wall_ns *n, struct wall *w) {
	wall_touch(n, w);
	RB_REMOVE(walls_by_name, &n->walls, w);
	TAILQ_REMOVE(&n->recent, w, entry);
	TAILQ_INSERT_TAIL(&n->gone, w, entry);
	n->n_walls--;
	wall_drop_groups(n, w->groups, w->size.n_groups);
	w->groups = NULL;
	firewall_size_clear(&w->size);
	api_clear(&api_desc_api_selector, &w->instances);
}

void wall_forget(struct wall_ns *n, struct wall *w) {
	TAILQ_REMOVE(&n->gone, w, entry);
	wall_set_bit(n->numbers, w, false);
	free(w);
}

static void walls_firewall_changed(struct controller *c, const struct kube_change *ch) {
	struct walls *all = walls_of(c);
	struct wall_ns *n = wall_ns_get(all, ch->ns);
	struct wall *w = wall_find(n, ch->name);
	const struct firewall *now = ch->obj, *old = ch->old;
	if (ch->type == KUBE_DELETED) {
		if (w)
			wall_remove(n, w);
		groups_queue(c, n);
		wall_ns_release(all, n);
		return;
	}
	/* The status of the Firewall, and its labels, are no change of its rules. */
	if (w && old && old->meta.generation.set && old->meta.generation.v == now->meta.generation.v)
		return;
	if (w) {
		wall_measure(n, w, now);
		wall_touch(n, w);
	} else
		wall_add(n, now);
	groups_queue(c, n);
}

/* ---- instances ---- */

struct wall_member *wall_member_find(const struct wall_ns *n, const char *name) {
	return TREE_FIND_STRING(wall_member, &n->members, node, name, name);
}

struct wall_member *wall_member_first(const struct wall_ns *n) {
	return RB_MIN(wall_members, (struct wall_members *)&n->members);
}

struct wall_member *wall_member_next(struct wall_member *m) {
	return RB_NEXT(wall_members, NULL, m);
}

void wall_member_clean(struct wall_ns *n, struct wall_member *m) {
	if (m->state == MEMBER_DIRTY)
		TAILQ_REMOVE(&n->dirty, m, entry);
	else if (m->state == MEMBER_LATER)
		RB_REMOVE(wall_members_by_time, &n->later, m);
	m->state = MEMBER_IDLE;
}

void wall_member_dirty(struct wall_ns *n, struct wall_member *m, bool evaluate) {
	m->evaluate |= evaluate;
	if (evaluate && n->now.member == m)
		n->now.member = NULL;
	if (m->state == MEMBER_DIRTY)
		return;
	wall_member_clean(n, m);
	m->state = MEMBER_DIRTY;
	TAILQ_INSERT_TAIL(&n->dirty, m, entry);
}

void wall_member_later(struct wall_ns *n, struct wall_member *m, uint64_t due_us) {
	wall_member_clean(n, m);
	m->due_us = due_us;
	m->state = MEMBER_LATER;
	RB_INSERT(wall_members_by_time, &n->later, m);
}

uint64_t wall_members_wake(struct wall_ns *n, uint64_t now_us) {
	struct wall_member *m;
	while ((m = RB_MIN(wall_members_by_time, &n->later)) && m->due_us <= now_us)
		wall_member_dirty(n, m, false);
	return m ? m->due_us : 0;
}

static struct wall_member *wall_member_add(struct wall_ns *n, const char *name) {
	struct wall_member *m = walls_alloc(sizeof(*m) + strlen(name) + 1);
	strcpy(m->name, name);
	RB_INSERT(wall_members, &n->members, m);
	return m;
}

/* No Firewall counts M any more. */
static void wall_member_uncount(struct controller *c, struct wall_ns *n, const struct wall_member *m) {
	struct wall *w;
	RB_FOREACH (w, walls_by_name, &n->walls) {
		if (w->number / 64 >= m->words)
			continue;
		const bool selected = wall_bit(m->bits, w), bad = wall_bit(m->bits + m->words, w);
		w->selected -= selected;
		w->bad -= bad;
		if (w->example == m)
			w->example = NULL;
		if (selected || bad)
			wall_queue_status(c, n, w);
	}
}

static void wall_member_remove(struct controller *c, struct wall_ns *n, struct wall_member *m) {
	wall_member_clean(n, m);
	wall_member_uncount(c, n, m);
	if (n->now.member == m)
		n->now.member = NULL;
	if (n->passed == m)
		n->passed = wall_member_next(m);
	for (size_t i = 0; i < m->n_groups; i++)
		wall_group_unref(n, m->groups[i]);
	RB_REMOVE(wall_members, &n->members, m);
	free(m->groups);
	free(m->bits);
	free(m);
}

const struct api_condition *wall_refusal(const struct instance *i) {
	const struct api_condition *c = i->status ? api_condition_find(i->status->conditions.v, i->status->conditions.n,
	                                                               FIREWALL_INSTANCE_CONDITION)
	                                          : NULL;
	return c && streq(c->status, "False") ? c : NULL;
}

/* True if what Firewalls are to OLD they may not be to NOW. */
static bool walls_concern(const struct instance *old, const struct instance *now) {
	const struct api_condition *a = wall_refusal(old), *b = wall_refusal(now);
	return !streq(old->meta.uid, now->meta.uid) || !api_labels_equal(&old->meta.labels, &now->meta.labels) ||
	       !streq(instance_id(old), instance_id(now)) ||
	       !streq(old->status ? old->status->host : NULL, now->status ? now->status->host : NULL) || !a != !b ||
	       (a && (!streq(a->reason, b->reason) || !streq(a->message, b->message)));
}

static void walls_counted(struct controller *c, const char *ns, const char *firewall) {
	concern_enqueue_after(c, &concern_firewalls, ns, firewall, 200 * USEC_PER_MSEC);
}

static const struct instance_firewall *walls_counters(const struct instance *i) {
	return i && i->status ? i->status->firewall : NULL;
}

static void walls_instance_changed(struct controller *c, const struct kube_change *ch) {
	struct walls *all = walls_of(c);
	struct wall_ns *n = wall_ns_get(all, ch->ns);
	struct wall_member *m = wall_member_find(n, ch->name);
	const struct instance *now = ch->obj, *old = ch->old;
	const bool deleted = ch->type == KUBE_DELETED;
	sums_change(all->sums, ch->ns, walls_counters(deleted ? now : old), walls_counters(deleted ? NULL : now),
	            walls_counted, c);
	if (deleted) {
		if (m)
			wall_member_remove(c, n, m);
		wall_ns_release(all, n);
		return;
	}
	if (m && old && !walls_concern(old, now))
		return;
	if (!m)
		m = wall_member_add(n, ch->name);
	wall_member_dirty(n, m, true);
	groups_queue(c, n);
}

/* The agent, which makes Endpoints, can't write their groups; but one that is made anew has none. */
static void walls_endpoint_changed(struct controller *c, const struct kube_change *ch) {
	const struct endpoint *e = ch->obj;
	const struct api_object_ref *o = e->spec->owner;
	struct wall_ns *n = o && o->ns && streq(o->kind, "Instance") ? wall_ns_find(walls_of(c), o->ns) : NULL;
	struct wall_member *m = n ? wall_member_find(n, o->name) : NULL;
	if (!m || ch->type == KUBE_DELETED || m->state != MEMBER_IDLE || !groups_differ(c, n, m))
		return;
	wall_member_dirty(n, m, false);
	groups_queue(c, n);
}

/* ---- ---- */

static void walls_started(struct controller *c) {
	struct wall_member *m;
	struct wall_ns *n;
	RB_FOREACH (n, wall_nss, &walls_of(c)->namespaces) {
		n->everything = true;
		n->passing = false;
		n->now.member = NULL;
		RB_FOREACH (m, wall_members, &n->members)
			wall_member_clean(n, m); /* the pass looks at all of them */
		groups_queue(c, n);
	}
}

static int walls_open(_unused_ struct controller *c, _unused_ const struct controller_options *o, void **ret,
                      struct error *err) {
	struct walls *w = calloc(1, sizeof(*w));
	if (!w)
		return error_oom(err);
	RB_INIT(&w->namespaces);
	w->sums = sums_new();
	*ret = w;
	return 0;
}

static void wall_ns_free(struct walls *all, struct wall_ns *n) {
	struct wall_member *m;
	struct wall *w;
	while ((w = RB_MIN(walls_by_name, &n->walls)))
		wall_remove(n, w);
	while ((m = RB_MIN(wall_members, &n->members)))
		wall_member_remove(NULL, n, m);
	wall_ns_release(all, n);
}

static void walls_close(void *state) {
	struct walls *w = state;
	struct wall_ns *n;
	while ((n = RB_MIN(wall_nss, &w->namespaces)))
		wall_ns_free(w, n);
	sums_free(w->sums);
	free(w);
}

const struct concern concern_walls = {
	.name = "walls",
	.watches = {{.kind = &api_kind_firewall, .changed = walls_firewall_changed},
                    {.kind = &api_kind_instance, .changed = walls_instance_changed},
                    {.kind = &api_kind_endpoint, .changed = walls_endpoint_changed}},
	.open = walls_open,
	.started = walls_started,
	.close = walls_close,
};
