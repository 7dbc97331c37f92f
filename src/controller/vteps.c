/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Decides which Host a VTEP belongs to. Frames for a host are addressed to its router MAC, which follows from its VTEP
 * (base/vtep.h). Two hosts with the same VTEP, or the same such MAC, would get each other's traffic. The older Host has
 * the VTEP; the younger Host is not Ready.
 */

#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "base/vtep.h"
#include "controller/vteps.h"

struct claimant {
	RB_ENTRY(claimant) node;
	struct mac mac;
	char host[];
};

static int claimant_cmp(const struct claimant *a, const struct claimant *b) {
	int c = memcmp(a->mac.bytes, b->mac.bytes, sizeof(a->mac.bytes));
	return c ? c : strcmp(a->host, b->host);
}

RB_HEAD(claimants, claimant);
RB_GENERATE_INTERNAL(claimants, claimant, node, claimant_cmp, _unused_ static)

struct vteps {
	struct controller *c;
	struct claimants claimants;
};

static bool host_router_mac(const struct host *h, struct mac *ret) {
	struct addr vtep;
	if (!h || !h->spec || !h->spec->vtep || addr_parse(h->spec->vtep, &vtep, NULL) < 0)
		return false;
	*ret = vtep_router_mac(&vtep);
	return true;
}

static struct claimant *claimant_new(const struct mac *mac, const char *host) {
	size_t n = strlen(host) + 1;
	struct claimant *cl = calloc(1, sizeof(*cl) + n);
	if (!cl)
		abort(); /* two hosts might have one VTEP unnoticed */
	cl->mac = *mac;
	memcpy(cl->host, host, n);
	return cl;
}

/* The first claimant of this MAC, or the next one after it. Claimants of one MAC follow each other in the tree. */
static struct claimant *claimant_first(const struct vteps *v, const struct mac *mac) {
	struct claimant *key = claimant_new(mac, "");
	struct claimant *found = RB_NFIND(claimants, (struct claimants *)&v->claimants, key);
	free(key);
	return found;
}

static bool claimant_has_mac(const struct claimant *cl, const struct mac *mac) {
	return cl && memcmp(cl->mac.bytes, mac->bytes, sizeof(mac->bytes)) == 0;
}

static void vteps_enqueue_all_of(const struct vteps *v, const struct mac *mac) {
	for (struct claimant *cl = claimant_first(v, mac); claimant_has_mac(cl, mac);
	     cl = RB_NEXT(claimants, &v->claimants, cl))
		concern_enqueue(v->c, &concern_hosts, NULL, cl->host);
}

static void vteps_host_changed(struct controller *c, const struct kube_change *ch) {
	struct vteps *v = vteps_of(c);
	struct mac was, now;
	bool had = host_router_mac(ch->type == KUBE_DELETED ? ch->obj : ch->old, &was);
	bool has = ch->type != KUBE_DELETED && host_router_mac(ch->obj, &now);
	if (had && has && memcmp(was.bytes, now.bytes, sizeof(now.bytes)) == 0)
		return;
	if (had) {
		struct claimant *key = claimant_new(&was, ch->name);
		struct claimant *cl = RB_FIND(claimants, &v->claimants, key);
		free(key);
		if (cl)
			RB_REMOVE(claimants, &v->claimants, cl);
		free(cl);
		vteps_enqueue_all_of(v, &was);
	}
	if (has) {
		struct claimant *cl = claimant_new(&now, ch->name);
		if (RB_INSERT(claimants, &v->claimants, cl))
			free(cl);
		vteps_enqueue_all_of(v, &now);
	}
}

static bool host_is_older(const struct host *a, const struct host *b) {
	const char *x = a->meta.creation_timestamp ? a->meta.creation_timestamp : "";
	const char *y = b->meta.creation_timestamp ? b->meta.creation_timestamp : "";
	int c = strcmp(x, y);
	return c ? c < 0 : strcmp(a->meta.name, b->meta.name) < 0;
}

const struct host *vteps_rival(const struct vteps *v, const struct host *h) {
	const struct host *found = NULL;
	struct mac mac;
	if (!host_router_mac(h, &mac))
		return NULL;
	for (struct claimant *cl = claimant_first(v, &mac); claimant_has_mac(cl, &mac);
	     cl = RB_NEXT(claimants, &v->claimants, cl)) {
		const struct host *o = kube_cache_get(controller_cache(v->c, &api_kind_host), NULL, cl->host);
		if (o && o != h && !streq(o->meta.name, h->meta.name) && host_is_older(o, h) &&
		    (!found || host_is_older(o, found)))
			found = o;
	}
	return found;
}

static int vteps_open(struct controller *c, _unused_ const struct controller_options *o, void **ret,
                      struct error *err) {
	struct vteps *v = calloc(1, sizeof(*v));
	if (!v)
		return error_oom(err);
	v->c = c;
	RB_INIT(&v->claimants);
	*ret = v;
	return 0;
}

static void vteps_close(void *state) {
	struct vteps *v = state;
	struct claimant *cl;
	while ((cl = RB_MIN(claimants, &v->claimants))) {
		RB_REMOVE(claimants, &v->claimants, cl);
		free(cl);
	}
	free(v);
}

const struct concern concern_vteps = {
	.name = "vteps",
	.watches = {{.kind = &api_kind_host, .changed = vteps_host_changed}},
	.open = vteps_open,
	.close = vteps_close,
};
