/* SPDX-License-Identifier: Apache-2.0 */
#include "node/instnet.h"

#include <ctype.h>
#include <string.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "base/util.h"
#include "base/vtep.h"
#include "net/conntrack.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/nft.h"
#include "net/nftset.h"
#include "net/route.h"
#include "net/underlay.h"
#include "service/offload.h"

static const char *const jt_words_instnet_proto[] = {"tcp", "udp", "icmp", NULL};
static const char *const jt_words_instnet_ipv4[] = {"none", "dedicated", "shared", NULL};

JT_DEFINE(instnet_ingress, INSTNET_INGRESS_FIELDS)
JT_DEFINE(instnet_slice, INSTNET_SLICE_FIELDS)
JT_DEFINE(instnet_forward, INSTNET_FORWARD_FIELDS)
JT_DEFINE(instnet_spec, INSTNET_SPEC_FIELDS)

struct addr instnet_shared_address(void) {
	return (struct addr){.family = AF_INET, .bytes = {192, 0, 0, 2}};
}

struct addr instnet_gateway4(void) {
	return (struct addr){.family = AF_INET, .bytes = {169, 254, 0, 1}};
}

struct addr instnet_metadata4(void) {
	return (struct addr){.family = AF_INET, .bytes = {169, 254, 169, 254}};
}

struct addr instnet_metadata6(void) {
	return (struct addr){.family = AF_INET6, .bytes = {0xfd, 0, 0x0e, 0xc2, [14] = 0x02, 0x54}};
}

bool instnet_id(const char *uid, char out[static INSTNET_ID_LEN + 1]) {
	size_t n = 0;

	if (strlen(uid) != 36)
		return false;
	for (const char *p = uid; *p && n < INSTNET_ID_LEN; p++) {
		if (*p == '-')
			continue;
		if (!isxdigit((unsigned char)*p))
			return false;
		out[n++] = (char)tolower((unsigned char)*p);
	}
	out[n] = 0;
	return n == INSTNET_ID_LEN;
}

const char *instnet_device(const char *id, char out[static 16]) {
	snprintf(out, 16, INSTANCE_DEVICES "%s", id);
	return out;
}

const char *instnet_id_of_device(const char *name) {
	const char *id = starts_with(name, INSTANCE_DEVICES) ? name + strlen(INSTANCE_DEVICES) : "";

	return strlen(id) == INSTNET_ID_LEN ? id : NULL;
}

const char *instnet_id_of_netns(const char *prefix, const char *name) {
	return starts_with(name, prefix) ? instnet_id_of_device(name + strlen(prefix)) : NULL;
}

const char *instnet_netns_begin(const char *prefix, char out[static INSTNET_NAME_MAX]) {
	return instnet_netns(prefix, "", out);
}

const char *instnet_netns(const char *prefix, const char *id, char out[static INSTNET_NAME_MAX]) {
	snprintf(out, INSTNET_NAME_MAX, "%s" INSTANCE_DEVICES "%s", prefix, id);
	return out;
}

static int ensure_tap(const struct instnet_config *c, struct nl *nl, int fd, struct link *ret, struct error *err) {
	static const struct netns_sysctl quiet[] = {{"ipv6/conf/" INSTNET_TAP "/addr_gen_mode", "1"},
	                                            {"ipv6/conf/" INSTNET_TAP "/accept_dad", "0"}};
	struct mac mac = vtep_anycast_mac();
	int tap, r = link_get(nl, INSTNET_TAP, ret, err);

	if (r == -ENODEV) {
		/* The tap is persistent: its user opens it again. */
		r = link_open_tap(fd, INSTNET_TAP, c->uid, c->mtu, &tap, err);
		if (r < 0)
			return r;
		close(tap);
		r = link_get(nl, INSTNET_TAP, ret, err);
	}
	if (r >= 0)
		r = netns_sysctl(fd, quiet, ARRAY_SIZE(quiet), err);
	if (r >= 0)
		r = offload_guard(fd, INSTNET_TAP, err);
	if (r < 0)
		return r;
	bool differs = memcmp(&ret->mac, &mac, sizeof(mac)) != 0 || ret->mtu != c->mtu || !(ret->flags & IFF_UP);
	return differs ? link_set(nl, ret->index, &(struct link_change){.up = true, .mtu = c->mtu, .mac = &mac}, err)
	               : 0;
}

