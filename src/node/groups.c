/* SPDX-License-Identifier: Apache-2.0 */
#include "node/groups.h"

#include <string.h>
#include <sys/socket.h>

#include "base/slice.h"
#include "base/tree.h"
#include "base/util.h"

#define IPV6_LEN_MIN 16
#define IPV6_LEN_MAX 64

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
	struct members members;
	size_t n;
};
RB_HEAD(group_tree, group);

struct groups {
	struct group_tree all;
	uint64_t seq;
	struct group_change ring[GROUPS_RING]; /* change number N is at N % GROUPS_RING */
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

static void groups_note(struct groups *g, const struct group *x, const struct group_element *e, bool removed) {
	struct group_change *c = &g->ring[++g->seq % GROUPS_RING];

	*c = (struct group_change){.seq = g->seq, .removed = removed, .element = *e};
	memcpy(c->id, x->id, sizeof(c->id));
}

static void *groups_allocate(size_t size) {
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

static void groups_add(struct groups *g, const char *id, const struct group_element *e) {
	struct member key = {.element = *e}, *m;
	struct group *x = group_find(g, id);

	if (!x) {
		x = groups_allocate(sizeof(*x));
		snprintf(x->id, sizeof(x->id), "%s", id);
		RB_INIT(&x->members);
		RB_INSERT(group_tree, &g->all, x);
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
		group_free(g, x);
}

/* False: the route gives no element. */
static bool group_element_of(const struct endpoint_route *r, struct group_element *ret) {
	struct group_element e = {0};
	struct error ignored;

	if (prefix_parse(r->prefix, &e.prefix, &ignored) < 0)
		return false;
	if (e.prefix.addr.family == AF_INET6) {
		*ret = e;
		return e.prefix.len >= IPV6_LEN_MIN && e.prefix.len <= IPV6_LEN_MAX && !endpoint_route_is_slice(r);
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

const struct group_change *groups_change(const struct groups *g, uint64_t seq) {
	const struct group_change *c = &g->ring[seq % GROUPS_RING];

	return seq && c->seq == seq ? c : NULL;
}
