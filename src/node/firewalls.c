/* SPDX-License-Identifier: Apache-2.0 */
#include "node/firewalls.h"

#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "kube/cache.h"

/* What a Firewall of the cache adds to an instance: it is measured once, not at each look at one. */
struct measured {
	RB_ENTRY(measured) entry;
	struct firewall_size size; /* without its groups' selectors */
	char name[];
};
RB_HEAD(measured_tree, measured);

/* The Firewalls of one namespace. */
struct guarded {
	RB_ENTRY(guarded) entry;
	struct firewalls *f;
	char ns[64];
	size_t instances; /* of this host; more than 0 */
	bool refused;     /* the last answer of the API was that it refuses */
	struct kube_cache *cache;
	struct measured_tree measured; /* those of the cache */
};
RB_HEAD(guardeds, guarded);

/*
 * An Endpoint that is in groups, as it was last seen: nobody else keeps it (fabric/fabric.h), and its deletion says no
 * more than its name.
 */
struct member {
	RB_ENTRY(member) entry;
	const char *name; /* in EP */
	struct endpoint *ep;
};
RB_HEAD(members, member);

struct firewalls {
	struct firewalls_config c;
	struct guardeds all;
	struct members members;
	struct groups *groups;
	bool endpoints_known;
};

static int guarded_compare(const struct guarded *a, const struct guarded *b) {
	return strcmp(a->ns, b->ns);
}
RB_GENERATE_INTERNAL(guardeds, guarded, entry, guarded_compare, _unused_ static);

static int member_compare(const struct member *a, const struct member *b) {
	return strcmp(a->name, b->name);
}
RB_GENERATE_INTERNAL(members, member, entry, member_compare, _unused_ static);

static int measured_compare(const struct measured *a, const struct measured *b) {
	return strcmp(a->name, b->name);
}
RB_GENERATE_INTERNAL(measured_tree, measured, entry, measured_compare, _unused_ static);

static struct guarded *guarded_find(const struct firewalls *f, const char *ns) {
	return TREE_FIND_STRING(guarded, (struct guardeds *)&f->all, entry, ns, ns);
}

/* ---- what Firewalls add to an instance ---- */

static struct measured *measured_find(const struct guarded *g, const char *name) {
	return TREE_FIND_STRING(measured, (struct measured_tree *)&g->measured, entry, name, name);
}

static void measured_free(struct guarded *g, struct measured *m) {
	RB_REMOVE(measured_tree, &g->measured, m);
	firewall_size_clear(&m->size);
	free(m);
}

static void measured_put(struct guarded *g, const char *name, const struct firewall *fw) {
	struct measured *m = measured_find(g, name);

	if (!m) {
		m = calloc(1, sizeof(*m) + strlen(name) + 1);
		if (!m)
			abort();
		strcpy(m->name, name);
		RB_INSERT(measured_tree, &g->measured, m);
	}
	firewall_size_clear(&m->size);
	if (firewall_measure(fw, &m->size) < 0)
		abort();
	/* They belong to FW, which the cache may exchange for an equal one. */
	for (size_t i = 0; m->size.groups && i < m->size.n_groups; i++)
		m->size.groups[i].peers = NULL;
}

/* ---- the Firewalls of a namespace ---- */

/* A change of the status, the labels or the annotations of a Firewall is none of its rules. */
static bool firewall_is_same(const struct firewall *a, const struct firewall *b) {
	return a && a->meta.generation.set && b->meta.generation.set && a->meta.generation.v == b->meta.generation.v &&
	       streq(a->meta.uid, b->meta.uid);
}

static void on_firewall(const struct kube_change *ch, void *userdata) {
	struct guarded *g = userdata;
	struct measured *m;

	if (ch->type == KUBE_MODIFIED && firewall_is_same(ch->old, ch->obj))
		return;
	if (ch->type == KUBE_DELETED) {
		if ((m = measured_find(g, ch->name)))
			measured_free(g, m);
	} else if (ch->type != KUBE_SYNCED)
		measured_put(g, ch->name, ch->obj);
	/* Before all are known, each change would only be repeated when they are. */
	if (g->f->endpoints_known && kube_cache_synced(g->cache))
		g->f->c.changed(g->f->c.userdata, g->ns);
	if (ch->type == KUBE_SYNCED)
		g->f->c.known(g->f->c.userdata);
}

static void on_bad_firewall(_unused_ const struct kube_cache *c, const char *ns, const char *name,
                            const struct error *why, void *userdata) {
	struct guarded *g = userdata;

	g->f->c.problem(g->f->c.userdata, ns, name, why);
	g->f->c.changed(g->f->c.userdata, g->ns);
}

