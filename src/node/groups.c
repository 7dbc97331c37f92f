/* SPDX-License-Identifier: Apache-2.0 */
#include "node/groups.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/slice.h"
#include "base/tree.h"
#include "base/util.h"

#define OWN_LEN       64 /* of an instance's IPv6 prefix */
#define DELEGATED_LEN 60 /* of the one that it may delegate */

/* How often routes of Endpoints of the group give the element. */
struct member {
	RB_ENTRY(member) entry;
	struct group_element element;
	uint32_t count;
};
RB_HEAD(members, member);

struct group {
	RB_ENTRY(group) entry;
	char id[GROUP_ID_LEN + 1];
	TAILQ_ENTRY(group) empty_entry; /* without members: in `empty` */
	struct members members;
	size_t n;
	struct group_change *changes; /* change number N of the group, from 0, is at N % ROOM */
	size_t room;
	uint64_t noted;  /* changes of the group, since they are remembered */
	uint64_t before; /* changes up to this number are forgotten */
	uint64_t last;   /* the number of its last change */
};
RB_HEAD(group_tree, group);

struct groups {
	struct group_tree all;
	TAILQ_HEAD(, group) empty; /* those that lost their last member first come first */
	size_t n_empty;
	uint64_t seq;
	uint64_t forgotten; /* groups that are forgotten had no change after this */
};

/* By class first, so that a class is one stretch of the tree. */
static int member_compare(const struct member *a, const struct member *b) {
	const struct group_element *x = &a->element, *y = &b->element;

	if (x->prefix.addr.family != y->prefix.addr.family)
		return x->prefix.addr.family < y->prefix.addr.family ? -1 : 1;
	if (x->prefix.len != y->prefix.len)
		return x->prefix.len < y->prefix.len ? -1 : 1;
	if (x->port_bits != y->port_bits)
		return x->port_bits < y->port_bits ? -1 : 1;
	int order = memcmp(x->prefix.addr.bytes, y->prefix.addr.bytes, sizeof(x->prefix.addr.bytes));
	return order ? order : (int)x->port - (int)y->port;
}

static int group_compare(const struct group *a, const struct group *b) {
	return strcmp(a->id, b->id);
}

RB_GENERATE_INTERNAL(members, member, entry, member_compare, _unused_ static);
RB_GENERATE_INTERNAL(group_tree, group, entry, group_compare, _unused_ static);

int groups_new(struct groups **ret, struct error *err) {
	struct groups *g = calloc(1, sizeof(*g));

	if (!g)
		return error_oom(err);
	RB_INIT(&g->all);
	TAILQ_INIT(&g->empty);
	*ret = g;
	return 0;
}

static void group_free(struct groups *g, struct group *x) {
	struct member *m;

	while ((m = RB_ROOT(&x->members))) {
		RB_REMOVE(members, &x->members, m);
		free(m);
	}
	RB_REMOVE(group_tree, &g->all, x);
	free(x->changes);
	free(x);
}

struct groups *groups_free(struct groups *g) {
	while (g && RB_ROOT(&g->all))
		group_free(g, RB_ROOT(&g->all));
	free(g);
	return NULL;
}

static struct group *group_find(const struct groups *g, const char *id) {
	return TREE_FIND_STRING(group, &g->all, entry, id, id);
}

