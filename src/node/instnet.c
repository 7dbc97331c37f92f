/* SPDX-License-Identifier: Apache-2.0 */
#include "node/instnet.h"

#include <ctype.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "base/vtep.h"
#include "net/link.h"
#include "net/netns.h"
#include "net/nft.h"
#include "net/route.h"
#include "net/underlay.h"

#define UPLINK "uplink"

static const char *const jt_words_instnet_proto[] = {"tcp", "udp", "icmp", NULL};

JT_DEFINE(instnet_ingress, INSTNET_INGRESS_FIELDS)
JT_DEFINE(instnet_spec, INSTNET_SPEC_FIELDS)

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

#define OWN_MAX ((size_t)2 * PREFIX_STR_MAX + 2)

/* The prefixes of the guest's own addresses, as elements of a set. */
static const char *own_prefixes(const struct instnet_config *c, char out[static OWN_MAX]) {
	char net[PREFIX_STR_MAX], delegated[PREFIX_STR_MAX];

	snprintf(out, OWN_MAX, "%s%s%s", prefix_str(&c->spec->net, net), c->spec->delegated.addr.family ? ", " : "",
	         c->spec->delegated.addr.family ? prefix_str(&c->spec->delegated, delegated) : "");
	return out;
}

static void put_ingress(const struct instnet_ingress *in, struct buf *b) {
	char text[PREFIX_STR_MAX];

	buf_puts(b, "\t\t");
	if (in->from.addr.family)
		buf_printf(b, "ip6 saddr %s ", prefix_str(&in->from, text));
	switch (in->proto) {
	case INSTNET_TCP: buf_printf(b, "tcp dport %lld", (long long)in->port); break;
	case INSTNET_UDP: buf_printf(b, "udp dport %lld", (long long)in->port); break;
	case INSTNET_ICMP: buf_puts(b, "icmpv6 type echo-request"); break;
	}
	buf_puts(b, " accept\n");
}

/* A set of addresses, each of which is forgotten after ten minutes without use. */
static void instnet_put_set(const char *name, unsigned size, struct buf *b) {
	buf_printf(b, "\tset %s {\n\t\ttype ipv6_addr\n\t\tsize %u\n\t\tflags dynamic,timeout\n\t\ttimeout 10m\n\t}\n",
	           name, size);
}

/*
 * What each chain decides (docs/instances.md, "Fragments"):
 *
 * `antispoof` comes before reassembly, which nf_defrag_ipv6 does at priority -400 for connection tracking, and so also
 * before tracking itself. It checks the MAC and the source address of every fragment, so forged packets leave no trace.
 * `input`, `forward` and `ingress` come after reassembly and see whole packets, with their ports and ICMPv6 types.
 *
 * The two sets limit how many addresses a guest can make the kernel remember, beside the link-local address made from
 * its MAC: a solicitation from a new source makes a neighbour entry, and so does an answer to a new link-local address.
 * The whole host shares one neighbour table. With two sets, many addresses of the guest's prefixes don't crowd out its
 * link-local addresses, by which it checks whether the gateway is still there.
 *
 * `output` is for programs in the container. nacre-vm sends router advertisements; QEMU must not use the network. A
 * socket that is bound to the tap sends elsewhere if an address names another device (sin6_scope_id, ipv6(7)). So
 * everything else that a process sends is dropped. What the kernel itself sends has no user, so skuid doesn't match it.
 */