static void on_good_firewall(_unused_ const struct kube_cache *c, const char *ns, const char *name, void *userdata) {
	struct guarded *g = userdata;

	g->f->c.problem(g->f->c.userdata, ns, name, NULL);
	g->f->c.changed(g->f->c.userdata, g->ns);
}

static void on_firewalls_state(_unused_ const struct kube_cache *c, bool connected, const struct error *err,
                               void *userdata) {
	struct guarded *g = userdata;
	bool refused = !connected && err && (err->code == EACCES || err->code == ENOENT);

	if (refused || g->refused)
		g->f->c.refused(g->f->c.userdata, g->ns, refused ? err : NULL);
	g->refused = refused;
}

static void guarded_free(struct guarded *g) {
	struct measured *m;

	while ((m = RB_ROOT(&g->measured)))
		measured_free(g, m);
	kube_cache_free(g->cache);
	free(g);
}

void firewalls_hold(struct firewalls *f, const char *ns) {
	struct guarded *g = guarded_find(f, ns);

	if (g) {
		g->instances++;
		return;
	}
	g = calloc(1, sizeof(*g));
	if (!g)
		abort();
	g->f = f;
	g->instances = 1;
	RB_INIT(&g->measured);
	snprintf(g->ns, sizeof(g->ns), "%s", ns);
	const struct kube_cache_options o = {.select.ns = g->ns,
	                                     .bad = on_bad_firewall,
	                                     .good = on_good_firewall,
	                                     .state = on_firewalls_state,
	                                     .userdata = g};
	if (kube_cache_new(&g->cache, f->c.client, &api_kind_firewall, &o, NULL) < 0 ||
	    kube_cache_on_change(g->cache, on_firewall, g) < 0)
		abort();
	RB_INSERT(guardeds, &f->all, g);
}

void firewalls_release(struct firewalls *f, const char *ns) {
	struct guarded *g = guarded_find(f, ns);

	if (!g || --g->instances > 0)
		return;
	RB_REMOVE(guardeds, &f->all, g);
	guarded_free(g);
	f->c.known(f->c.userdata);
}

bool firewalls_known(const struct firewalls *f, const char *ns) {
	const struct guarded *g = guarded_find(f, ns);

	return g && f->endpoints_known && kube_cache_synced(g->cache);
}

bool firewalls_known_all(const struct firewalls *f) {
	struct guarded *g;

	RB_FOREACH (g, guardeds, (struct guardeds *)&f->all)
		if (!kube_cache_synced(g->cache))
			return false;
	return f->endpoints_known;
}

/* ---- members of groups ---- */

static void member_free(struct member *m) {
	api_free(&api_kind_endpoint, m->ep);
	free(m);
}

static bool endpoint_has_groups(const struct endpoint *ep) {
	return ep->status && ep->status->groups.n > 0;
}

static bool size_has_group(const struct firewall_size *s, const char *const *ids, size_t n) {
	for (size_t i = 0; s->groups && i < s->n_groups; i++)
		for (size_t k = 0; k < n; k++)
			if (streq(s->groups[i].id, ids[k]))
				return true;
	return false;
}

static void count_change(_unused_ const struct group_change *c, void *userdata) {
	++*(size_t *)userdata;
}

/*
 * The Endpoint may have brought members into its groups, or taken them away, since change number BEFORE. A group has
 * members of its own namespace only.
 */
static void member_changed(struct firewalls *f, const struct endpoint *ep, uint64_t before) {
	const char *ns = ep->spec->owner ? ep->spec->owner->ns : NULL, *ids[ENDPOINT_GROUPS_MAX];
	struct guarded *g = ns && firewalls_known(f, ns) ? guarded_find(f, ns) : NULL;
	struct measured *m;
	size_t n = 0;

	if (!g)
		return;
	for (size_t i = 0; i < ep->status->groups.n && n < ENDPOINT_GROUPS_MAX; i++) {
		size_t changes = 0;
		ids[n] = ep->status->groups.v[i];
		n += groups_changes(f->groups, ids[n], before, count_change, &changes) == 1 || changes > 0;
	}
	RB_FOREACH (m, measured_tree, &g->measured)
		if (size_has_group(&m->size, ids, n)) {
			f->c.members(f->c.userdata, ns, ids, n);
			return;
		}
}

