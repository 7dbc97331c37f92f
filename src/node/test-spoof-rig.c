/* SPDX-License-Identifier: Apache-2.0 */

/* The host of test-spoof.c. All but BGP is made by the code that a real host runs. */

#include "base/testing.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/util.h"
#include "base/vtep.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/overlay.h"
#include "net/route.h"
#include "node/test-spoof.h"

#define NIC "eth0"

static struct addr spoof_addr(const char *text) {
	struct addr a = {0};
	struct error err;

	return addr_parse(text, &a, &err) < 0 ? (struct addr){0} : a;
}

static struct prefix spoof_prefix(const char *text) {
	struct prefix p = {0};
	struct error err;

	return prefix_parse(text, &p, &err) < 0 ? (struct prefix){0} : p;
}

static void describe_guest(struct guest *g, unsigned n, enum instnet_ipv4 ipv4) {
	static const char *const ids[GUESTS] = {"0b5ac4a84b01", "0b5ac4a84b02", "0b5ac4a84b03"};
	char net[PREFIX_STR_MAX], delegated[PREFIX_STR_MAX], ip[ADDR_STR_MAX];
	struct instnet_spec *s = &g->spec;

	snprintf(net, sizeof(net), "2001:db8:1:%x::/64", n + 1);
	snprintf(delegated, sizeof(delegated), "2001:db8:2:%x0::/60", n + 1);
	snprintf(ip, sizeof(ip), "fd10::%x", n + 5);
	g->id = ids[n];
	g->tap = g->netns_fd = -1;
	jt_init(&jt_instnet_spec, s);
	s->mac = (struct mac){{0x02, 0x4e, 0x01, 0, 0, (uint8_t)(n + 5)}};
	s->ip = spoof_addr(ip);
	s->net = spoof_prefix(net);
	s->delegated = spoof_prefix(delegated);
	s->ingress[s->n_ingress++] = (struct instnet_ingress){.proto = INSTNET_UDP, .port = OPEN_PORT};
	s->ingress[s->n_ingress++] = (struct instnet_ingress){.proto = INSTNET_ICMP};
	s->ipv4 = ipv4;
	if (ipv4 == INSTNET_DEDICATED)
		s->address4 = spoof_addr("203.0.113.7");
	if (ipv4 != INSTNET_SHARED)
		return;
	const struct addr shared = spoof_addr(SHARED_ADDRESS);
	s->address4 = instnet_shared_address();
	s->slices[s->n_slices++] = (struct instnet_slice){shared, 1024, 1535};
	s->slices[s->n_slices++] = (struct instnet_slice){shared, 4096, 4607};
	s->forwards[s->n_forwards++] = (struct instnet_forward){INSTNET_UDP, shared, 1101, OPEN_PORT};
}

/* The NIC and the leaf's end of its cable, whose neighbours are known without asking. */
static int world_cable(struct world *w, struct error *err) {
	char leaf[64], underlay[64];
	_close_ int underlay_fd = -1;
	_nl_free_ struct nl *leaf_nl = NULL, *underlay_nl = NULL;
	int r;

	snprintf(leaf, sizeof(leaf), "%sleaf", w->prefix);
	snprintf(underlay, sizeof(underlay), "%sunderlay", w->prefix);
	if ((r = netns_ensure(leaf, NULL, err)) < 0 || (r = netns_open(leaf, &w->leaf_fd, err)) < 0 ||
	    (r = netns_ensure(underlay, NULL, err)) < 0 || (r = netns_open(underlay, &underlay_fd, err)) < 0 ||
	    (r = nl_open(&leaf_nl, w->leaf_fd, err)) < 0 || (r = nl_open(&underlay_nl, underlay_fd, err)) < 0)
		return r;
	const struct link_end a = {.nl = underlay_nl, .netns_fd = underlay_fd, .name = NIC};
	const struct link_end b = {.nl = leaf_nl, .netns_fd = w->leaf_fd, .name = "host"};
	return link_ensure_veth(&a, &b, UNDERLAY_NIC_MTU, NULL, err);
}

static int world_fabric(struct world *w, struct error *err) {
	const struct addr leaf = spoof_addr("fe80::1eaf");
	struct link nic;
	int r = world_cable(w, err);

	if (r >= 0)
		r = underlay_prepare(&w->underlay, &w->config, err);
	if (r >= 0)
		r = link_get(w->underlay.underlay_nl, NIC, &nic, err);
	if (r < 0)
		return r;
	w->nic = nic.index;
	w->nic_mac = nic.mac;
	w->overlay_device = w->underlay.vxlan;
	const struct neigh neighbour = {.oif = nic.index, .addr = leaf, .mac = {{0x02, 0, 0, 0, 0x1e, 0xaf}}};
	const struct route route = {.dst = {w->edge, 128}, .via = leaf, .oif = nic.index, .src = w->config.vtep};
	r = neigh_put(w->underlay.underlay_nl, &neighbour, err);
	return r < 0 ? r : route_put(w->underlay.underlay_nl, &route, err);
}

