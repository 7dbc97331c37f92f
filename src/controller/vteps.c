/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whose a VTEP is. Frames for a host are addressed to its router MAC, which follows from its VTEP (base/vtep.h); two
 * hosts of one VTEP, or of one such MAC, would get each other's traffic. The older Host has it, the younger is not
 * Ready.
 */

#include <string.h>

#include "base/tree.h"
#include "base/util.h"
#include "base/vtep.h"
#include "controller/controller.h"

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

static bool mac_of(const struct host *h, struct mac *ret) {
	struct addr vtep;
	if (!h || !h->spec || !h->spec->vtep || addr_parse(h->spec->vtep, &vtep, NULL) < 0)
		return false;
	*ret = vtep_router_mac(&vtep);
	return true;
}

static struct claimant *new_claimant(const struct mac *mac, const char *host) {
	size_t n = strlen(host) + 1;
	struct claimant *cl = calloc(1, sizeof(*cl) + n);
	if (!cl)
		abort(); /* two hosts might have one VTEP and nobody would see it */
	cl->mac = *mac;
	memcpy(cl->host, host, n);
	return cl;
}

/* The first with this MAC; claimants of one MAC follow each other. */
static struct claimant *first_of(const struct vteps *v, const struct mac *mac) {
	struct claimant *key = new_claimant(mac, "");
	struct claimant *found = RB_NFIND(claimants, (struct claimants *)&v->claimants, key);
	free(key);
	return found;
}

static bool has_mac(const struct claimant *cl, const struct mac *mac) {
	return cl && memcmp(cl->mac.bytes, mac->bytes, sizeof(mac->bytes)) == 0;
}

static void enqueue_all_of(const struct vteps *v, const struct mac *mac) {
	for (struct claimant *cl = first_of(v, mac); has_mac(cl, mac); cl = RB_NEXT(claimants, &v->claimants, cl))
		enqueue(v->c, QUEUE_HOSTS, NULL, cl->host);
}

static void on_host(const struct kube_change *ch, void *userdata) {
	struct vteps *v = userdata;
	struct mac was, now;
	if (ch->type == KUBE_SYNCED)
		return;
	bool had = mac_of(ch->type == KUBE_DELETED ? ch->obj : ch->old, &was);
	bool has = ch->type != KUBE_DELETED && mac_of(ch->obj, &now);
	if (had && has && memcmp(was.bytes, now.bytes, sizeof(now.bytes)) == 0)
		return;
	if (had) {
		struct claimant *key = new_claimant(&was, ch->name);
		struct claimant *cl = RB_FIND(claimants, &v->claimants, key);
		free(key);
		if (cl)
			RB_REMOVE(claimants, &v->claimants, cl);
		free(cl);
		enqueue_all_of(v, &was);
	}
	if (has) {
		struct claimant *cl = new_claimant(&now, ch->name);
		if (RB_INSERT(claimants, &v->claimants, cl))
			free(cl);
		enqueue_all_of(v, &now);
	}
}

static bool older(const struct host *a, const struct host *b) {
	const char *x = a->meta.creation_timestamp ? a->meta.creation_timestamp : "";
	const char *y = b->meta.creation_timestamp ? b->meta.creation_timestamp : "";
	int c = strcmp(x, y);
	return c ? c < 0 : strcmp(a->meta.name, b->meta.name) < 0;
}

const struct host *vteps_rival(const struct vteps *v, const struct host *h) {
	const struct host *found = NULL;
	struct mac mac;
	if (!mac_of(h, &mac))
		return NULL;
	for (struct claimant *cl = first_of(v, &mac); has_mac(cl, &mac); cl = RB_NEXT(claimants, &v->claimants, cl)) {
		const struct host *o = kube_cache_get(v->c->hosts, NULL, cl->host);
		if (o && o != h && !streq(o->meta.name, h->meta.name) && older(o, h) && (!found || older(o, found)))
			found = o;
	}
	return found;
}

int vteps_new(struct vteps **ret, struct controller *c) {
	struct vteps *v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->c = c;
	RB_INIT(&v->claimants);
	*ret = v;
	return kube_cache_on_change(c->hosts, on_host, v) < 0 ? -ENOMEM : 0;
}

struct vteps *vteps_free(struct vteps *v) {
	struct claimant *cl;
	if (!v)
		return NULL;
	while ((cl = RB_MIN(claimants, &v->claimants))) {
		RB_REMOVE(claimants, &v->claimants, cl);
		free(cl);
	}
	free(v);
	return NULL;
}