void instnet_ruleset(const struct instnet_config *c, struct buf *b) {
	const struct addr link_local = {.family = AF_INET6, .bytes = {0xfe, 0x80}};
	struct addr derived = addr_eui64(&link_local, &c->spec->mac);
	char mac[MAC_STR_MAX], ip[ADDR_STR_MAX], own[OWN_MAX];

	own_prefixes(c, own);
	instnet_put_set("linklocal", 4, b);
	instnet_put_set("neighbours", 12, b);
	buf_puts(b, "\tchain antispoof {\n\t\ttype filter hook prerouting priority -450; policy accept;\n");
	buf_printf(b, "\t\tiifname \"%s\" jump guest\n\t\tiifname \"%s\" ip6 saddr { %s } drop\n\t}\n", INSTNET_TAP,
	           UPLINK, own);
	/*
	 * 58 is ICMPv6: a protocol's name would be looked up in /etc/protocols, which a small container image lacks.
	 * The kernel drops fragments of neighbour discovery (RFC 6980).
	 */
	buf_printf(
		b,
		"\tchain guest {\n"
		"\t\tether saddr != %s drop\n"
		"\t\tip6 saddr :: ip6 daddr ff02::/16 icmpv6 type { nd-router-solicit, nd-neighbor-solicit } accept\n"
		"\t\tip6 saddr { %s } meta l4proto != 58 accept\n"
		"\t\tip6 saddr { %s } exthdr frag exists accept\n"
		"\t\tip6 saddr { %s } icmpv6 type != 133-137 accept\n"
		"\t\tip6 daddr != { fe80::1, ff02::/16 } drop\n"
		"\t\tip6 saddr %s accept\n"
		"\t\tip6 saddr fe80::/64 update @linklocal { ip6 saddr } accept\n"
		"\t\tip6 saddr { %s } update @neighbours { ip6 saddr } accept\n"
		"\t\tdrop\n\t}\n",
		mac_str(&c->spec->mac, mac), own, own, own, addr_str(&derived, ip), own);
	buf_puts(b, "\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n"
	            "\t\ticmpv6 type echo-request limit rate 100/second accept\n");
	buf_printf(b,
	           "\t\tiifname \"%s\" ip6 hoplimit 255 icmpv6 type "
	           "{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept\n\t}\n",
	           INSTNET_TAP);
	buf_printf(b,
	           "\tchain output {\n\t\ttype filter hook output priority filter; policy drop;\n"
	           "\t\toifname \"%s\" icmpv6 type nd-router-advert accept\n"
	           "\t\tmeta skuid != 4294967295 drop\n"
	           "\t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, "
	           "echo-reply } accept\n"
	           "\t\toifname \"%s\" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n\t}\n",
	           INSTNET_TAP, INSTNET_TAP);
	buf_puts(b, "\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n"
	            "\t\tct state invalid drop\n");
	buf_printf(b, "\t\tiifname \"%s\" oifname \"%s\" accept\n", INSTNET_TAP, UPLINK);
	buf_printf(b, "\t\tiifname \"%s\" oifname \"%s\" jump ingress\n\t}\n", UPLINK, INSTNET_TAP);
	buf_puts(b, "\tchain ingress {\n\t\tct state established,related accept\n");
	for (size_t i = 0; i < c->spec->n_ingress; i++)
		put_ingress(&c->spec->ingress[i], b);
	buf_puts(b, "\t}\n");
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
	struct link_end inside = {.nl = nl, .netns_fd = fd, .name = UPLINK, .mac = &c->spec->mac};
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

static int ensure_routes(const struct instnet_config *c, struct nl *nl, int uplink, int tap, struct error *err) {
	const struct addr gateway = vtep_anycast_gateway();
	const struct addr guest = {.family = AF_INET6, .bytes = {0xfe, 0x80, [15] = 2}};
	const struct neigh neighbours[] = {
		{.oif = uplink, .addr = gateway, .mac = vtep_anycast_mac()},
		{.oif = tap, .addr = guest, .mac = c->spec->mac},
	};
	const struct route routes[] = {
		{.dst = {.addr = {.family = AF_INET6}}, .via = gateway, .oif = uplink},
		{.dst = c->spec->net, .via = guest, .oif = tap},
		{.dst = c->spec->delegated, .via = guest, .oif = tap},
	};
	int r = link_ensure_addr(nl, tap, &gateway, 64, err);
	if (r >= 0)
		r = link_ensure_addr(nl, uplink, &c->spec->ip, 128, err);
	for (size_t i = 0; i < ARRAY_SIZE(neighbours) && r >= 0; i++)
		r = neigh_put(nl, &neighbours[i], err);
	for (size_t i = 0; i < ARRAY_SIZE(routes) && r >= 0; i++)
		if (routes[i].dst.addr.family)
			r = route_put(nl, &routes[i], err);
	return r;
}

static int ensure_inside(const struct instnet_config *c, struct nl *public_nl, int public_fd, int fd,
                         uint64_t *nft_state, struct error *err) {
	/* `default` holds for devices that are made later, so it comes first. There is no IPv4 for now. */
	static const struct netns_sysctl router[] = {
		{"ipv6/conf/default/addr_gen_mode", "1"},    {"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/accept_ra", "0"},        {"ipv6/conf/all/accept_redirects", "0"},
		{"ipv6/conf/default/accept_redirects", "0"}, {"ipv6/conf/all/forwarding", "1"},
		{"ipv4/conf/all/forwarding", "0"},
	};
	_nl_free_ struct nl *nl = NULL;
	_buf_free_ struct buf rules = {.max = 65536};
	struct link tap;
	int uplink;

	int r = netns_sysctl(fd, router, ARRAY_SIZE(router), err);
	if (r < 0)
		return r;
	r = nl_open(&nl, fd, err);
	if (r < 0)
		return r;
	/* The rules are in place before anything can come in. */
	instnet_ruleset(c, &rules);
	r = buf_error(&rules, "firewall rules", err);
	if (r >= 0)
		r = nft_ensure(fd, "inet", "nacre", rules.data, nft_state, NULL, err);
	if (r >= 0)
		r = ensure_veth(c, public_nl, public_fd, nl, fd, &uplink, err);
	if (r >= 0)
		r = ensure_tap(c, nl, fd, &tap, err);
	if (r >= 0)
		r = ensure_routes(c, nl, uplink, tap.index, err);
	return r;
}

int instnet_ensure(const struct instnet_config *c, struct nl *public_nl, int public_fd, uint64_t *nft_state,
                   struct error *err) {
	char name[INSTNET_NAME_MAX];
	_close_ int fd = -1;
	bool created;

	instnet_netns(c->prefix, c->id, name);
	int r = netns_ensure(name, &created, err);
	if (r < 0)
		return r;
	if (created)
		*nft_state = 0;
	r = netns_open(name, &fd, err);
	if (r >= 0)
		r = ensure_inside(c, public_nl, public_fd, fd, nft_state, err);
	return r < 0 ? error_prefix(err, "network `%s`", name) : 0;
}

int instnet_remove(const char *prefix, const char *id, struct nl *public_nl, struct error *err) {
	char name[INSTNET_NAME_MAX], device[16];

	/* The kernel removes a namespace at its leisure, and the device in `public` would exist until then. */
	int r = link_delete(public_nl, instnet_device(id, device), err);
	return r < 0 ? r : netns_delete(instnet_netns(prefix, id, name), err);
}