static int ensure_veth(const struct instnet_config *c, struct nl *public_nl, int public_fd, struct nl *nl, int fd,
                       int *ret_uplink, struct error *err) {
	char device[16], gen[64];
	struct mac gateway_mac = vtep_anycast_mac();
	struct addr gateway = vtep_anycast_gateway();
	struct link_end inside = {.nl = nl, .netns_fd = fd, .name = INSTNET_UPLINK, .mac = &c->spec->mac};
	struct link_end outside = {
		.nl = public_nl, .netns_fd = public_fd, .name = instnet_device(c->id, device), .mac = &gateway_mac};
	const struct netns_sysctl quiet = {gen, "1"};
	struct link out;

	int r = link_ensure_veth(&inside, &outside, c->mtu, ret_uplink, err);
	if (r < 0)
		return r;
	r = link_get(public_nl, device, &out, err);
	if (r < 0)
		return r;
	snprintf(gen, sizeof(gen), "ipv6/conf/%s/addr_gen_mode", device);
	r = netns_sysctl(public_fd, &quiet, 1, err);
	if (r < 0)
		return r;
	return link_ensure_addr(public_nl, out.index, &gateway, 64, err);
}

/*
 * Each device has its addresses from here. The gateway's is the first IPv4 address of the tap, which makes it the
 * source of ICMP errors.
 */
static int ensure_addresses(const struct instnet_config *c, struct nl *nl, int uplink, int tap, struct error *err) {
	const struct addr gateway = vtep_anycast_gateway(), gateway4 = instnet_gateway4();
	const struct addr metadata4 = instnet_metadata4(), metadata6 = instnet_metadata6();
	struct link lo;
	int r = link_get(nl, "lo", &lo, err);

	if (r >= 0)
		r = link_ensure_deprecated(nl, lo.index, &metadata6, 128, err);
	if (r >= 0)
		r = link_ensure_addr(nl, tap, &gateway, 64, err);
	if (r >= 0)
		r = link_ensure_addr(nl, uplink, &c->spec->ip, 128, err);
	if (r >= 0 && c->spec->ipv4 != INSTNET_NO_IPV4)
		r = link_ensure_addr(nl, tap, &gateway4, 32, err);
	if (r >= 0 && c->spec->ipv4 != INSTNET_NO_IPV4)
		r = link_ensure_addr(nl, tap, &metadata4, 32, err);
	return r;
}

static int ensure_routes(const struct instnet_config *c, struct nl *nl, int uplink, int tap, struct error *err) {
	const struct addr gateway = vtep_anycast_gateway();
	const struct addr guest = {.family = AF_INET6, .bytes = {0xfe, 0x80, [15] = 2}};
	const struct addr gateway4 = instnet_gateway4();
	const struct addr none = {0};
	const bool four = c->spec->ipv4 != INSTNET_NO_IPV4;
	const struct neigh neighbours[] = {
		{.oif = uplink, .addr = gateway, .mac = vtep_anycast_mac()},
		{.oif = tap, .addr = guest, .mac = c->spec->mac},
		/* The kernel answers by ARP only whom it can remember, and permanent ones need no room. */
		{.oif = tap, .addr = four ? c->spec->address4 : none, .mac = c->spec->mac},
	};
	const struct route routes[] = {
		{.dst = {.addr = {.family = AF_INET6}}, .via = gateway, .oif = uplink},
		{.dst = c->spec->net, .via = guest, .oif = tap},
		{.dst = c->spec->delegated, .via = guest, .oif = tap},
		{.dst = {.addr = {.family = four ? AF_INET : 0}}, .via = gateway, .oif = uplink},
		{.dst = {.addr = four ? c->spec->address4 : none, .len = 32},
	         .via = guest,
	         .oif = tap,
	         .src = gateway4},
	};
	int r = ensure_addresses(c, nl, uplink, tap, err);
	for (size_t i = 0; i < ARRAY_SIZE(neighbours) && r >= 0; i++)
		if (neighbours[i].addr.family)
			r = neigh_put(nl, &neighbours[i], err);
	for (size_t i = 0; i < ARRAY_SIZE(routes) && r >= 0; i++)
		if (routes[i].dst.addr.family)
			r = route_put(nl, &routes[i], err);
	return r;
}

/*
 * The container routes IPv4 only if the guest has it. `default` holds for devices that are made later, so it comes
 * before them. A namespace begins with the IPv4 settings of the host's first one (devconf_inherit_init_net), so what
 * matters is set here. ICMP errors have the gateway's address towards the guest, and 192.0.0.8 towards the outside (RFC
 * 7600), since the gateway's address has link scope.
 */
