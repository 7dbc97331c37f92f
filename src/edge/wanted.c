/* SPDX-License-Identifier: Apache-2.0 */

/* The wanted BGP configuration, from EdgePeers, AddressPools and the overlay. */

#include <string.h>

#include "api/addresspool.h"
#include "api/endpoint.h"
#include "base/util.h"
#include "base/vtep.h"
#include "edge/edge-internal.h"

struct list {
	struct prefix *v;
	size_t n, pools;
	bool full;
};

static int wanted_add(struct list *l, const struct prefix *p) {
	if (l->n == BGP_PREFIXES_MAX) {
		l->full = true;
		return 0;
	}
	struct prefix *more = reallocarray(l->v, l->n + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	l->v = more;
	l->v[l->n++] = *p;
	return 0;
}

static int add_pools(const struct edge *e, struct list *l) {
	const struct addresspool *pool;
	KUBE_CACHE_FOREACH(pool, e->pools) {
		struct prefix p;
		if (pool->spec->prefix && prefix_parse(pool->spec->prefix, &p, NULL) == 0 && wanted_add(l, &p) < 0)
			return -ENOMEM;
	}
	l->pools = l->n;
	return 0;
}

/*
 * A route of an endpoint: default routes come from edges and are not announced; others are announced unless a pool
 * holds them. Nothing of a balancer is announced: its routes are pools, and it must not draw the traffic of addresses
 * that are no pool's.
 */
static int look_at_prefix(const struct prefix *p, const char *endpoint, void *userdata) {
	struct list *l = userdata;
	if (p->len == 0 || starts_with(endpoint, ENDPOINT_OF_BALANCER))
		return 0;
	for (size_t i = 0; i < l->pools; i++)
		if (prefix_contains(&l->v[i], p))
			return 0;
	/* Endpoints that have the same prefix come one after the other. */
	return l->n > l->pools && prefix_cmp(&l->v[l->n - 1], p) == 0 ? 0 : wanted_add(l, p);
}

int edge_pool_prefixes(const struct edge *e, struct prefix **ret, size_t *ret_n, struct error *err) {
	struct list l = {0};
	if (add_pools(e, &l) < 0) {
		free(l.v);
		return error_oom(err);
	}
	/* edge_wanted_prefixes() reports more pools than the bound (thousands). */
	*ret = l.v;
	*ret_n = l.n;
	return 0;
}

int edge_wanted_prefixes(const struct edge *e, struct prefix **ret, size_t *ret_n, struct error *err) {
	struct list l = {0};
	int r = add_pools(e, &l);
	/* Otherwise they may all be in a pool that is missing here. */
	if (r >= 0 && kube_cache_count_bad(e->pools) == 0)
		r = overlay_foreach(fabric_overlay(e->c.fabric), look_at_prefix, &l);
	if (r < 0) {
		free(l.v);
		return error_oom(err);
	}
	if (l.full) {
		free(l.v);
		return error_set(
			err, E2BIG,
			"AddressPools, and Endpoints outside them, have more than %d prefixes to announce; create "
			"AddressPools that hold the Endpoints",
			BGP_PREFIXES_MAX);
	}
	*ret = l.v;
	*ret_n = l.n;
	return 0;
}

static bool is_uplink(const struct edge *e, const char *name) {
	for (size_t i = 0; i < e->c.n_uplinks; i++)
		if (streq(e->c.uplinks[i], name))
			return true;
	return false;
}

/* The first peer of this edge in the order of names; it sets the AS number. */
static const struct edgepeer *first_peer(const struct edge *e) {
	const struct edgepeer *p;
	KUBE_CACHE_FOREACH(p, e->peers) {
		if (streq(p->spec->edge, e->c.name))
			return p;
	}
	return NULL;
}

const char *edge_neighbor(const struct edgepeer *p) {
	return p->spec->interface ? p->spec->interface : p->spec->address;
}

static int read_password(const struct edge *e, const char *file, char password[static BGP_PASSWORD_MAX + 1],
                         struct error *err) {
	if (!e->c.passwords)
		return error_set(err, ENOENT, "edge %s was started without --bgp-passwords", e->c.name);
	_free_ char *path = strf("%s/%s", e->c.passwords, file);
	return path ? bgp_password_read(path, password, err) : error_oom(err);
}

const char *edge_peer_fault(const struct edge *e, const struct edgepeer *p, char password[static BGP_PASSWORD_MAX + 1],
                            char *msg, size_t size) {
	const struct edgepeer *first = first_peer(e), *other;
	if (p->spec->interface && !is_uplink(e, p->spec->interface)) {
		snprintf(msg, size, "spec.interface: edge %s has no uplink %s", e->c.name, p->spec->interface);
		return "NoSuchInterface";
	}
	if (first && first->spec->local_asn.v != p->spec->local_asn.v) {
		snprintf(msg, size, "spec.localASN: is %lld, but %lld in EdgePeer %s of the same edge",
		         (long long)p->spec->local_asn.v, (long long)first->spec->local_asn.v, first->meta.name);
		return "ASNConflict";
	}
	KUBE_CACHE_FOREACH(other, e->peers) {
		if (streq(other->meta.name, p->meta.name))
			break;
		if (streq(other->spec->edge, e->c.name) && streq(edge_neighbor(other), edge_neighbor(p))) {
			snprintf(msg, size, "EdgePeer %s names the same neighbor", other->meta.name);
			return "Duplicate";
		}
	}
	struct error err = {0};
	password[0] = 0;
	if (p->spec->password_file && read_password(e, p->spec->password_file, password, &err) < 0) {
		snprintf(msg, size, "spec.passwordFile: %s", err.msg);
		return "PasswordUnavailable";
	}
	return NULL;
}

int edge_wanted_config(const struct edge *e, const struct prefix *announce, size_t n, struct edge_look *l,
                       struct error *err) {
	struct bgp_peer peers[BGP_PEERS_MAX];
	_frrconf_free_ struct frrconf *config = NULL, *before = NULL;
	struct mac mac = vtep_router_mac(&e->c.vtep);
	struct bgp_config c = {
		.peers = peers,
		.announce = announce,
		.n_announce = n,
		.keep_neighbors = kube_cache_count_bad(e->peers) > 0,
		.keep_networks = l->announce && (l->keep_pools || fabric_endpoints_not_understood(e->c.fabric) > 0),
	};
	const struct edgepeer *p;
	char msg[256], password[BGP_PASSWORD_MAX + 1];
	int r = frrconf_new(&config, FRRCONF_DATACENTER, err);
	if (r >= 0 && (c.keep_neighbors || c.keep_networks))
		r = frr_told(&e->frr, FRRCONF_BGPD, &before, err);
	if (r < 0)
		return r;
	c.before = before;
	/* A number that differs between edges; it is nobody's address. */
	c.router_id = (uint32_t)mac.bytes[2] << 24 | (uint32_t)mac.bytes[3] << 16 | (uint32_t)mac.bytes[4] << 8 |
	              mac.bytes[5] | 1;
	KUBE_CACHE_FOREACH(p, e->peers) {
		if (!streq(p->spec->edge, e->c.name) || edge_peer_fault(e, p, password, msg, sizeof(msg)))
			continue;
		if (c.n_peers == BGP_PEERS_MAX)
			return error_set(err, E2BIG, "edge %s has more than %d EdgePeers", e->c.name, BGP_PEERS_MAX);
		c.local_asn = (uint32_t)p->spec->local_asn.v;
		peers[c.n_peers] = (struct bgp_peer){.neighbor = edge_neighbor(p),
		                                     .unnumbered = p->spec->interface != NULL,
		                                     .remote_asn = (uint32_t)p->spec->remote_asn.v,
		                                     .ttl_security = p->spec->ttl_security.v};
		memcpy(peers[c.n_peers].password, password, sizeof(password));
		snprintf(l->neighbors[c.n_peers], sizeof(l->neighbors[0]), "%s", edge_neighbor(p));
		c.n_peers++;
	}
	bgp_config_fill(&c, config);
	r = frrconf_error(config, err);
	if (r < 0)
		return r;
	l->config = TAKE_PTR(config);
	l->n_sessions = c.n_peers;
	return 0;
}
