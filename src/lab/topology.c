/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/topology.h"

#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/nl.h"

/* A namespace whose links are being made. */
struct node {
	char ns[LAB_NS_MAX];
	int fd;
	struct nl *nl;
};

static void node_close(struct node *n) {
	n->nl = nl_free(n->nl);
	n->fd = safe_close(n->fd);
}
#define _node_ _cleanup_(node_close)

static int node_make(const struct lab *lab, const char *what, bool router, struct node *ret, struct error *err) {
	/* A link here has only two ends, so duplicate address detection would only cost a second. */
	static const struct netns_sysctl common[] = {
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
	};
	static const struct netns_sysctl routing[] = {
		{"ipv6/conf/all/forwarding", "1"},
		{"ipv4/ip_forward", "1"},
		{"ipv6/fib_multipath_hash_policy", "1"},
		{"ipv4/fib_multipath_hash_policy", "1"},
	};
	struct node n = {.fd = -1};
	int r = netns_ensure(lab_ns(lab, what, n.ns), NULL, err);
	if (r >= 0)
		r = netns_open(n.ns, &n.fd, err);
	if (r >= 0)
		r = netns_sysctl(n.fd, common, ARRAY_SIZE(common), err);
	if (r >= 0 && router)
		r = netns_sysctl(n.fd, routing, ARRAY_SIZE(routing), err);
	if (r >= 0)
		r = nl_open(&n.nl, n.fd, err);
	if (r < 0) {
		node_close(&n);
		return error_prefix(err, "namespace `%s`", n.ns);
	}
	*ret = n;
	return 0;
}

static int cable(const struct node *a, const char *a_if, const struct node *b, const char *b_if, uint32_t mtu,
                 struct error *err) {
	struct link_end ea = {.nl = a->nl, .netns_fd = a->fd, .name = a_if};
	struct link_end eb = {.nl = b->nl, .netns_fd = b->fd, .name = b_if};
	int r = link_ensure_veth(&ea, &eb, mtu, NULL, err);
	return r < 0 ? error_prefix(err, "link from `%s` to `%s`", a->ns, b->ns) : 0;
}

static int internet_addresses(const struct node *n, struct error *err) {
	struct link lo;
	struct addr a6, a4;
	int r = link_get(n->nl, "lo", &lo, err);
	if (r >= 0)
		r = addr_parse(LAB_INTERNET_ADDRESS, &a6, err);
	if (r >= 0)
		r = addr_parse(LAB_INTERNET_ADDRESS4, &a4, err);
	if (r >= 0)
		r = link_ensure_addr(n->nl, lo.index, &a6, 128, err);
	if (r >= 0)
		r = link_ensure_addr(n->nl, lo.index, &a4, 32, err);
	return r;
}

/* ---- management ---- */

/* Gives IFACE its address in the management network. */
static int mgmt_address(const struct lab *lab, const struct node *n, const char *iface, uint32_t which,
                        struct error *err) {
	struct link l;
	struct addr a = lab_mgmt_address(lab, which);
	int r = link_get(n->nl, iface, &l, err);
	return r < 0 ? r : link_ensure_addr(n->nl, l.index, &a, 64, err);
}

/* Connects IFACE of N to PORT of the bridge and gives it its address. */
static int mgmt_plug(const struct lab *lab, const struct node *mgmt, const char *port, const struct node *n,
                     const char *iface, uint32_t which, struct error *err) {
	struct link_change plug = {0};
	struct link l;
	int bridge = 0;
	int r = link_ensure_bridge(mgmt->nl, "br0", &bridge, err);
	if (r >= 0)
		r = cable(mgmt, port, n, iface, 1500, err);
	if (r >= 0)
		r = link_get(mgmt->nl, port, &l, err);
	plug.master = bridge;
	if (r >= 0)
		r = link_set(mgmt->nl, l.index, &plug, err);
	return r < 0 ? r : mgmt_address(lab, n, iface, which, err);
}

