/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/placement.h"

#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "controller/hosts.h"
#include "controller/room.h"

/* What instances were promised on the host of this name. The Host object may come later, or be gone. */
struct load {
	RB_ENTRY(load) node;
	struct resources taken;
	char name[];
};

static int load_cmp(const struct load *a, const struct load *b) {
	return strcmp(a->name, b->name);
}

RB_HEAD(loads, load);
RB_GENERATE_INTERNAL(loads, load, node, load_cmp, _unused_ static)

struct placement {
	struct controller *c;
	struct loads loads;
	struct fit_host *hosts; /* scratch memory */
	size_t cap;
};

static struct load *load_get(struct placement *p, const char *host) {
	struct load *l = TREE_FIND_STRING(load, &p->loads, node, name, host);
	size_t n = strlen(host) + 1;
	if (l)
		return l;
	l = calloc(1, sizeof(*l) + n);
	if (!l)
		abort(); /* a host whose load is not known would be overcommitted */
	memcpy(l->name, host, n);
	RB_INSERT(loads, &p->loads, l);
	return l;
}

void placement_assume(struct placement *p, const char *host, const struct resources *size) {
	resources_add(&load_get(p, host)->taken, size);
	room_reasons_changed(p->c);
}

void placement_settle(struct placement *p, const struct instance *i, const char *host, const struct resources *size) {
	resources_subtract(&load_get(p, host)->taken, size);
	/* If the instance is bound to this host it counts by itself, and nothing has become free. */
	if (!i || !instance_is_bound(i) || !streq(i->status->host, host))
		room_on_host(p->c, host);
}

static void load_count(struct placement *p, const struct instance *i, bool comes) {
	if (!i || !instance_is_bound(i))
		return;
	const struct resources size = instance_size(i->status);
	struct load *l = load_get(p, i->status->host);
	if (comes) {
		resources_add(&l->taken, &size);
		room_reasons_changed(p->c);
	} else {
		resources_subtract(&l->taken, &size);
		room_on_host(p->c, i->status->host);
	}
}

static bool counts_alike(const struct instance *a, const struct instance *b) {
	if (!instance_is_bound(a) || !instance_is_bound(b))
		return instance_is_bound(a) == instance_is_bound(b);
	const struct resources of_a = instance_size(a->status), of_b = instance_size(b->status);
	return streq(a->status->host, b->status->host) && resources_equal(&of_a, &of_b);
}

static void placement_instance_changed(struct controller *c, const struct kube_change *ch) {
	struct placement *p = placement_of(c);
	if (ch->type == KUBE_MODIFIED && counts_alike(ch->old, ch->obj))
		return;
	load_count(p, ch->type == KUBE_DELETED ? ch->obj : ch->old, false);
	load_count(p, ch->type == KUBE_DELETED ? NULL : ch->obj, true);
}

static void placement_look_at(struct placement *p, const struct host *h, struct fit_host *ret) {
	ret->host = h;
	ret->alive = !host_is_lost(p->c, h->meta.name);
	host_usable(h, &ret->usable);
	const struct load *l = load_get(p, h->meta.name);
	ret->free = ret->usable;
	resources_subtract(&ret->free, &l->taken);
}

/* Fills the scratch memory with what is free on each host now. Returns the number of hosts. */
static size_t placement_look(struct placement *p) {
	const struct host *h;
	const struct kube_cache *hosts = controller_cache(p->c, &api_kind_host);
	size_t n = 0, want = kube_cache_count(hosts);
	if (want > p->cap) {
		struct fit_host *v = reallocarray(p->hosts, want, sizeof(*v));
		if (!v)
			abort();
		p->hosts = v;
		p->cap = want;
	}
	KUBE_CACHE_FOREACH(h, hosts)
	placement_look_at(p, h, &p->hosts[n++]);
	return n;
}

/* False: there is no such host. */
static bool placement_look_at_name(struct placement *p, const char *host, struct fit_host *ret) {
	const struct host *h = kube_cache_get(controller_cache(p->c, &api_kind_host), NULL, host);
	if (h)
		placement_look_at(p, h, ret);
	return h;
}

bool placement_takes(struct placement *p, const char *host, const struct instance_spec *spec) {
	struct fit_host f;
	return placement_look_at_name(p, host, &f) && fit_takes(&f, spec);
}

bool placement_fits(struct placement *p, const char *host, const struct instance_spec *spec,
                    const struct instancetype *type) {
	struct fit_host f;
	return placement_look_at_name(p, host, &f) && fit_host(&f, spec, type);
}

int placement_choose(struct placement *p, const struct instance_spec *spec, const struct instancetype *type,
                     const char **ret_host, char why[static FIT_MESSAGE_MAX]) {
	size_t n = placement_look(p);
	int best = fit_choose(p->hosts, n, spec, type, why);
	if (best < 0)
		return -ENOSPC;
	*ret_host = p->hosts[best].host->meta.name;
	return 0;
}

size_t placement_choose_gang(struct placement *p, const struct instance_spec *spec, const struct instancetype *type,
                             size_t count, const char **hosts, char why[static FIT_MESSAGE_MAX]) {
	size_t n = placement_look(p);
	int *at = calloc(count, sizeof(*at));
	if (!at)
		abort();
	size_t fit = fit_gang(p->hosts, n, spec, type, count, at, why);
	for (size_t i = 0; fit == count && i < count; i++)
		hosts[i] = p->hosts[at[i]].host->meta.name;
	free(at);
	return fit;
}

/* ---- ---- */

static int placement_open(struct controller *c, _unused_ const struct controller_options *o, void **ret,
                          struct error *err) {
	struct placement *p = calloc(1, sizeof(*p));
	if (!p)
		return error_oom(err);
	p->c = c;
	RB_INIT(&p->loads);
	*ret = p;
	return 0;
}

static void placement_close(void *state) {
	struct placement *p = state;
	struct load *l;
	while ((l = RB_MIN(loads, &p->loads))) {
		RB_REMOVE(loads, &p->loads, l);
		free(l);
	}
	free(p->hosts);
	free(p);
}

const struct concern concern_placement = {
	.name = "placement",
	.watches = {{.kind = &api_kind_instance, .changed = placement_instance_changed}, {.kind = &api_kind_host}},
	.open = placement_open,
	.close = placement_close,
};
