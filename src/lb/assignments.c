/* SPDX-License-Identifier: Apache-2.0 */
#include "lb/assignments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/tree.h"
#include "base/util.h"

/* An Endpoint with slices. */
struct owner {
	RB_ENTRY(owner) node;
	char *name, *created;
	struct balancer_endpoint to;
	struct claim *claims; /* one a slice */
	size_t n;
};

/* A slice of an Endpoint. */
struct claim {
	TAILQ_ENTRY(claim) node;
	struct owner *by;
	struct address *address;
	uint16_t first, last;
	bool lost;
};
TAILQ_HEAD(claim_list, claim);

/* A slice in the table. */
struct entry {
	uint16_t first, last;
	struct balancer_endpoint to;
};

enum mark { MARK_NONE, MARK_DIRTY, MARK_FAILED };

struct address {
	RB_ENTRY(address) node;
	TAILQ_ENTRY(address) marked;
	struct addr addr;
	enum mark mark;
	struct claim_list claims; /* in the order in which they get their ports */
	struct entry *entries;    /* in the table, by port */
	size_t n_entries, n_claims;
};
TAILQ_HEAD(address_list, address);
RB_HEAD(owner_tree, owner);
RB_HEAD(address_tree, address);

struct assignments {
	struct assignments_config c;
	struct owner_tree owners;
	struct address_tree addresses;
	struct address_list dirty, failed;
	struct assignments_stats stats;
};

static int owner_cmp(const struct owner *a, const struct owner *b) {
	return strcmp(a->name, b->name);
}
static int address_cmp(const struct address *a, const struct address *b) {
	return addr_cmp(&a->addr, &b->addr);
}
RB_GENERATE_INTERNAL(owner_tree, owner, node, owner_cmp, _unused_ static);
RB_GENERATE_INTERNAL(address_tree, address, node, address_cmp, _unused_ static);

int assignments_new(struct assignments **ret, const struct assignments_config *c, struct error *err) {
	struct assignments *o = calloc(1, sizeof(*o));
	if (!o)
		return error_oom(err);
	o->c = *c;
	RB_INIT(&o->owners);
	RB_INIT(&o->addresses);
	TAILQ_INIT(&o->dirty);
	TAILQ_INIT(&o->failed);
	*ret = o;
	return 0;
}

/* ---- marks ---- */

static void address_mark(struct assignments *o, struct address *a, enum mark mark) {
	struct address_list *const lists[] = {[MARK_DIRTY] = &o->dirty, [MARK_FAILED] = &o->failed};
	if (a->mark == mark)
		return;
	if (a->mark != MARK_NONE)
		TAILQ_REMOVE(lists[a->mark], a, marked);
	if (mark != MARK_NONE)
		TAILQ_INSERT_TAIL(lists[mark], a, marked);
	o->stats.failed += (size_t)(mark == MARK_FAILED) - (size_t)(a->mark == MARK_FAILED);
	o->stats.waiting += (size_t)(mark == MARK_DIRTY) - (size_t)(a->mark == MARK_DIRTY);
	a->mark = mark;
}

static void address_release(struct assignments *o, struct address *a) {
	if (!TAILQ_EMPTY(&a->claims) || a->n_entries || a->mark == MARK_FAILED)
		return;
	address_mark(o, a, MARK_NONE);
	RB_REMOVE(address_tree, &o->addresses, a);
	o->stats.addresses--;
	free(a->entries);
	free(a);
}

static struct address *address_get(struct assignments *o, const struct addr *addr) {
	struct address key = {.addr = *addr}, *a = RB_FIND(address_tree, &o->addresses, &key);
	if (a || !(a = calloc(1, sizeof(*a))))
		return a;
	a->addr = *addr;
	TAILQ_INIT(&a->claims);
	RB_INSERT(address_tree, &o->addresses, a);
	o->stats.addresses++;
	return a;
}

/* ---- claims ---- */

/* The order in which claims get their ports. Time stamps of a server have one length, so they are ordered as text. */
static int claim_cmp(const struct claim *a, const struct claim *b) {
	int r = strcmp(a->by->created, b->by->created);
	if (r == 0)
		r = strcmp(a->by->name, b->by->name);
	if (r == 0)
		r = (a->first > b->first) - (a->first < b->first);
	return r ? r : (a->last > b->last) - (a->last < b->last);
}

static void claim_insert(struct assignments *o, struct claim *c) {
	struct address *a = c->address;
	struct claim *before = TAILQ_LAST(&a->claims, claim_list);
	/* A new claim is mostly the youngest one. */
	while (before && claim_cmp(c, before) < 0)
		before = TAILQ_PREV(before, claim_list, node);
	if (before)
		TAILQ_INSERT_AFTER(&a->claims, before, c, node);
	else
		TAILQ_INSERT_HEAD(&a->claims, c, node);
	a->n_claims++;
	address_mark(o, a, MARK_DIRTY);
}

