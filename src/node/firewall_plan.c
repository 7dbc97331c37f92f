/* SPDX-License-Identifier: Apache-2.0 */
#include "node/firewall_plan.h"

#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "node/instnet.h"

#define TYPES_MAX 255
#define PORTS_MAX 65535

/* An echo reply to an echo request, and so on: types that the kernel tracks, in pairs (nf_conntrack_proto_icmp.c). */
static const struct {
	uint8_t protocol, request, reply;
} icmp_pairs[] = {{IPPROTO_ICMP, 8, 0},   {IPPROTO_ICMP, 13, 14},     {IPPROTO_ICMP, 15, 16},
                  {IPPROTO_ICMP, 17, 18}, {IPPROTO_ICMPV6, 128, 129}, {IPPROTO_ICMPV6, 139, 140}};

/* ---- rules to elements ---- */

struct collecting {
	struct firewall_plan *p;
	size_t room;
	bool failed;
};

static void plan_add(struct collecting *c, const struct firewall_element *e) {
	if (c->p->n == c->room) {
		size_t room = c->room ? 2 * c->room : 256;
		struct firewall_element *more = reallocarray(c->p->v, room, sizeof(*more));
		if (!more) {
			c->failed = true;
			return;
		}
		c->p->v = more;
		c->room = room;
	}
	c->p->v[c->p->n++] = *e;
}

/*
 * A reply of ICMP has another type than its request. It is looked up only if the rules have changed since the request;
 * as a packet that begins a connection the kernel drops it.
 */
static void plan_add_with_reply(struct collecting *c, const struct firewall_element *e) {
	struct firewall_element reply = *e;

	plan_add(c, e);
	for (size_t i = 0; i < ARRAY_SIZE(icmp_pairs); i++) {
		if (icmp_pairs[i].protocol != e->protocol || e->first != e->last || icmp_pairs[i].request != e->first)
			continue;
		reply.first = reply.last = icmp_pairs[i].reply;
		plan_add(c, &reply);
	}
}