/* The namespace of the caller. There the lab's interface must not accept router advertisements, and must have IPv6. */
static int node_of_caller(const char *iface, const struct node *mgmt, struct node *ret, struct error *err) {
	struct node n = {.fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
	char ra[64], v6[64];
	const struct netns_sysctl sysctls[] = {{ra, "0"}, {v6, "0"}};
	snprintf(n.ns, sizeof(n.ns), "this one");
	snprintf(ra, sizeof(ra), "ipv6/conf/%s/accept_ra", iface);
	snprintf(v6, sizeof(v6), "ipv6/conf/%s/disable_ipv6", iface);
	int r = n.fd < 0 ? error_errno(err, errno, "open `/proc/self/ns/net`") : nl_open(&n.nl, n.fd, err);
	if (r >= 0)
		r = cable(mgmt, "admin", &n, iface, 1500, err);
	if (r >= 0)
		r = netns_sysctl(n.fd, sysctls, ARRAY_SIZE(sysctls), err);
	if (r < 0) {
		node_close(&n);
		return r;
	}
	*ret = n;
	return 0;
}

int lab_mgmt_up(const struct lab *lab, struct error *err) {
	_node_ struct node mgmt = {.fd = -1}, caller = {.fd = -1};
	char iface[IFNAMSIZ];
	int bridge;
	snprintf(iface, sizeof(iface), "nl-%s", lab->name);
	int r = node_make(lab, "mgmt", false, &mgmt, err);
	if (r >= 0)
		r = link_ensure_bridge(mgmt.nl, "br0", &bridge, err);
	if (r >= 0)
		r = mgmt_address(lab, &mgmt, "br0", LAB_MGMT_API, err);
	if (r >= 0)
		r = node_of_caller(iface, &mgmt, &caller, err);
	if (r >= 0)
		r = mgmt_plug(lab, &mgmt, "admin", &caller, iface, LAB_MGMT_ADMIN, err);
	return r < 0 ? error_prefix(err, "management network") : 0;
}

/* ---- fabric ---- */

int lab_topology_up(const struct lab *lab, struct error *err) {
	_node_ struct node internet = {.fd = -1}, leaf1 = {.fd = -1}, leaf2 = {.fd = -1}, mgmt = {.fd = -1};
	int r = node_make(lab, "mgmt", false, &mgmt, err);
	if (r >= 0)
		r = node_make(lab, "internet", true, &internet, err);
	if (r >= 0)
		r = internet_addresses(&internet, err);
	if (r >= 0)
		r = node_make(lab, "leaf1", true, &leaf1, err);
	if (r >= 0)
		r = node_make(lab, "leaf2", true, &leaf2, err);
	for (int i = 0; r >= 0 && i < lab_machines(lab); i++) {
		struct lab_machine m;
		_node_ struct node node = {.fd = -1};
		lab_machine(lab, i, &m);
		r = node_make(lab, m.name, false, &node, err);
		if (r >= 0)
			r = cable(&node, "eth0", &leaf1, m.name, LAB_MTU_FABRIC, err);
		if (r >= 0)
			r = cable(&node, "eth1", &leaf2, m.name, LAB_MTU_FABRIC, err);
		if (r >= 0)
			r = mgmt_plug(lab, &mgmt, m.name, &node, "mgmt", LAB_MGMT_MACHINE((uint32_t)i), err);
		if (r >= 0 && m.agent->whose == ACCESS_OF_EDGE)
			r = cable(&node, "wan", &internet, m.name, 1500, err);
	}
	return r;
}

int lab_topology_down(const struct lab *lab, struct error *err) {
	char **names, iface[IFNAMSIZ];
	size_t n;
	_nl_free_ struct nl *nl = NULL;
	int r = netns_list(lab->prefix, &names, &n, err);
	if (r < 0)
		return r;
	/* The link would disappear with its other end, but only some time after the name of that namespace. */
	snprintf(iface, sizeof(iface), "nl-%s", lab->name);
	r = nl_open(&nl, -1, err);
	if (r >= 0)
		r = link_delete(nl, iface, err);
	for (size_t i = 0; i < n; i++) {
		struct error one = {0};
		int q = netns_delete(names[i], r < 0 ? &one : err);
		r = r < 0 ? r : q;
	}
	netns_list_free(names, n);
	return r;
}