static void claim_remove(struct assignments *o, struct claim *c) {
	TAILQ_REMOVE(&c->address->claims, c, node);
	c->address->n_claims--;
	o->stats.conflicts -= c->lost;
	address_mark(o, c->address, MARK_DIRTY);
}

static bool same_endpoint(const struct balancer_endpoint *a, const struct balancer_endpoint *b) {
	return addr_cmp(&a->vtep, &b->vtep) == 0 && memcmp(&a->mac, &b->mac, sizeof(a->mac)) == 0;
}

static void owner_free(struct owner *w) {
	if (!w)
		return;
	free(w->name);
	free(w->created);
	free(w->claims);
	free(w);
}

/* Frees W, whose claims are in no list yet. assignments_apply() frees addresses that were made for it. */
static void owner_discard(struct assignments *o, struct owner *w) {
	for (size_t i = 0; i < w->n; i++)
		address_mark(o, w->claims[i].address, MARK_DIRTY);
	owner_free(w);
}

static void owner_remove(struct assignments *o, struct owner *w) {
	for (size_t i = 0; i < w->n; i++)
		claim_remove(o, &w->claims[i]);
	RB_REMOVE(owner_tree, &o->owners, w);
	o->stats.endpoints--;
	owner_free(w);
}

static bool owner_is(const struct owner *w, const char *created, const struct balancer_endpoint *to,
                     const struct slice *slices, size_t n) {
	bool same = w->n == n && streq(w->created, created) && same_endpoint(&w->to, to);
	for (size_t i = 0; same && i < n; i++)
		same = w->claims[i].first == slices[i].first && w->claims[i].last == slices[i].last &&
		       addr_cmp(&w->claims[i].address->addr, &slices[i].addr) == 0;
	return same;
}

int assignments_put(struct assignments *o, const char *name, const char *created, const struct balancer_endpoint *to,
                    const struct slice *slices, size_t n, struct error *err) {
	struct owner *old = TREE_FIND_STRING(owner, &o->owners, node, name, name), *w;
	char text[SLICE_STR_MAX];
	for (size_t i = 0; i < n; i++)
		if (!slice_is_aligned(&slices[i]))
			return error_set(err, EINVAL, "%s is not aligned", slice_str(&slices[i], text));
	if (n == 0) {
		assignments_remove(o, name);
		return 0;
	}
	if (old && owner_is(old, created, to, slices, n))
		return 0;
	if (!(w = calloc(1, sizeof(*w))))
		return error_oom(err);
	w->name = strdup(name);
	w->created = strdup(created);
	w->claims = calloc(n, sizeof(*w->claims));
	w->to = *to;
	bool ok = w->name && w->created && w->claims;
	for (size_t i = 0; ok && i < n; i++) {
		struct address *a = address_get(o, &slices[i].addr);
		w->claims[i] = (struct claim){.by = w, .address = a, .first = slices[i].first, .last = slices[i].last};
		w->n += ok = a != NULL;
	}
	if (!ok) {
		owner_discard(o, w);
		return error_oom(err);
	}
	for (size_t i = 0; i < n; i++)
		claim_insert(o, &w->claims[i]);
	if (old)
		owner_remove(o, old);
	RB_INSERT(owner_tree, &o->owners, w);
	o->stats.endpoints++;
	return 0;
}

void assignments_remove(struct assignments *o, const char *name) {
	struct owner *w = TREE_FIND_STRING(owner, &o->owners, node, name, name);
	if (w)
		owner_remove(o, w);
}

/* ---- one address ---- */

/*
 * Inserts C into the list of N winners, which are disjoint and ordered by port, unless one of them has some of its
 * ports: then returns that one.
 */
static const struct claim *winners_add(const struct claim **list, size_t *n, const struct claim *c) {
	size_t from = 0, to = *n;
	/* The first winner that begins after C. */
	while (from < to) {
		size_t middle = (from + to) / 2;
		if (list[middle]->first > c->last)
			to = middle;
		else
			from = middle + 1;
	}
	if (from > 0 && list[from - 1]->last >= c->first)
		return list[from - 1];
	memmove(list + from + 1, list + from, (*n - from) * sizeof(*list));
	list[from] = c;
	++*n;
	return NULL;
}

static struct slice slice_at(const struct address *a, uint16_t first, uint16_t last) {
	return (struct slice){.addr = a->addr, .first = first, .last = last};
}

/* Decides which claims on A get their ports. LIST has room for all claims. Returns how many do. */
static size_t address_decide(struct assignments *o, struct address *a, const struct claim **list) {
	struct claim *c;
	size_t n = 0;
	TAILQ_FOREACH (c, &a->claims, node) {
		const struct claim *winner = winners_add(list, &n, c);
		const struct slice s = slice_at(a, c->first, c->last);
		if (winner && !c->lost && o->c.conflict)
			o->c.conflict(&s, c->by->name, winner->by->name, o->c.userdata);
		o->stats.conflicts += (size_t)(winner != NULL) - (size_t)c->lost;
		c->lost = winner != NULL;
	}
	return n;
}

