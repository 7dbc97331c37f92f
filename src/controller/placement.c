/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/placement.h"

#include <string.h>

#include "base/util.h"

/* What instances were promised on one host, by its name; the Host object may come later, or be gone. */
struct load {
	RB_ENTRY(load) node;
	int64_t vcpus, memory_mib;
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

static struct load *find(struct placement *p, const char *host) {
	size_t n = strlen(host) + 1;
	struct load *l = calloc(1, sizeof(*l) + n), *have;
	if (!l)
		abort(); /* a host whose load is not known would be overcommitted */
	memcpy(l->name, host, n);
	have = RB_INSERT(loads, &p->loads, l);
	if (have)
		free(l);
	return have ? have : l;
}

void placement_assume(struct placement *p, const char *host, int64_t vcpus, int64_t memory_mib) {
	struct load *l = find(p, host);
	l->vcpus += vcpus;
	l->memory_mib += memory_mib;
}

static void count(struct placement *p, const struct instance *i, int64_t sign) {
	if (i && instance_is_bound(i))
		placement_assume(p, i->status->host, sign * i->status->vcpus.v, sign * i->status->memory_mib.v);
}

static void on_instance(const struct kube_change *ch, void *userdata) {
	if (ch->type == KUBE_SYNCED)
		return;
	count(userdata, ch->type == KUBE_DELETED ? ch->obj : ch->old, -1);
	count(userdata, ch->type == KUBE_DELETED ? NULL : ch->obj, 1);
}

/* What is free on each host now, in scratch memory. */
static size_t look(struct placement *p) {
	const struct host *h;
	size_t n = 0, want = kube_cache_count(p->c->hosts);
	if (want > p->cap) {
		struct fit_host *v = reallocarray(p->hosts, want, sizeof(*v));
		if (!v)
			abort();
		p->hosts = v;
		p->cap = want;
	}
	KUBE_CACHE_FOREACH(h, p->c->hosts) {
		const struct host_capacity cap = host_usable(h);
		const struct load *l = find(p, h->meta.name);
		p->hosts[n++] = (struct fit_host){.host = h,
		                                  .alive = !host_is_lost(p->c, h->meta.name),
		                                  .free_vcpus = cap.vcpus.v - l->vcpus,
		                                  .free_memory_mib = cap.memory_mib.v - l->memory_mib};
	}
	return n;
}

int placement_choose(struct placement *p, const struct instance_spec *spec, const struct instancetype *type,
                     const char **ret_host, char why[static FIT_MESSAGE_MAX]) {
	size_t n = look(p);
	int best = fit_choose(p->hosts, n, spec, type, why);
	if (best < 0)
		return -ENOSPC;
	*ret_host = p->hosts[best].host->meta.name;
	return 0;
}

size_t placement_choose_gang(struct placement *p, const struct instance_spec *spec, const struct instancetype *type,
                             size_t count, const char **hosts, char why[static FIT_MESSAGE_MAX]) {
	size_t n = look(p);
	int *at = calloc(count, sizeof(*at));
	if (!at)
		abort();
	size_t fit = fit_gang(p->hosts, n, spec, type, count, at, why);
	for (size_t i = 0; i < fit; i++)
		hosts[i] = p->hosts[at[i]].host->meta.name;
	free(at);
	return fit;
}

int placement_new(struct placement **ret, struct controller *c) {
	struct placement *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->c = c;
	RB_INIT(&p->loads);
	*ret = p;
	return kube_cache_on_change(c->instances, on_instance, p);
}

struct placement *placement_free(struct placement *p) {
	struct load *l;
	if (!p)
		return NULL;
	while ((l = RB_MIN(loads, &p->loads))) {
		RB_REMOVE(loads, &p->loads, l);
		free(l);
	}
	free(p->hosts);
	free(p);
	return NULL;
}
