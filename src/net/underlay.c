/* SPDX-License-Identifier: Apache-2.0 */
#include "net/underlay.h"

#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "base/vtep.h"
#include "net/bgp-password.h"
#include "net/frr.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/nft.h"
#include "net/route.h"

/* New devices take the "default" values. A NIC that was in the namespace before has its own values, see nic_sysctls. */
static const struct netns_sysctl underlay_sysctls[] = {
	{"ipv4/ip_forward", "0"},
	{"ipv6/conf/all/forwarding", "0"},
	{"ipv6/conf/default/forwarding", "0"},
	{"ipv6/conf/all/accept_ra", "0"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/all/accept_redirects", "0"},
	{"ipv6/conf/default/accept_redirects", "0"},
	{"ipv6/conf/default/accept_dad", "0"},
	/* When a leaf is lost, routes to a VTEP use the other leaf without waiting for BGP. */
	{"ipv6/conf/all/ignore_routes_with_linkdown", "1"},
	{"ipv6/conf/default/ignore_routes_with_linkdown", "1"},
	/* Flows are spread by the outer UDP source port, which VXLAN derives from the inner flow. */
	{"ipv6/fib_multipath_hash_policy", "1"},
};

static const struct netns_sysctl public_sysctls[] = {
	{"ipv4/ip_forward", "1"},
	{"ipv4/conf/all/forwarding", "1"},
	{"ipv4/conf/default/forwarding", "1"},
	{"ipv6/conf/all/forwarding", "1"},
	{"ipv6/conf/default/forwarding", "1"},
	{"ipv6/conf/all/accept_ra", "0"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/all/accept_redirects", "0"},
	{"ipv6/conf/default/accept_redirects", "0"},
	{"ipv6/conf/default/accept_dad", "0"},
	{"ipv4/conf/all/accept_redirects", "0"},
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/conf/default/send_redirects", "0"},
	/* The two directions of a flow may use different paths (two edges); each instance's container checks its source
         * addresses. */
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/default/rp_filter", "0"},
	{"ipv4/fib_multipath_hash_policy", "1"},
	{"ipv6/fib_multipath_hash_policy", "1"},
	/* A change of a nexthop object is one step, whatever the number of routes that use it. */
	{"ipv4/nexthop_compat_mode", "0"},
};

static int underlay_join(const char *name, int *fd, struct nl **nl, const struct netns_sysctl *sysctls, size_t n,
                         struct error *err) {
	_close_ int now = -1;
	struct stat a, b;
	int r = netns_ensure(name, NULL, err);
	if (r >= 0)
		r = netns_open(name, &now, err);
	if (r < 0)
		return r;
	if (*fd <= 0) {
		*fd = TAKE_FD(now);
	} else if (fstat(*fd, &a) < 0 || fstat(now, &b) < 0 || a.st_ino != b.st_ino) {
		/* Our sockets would program the old namespace. The program has to restart to use the new one. */
		return error_set(err, ESTALE, "network namespace `%s` was deleted by another program and created again",
		                 name);
	}
	r = netns_sysctl(*fd, sysctls, n, err);
	if (r >= 0 && !*nl)
		r = nl_open(nl, *fd, err);
	return r < 0 ? error_prefix(err, "network namespace `%s`", name) : 0;
}

static int nic_sysctls(const struct underlay *u, const char *name, struct error *err) {
	/* Only FRR uses the neighbours' router advertisements; the kernel would turn them into default routes. */
	static const char *const off[] = {"accept_ra", "accept_redirects", "forwarding"};
	for (size_t i = 0; i < ARRAY_SIZE(off); i++) {
		char path[96];
		struct netns_sysctl s = {path, "0"};
		snprintf(path, sizeof(path), "ipv6/conf/%s/%s", name, off[i]);
		int r = netns_sysctl(u->underlay_fd, &s, 1, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int ensure_nic(const struct underlay *u, const char *name, struct error *err) {
	struct link l;
	int r = link_get(u->underlay_nl, name, &l, err);
	if (r == -ENODEV) {
		_nl_free_ struct nl *here = NULL;
		r = nl_open(&here, -1, err);
		if (r >= 0)
			r = link_get(here, name, &l, err);
		if (r >= 0)
			r = link_set(here, l.index, &(struct link_change){.move = true, .netns_fd = u->underlay_fd},
			             err);
		if (r >= 0)
			r = link_get(u->underlay_nl, name, &l, err);
	}
	if (r >= 0)
		r = nic_sysctls(u, name, err);
	if (r >= 0 && (l.mtu != UNDERLAY_NIC_MTU || !(l.flags & IFF_UP))) {
		struct link_change c = {.up = true, .mtu = l.mtu != UNDERLAY_NIC_MTU ? UNDERLAY_NIC_MTU : 0};
		r = link_set(u->underlay_nl, l.index, &c, err);
	}
	return r < 0 ? error_prefix(err, "underlay NIC `%s`", name) : 0;
}

static int ensure_vtep(const struct underlay *u, const struct underlay_config *c, struct error *err) {
	struct link lo;
	int r = link_get(u->underlay_nl, "lo", &lo, err);
	if (r >= 0 && !(lo.flags & IFF_UP))
		r = link_set(u->underlay_nl, lo.index, &(struct link_change){.up = true}, err);
	if (r >= 0)
		r = link_ensure_addr(u->underlay_nl, lo.index, &c->vtep, 128, err);
	if (r >= 0)
		r = link_sweep_addrs(u->underlay_nl, lo.index, &c->vtep, 1, err);
	return r;
}

/* The router id is a 32-bit number that must differ between hosts; it is nobody's address. */
static uint32_t router_id(const struct addr *vtep) {
	struct mac m = vtep_router_mac(vtep);
	uint32_t id = (uint32_t)m.bytes[2] << 24 | (uint32_t)m.bytes[3] << 16 | (uint32_t)m.bytes[4] << 8 | m.bytes[5];
	return id ? id : 1;
}

void underlay_frrconf(const struct underlay_config *c, const char *password, struct frrconf *out) {
	const struct prefix vtep = prefix_of(&c->vtep, 128);
	frrconf_as_path_list_permit(out, "own", 0, "^$");
	frrconf_bgp(out, &(struct frrconf_bgp){.asn = c->asn, .router_id = router_id(&c->vtep), .coalesce_ms = 10});
	frrconf_neighbor(out, &(struct frrconf_neighbor){.kind = FRRCONF_GROUP,
	                                                 .name = "fabric",
	                                                 .keepalive_s = 1,
	                                                 .hold_s = 3,
	                                                 .connect_s = 1,
	                                                 .password = password});
	for (size_t i = 0; i < c->n_nics; i++)
		frrconf_group_member(out, "fabric", c->nics[i]);
	frrconf_network(out, &vtep);
	frrconf_activate(out, AF_INET6, "fabric",
	                 &(struct frrconf_activation){.as_path_list_out = "own", .max_prefixes = c->max_prefixes});
}

static const char *frr_dir(const struct underlay_config *c, char out[static 128]) {
	snprintf(out, 128, "%s/frr-underlay", c->run_dir);
	return out;
}

static int ensure_bgp(const struct underlay *u, const struct underlay_config *c, struct error *err) {
	char dir[128], password[BGP_PASSWORD_MAX + 1] = "";
	_frrconf_free_ struct frrconf *config = NULL;
	struct frr f = {.netns = u->underlay_name, .dir = frr_dir(c, dir)};
	int r = c->password_file ? bgp_password_read(c->password_file, password, err) : 0;
	if (r >= 0)
		r = frrconf_new(&config, FRRCONF_DATACENTER, err);
	if (r < 0)
		return r;
	underlay_frrconf(c, password, config);
	return frr_ensure(&f, config, err);
}

/*
 * This does not filter forwarded packets (the instances' containers do), but packets to the router itself: on an edge
 * bgpd listens in this namespace, and tenants must not reach it.
 */
const char underlay_public_filter[] =
	"	chain input {\n"
	"		type filter hook input priority filter; policy accept;\n"
	"		meta l4proto { 1, 58 } accept\n" /* icmp, ipv6-icmp: names need /etc/protocols */
	"		iifname \"" OVERLAY_DEVICE "\" drop\n"
	"		iifname \"" INSTANCE_DEVICES "*\" drop\n"
	"	}\n";

static int ensure_public(struct underlay *u, const struct underlay_config *c, struct error *err) {
	struct link_vxlan vxlan = {.name = OVERLAY_DEVICE,
	                           .vni = c->vni,
	                           .port = VXLAN_PORT,
	                           .local = c->vtep,
	                           .mac = vtep_router_mac(&c->vtep),
	                           .mtu = OVERLAY_MTU};
	struct route none6 = {.dst.addr.family = AF_INET6, .type = RTN_UNREACHABLE, .metric = UINT32_MAX};
	struct route none4 = {.dst.addr.family = AF_INET, .type = RTN_UNREACHABLE, .metric = UINT32_MAX};
	int r = route_ensure(u->public_nl, &none6, err);
	if (r >= 0)
		r = route_ensure(u->public_nl, &none4, err);
	if (r >= 0)
		r = nft_ensure(u->public_fd, "inet", "nacre", underlay_public_filter, &u->filter, NULL, err);
	if (r >= 0)
		r = link_ensure_vxlan(u->underlay_nl, u->public_nl, u->public_fd, &vxlan, &u->vxlan, err);
	return r;
}

static int underlay_check(const struct underlay_config *c, struct error *err) {
	if (c->vtep.family != AF_INET6)
		return error_set(err, EINVAL, "VTEP address: must be IPv6");
	if (c->asn == 0 || c->asn == UINT32_MAX)
		return error_set(err, EINVAL, "AS number %u: must be 1 to 4294967294", c->asn);
	if (c->n_nics == 0 || c->n_nics > UNDERLAY_NICS)
		return error_set(err, EINVAL, "underlay NICs: there must be 1 to %d", UNDERLAY_NICS);
	return 0;
}

int underlay_prepare(struct underlay *u, const struct underlay_config *c, struct error *err) {
	int r = underlay_check(c, err);
	if (r < 0)
		return r;
	snprintf(u->underlay_name, sizeof(u->underlay_name), "%sunderlay", c->prefix);
	snprintf(u->public_name, sizeof(u->public_name), "%spublic", c->prefix);
	r = underlay_join(u->underlay_name, &u->underlay_fd, &u->underlay_nl, underlay_sysctls,
	                  ARRAY_SIZE(underlay_sysctls), err);
	if (r >= 0)
		r = underlay_join(u->public_name, &u->public_fd, &u->public_nl, public_sysctls,
		                  ARRAY_SIZE(public_sysctls), err);
	for (size_t i = 0; r >= 0 && i < c->n_nics; i++)
		r = ensure_nic(u, c->nics[i], err);
	if (r >= 0)
		r = ensure_vtep(u, c, err);
	return r < 0 ? r : ensure_public(u, c, err);
}

int underlay_ensure(struct underlay *u, const struct underlay_config *c, struct error *err) {
	int r = underlay_prepare(u, c, err);
	return r < 0 ? r : ensure_bgp(u, c, err);
}

void underlay_close(struct underlay *u) {
	u->underlay_nl = nl_free(u->underlay_nl);
	u->public_nl = nl_free(u->public_nl);
	if (u->underlay_fd > 0)
		close(u->underlay_fd);
	if (u->public_fd > 0)
		close(u->public_fd);
	u->underlay_fd = u->public_fd = 0;
}

int underlay_remove(const struct underlay_config *c, struct error *err) {
	char dir[128], name[80];
	struct frr f = {.dir = frr_dir(c, dir)};
	int r = frr_stop(&f, err);
	snprintf(name, sizeof(name), "%spublic", c->prefix);
	if (r >= 0)
		r = netns_delete(name, err);
	snprintf(name, sizeof(name), "%sunderlay", c->prefix);
	if (r >= 0)
		r = netns_delete(name, err);
	return r;
}