static bool entry_is(const struct entry *e, const struct claim *c) {
	return e->first == c->first && e->last == c->last;
}

/* Clears the entries of A that are no slice in LIST, by port. An entry that can't be cleared stays in A. */
static int address_clear(struct assignments *o, struct address *a, const struct claim *const *list, size_t n,
                         struct error *err) {
	size_t kept = 0, k = 0;
	int first = 0;
	for (size_t i = 0; i < a->n_entries; i++) {
		const struct entry e = a->entries[i];
		const struct slice s = slice_at(a, e.first, e.last);
		struct error one = {0};
		while (k < n && list[k]->first < e.first)
			k++;
		if (k == n || !entry_is(&e, list[k])) {
			int r = o->c.clear(&s, first < 0 ? &one : err, o->c.userdata);
			o->stats.changes += r >= 0;
			o->stats.slices -= r >= 0;
			first = first < 0 ? first : MIN(r, 0);
			if (r >= 0)
				continue;
		}
		a->entries[kept++] = e;
	}
	a->n_entries = kept;
	return first;
}

/* Sets the slices in LIST that are not in A's entries. The new entries are NEXT, which has room for all of LIST. */
static int address_set(struct assignments *o, struct address *a, const struct claim *const *list, size_t n,
                       struct entry *next, struct error *err) {
	size_t have = 0, k = 0;
	int first = 0;
	for (size_t i = 0; i < n; i++) {
		const struct slice s = slice_at(a, list[i]->first, list[i]->last);
		const struct entry e = {list[i]->first, list[i]->last, list[i]->by->to};
		struct error one = {0};
		while (k < a->n_entries && a->entries[k].first < e.first)
			k++;
		const bool there = k < a->n_entries && entry_is(&a->entries[k], list[i]);
		if (there && same_endpoint(&a->entries[k].to, &e.to)) {
			next[have++] = e;
			continue;
		}
		int r = o->c.set(&s, &e.to, first < 0 ? &one : err, o->c.userdata);
		o->stats.changes += r >= 0;
		o->stats.slices += r >= 0 && !there;
		if (r >= 0)
			next[have++] = e;
		else if (there && o->c.clear(&s, &one, o->c.userdata) < 0)
			next[have++] = a->entries[k];
		else if (there) {
			/* Nobody has its ports rather than one who has lost them. */
			o->stats.changes++;
			o->stats.slices--;
		}
		first = first < 0 ? first : MIN(r, 0);
	}
	free(a->entries);
	a->entries = next;
	a->n_entries = have;
	return first;
}

static int address_apply(struct assignments *o, struct address *a, struct error *err) {
	_free_ const struct claim **list = calloc(a->n_claims + 1, sizeof(*list));
	struct entry *next = calloc(a->n_claims + 1, sizeof(*next));
	if (!list || !next) {
		free(next);
		return error_oom(err);
	}
	const size_t n = address_decide(o, a, list);
	int r = address_clear(o, a, list, n, err);
	/* Ports of an entry that is still there may be those of another slice. */
	if (r < 0)
		free(next);
	else
		r = address_set(o, a, list, n, next, err);
	return r;
}

/* ---- all ---- */

int assignments_apply(struct assignments *o, size_t max, struct error *err) {
	struct address *a;
	int first = 0;
	for (; max && (a = TAILQ_FIRST(&o->dirty)); max--) {
		struct error one = {0};
		int r = address_apply(o, a, first < 0 ? &one : err);
		address_mark(o, a, r < 0 ? MARK_FAILED : MARK_NONE);
		address_release(o, a);
		first = first < 0 ? first : MIN(r, 0);
	}
	return first;
}

void assignments_retry(struct assignments *o) {
	struct address *a;
	while ((a = TAILQ_FIRST(&o->failed)))
		address_mark(o, a, MARK_DIRTY);
}

void assignments_forget(struct assignments *o) {
	struct address *a;
	RB_FOREACH (a, address_tree, &o->addresses) {
		a->n_entries = 0;
		address_mark(o, a, MARK_DIRTY);
	}
	o->stats.slices = 0;
}

void assignments_stats(const struct assignments *o, struct assignments_stats *ret) {
	*ret = o->stats;
}

struct assignments *assignments_free(struct assignments *o) {
	struct owner *w;
	struct address *a;
	if (!o)
		return NULL;
	while ((w = RB_ROOT(&o->owners))) {
		RB_REMOVE(owner_tree, &o->owners, w);
		owner_free(w);
	}
	while ((a = RB_ROOT(&o->addresses))) {
		RB_REMOVE(address_tree, &o->addresses, a);
		free(a->entries);
		free(a);
	}
	free(o);
	return NULL;
}
