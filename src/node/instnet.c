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

#define UPLINK "uplink"

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
	snprintf(out, 16, "i-%s", id);
	return out;
}

const char *instnet_netns(const char *prefix, const char *id, char out[static INSTNET_NAME_MAX]) {
	snprintf(out, INSTNET_NAME_MAX, "%si-%s", prefix, id);
	return out;
}

static void put_sources(const struct instnet_config *c, struct buf *b) {
	char text[PREFIX_STR_MAX];

	buf_printf(b, "{ %s", prefix_str(&c->net, text));
	if (c->delegated.addr.family)
		buf_printf(b, ", %s", prefix_str(&c->delegated, text));
	buf_puts(b, " }");
}

static void put_ingress(const struct instnet_ingress *in, struct buf *b) {
	char text[PREFIX_STR_MAX];

	buf_puts(b, "\t\t");
	if (in->from.addr.family)
		buf_printf(b, "ip6 saddr %s ", prefix_str(&in->from, text));
	switch (in->proto) {
	case INSTNET_TCP: buf_printf(b, "tcp dport %u", in->port); break;
	case INSTNET_UDP: buf_printf(b, "udp dport %u", in->port); break;
	case INSTNET_ICMP: buf_puts(b, "icmpv6 type echo-request"); break;
	}
	buf_puts(b, " accept\n");
}

/*
 * The first chain stands before connection tracking, so that spoofed packets leave no trace.
 * The set bounds how many link-local addresses beside the one derived from its MAC a guest can make the kernel
 * remember as neighbours: their table is one for the whole host.
 */
void instnet_ruleset(const struct instnet_config *c, struct buf *b) {
	const struct addr link_local = {.family = AF_INET6, .bytes = {0xfe, 0x80}};
	struct addr derived = addr_eui64(&link_local, &c->mac);
	char mac[MAC_STR_MAX], ip[ADDR_STR_MAX];

	buf_puts(b, "\tset linklocal {\n\t\ttype ipv6_addr\n\t\tsize 8\n\t\tflags dynamic,timeout\n"
	            "\t\ttimeout 10m\n\t}\n");
	buf_puts(b, "\tchain antispoof {\n\t\ttype filter hook prerouting priority raw; policy accept;\n");
	buf_printf(b, "\t\tiifname \"%s\" jump guest\n", INSTNET_TAP);
	buf_printf(b, "\t\tiifname \"%s\" ip6 saddr ", UPLINK);
	put_sources(c, b);
	buf_puts(b, " drop\n\t}\n");
	buf_printf(b, "\tchain guest {\n\t\tether saddr != %s drop\n\t\tip6 saddr ", mac_str(&c->mac, mac));
	put_sources(c, b);
	buf_puts(b,
	         " return\n"
	         "\t\tip6 saddr :: ip6 daddr ff02::/16 icmpv6 type { nd-router-solicit, nd-neighbor-solicit } return\n"
	         "\t\tip6 daddr != { fe80::1, ff02::/16 } drop\n");
	buf_printf(b,
	           "\t\tip6 saddr %s return\n"
	           "\t\tip6 saddr fe80::/64 update @linklocal { ip6 saddr } return\n"
	           "\t\tdrop\n\t}\n",
	           addr_str(&derived, ip));
	buf_puts(b, "\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n"
	            "\t\tiifname \"lo\" accept\n"
	            "\t\tct state established,related accept\n"
	            "\t\ticmpv6 type echo-request limit rate 100/second accept\n");
	buf_printf(b,
	           "\t\tiifname \"%s\" ip6 hoplimit 255 icmpv6 type "
	           "{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept\n\t}\n",
	           INSTNET_TAP);
	buf_puts(b, "\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n"
	            "\t\tct state invalid drop\n");
	buf_printf(b, "\t\tiifname \"%s\" oifname \"%s\" accept\n", INSTNET_TAP, UPLINK);
	buf_printf(b, "\t\tiifname \"%s\" oifname \"%s\" jump ingress\n\t}\n", UPLINK, INSTNET_TAP);
	buf_puts(b, "\tchain ingress {\n\t\tct state established,related accept\n");
	for (size_t i = 0; i < c->n_ingress; i++)
		put_ingress(&c->ingress[i], b);
	buf_puts(b, "\t}\n");
}

static int ensure_tap(const struct instnet_config *c, struct nl *nl, int fd, struct link *ret, struct error *err) {
	static const struct netns_sysctl quiet[] = {{"ipv6/conf/" INSTNET_TAP "/addr_gen_mode", "1"},
	                                            {"ipv6/conf/" INSTNET_TAP "/accept_dad", "0"}};
	struct mac mac = vtep_anycast_mac();
	int tap, r = link_get(nl, INSTNET_TAP, ret, err);

	if (r == -ENODEV) {
		/* It is persistent: the one who uses it opens it again. */
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
	struct link_end inside = {.nl = nl, .netns_fd = fd, .name = UPLINK, .mac = &c->mac};
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
		{.oif = tap, .addr = guest, .mac = c->mac},
	};
	const struct route routes[] = {
		{.dst = {.addr = {.family = AF_INET6}}, .via = gateway, .oif = uplink},
		{.dst = c->net, .via = guest, .oif = tap},
		{.dst = c->delegated, .via = guest, .oif = tap},
	};
	int r = link_ensure_addr(nl, tap, &gateway, 64, err);
	if (r >= 0)
		r = link_ensure_addr(nl, uplink, &c->ip, 128, err);
	for (size_t i = 0; i < ARRAY_SIZE(neighbours) && r >= 0; i++)
		r = neigh_put(nl, &neighbours[i], err);
	for (size_t i = 0; i < ARRAY_SIZE(routes) && r >= 0; i++)
		if (routes[i].dst.addr.family)
			r = route_put(nl, &routes[i], err);
	return r;
}

static int ensure_inside(const struct instnet_config *c, struct nl *public_nl, int public_fd, int fd,
                         uint64_t *nft_state, struct error *err) {
	/* `default` is for the devices that come later, so it goes first. No IPv4 at all for now. */
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
	/* The rules stand before there is anything that could come in. */
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

	/* The kernel takes a namespace apart in its own time; the device in public would live till then. */
	int r = link_delete(public_nl, instnet_device(id, device), err);
	return r < 0 ? r : netns_delete(instnet_netns(prefix, id, name), err);
}
