/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>

#include "base/util.h"
#include "net/bgp-password.h"
#include "net/frrconf-internal.h"

#define ROUTER_BGP    "router bgp "
#define NETWORK       "network "
#define PATHS_MAX     256 /* FRR's MULTIPATH_NUM in Debian */
#define ROUTER_ID(id) (id) >> 24, (id) >> 16 & 255, (id) >> 8 & 255, (id)&255

/* A name for messages: characters that can't be printed become "?". */
struct frrconf_shown {
	char text[FRRCONF_NAME_MAX + 1];
};

static struct frrconf_shown frrconf_show(const char *name) {
	struct frrconf_shown s = {0};
	for (size_t i = 0; name && name[i] && i < sizeof(s.text) - 1; i++)
		s.text[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
	return s;
}

/* One word of FRR's language: 1 to MAX printable ASCII characters without blanks. */
static bool frrconf_is_word(const char *s, size_t max) {
	size_t n = 0;
	for (; s && s[n]; n++)
		if (s[n] <= ' ' || s[n] > '~' || n == max)
			return false;
	return n > 0;
}

/* FRR reads a name as an address if it can be one. */
static bool frrconf_is_address(const char *s) {
	struct in6_addr a;
	return inet_pton(AF_INET, s, &a) == 1 || inet_pton(AF_INET6, s, &a) == 1;
}

static bool frrconf_is_device(const char *s) {
	return frrconf_is_word(s, IFNAMSIZ - 1) && !strchr(s, '/') && !frrconf_is_address(s);
}

static bool frrconf_is_prefix(const struct prefix *p) {
	return (p->addr.family == AF_INET || p->addr.family == AF_INET6) && p->len <= addr_bits(p->addr.family);
}

static bool frrconf_ok_list(struct frrconf *c, const char *what, const char *name) {
	if (frrconf_is_word(name, FRRCONF_NAME_MAX))
		return true;
	frrconf_fail(c, EINVAL, "%s `%s`: name: must be 1 to %d printable ASCII characters without blanks", what,
	             frrconf_show(name).text, FRRCONF_NAME_MAX);
	return false;
}

/* The sequence number with a blank behind it, or "". */
static const char *frrconf_seq(unsigned seq, char out[static 32]) {
	out[0] = 0;
	if (seq)
		snprintf(out, 32, "seq %u ", seq);
	return out;
}

void frrconf_prefix_list_permit(struct frrconf *c, const char *name, unsigned seq, const struct prefix *p) {
	char number[32], text[PREFIX_STR_MAX];
	if (!frrconf_ok_list(c, "prefix list", name))
		return;
	if (!frrconf_is_prefix(p)) {
		frrconf_fail(c, EINVAL, "prefix list `%s`: prefix: is not a valid IPv4 or IPv6 prefix", name);
		return;
	}
	frrconf_add(c, c->root[FRRCONF_BGPD], c->bgp, "%s prefix-list %s %spermit %s",
	            p->addr.family == AF_INET ? "ip" : "ipv6", name, frrconf_seq(seq, number), prefix_str(p, text));
}

void frrconf_as_path_list_permit(struct frrconf *c, const char *name, unsigned seq, const char *regex) {
	char number[32];
	if (!frrconf_ok_list(c, "AS path list", name))
		return;
	if (!frrconf_is_word(regex, SIZE_MAX)) {
		frrconf_fail(c, EINVAL,
		             "AS path list `%s`: regular expression: must be printable ASCII characters without blanks",
		             name);
		return;
	}
	frrconf_add(c, c->root[FRRCONF_BGPD], c->bgp, "bgp as-path access-list %s %spermit %s", name,
	            frrconf_seq(seq, number), regex);
}

/* Adds a statement of the instance itself. FRR reads these before the address families. */
#define frrconf_add_bgp(c, ...) frrconf_add((c), (c)->bgp, (c)->ipv4 ? (c)->ipv4 : (c)->ipv6, __VA_ARGS__)

void frrconf_bgp(struct frrconf *c, const struct frrconf_bgp *bgp) {
	if (c->bgp)
		frrconf_fail(c, EEXIST, "BGP: there is an instance already");
	else if (bgp->asn == 0 || bgp->asn == UINT32_MAX)
		frrconf_fail(c, EINVAL, "BGP: AS number %u: must be 1 to 4294967294", bgp->asn);
	else if (bgp->router_id == 0)
		frrconf_fail(c, EINVAL, "BGP: router id: must not be 0");
	else
		c->bgp = frrconf_add(c, c->root[FRRCONF_BGPD], NULL, ROUTER_BGP "%u", bgp->asn);
	if (c->err.code)
		return;
	frrconf_add_bgp(c, "bgp router-id %u.%u.%u.%u", ROUTER_ID(bgp->router_id));
	if (bgp->no_policy)
		frrconf_add_bgp(c, "no bgp ebgp-requires-policy");
	frrconf_add_bgp(c, "no bgp default ipv4-unicast");
	if (bgp->any_network)
		frrconf_add_bgp(c, "no bgp network import-check");
	frrconf_add_bgp(c, "bgp bestpath as-path multipath-relax");
	if (bgp->coalesce_ms)
		frrconf_add_bgp(c, "coalesce-time %u", bgp->coalesce_ms);
}

/* The line that creates the neighbor or group NAME, which is a word. */
static const struct frrconf_line *frrconf_neighbor_named(const struct frrconf *c, const char *name) {
	char prefix[FRRCONF_NAME_MAX + 16];
	snprintf(prefix, sizeof(prefix), "neighbor %s ", name);
	return frrconf_find_neighbor(c->bgp, prefix);
}

/* Checks that there is an instance, and that NAME is valid for KIND and not in the instance yet. */
static bool frrconf_ok_neighbor(struct frrconf *c, enum frrconf_neighbor_kind kind, const char *name) {
	struct addr a;
	if (!c->bgp)
		frrconf_fail(c, EINVAL, "neighbor `%s`: there is no BGP instance", frrconf_show(name).text);
	else if (kind == FRRCONF_GROUP && (!frrconf_is_word(name, FRRCONF_NAME_MAX) || frrconf_is_address(name)))
		frrconf_fail(c, EINVAL,
		             "group `%s`: name: must be 1 to %d printable ASCII characters without blanks, and not an "
		             "address",
		             frrconf_show(name).text, FRRCONF_NAME_MAX);
	else if (kind == FRRCONF_DEVICE && !frrconf_is_device(name))
		frrconf_fail(c, EINVAL,
		             "neighbor `%s`: device: must be 1 to %d printable ASCII characters without blanks and "
		             "slashes, and not an address",
		             frrconf_show(name).text, IFNAMSIZ - 1);
	else if (kind == FRRCONF_ADDRESS && (!name || addr_parse(name, &a, NULL) < 0))
		frrconf_fail(c, EINVAL, "neighbor `%s`: address: must be an IPv4 or IPv6 address in canonical form",
		             frrconf_show(name).text);
	else if (frrconf_neighbor_named(c, name))
		frrconf_fail(c, EEXIST, "neighbor `%s`: there is a neighbor or group of that name already", name);
	return !c->err.code;
}

static bool frrconf_ok_settings(struct frrconf *c, const struct frrconf_neighbor *n) {
	if (n->remote_asn == UINT32_MAX)
		frrconf_fail(c, EINVAL, "neighbor `%s`: AS number %u: must be 1 to 4294967294", n->name, n->remote_asn);
	else if (n->hold_s < 3 || n->keepalive_s > n->hold_s || n->connect_s == 0)
		frrconf_fail(c, EINVAL,
		             "neighbor `%s`: timers %u, %u and %u s: hold must be 3 or more and not below keepalive, "
		             "and connect 1 or more",
		             n->name, n->keepalive_s, n->hold_s, n->connect_s);
	else if (n->password && n->password[0] && !frrconf_is_word(n->password, BGP_PASSWORD_MAX))
		frrconf_fail(c, EINVAL,
		             "neighbor `%s`: password: must be 1 to %d printable ASCII characters without blanks",
		             n->name, BGP_PASSWORD_MAX);
	return !c->err.code;
}

void frrconf_neighbor(struct frrconf *c, const struct frrconf_neighbor *n) {
	const char *name = n->name;
	char asn[16] = "external";
	if (c->err.code || !frrconf_ok_neighbor(c, n->kind, name) || !frrconf_ok_settings(c, n))
		return;
	if (n->remote_asn)
		snprintf(asn, sizeof(asn), "%u", n->remote_asn);
	if (n->kind == FRRCONF_GROUP)
		frrconf_add_bgp(c, "neighbor %s peer-group", name);
	frrconf_add_bgp(c, "neighbor %s %sremote-as %s", name, n->kind == FRRCONF_DEVICE ? "interface " : "", asn);
	frrconf_add_bgp(c, "neighbor %s timers %u %u", name, n->keepalive_s, n->hold_s);
	frrconf_add_bgp(c, "neighbor %s timers connect %u", name, n->connect_s);
	if (n->advertise_at_once)
		frrconf_add_bgp(c, "neighbor %s advertisement-interval 0", name);
	if (n->extended_nexthop)
		frrconf_add_bgp(c, "neighbor %s capability extended-nexthop", name);
	if (n->password && n->password[0])
		frrconf_add_bgp(c, "neighbor %s password %s", name, n->password);
	if (n->ttl_security)
		frrconf_add_bgp(c, "neighbor %s ttl-security hops 1", name);
}

void frrconf_group_member(struct frrconf *c, const char *group, const char *device) {
	char line[FRRCONF_NAME_MAX + 32];
	if (c->err.code || !frrconf_ok_neighbor(c, FRRCONF_DEVICE, device))
		return;
	snprintf(line, sizeof(line), "neighbor %s peer-group", group);
	if (!frrconf_is_word(group, FRRCONF_NAME_MAX) || !frrconf_find(c->bgp, line)) {
		frrconf_fail(c, ENOENT, "neighbor `%s`: group `%s`: there is no group of that name", device,
		             frrconf_show(group).text);
		return;
	}
	frrconf_add_bgp(c, "neighbor %s interface peer-group %s", device, group);
}

static bool frrconf_ok_family(struct frrconf *c, int family) {
	if (!c->bgp)
		frrconf_fail(c, EINVAL, "address family: there is no BGP instance");
	else if (family != AF_INET && family != AF_INET6)
		frrconf_fail(c, EINVAL, "address family %d: must be IPv4 or IPv6", family);
	return !c->err.code;
}

/* The context of an address family; created for its first line. NULL after a failure. */
static struct frrconf_line *frrconf_family(struct frrconf *c, int family) {
	if (family == AF_INET)
		return c->ipv4 = frrconf_add(c, c->bgp, c->ipv6, "address-family ipv4 unicast");
	return c->ipv6 = frrconf_add(c, c->bgp, NULL, "address-family ipv6 unicast");
}

#define frrconf_add_family(c, family, ...)                                  \
	do {                                                                \
		struct frrconf_line *_family = frrconf_family((c), family); \
		if (_family)                                                \
			frrconf_add((c), _family, NULL, __VA_ARGS__);       \
	} while (0)

/* FRR treats a missing list differently for each kind of list: it may let every route through. */
static bool frrconf_ok_reference(struct frrconf *c, const char *neighbor, const char *lists, const char *name) {
	char prefix[FRRCONF_NAME_MAX + 64];
	snprintf(prefix, sizeof(prefix), "%s %s ", lists, name);
	if (frrconf_is_word(name, FRRCONF_NAME_MAX) && frrconf_find_prefix(c->root[FRRCONF_BGPD], prefix))
		return true;
	frrconf_fail(c, ENOENT, "neighbor `%s`: list `%s`: there is no `%s` of that name", neighbor,
	             frrconf_show(name).text, lists);
	return false;
}

void frrconf_activate(struct frrconf *c, int family, const char *neighbor, const struct frrconf_activation *a) {
	const char *in = a->prefix_list_in, *out = a->as_path_list_out;
	if (!frrconf_ok_family(c, family))
		return;
	if (!frrconf_is_word(neighbor, FRRCONF_NAME_MAX) || !frrconf_neighbor_named(c, neighbor)) {
		frrconf_fail(c, ENOENT, "neighbor `%s`: there is no neighbor or group of that name to activate",
		             frrconf_show(neighbor).text);
		return;
	}
	if ((in && !frrconf_ok_reference(c, neighbor, family == AF_INET ? "ip prefix-list" : "ipv6 prefix-list", in)) ||
	    (out && !frrconf_ok_reference(c, neighbor, "bgp as-path access-list", out)))
		return;
	frrconf_add_family(c, family, "neighbor %s activate", neighbor);
	if (a->originate_default)
		frrconf_add_family(c, family, "neighbor %s default-originate", neighbor);
	if (in)
		frrconf_add_family(c, family, "neighbor %s prefix-list %s in", neighbor, in);
	if (out)
		frrconf_add_family(c, family, "neighbor %s filter-list %s out", neighbor, out);
	if (a->max_prefixes)
		frrconf_add_family(c, family, "neighbor %s maximum-prefix %u restart 5", neighbor, a->max_prefixes);
}

void frrconf_network(struct frrconf *c, const struct prefix *p) {
	char text[PREFIX_STR_MAX];
	if (!frrconf_is_prefix(p))
		frrconf_fail(c, EINVAL, "network: is not a valid IPv4 or IPv6 prefix");
	else if (frrconf_ok_family(c, p->addr.family))
		frrconf_add_family(c, p->addr.family, NETWORK "%s", prefix_str(p, text));
}

void frrconf_paths(struct frrconf *c, int family, unsigned paths) {
	if (paths == 0 || paths > PATHS_MAX)
		frrconf_fail(c, EINVAL, "maximum of paths %u: must be 1 to %d", paths, PATHS_MAX);
	else if (frrconf_ok_family(c, family))
		frrconf_add_family(c, family, "maximum-paths %u", paths);
}

static const struct frrconf_line *frrconf_instance(const struct frrconf *c) {
	return frrconf_find_prefix(c->root[FRRCONF_BGPD], ROUTER_BGP);
}

uint32_t frrconf_asn(const struct frrconf *c) {
	const struct frrconf_line *bgp = frrconf_instance(c);
	return bgp ? (uint32_t)strtoul(bgp->text + strlen(ROUTER_BGP), NULL, 10) : 0;
}

/* Adds the settings in the instance BGP of another model of the neighbor whose lines begin with PREFIX. */
static void frrconf_keep_settings(struct frrconf *c, const struct frrconf_line *bgp, const char *prefix) {
	const struct frrconf_line *l;
	TAILQ_FOREACH (l, &bgp->lines, link)
		if (starts_with(l->text, prefix))
			frrconf_add_bgp(c, "%s", l->text);
}

void frrconf_keep_neighbors(struct frrconf *c, const struct frrconf *old, const struct frrconf_activation *ipv4,
                            const struct frrconf_activation *ipv6) {
	const struct frrconf_line *bgp = frrconf_instance(old), *l;
	if (!bgp || c->err.code)
		return;
	if (frrconf_asn(old) != frrconf_asn(c)) {
		frrconf_fail(c, EBUSY,
		             "BGP: neighbors of an instance with AS number %u are to be kept, so the instance can't "
		             "have AS number %u",
		             frrconf_asn(old), frrconf_asn(c));
		return;
	}
	TAILQ_FOREACH (l, &bgp->lines, link) {
		char prefix[FRRCONF_NEIGHBOR_SIZE], *name = prefix + strlen(FRRCONF_NEIGHBOR);
		if (!frrconf_neighbor_prefix(l, prefix) || frrconf_find_neighbor(bgp, prefix) != l ||
		    strstr(l->text, " peer-group") || frrconf_find_neighbor(c->bgp, prefix))
			continue;
		frrconf_keep_settings(c, bgp, prefix);
		name[strcspn(name, " ")] = 0;
		frrconf_activate(c, AF_INET, name, ipv4);
		frrconf_activate(c, AF_INET6, name, ipv6);
	}
}

void frrconf_keep_networks(struct frrconf *c, const struct frrconf *old) {
	const struct frrconf_line *bgp = frrconf_instance(old), *family, *l;
	if (!bgp)
		return;
	TAILQ_FOREACH (family, &bgp->lines, link)
		TAILQ_FOREACH (l, &family->lines, link) {
			struct prefix p;
			if (starts_with(l->text, NETWORK) && prefix_parse(l->text + strlen(NETWORK), &p, NULL) == 0)
				frrconf_network(c, &p);
		}
}