static int ensure_router(const struct instnet_config *c, int fd, struct error *err) {
	const struct netns_sysctl router[] = {
		{"ipv6/conf/default/addr_gen_mode", "1"},
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/all/accept_redirects", "0"},
		{"ipv6/conf/default/accept_redirects", "0"},
		{"ipv6/conf/all/forwarding", "1"},
		{"ipv4/conf/all/rp_filter", "1"},
		{"ipv4/conf/all/arp_ignore", "1"},
		{"ipv4/conf/all/accept_redirects", "0"},
		{"ipv4/conf/all/accept_source_route", "0"},
		{"ipv4/conf/all/send_redirects", "0"},
		{"ipv4/conf/default/send_redirects", "0"},
		{"ipv4/icmp_errors_use_inbound_ifaddr", "1"},
		{"ipv4/conf/all/forwarding", c->spec->ipv4 != INSTNET_NO_IPV4 ? "1" : "0"},
	};

	return netns_sysctl(fd, router, ARRAY_SIZE(router), err);
}

/* True if the connection uses a port that the instance has no more, or a forward that is gone. */
static bool is_stray(const struct conntrack_entry *e, void *userdata) {
	const struct instnet_spec *s = userdata;
	const struct conntrack_tuple *o = &e->original, *r = &e->reply;
	bool source_is_ours = r->dst.s_addr == o->src.s_addr, target_is_ours = r->src.s_addr == o->dst.s_addr;

	for (size_t i = 0; i < s->n_slices; i++)
		source_is_ours |= r->dst.s_addr == s->slices[i].address.v4.s_addr &&
		                  r->dst_port >= s->slices[i].first && r->dst_port <= s->slices[i].last;
	for (size_t i = 0; i < s->n_forwards; i++)
		target_is_ours |= e->protocol == (s->forwards[i].proto == INSTNET_UDP ? IPPROTO_UDP : IPPROTO_TCP) &&
		                  o->dst.s_addr == s->forwards[i].address.v4.s_addr &&
		                  o->dst_port == s->forwards[i].port && r->src_port == s->forwards[i].target;
	return !source_is_ours || !target_is_ours;
}

static int cut_strays(const struct instnet_config *c, int fd, struct error *err) {
	struct instnet_spec spec = *c->spec;
	_nl_free_ struct nl *nl = NULL;
	struct conntrack_stats stats;
	int r = nl_open_netfilter(&nl, fd, err);

	if (r >= 0)
		r = conntrack_stats(nl, &stats, err);
	/* The list costs 20 ms, whatever the number of connections. A new instance has none. */
	return r < 0 || !stats.entries ? r : conntrack_cut(nl, is_stray, &spec, err);
}

/*
 * After the rules: they have made the kernel track connections, without which it has no such settings. A connection of
 * TCP begins with a SYN: otherwise each ACK would make one that lasts as long as an established one. An idle connection
 * keeps its port for two hours and four minutes, not for five days, and one that one side has closed for four minutes,
 * not for one or two: the other side may still answer (RFC 5382, REQ-5).
 */
static int ensure_tracking(const struct instnet_config *c, int fd, struct error *err) {
	static const struct netns_sysctl settings[] = {{"netfilter/nf_conntrack_tcp_loose", "0"},
	                                               {"netfilter/nf_conntrack_tcp_timeout_established", "7440"},
	                                               {"netfilter/nf_conntrack_tcp_timeout_fin_wait", "240"},
	                                               {"netfilter/nf_conntrack_tcp_timeout_close_wait", "240"}};

	return netns_sysctl(fd, settings, c->spec->ipv4 == INSTNET_SHARED ? ARRAY_SIZE(settings) : 1, err);
}

static uint64_t rules_hash(const struct instnet_rules *r) {
	const struct buf *all[] = {&r->filter, &r->nat, &r->arp};
	uint64_t hash = FNV1A_BASIS;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		hash = fnv1a(hash, all[i]->data, all[i]->len + 1);
	return hash;
}

/*
 * CURRENT: nobody has changed nftables since *STATE was written, and the last transaction is number STATE->genid. The
 * firewall's table comes first: without it the table `nacre` lets nothing pass. *RET_CHANGED is set if the number must
 * be read anew.
 */