static void plan_add_prefix(struct collecting *c, const struct firewall_element *like, const struct prefix *prefix) {
	struct firewall_element e = *like;
	bool four = prefix->addr.family == AF_INET;

	if (e.protocol == (four ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return;
	e.target = four ? FIREWALL_IPV4 : FIREWALL_IPV6;
	e.prefix = *prefix;
	plan_add_with_reply(c, &e);
}

static void plan_add_everywhere(struct collecting *c, const struct firewall_element *like) {
	static const struct prefix all[] = {{.addr = {.family = AF_INET6}}, {.addr = {.family = AF_INET}}};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		plan_add_prefix(c, like, &all[i]);
}

static uint8_t protocol_of(const char *word) {
	static const struct {
		const char *word;
		uint8_t number;
	} known[] = {{"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"icmp", IPPROTO_ICMP}, {"icmpv6", IPPROTO_ICMPV6}};

	for (size_t i = 0; word && i < ARRAY_SIZE(known); i++)
		if (streq(word, known[i].word))
			return known[i].number;
	return FIREWALL_ANY;
}

static void element_range(const struct firewall_rule *r, struct firewall_element *e) {
	switch (e->protocol) {
	case FIREWALL_ANY: break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		e->first = r->icmp_type.set ? (uint16_t)r->icmp_type.v : 0;
		e->last = r->icmp_type.set ? (uint16_t)r->icmp_type.v : TYPES_MAX;
		break;
	default:
		e->first = r->port.set ? (uint16_t)r->port.v : 0;
		e->last = r->end_port.set ? (uint16_t)r->end_port.v : r->port.set ? (uint16_t)r->port.v : PORTS_MAX;
	}
}

static int plan_read_rule(struct collecting *c, const char *ns, const struct firewall_rule *r,
                          struct firewall_element *like, struct error *err) {
	struct prefix prefix;
	char id[FIREWALL_GROUP_ID_MAX];
	int group;

	like->protocol = protocol_of(r->protocol);
	element_range(r, like);
	for (size_t i = 0; i < r->prefixes.n; i++) {
		int res = prefix_parse(r->prefixes.v[i], &prefix, err);
		if (res < 0)
			return res;
		plan_add_prefix(c, like, &prefix);
	}
	if (r->peers) {
		if (firewall_group_id(ns, r->peers, id) < 0)
			return error_oom(err);
		group = firewall_plan_group(c->p, id);
		if (group >= 0) {
			struct firewall_element e = *like;
			e.target = (uint8_t)(FIREWALL_GROUP0 + group);
			plan_add_with_reply(c, &e);
		}
	}
	if (!r->prefixes.n && !r->peers)
		plan_add_everywhere(c, like);
	return 0;
}

static int plan_read(struct collecting *c, const struct firewall *f, uint8_t owner, struct error *err) {
	const char *ns = f->meta.ns;
	int r = 0;

	for (size_t i = 0; i < f->spec->ingress.n && r >= 0; i++) {
		struct firewall_element like = {.owner = owner, .rule = (uint32_t)i};
		r = plan_read_rule(c, ns, &f->spec->ingress.v[i], &like, err);
	}
	for (size_t i = 0; i < f->spec->egress.n && c->p->deny_out && r >= 0; i++) {
		struct firewall_element like = {.owner = owner, .out = true, .rule = (uint32_t)i};
		r = plan_read_rule(c, ns, &f->spec->egress.v[i], &like, err);
	}
	return r;
}

/* spec.ingress of the Instance. Without `from` a rule is for both families. */
static void plan_read_own(struct collecting *c, const struct instnet_spec *spec) {
	for (size_t i = 0; i < spec->n_ingress; i++) {
		const struct instnet_ingress *in = &spec->ingress[i];
		struct firewall_element e = {.owner = FIREWALL_OWN, .rule = (uint32_t)i};
		struct firewall_element e4 = e;
		e.first = e.last = (uint16_t)in->port;
		e.protocol = in->proto == INSTNET_UDP ? IPPROTO_UDP : IPPROTO_TCP;
		e4 = e;
		if (in->proto == INSTNET_ICMP) {
			e.protocol = IPPROTO_ICMPV6;
			e.first = e.last = 128;
			e4.protocol = IPPROTO_ICMP;
			e4.first = e4.last = 8;
		}
		if (in->from.addr.family) {
			plan_add_prefix(c, &e, &in->from);
			continue;
		}
		plan_add_everywhere(c, &e);
		if (in->proto == INSTNET_ICMP)
			plan_add_everywhere(c, &e4);
	}
}

/* ---- layers ---- */

/* By prefix so that one that contains another comes before it; wide ranges first. */
static int element_compare(const void *x, const void *y) {
	const struct firewall_element *a = x, *b = y;
	int order;

	if (a->out != b->out)
		return a->out ? 1 : -1;
	if (a->target != b->target)
		return a->target < b->target ? -1 : 1;
	if (a->protocol != b->protocol)
		return a->protocol < b->protocol ? -1 : 1;
	order = memcmp(a->prefix.addr.bytes, b->prefix.addr.bytes, sizeof(a->prefix.addr.bytes));
	if (order)
		return order;
	if (a->prefix.len != b->prefix.len)
		return a->prefix.len < b->prefix.len ? -1 : 1;
	if (a->last - a->first != b->last - b->first)
		return a->last - a->first > b->last - b->first ? -1 : 1;
	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	if (a->owner != b->owner)
		return a->owner < b->owner ? -1 : 1;
	return a->rule < b->rule ? -1 : a->rule > b->rule;
}

struct range {
	uint16_t first, last;
	uint8_t owner;
};

/* The ranges of one layer that one prefix has: disjoint, in order. */
struct ranges {
	size_t n, room;
	struct range *v;
};

/* A prefix and those that contain it, the widest first. */
struct chain {
	size_t n;
	struct {
		struct prefix prefix;
		struct ranges layers[FIREWALL_LAYERS_MAX];
	} at[129];
};

/* Where the first range is that ends at FIRST or later. */
static size_t ranges_find(const struct ranges *r, uint16_t first) {
	size_t low = 0, high = r->n;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (r->v[middle].last < first)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int ranges_add(struct ranges *r, const struct firewall_element *e) {
	size_t at = ranges_find(r, e->first);

	if (r->n == r->room) {
		size_t room = r->room ? 2 * r->room : 8;
		struct range *more = reallocarray(r->v, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		r->v = more;
		r->room = room;
	}
	memmove(&r->v[at + 1], &r->v[at], (r->n - at) * sizeof(*r->v));
	r->v[at] = (struct range){e->first, e->last, e->owner};
	r->n++;
	return 0;
}

enum fit { FIT_FREE, FIT_OVERLAPS, FIT_COVERED };

/* Whether E fits into the layer; *RET_OWNER is raised to the owner of what it overlaps in part. */
static enum fit chain_fit(const struct chain *c, size_t layer, const struct firewall_element *e, uint8_t *ret_owner) {
	enum fit fit = FIT_FREE;

	for (size_t i = 0; i < c->n; i++) {
		const struct ranges *r = &c->at[i].layers[layer];
		size_t k = ranges_find(r, e->first);
		if (k == r->n || r->v[k].first > e->last)
			continue;
		if (r->v[k].first <= e->first && r->v[k].last >= e->last)
			return FIT_COVERED;
		fit = FIT_OVERLAPS;
		*ret_owner = MAX(*ret_owner, r->v[k].owner);
	}
	return fit;
}

static void chain_enter(struct chain *c, const struct prefix *p) {
	while (c->n && !prefix_contains(&c->at[c->n - 1].prefix, p))
		c->n--;
	if (c->n && c->at[c->n - 1].prefix.len == p->len)
		return;
	for (size_t i = 0; i < FIREWALL_LAYERS_MAX; i++)
		c->at[c->n].layers[i].n = 0;
	c->at[c->n++].prefix = *p;
}

static bool same_map(const struct firewall_element *a, const struct firewall_element *b) {
	return a->out == b->out && a->target == b->target && a->protocol == b->protocol;
}

#define LAYER_LEFT_OUT 255 /* within another element */

/* Places E. 1: there is no layer for it, and *RET_OWNER is the last of those that claim one. */
static int plan_place(struct chain *c, struct firewall_element *e, uint8_t *ret_owner) {
	uint8_t owner = e->owner;

	e->layer = LAYER_LEFT_OUT;
	chain_enter(c, &e->prefix);
	for (size_t i = 0; i < FIREWALL_LAYERS_MAX; i++) {
		enum fit fit = chain_fit(c, i, e, &owner);
		if (fit == FIT_COVERED) {
			e->layer = LAYER_LEFT_OUT;
			return 0;
		}
		if (fit == FIT_FREE && e->layer == LAYER_LEFT_OUT)
			e->layer = (uint8_t)i;
	}
	if (e->layer != LAYER_LEFT_OUT)
		return ranges_add(&c->at[c->n - 1].layers[e->layer], e);
	*ret_owner = owner;
	return 1;
}

/* A plan in which no Firewall of the mask P->deep takes part. 1: one more must not, and *RET_OWNER is its owner. */
static int plan_layers(struct firewall_plan *p, struct chain *c, uint8_t *ret_owner) {
	const struct firewall_element *before = NULL;
	int r = 0;

	for (size_t i = 0; i < p->n && r == 0; i++) {
		struct firewall_element *e = &p->v[i];
		e->layer = LAYER_LEFT_OUT;
		if (e->owner != FIREWALL_OWN && p->deep & UINT32_C(1) << (e->owner - 1))
			continue;
		if (!before || !same_map(before, e))
			c->n = 0;
		before = e;
		r = plan_place(c, e, ret_owner);
	}
	return r;
}

static int plan_place_all(struct firewall_plan *p, struct error *err) {
	_free_ struct chain *c = calloc(1, sizeof(*c));
	uint8_t owner = FIREWALL_OWN;
	size_t kept = 0;
	int r = c ? 1 : -ENOMEM;

	if (p->n)
		qsort(p->v, p->n, sizeof(*p->v), element_compare);
	while (r == 1) {
		r = plan_layers(p, c, &owner);
		/* Elements of the instance's own rules are of one port each: these don't overlap in part. */
		if (r == 1)
			p->deep |= UINT32_C(1) << (owner - 1);
	}
	for (size_t i = 0; c && i < ARRAY_SIZE(c->at); i++)
		for (size_t k = 0; k < FIREWALL_LAYERS_MAX; k++)
			free(c->at[i].layers[k].v);
	if (r < 0)
		return error_oom(err);
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].layer != LAYER_LEFT_OUT)
			p->v[kept++] = p->v[i];
	p->n = kept;
	return 0;
}

/* ---- maps of hashes ---- */

static bool element_is_exact(const struct firewall_element *e) {
	return e->target < FIREWALL_GROUP0 && (e->protocol == IPPROTO_TCP || e->protocol == IPPROTO_UDP) &&
	       e->first == e->last;
}

/* No two exact elements with prefixes of one length are equal: the second one would lie within the first. */
static void plan_choose_hashed(struct firewall_plan *p) {
	size_t counts[2][FIREWALL_GROUP0][FIREWALL_LENGTHS] = {0};

	for (size_t i = 0; i < p->n; i++)
		if (element_is_exact(&p->v[i]))
			counts[p->v[i].out][p->v[i].target][p->v[i].prefix.len]++;
	for (size_t i = 0; i < p->n; i++)
		p->v[i].hashed = element_is_exact(&p->v[i]) &&
		                 counts[p->v[i].out][p->v[i].target][p->v[i].prefix.len] >= FIREWALL_HASHED_MIN;
}

/* ---- limits and groups ---- */

static void plan_note_group(struct firewall_plan *p, const char *id) {
	size_t at = 0;

	while (at < p->n_groups && strcmp(p->groups[at], id) < 0)
		at++;
	if (p->n_groups == FIREWALL_GROUPS_MAX || (at < p->n_groups && streq(p->groups[at], id)))
		return;
	memmove(p->groups[at + 1], p->groups[at], (p->n_groups - at) * sizeof(p->groups[0]));
	snprintf(p->groups[at], sizeof(p->groups[at]), "%s", id);
	p->n_groups++;
}

/* How many addresses the groups of S have that aren't in the plan yet. */
static size_t plan_count_members(const struct firewall_plan *p, const struct groups *g, const struct firewall_size *s) {
	size_t n = 0;

	for (size_t k = 0; k < s->n_groups && g; k++)
		if (firewall_plan_group(p, s->groups[k].id) < 0)
			n += groups_count(g, s->groups[k].id);
	return n;
}

static void plan_judge(const struct firewall_size *const *sizes, size_t n, const struct groups *g,
                       struct firewall_plan *p) {
	struct firewall_verdict verdicts[FIREWALL_ATTACHED_MAX];
	size_t members = 0;

	firewall_judge(sizes, n, verdicts);
	for (size_t i = 0; i < n; i++) {
		if (verdicts[i].limit != FIREWALL_FITS) {
			p->limited |= UINT32_C(1) << i;
			continue;
		}
		size_t more = plan_count_members(p, g, sizes[i]);
		if (more > FIREWALL_ADDRESSES_MAX - members) {
			p->crowded |= UINT32_C(1) << i;
			continue;
		}
		members += more;
		for (size_t k = 0; k < sizes[i]->n_groups; k++)
			plan_note_group(p, sizes[i]->groups[k].id);
	}
}

int firewall_sizes(const struct firewall_attached *a, struct firewall_sizes *ret) {
	int r = 0;

	*ret = (struct firewall_sizes){.n = MIN(a->n, (size_t)FIREWALL_ATTACHED_MAX)};
	for (size_t i = 0; i < ret->n && r >= 0; i++) {
		ret->v[i] = a->sizes ? a->sizes[i] : &ret->measured[i];
		if (!a->sizes)
			r = firewall_measure(a->v[i], &ret->measured[i]);
	}
	return r;
}

void firewall_sizes_done(struct firewall_sizes *s) {
	for (size_t i = 0; i < s->n; i++)
		firewall_size_clear(&s->measured[i]);
	s->n = 0;
}

int firewall_plan_groups(const struct firewall_attached *a, struct firewall_plan *ret, struct error *err) {
	struct firewall_sizes sizes;
	struct firewall_plan p = {.deny_out = a->unknown || a->deny_beyond};
	int r = firewall_sizes(a, &sizes);

	for (size_t i = 0; i < a->n; i++)
		p.deny_out |= firewall_denies_egress(a->v[i]);
	if (r >= 0)
		plan_judge(sizes.v, sizes.n, a->groups, &p);
	firewall_sizes_done(&sizes);
	if (r < 0)
		return error_oom(err);
	*ret = p;
	return 0;
}

int firewall_plan(const struct instnet_spec *spec, const struct firewall_attached *a, struct firewall_plan *ret,
                  struct error *err) {
	struct firewall_plan p;
	struct collecting c = {.p = &p};
	int r = firewall_plan_groups(a, &p, err);

	if (r < 0)
		return r;
	plan_read_own(&c, spec);
	for (size_t i = 0; i < a->n && i < FIREWALL_ATTACHED_MAX && r >= 0; i++)
		if (!((p.limited | p.crowded) & UINT32_C(1) << i))
			r = plan_read(&c, a->v[i], (uint8_t)(i + 1), err);
	if (r >= 0)
		r = c.failed ? error_oom(err) : plan_place_all(&p, err);
	if (r < 0) {
		firewall_plan_done(&p);
		return r;
	}
	plan_choose_hashed(&p);
	*ret = p;
	return 0;
}

void firewall_plan_done(struct firewall_plan *p) {
	free(p->v);
	p->v = NULL;
	p->n = 0;
}

int firewall_plan_group(const struct firewall_plan *p, const char *id) {
	for (size_t i = 0; i < p->n_groups; i++)
		if (streq(p->groups[i], id))
			return (int)i;
	return -1;
}