static int make_guest(struct world *w, struct guest *g, struct error *err) {
	const struct instnet_config c = {
		.prefix = w->prefix, .id = g->id, .spec = &g->spec, .uid = getuid(), .mtu = OVERLAY_MTU};
	char name[INSTNET_NAME_MAX], device[16];
	struct link link;
	int r = instnet_ensure(&c, w->underlay.public_nl, w->underlay.public_fd, &g->state, err);

	if (r >= 0)
		r = link_get(w->underlay.public_nl, instnet_device(g->id, device), &link, err);
	if (r >= 0)
		r = netns_open(instnet_netns(w->prefix, g->id, name), &g->netns_fd, err);
	if (r >= 0)
		r = link_open_tap(g->netns_fd, INSTNET_TAP, getuid(), OVERLAY_MTU, &g->tap, err);
	if (r >= 0)
		g->device = link.index;
	return r;
}

/* What Endpoints say about the guests and about an edge. */
static int announce_all(const struct world *w, struct overlay *o, struct error *err) {
	const struct prefix all[] = {{.addr.family = AF_INET6}, {.addr.family = AF_INET}};
	const struct overlay_endpoint edge = {.name = "edge",
	                                      .ip = spoof_addr("fd10::e"),
	                                      .mac = vtep_router_mac(&w->edge),
	                                      .vtep = w->edge,
	                                      .prefixes = all,
	                                      .n_prefixes = ARRAY_SIZE(all)};
	int r = overlay_put(o, &edge, err);

	for (size_t i = 0; i < GUESTS && r >= 0; i++) {
		const struct instnet_spec *s = &w->guests[i].spec;
		struct prefix prefixes[3] = {s->net, s->delegated};
		char device[16];
		struct overlay_endpoint e = {.name = w->guests[i].id,
		                             .ip = s->ip,
		                             .mac = s->mac,
		                             .vtep = w->config.vtep,
		                             .device = instnet_device(w->guests[i].id, device),
		                             .prefixes = prefixes,
		                             .n_prefixes = 2};
		if (s->ipv4 == INSTNET_DEDICATED)
			prefixes[e.n_prefixes++] = (struct prefix){s->address4, 32};
		r = overlay_put(o, &e, err);
	}
	return r < 0 ? r : overlay_start(o, err);
}

static int world_routes(const struct world *w, struct error *err) {
	_cleanup_(sd_event_unrefp) sd_event *loop = NULL;
	struct overlay *overlay = NULL;
	struct overlay_stats stats = {.pending = 1};
	int r = loop_new(&loop, err);

	if (r < 0)
		return r;
	const struct overlay_config c = {.loop = loop,
	                                 .underlay_fd = w->underlay.underlay_fd,
	                                 .public_fd = w->underlay.public_fd,
	                                 .device = OVERLAY_DEVICE,
	                                 .vtep = w->config.vtep};
	r = overlay_new(&overlay, &c, err);
	if (r >= 0)
		r = announce_all(w, overlay, err);
	for (int n = 0; r >= 0 && n < 1000 && (stats.pending || stats.failing); n++) {
		(void)sd_event_run(loop, 20 * USEC_PER_MSEC);
		overlay_stats(overlay, &stats);
	}
	overlay_free(overlay);
	if (r >= 0 && (stats.pending || stats.failing))
		return error_set(err, EIO, "the routes of the overlay aren't complete");
	return r;
}

int world_make(struct world *w, struct error *err) {
	static const enum instnet_ipv4 kinds[GUESTS] = {INSTNET_SHARED, INSTNET_DEDICATED, INSTNET_NO_IPV4};
	int r;

	*w = (struct world){.leaf_fd = -1, .edge = spoof_addr("fd4e::9:1")};
	snprintf(w->prefix, sizeof(w->prefix), "ts%d-", getpid());
	test_claim("netns", w->prefix);
	w->config = (struct underlay_config){.prefix = w->prefix,
	                                     .run_dir = "/nonexistent",
	                                     .vtep = spoof_addr("fd4e::1:1"),
	                                     .asn = 4200000001,
	                                     .vni = 1,
	                                     .nics = {NIC},
	                                     .n_nics = 1};
	for (unsigned i = 0; i < GUESTS; i++)
		describe_guest(&w->guests[i], i, kinds[i]);
	r = world_fabric(w, err);
	for (size_t i = 0; i < GUESTS && r >= 0; i++)
		r = make_guest(w, &w->guests[i], err);
	return r < 0 ? r : world_routes(w, err);
}

void world_remove(struct world *w) {
	static const char *const names[] = {"leaf", "public", "underlay"};
	struct error err;
	char name[64];

	for (size_t i = 0; i < GUESTS; i++) {
		safe_close(w->guests[i].tap);
		safe_close(w->guests[i].netns_fd);
		if (w->underlay.public_nl)
			(void)!instnet_remove(w->prefix, w->guests[i].id, w->underlay.public_nl, &err);
	}
	underlay_close(&w->underlay);
	safe_close(w->leaf_fd);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(name, sizeof(name), "%s%s", w->prefix, names[i]);
		(void)!netns_delete(name, &err);
	}
}