static int ensure_tables(const struct instnet_config *c, int fd, struct nl *nl, const struct instnet_rules *rules,
                         bool current, struct instnet_state *state, bool *ret_changed, struct error *err) {
	const struct nft_table tables[] = {
		{"inet", "nacre", rules->filter.data, true},
		{"ip", "nacre", rules->nat.data, false},
		{"arp", "nacre", rules->arp.data, false},
	};
	uint64_t wanted = rules_hash(rules);
	static const struct firewall_attached none = {0};
	bool changed = false;
	uint32_t genid = current ? state->genid : 0;
	int r = firewall_ensure(fd, nl, c->spec, c->firewalls ? c->firewalls : &none, &genid, &state->firewall,
	                        ret_changed, err);

	if (current)
		state->genid = genid;
	if (r < 0 && c->firewall_failed) {
		*c->firewall_failed = *err;
		c->firewall_failed->code = r == -EAGAIN ? EAGAIN : EIO;
		/* There may have been transactions before it failed. */
		*ret_changed |= r != -EAGAIN;
		r = 0;
	}
	if (r < 0 || (current && state->wanted == wanted))
		return r;
	r = nft_ensure_tables(fd, tables, ARRAY_SIZE(tables), &state->rules, &changed, err);
	state->wanted = wanted;
	*ret_changed |= changed;
	return r;
}

static int ensure_rules(const struct instnet_config *c, int fd, struct instnet_state *state, struct error *err) {
	struct instnet_rules rules;
	struct instnet_state new = *state;
	_nl_free_ struct nl *own = NULL;
	struct nl *nl = c->netfilter;
	bool changed = false;
	int r = 0;

	if (!nl || !nl_inherit(nl, fd)) {
		r = nl_open_netfilter(&own, fd, err);
		nl = own;
	}
	if (r >= 0)
		r = nftset_genid(nl, &new.genid, err);
	if (r >= 0)
		r = instnet_rules(c, &rules, err);
	if (r < 0)
		return r;
	r = ensure_tables(c, fd, nl, &rules, state->genid && new.genid == state->genid, &new, &changed, err);
	new.ports = fnv1a(FNV1A_BASIS, rules.nat.data, strlen(rules.nat.data));
	instnet_rules_done(&rules);
	if (r >= 0)
		r = ensure_tracking(c, fd, err);
	if (r >= 0 && c->spec->ipv4 == INSTNET_SHARED && new.ports != state->ports)
		r = cut_strays(c, fd, err);
	if (r >= 0 && changed)
		r = nftset_genid(nl, &new.genid, err);
	new.open_slices = c->open_slices;
	/* Otherwise the next look does it all again. */
	if (r >= 0)
		*state = new;
	return r;
}

static int ensure_inside(const struct instnet_config *c, struct nl *public_nl, int public_fd, int fd,
                         struct instnet_state *state, struct error *err) {
	/* Devices that an earlier version made have their own values. */
	static const struct netns_sysctl quiet[] = {{"ipv4/conf/" INSTNET_TAP "/send_redirects", "0"},
	                                            {"ipv4/conf/" INSTNET_UPLINK "/send_redirects", "0"}};
	_nl_free_ struct nl *nl = NULL;
	struct link tap;
	int uplink;

	int r = ensure_router(c, fd, err);
	if (r >= 0)
		r = nl_open(&nl, fd, err);
	/* The rules are in place before anything can come in. */
	if (r >= 0)
		r = ensure_rules(c, fd, state, err);
	if (r >= 0)
		r = ensure_veth(c, public_nl, public_fd, nl, fd, &uplink, err);
	if (r >= 0)
		r = ensure_tap(c, nl, fd, &tap, err);
	if (r >= 0)
		r = netns_sysctl(fd, quiet, ARRAY_SIZE(quiet), err);
	if (r >= 0)
		r = ensure_routes(c, nl, uplink, tap.index, err);
	return r;
}

int instnet_ensure(const struct instnet_config *c, struct nl *public_nl, int public_fd, struct instnet_state *state,
                   struct error *err) {
	char name[INSTNET_NAME_MAX];
	_close_ int fd = -1;
	bool created;

	instnet_netns(c->prefix, c->id, name);
	int r = netns_ensure(name, &created, err);
	if (r < 0)
		return r;
	if (created)
		*state = (struct instnet_state){0};
	r = netns_open(name, &fd, err);
	if (r >= 0)
		r = ensure_inside(c, public_nl, public_fd, fd, state, err);
	return r < 0 ? error_prefix(err, "network `%s`", name) : 0;
}

int instnet_remove(const char *prefix, const char *id, struct nl *public_nl, struct error *err) {
	char name[INSTNET_NAME_MAX], device[16];

	/* The kernel removes a namespace at its leisure, and the device in `public` would exist until then. */
	int r = link_delete(public_nl, instnet_device(id, device), err);
	return r < 0 ? r : netns_delete(instnet_netns(prefix, id, name), err);
}