static void *groups_allocate(size_t size) {
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

/* What a group remembers takes no more memory than its members did. */
static void group_make_room(struct group *x) {
	size_t most = MAX(x->n, (size_t)GROUPS_CHANGES), room = x->room ? 2 * x->room : 4;

	if (x->noted < x->room || x->room >= most || room > GROUPS_RING)
		return;
	struct group_change *v = groups_allocate(room * sizeof(*v));
	for (uint64_t k = x->noted - x->room; k < x->noted; k++)
		v[k % room] = x->changes[k % x->room];
	free(x->changes);
	x->changes = v;
	x->room = room;
}

static void groups_note(struct groups *g, struct group *x, const struct group_element *e, bool removed) {
	group_make_room(x);
	struct group_change *c = &x->changes[x->noted % x->room];

	if (x->noted >= x->room)
		x->before = MAX(x->before, c->seq);
	*c = (struct group_change){.seq = ++g->seq, .removed = removed, .element = *e};
	x->last = g->seq;
	x->noted++;
}

static void groups_add(struct groups *g, const char *id, const struct group_element *e) {
	struct member key = {.element = *e}, *m;
	struct group *x = group_find(g, id);

	if (!x) {
		x = groups_allocate(sizeof(*x));
		snprintf(x->id, sizeof(x->id), "%s", id);
		RB_INIT(&x->members);
		x->before = g->forgotten;
		RB_INSERT(group_tree, &g->all, x);
	} else if (!x->n) {
		TAILQ_REMOVE(&g->empty, x, empty_entry);
		g->n_empty--;
	}
	m = RB_FIND(members, &x->members, &key);
	if (!m) {
		m = groups_allocate(sizeof(*m));
		m->element = *e;
		RB_INSERT(members, &x->members, m);
		x->n++;
		groups_note(g, x, e, false);
	}
	m->count++;
}

/* The group has lost its last member. */
static void groups_keep_empty(struct groups *g, struct group *x) {
	struct group *oldest = TAILQ_FIRST(&g->empty);

	if (x->room > GROUPS_CHANGES) {
		free(x->changes);
		x->changes = NULL;
		x->room = 0;
		x->noted = 0;
		x->before = x->last;
	}
	TAILQ_INSERT_TAIL(&g->empty, x, empty_entry);
	if (g->n_empty++ < GROUPS_EMPTY)
		return;
	g->n_empty--;
	g->forgotten = oldest->last;
	TAILQ_REMOVE(&g->empty, oldest, empty_entry);
	group_free(g, oldest);
}

static void groups_remove(struct groups *g, const char *id, const struct group_element *e) {
	struct member key = {.element = *e}, *m;
	struct group *x = group_find(g, id);

	m = x ? RB_FIND(members, &x->members, &key) : NULL;
	if (!m || --m->count)
		return;
	RB_REMOVE(members, &x->members, m);
	free(m);
	groups_note(g, x, e, true);
	if (!--x->n)
		groups_keep_empty(g, x);
}

/* False: the route gives no element. */
static bool group_element_of(const struct endpoint_route *r, struct group_element *ret) {
	struct group_element e = {0};
	struct error ignored;

	if (prefix_parse(r->prefix, &e.prefix, &ignored) < 0)
		return false;
	if (e.prefix.addr.family == AF_INET6) {
		*ret = e;
		return (e.prefix.len == OWN_LEN || e.prefix.len == DELEGATED_LEN) && !endpoint_route_is_slice(r);
	}
	if (endpoint_route_is_slice(r)) {
		const struct slice s = {e.prefix.addr, (uint16_t)r->first_port.v, (uint16_t)r->last_port.v};
		if (r->first_port.v > r->last_port.v || !slice_is_aligned(&s))
			return false;
		e.port = s.first;
		e.port_bits = (uint8_t)(16 - __builtin_ctz(slice_size(&s)));
	}
	*ret = e;
	return e.prefix.len == 32;
}

static void groups_apply(struct groups *g, const struct endpoint *e,
                         void (*apply)(struct groups *g, const char *id, const struct group_element *e)) {
	if (!e || !e->spec || !e->status)
		return;
	for (size_t i = 0; i < e->spec->routes.n && e->status->groups.n; i++) {
		struct group_element element;
		if (!group_element_of(&e->spec->routes.v[i], &element))
			continue;
		for (size_t k = 0; k < e->status->groups.n; k++)
			if (strlen(e->status->groups.v[k]) == GROUP_ID_LEN)
				apply(g, e->status->groups.v[k], &element);
	}
}

/* What is in both stays: it is added before it is removed. */
void groups_endpoint(struct groups *g, const struct endpoint *old, const struct endpoint *new) {
	groups_apply(g, new, groups_add);
	groups_apply(g, old, groups_remove);
}

uint64_t groups_seq(const struct groups *g) {
	return g->seq;
}

size_t groups_count(const struct groups *g, const char *id) {
	const struct group *x = group_find(g, id);

	return x ? x->n : 0;
}

void groups_each(const struct groups *g, const char *id, groups_fn fn, void *userdata) {
	struct group *x = group_find(g, id);
	struct member *m;

	if (!x)
		return;
	RB_FOREACH (m, members, &x->members)
		fn(&m->element, userdata);
}

int groups_changes(const struct groups *g, const char *id, uint64_t since, groups_change_fn fn, void *userdata) {
	const struct group *x = group_find(g, id);

	if (since < (x ? x->before : g->forgotten))
		return 1;
	uint64_t k = x ? x->noted : 0, oldest = x ? x->noted - MIN(x->noted, x->room) : 0;
	while (k > oldest && x->changes[(k - 1) % x->room].seq > since)
		k--;
	for (; x && k < x->noted; k++)
		fn(&x->changes[k % x->room], userdata);
	return 0;
}