static void member_put(struct firewalls *f, const char *name, const struct endpoint *ep) {
	struct member *m = TREE_FIND_STRING(member, &f->members, entry, name, name);
	uint64_t before = groups_seq(f->groups);

	if (!m && (!ep || !endpoint_has_groups(ep)))
		return;
	groups_endpoint(f->groups, m ? m->ep : NULL, ep);
	if (m)
		member_changed(f, m->ep, before);
	if (m) {
		RB_REMOVE(members, &f->members, m);
		member_free(m);
	}
	if (!ep || !endpoint_has_groups(ep))
		return;
	m = calloc(1, sizeof(*m));
	if (!m || !(m->ep = api_copy(&api_kind_endpoint, ep)))
		abort();
	m->name = m->ep->meta.name;
	RB_INSERT(members, &f->members, m);
	member_changed(f, m->ep, before);
}

void firewalls_endpoint(struct firewalls *f, const struct kube_change *ch) {
	struct guarded *g;

	switch (ch->type) {
	case KUBE_ADDED:
	case KUBE_MODIFIED: member_put(f, ch->name, ch->obj); return;
	case KUBE_DELETED: member_put(f, ch->name, NULL); return;
	case KUBE_SYNCED: break;
	}
	if (f->endpoints_known)
		return;
	f->endpoints_known = true;
	RB_FOREACH (g, guardeds, &f->all)
		if (kube_cache_synced(g->cache))
			f->c.changed(f->c.userdata, g->ns);
	f->c.known(f->c.userdata);
}

/* ---- what an instance is guarded by ---- */

/* True if one was never understood, or at least not by this process. */
static bool guarded_lacks_one(const struct guarded *g) {
	const struct firewall *bad;

	KUBE_CACHE_FOREACH_BAD(bad, g->cache)
	if (!kube_cache_get(g->cache, bad->meta.ns, bad->meta.name))
		return true;
	return false;
}

void firewalls_attached(const struct firewalls *f, const char *ns, const struct api_map *labels,
                        struct firewalls_attached *ret) {
	const struct guarded *g = guarded_find(f, ns);
	const struct firewall *fw;

	*ret = (struct firewalls_attached){.is = {.v = ret->v, .sizes = ret->sizes, .groups = f->groups}};
	ret->pending = !firewalls_known(f, ns);
	ret->is.unknown = ret->pending || guarded_lacks_one(g);
	ret->stale = g && kube_cache_count_bad(g->cache) > 0;
	if (!g)
		return;
	KUBE_CACHE_FOREACH(fw, g->cache) {
		if (!api_selector_matches(fw->spec->instances, labels))
			continue;
		if (ret->is.n == FIREWALL_ATTACHED_MAX) {
			ret->beyond++;
			ret->is.deny_beyond |= firewall_denies_egress(fw);
			continue;
		}
		ret->sizes[ret->is.n] = &measured_find(g, fw->meta.name)->size;
		ret->v[ret->is.n++] = fw;
	}
}

bool firewalls_use(const struct firewalls *f, const char *ns, const struct api_map *labels, const char *const *ids,
                   size_t n) {
	const struct guarded *g = guarded_find(f, ns);
	const struct firewall *fw;

	if (!g)
		return false;
	KUBE_CACHE_FOREACH(fw, g->cache)
	if (size_has_group(&measured_find(g, fw->meta.name)->size, ids, n) &&
	    api_selector_matches(fw->spec->instances, labels))
		return true;
	return false;
}

size_t firewalls_not_understood(const struct firewalls *f) {
	struct guarded *g;
	size_t n = 0;

	RB_FOREACH (g, guardeds, (struct guardeds *)&f->all)
		n += kube_cache_count_bad(g->cache);
	return n;
}

int firewalls_new(struct firewalls **ret, const struct firewalls_config *c, struct error *err) {
	_cleanup_(cleanup_firewalls) struct firewalls *f = calloc(1, sizeof(*f));

	if (!f)
		return error_oom(err);
	f->c = *c;
	RB_INIT(&f->all);
	RB_INIT(&f->members);
	int r = groups_new(&f->groups, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(f);
	return 0;
}

struct firewalls *firewalls_free(struct firewalls *f) {
	struct guarded *g, *next;
	struct member *m, *next_member;

	if (!f)
		return NULL;
	RB_FOREACH_SAFE (g, guardeds, &f->all, next) {
		RB_REMOVE(guardeds, &f->all, g);
		guarded_free(g);
	}
	RB_FOREACH_SAFE (m, members, &f->members, next_member) {
		RB_REMOVE(members, &f->members, m);
		member_free(m);
	}
	groups_free(f->groups);
	free(f);
	return NULL;
}
