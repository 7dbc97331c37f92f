/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The nftables rules of an instance's namespace (node/instnet.h). Numbers of protocols are used, since names would be
 * looked up in /etc/protocols, which a small container image lacks: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6.
 */

#include <sys/socket.h>

#include "base/util.h"
#include "base/vtep.h"
#include "node/instnet.h"

#define ICMP_ERRORS "{ destination-unreachable, time-exceeded, parameter-problem }"
/* The kernel's source for ICMP errors of a router that has no public address (RFC 7600). */
#define DUMMY4 "192.0.0.8"
/* The ports of DHCP, one by one: a set without intervals is cheaper. */
#define DHCP_PORTS "{ 67, 68, 546, 547 }"

/* What the texts of the rules are made from. */
struct facts {
	const struct instnet_config *c;
	const struct instnet_spec *spec;
	bool shared;
	char mac[MAC_STR_MAX];
	char net[PREFIX_STR_MAX], delegated[PREFIX_STR_MAX]; /* the guest's IPv6 prefixes; the second may be none */
	char own4[ADDR_STR_MAX], gateway4[ADDR_STR_MAX];
	char metadata4[ADDR_STR_MAX], metadata6[ADDR_STR_MAX];
};

static struct facts facts_of(const struct instnet_config *c) {
	const struct instnet_spec *s = c->spec;
	const struct addr gateway4 = instnet_gateway4();
	const struct addr metadata4 = instnet_metadata4(), metadata6 = instnet_metadata6();
	struct facts f = {.c = c, .spec = s, .shared = s->ipv4 == INSTNET_SHARED};

	mac_str(&s->mac, f.mac);
	prefix_str(&s->net, f.net);
	if (s->delegated.addr.family)
		prefix_str(&s->delegated, f.delegated);
	if (s->ipv4 != INSTNET_NO_IPV4)
		addr_str(&s->address4, f.own4);
	addr_str(&gateway4, f.gateway4);
	addr_str(&metadata4, f.metadata4);
	addr_str(&metadata6, f.metadata6);
	return f;
}

static bool has_ipv4(const struct facts *f) {
	return f->spec->ipv4 != INSTNET_NO_IPV4;
}

/* ---- table inet: what may pass ---- */

/* A set of addresses, each of which is forgotten after ten minutes without use. */
static void instnet_put_set(const char *name, unsigned size, struct buf *b) {
	buf_printf(b, "\tset %s {\n\t\ttype ipv6_addr\n\t\tsize %u\n\t\tflags dynamic,timeout\n\t\ttimeout 10m\n\t}\n",
	           name, size);
}

/*
 * A rule for each of the guest's IPv6 prefixes. These comparisons are cheaper than a set of intervals. And while the
 * kernel replaces a table, a packet may meet the new rules before such a set has its elements.
 */
static void put_each_prefix(const struct facts *f, const char *before, const char *after, struct buf *b) {
	buf_printf(b, "\t\t%s %s %s\n", before, f->net, after);
	if (f->spec->delegated.addr.family)
		buf_printf(b, "\t\t%s %s %s\n", before, f->delegated, after);
}

/*
 * Before reassembly and tracking: `guest` is for packets out of the tap, `outside` for those of the uplink. Every
 * packet passes here, and a comparison of names is the dearest one, so there are few.
 */
static void put_antispoof(const struct facts *f, struct buf *b) {
	buf_puts(b, "\tchain antispoof {\n\t\ttype filter hook prerouting priority -450; policy accept;\n"
	            "\t\tiifname \"" INSTNET_TAP "\" goto guest\n"
	            "\t\tiifname \"" INSTNET_UPLINK "\" goto outside\n\t}\n");
	buf_puts(b, "\tchain outside {\n");
	put_each_prefix(f, "ip6 saddr", "drop", b);
	buf_printf(b,
	           "\t\tip6 daddr %s drop\n"
	           "\t\tip daddr %s drop\n",
	           f->metadata6, f->metadata4);
	if (has_ipv4(f))
		buf_printf(b, "\t\tip saddr %s drop\n", f->own4);
	/* Nobody outside knows the private address: only what translation makes of a packet has it. */
	if (f->shared)
		buf_printf(b, "\t\tip daddr %s drop\n", f->own4);
	buf_puts(b, "\t}\n");
}

/* Solicitations and advertisements of the guest's addresses return from here. */
static void put_own(struct buf *b) {
	buf_puts(b, "\tchain own {\n"
	            "\t\tmeta l4proto != 58 accept\n"
	            "\t\texthdr frag exists accept\n"
	            "\t\ticmpv6 type != 133-137 accept\n\t}\n");
}

static void put_guest(const struct facts *f, struct buf *b) {
	const struct addr link_local = {.family = AF_INET6, .bytes = {0xfe, 0x80}};
	struct addr derived = addr_eui64(&link_local, &f->spec->mac);
	char ip[ADDR_STR_MAX];

	buf_printf(b, "\tchain guest {\n\t\tether saddr != %s drop\n", f->mac);
	if (has_ipv4(f))
		buf_puts(b, "\t\tmeta nfproto ipv4 goto guest4\n");
	/*
	 * Link-local sources are for neighbour discovery and DHCPv6, which need no fragments (RFC 6980), and for the
	 * metadata of a guest that has no other address yet. The kernel forwards to the unspecified address. The first
	 * rule accepts nothing that the others would not: it is there because most packets end at it.
	 */
	buf_printf(
		b,
		"\t\tip6 daddr 2000::/3 ip6 saddr %s meta l4proto != 58 accept\n"
		"\t\tip6 daddr ::/127 drop\n"
		"\t\tip6 daddr ::ffff:0.0.0.0/96 drop\n"
		"\t\tip6 daddr fe80::/10 ip6 daddr != fe80::1 drop\n"
		"\t\tip6 saddr :: ip6 daddr ff02::/16 icmpv6 type { nd-router-solicit, nd-neighbor-solicit } accept\n",
		f->net);
	put_each_prefix(f, "ip6 saddr", "jump own", b);
	buf_printf(b,
	           "\t\tip6 daddr %s meta l4proto != 6 drop\n"
	           "\t\tip6 daddr %s tcp dport != 80 drop\n"
	           "\t\tip6 daddr != fe80::1 ip6 daddr != %s ip6 daddr != ff02::/16 drop\n"
	           "\t\texthdr frag exists drop\n"
	           "\t\tip6 saddr %s accept\n"
	           "\t\tip6 saddr fe80::/64 update @linklocal { ip6 saddr } accept\n",
	           f->metadata6, f->metadata6, f->metadata6, addr_str(&derived, ip));
	put_each_prefix(f, "ip6 saddr", "update @neighbours { ip6 saddr } accept", b);
	buf_puts(b, "\t\tdrop\n\t}\n");
}

/*
 * A client of DHCP without an address has the source 0.0.0.0. A fragment of such a message would wait for the others,
 * so there may be none. Fragments keep their sizes, so one that isn't the last must have room for the largest headers
 * of IPv4 and TCP (RFC 1858). The first rule accepts nothing that the others would not: it is there because
 * most packets end at it.
 */
static void put_guest4(const struct facts *f, struct buf *b) {
	buf_printf(b,
	           "\tchain guest4 {\n"
	           "\t\tip saddr %s ip frag-off & 0x2000 == 0 ip daddr & 224.0.0.0 != 224.0.0.0 "
	           "ip daddr & 255.0.0.0 != { 0.0.0.0, 127.0.0.0, 169.0.0.0 } accept\n"
	           "\t\tip saddr { 0.0.0.0, %s } ip daddr 255.255.255.255 udp sport 68 udp dport 67 "
	           "ip frag-off & 0x3fff == 0 accept\n"
	           "\t\tip saddr != %s drop\n"
	           "\t\tip frag-off & 0x2000 != 0 ip length < 120 drop\n"
	           "\t\tip daddr { %s, %s } accept\n"
	           "\t\tip daddr 0.0.0.0/8 drop\n"
	           "\t\tip daddr 127.0.0.0/8 drop\n"
	           "\t\tip daddr 169.254.0.0/16 drop\n"
	           "\t\tip daddr 224.0.0.0/3 drop\n"
	           "\t\taccept\n\t}\n",
	           f->own4, f->own4, f->own4, f->gateway4, f->metadata4);
}

/* The limit is for new connections. How many there may be at once is nacre-vm's to say. */
static void put_metadata(struct buf *b) {
	buf_puts(b, "\tchain metadata {\n\t\tct state established accept\n"
	            "\t\tct state new limit rate 50/second burst 50 packets accept\n\t\tdrop\n\t}\n");
}

static void put_input(const struct facts *f, struct buf *b) {
	buf_puts(b, "\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n"
	            "\t\ticmpv6 type echo-request limit rate 100/second accept\n"
	            "\t\tiifname \"" INSTNET_TAP "\" ip6 hoplimit 255 icmpv6 type "
	            "{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } "
	            "limit rate 100/second burst 50 packets accept\n"
	            "\t\tiifname \"" INSTNET_TAP "\" ip6 saddr fe80::/64 ip6 daddr { fe80::1, ff02::1:2 } "
	            "udp sport 546 udp dport 547 limit rate 50/second accept\n");
	buf_printf(b, "\t\tiifname \"" INSTNET_TAP "\" ip6 daddr %s tcp dport 80 goto metadata\n", f->metadata6);
	if (has_ipv4(f))
		buf_printf(b, "\t\tiifname \"" INSTNET_TAP "\" ip daddr %s tcp dport 80 goto metadata\n", f->metadata4);
	if (has_ipv4(f))
		buf_printf(b,
		           "\t\tiifname \"" INSTNET_TAP "\" ip daddr %s icmp type echo-request "
		           "limit rate 100/second accept\n"
		           "\t\tiifname \"" INSTNET_TAP "\" ip daddr { 255.255.255.255, %s } "
		           "udp sport 68 udp dport 67 limit rate 50/second accept\n",
		           f->gateway4, f->gateway4);
	buf_puts(b, "\t}\n");
}

static void put_output(const struct facts *f, struct buf *b) {
	buf_puts(b, "\tchain output {\n\t\ttype filter hook output priority filter; policy drop;\n"
	            "\t\toifname \"" INSTNET_TAP "\" icmpv6 type nd-router-advert accept\n"
	            "\t\toifname \"" INSTNET_TAP "\" ip6 saddr fe80::1 ip6 daddr fe80::/64 "
	            "udp sport 547 udp dport 546 accept\n");
	buf_printf(b, "\t\toifname \"" INSTNET_TAP "\" ip6 saddr %s tcp sport 80 accept\n", f->metadata6);
	if (has_ipv4(f))
		buf_printf(b, "\t\toifname \"" INSTNET_TAP "\" ip saddr %s tcp sport 80 accept\n", f->metadata4);
	if (has_ipv4(f))
		buf_printf(b,
		           "\t\toifname \"" INSTNET_TAP "\" ip saddr %s ip daddr { 255.255.255.255, %s } "
		           "udp sport 67 udp dport 68 accept\n",
		           f->gateway4, f->own4);
	buf_printf(b,
	           "\t\toifname \"" INSTNET_UPLINK "\" ip6 saddr fe80::/10 drop\n"
	           "\t\toifname \"" INSTNET_UPLINK "\" ip6 saddr %s drop\n",
	           f->metadata6);
	buf_puts(b, "\t\tmeta skuid != 4294967295 drop\n"
	            "\t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } "
	            "ip6 daddr fe80::/10 drop\n"
	            "\t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, "
	            "echo-reply } accept\n"
	            "\t\toifname \"" INSTNET_TAP "\" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n");
	if (has_ipv4(f))
		buf_puts(b, "\t\ticmp type " ICMP_ERRORS " accept\n"
		            "\t\toifname \"" INSTNET_TAP "\" icmp type echo-reply accept\n");
	buf_puts(b, "\t}\n");
}

/*
 * What a guest can't send out although the source is its own: to the address of metadata; with a routing
 * header (RFC 5095, RFC 8754); with a fragment header that is still there after reassembly, because the first fragment
 * lacks headers (RFC 7112), or within another fragment, where it would hide ports and types, or without need (RFC
 * 8021); with a length of zero before hop-by-hop options, which the kernel takes for a jumbogram without looking for
 * its option, while others find nothing in it (RFC 2675); messages that are only for neighbours (RFC 4890,
 * section 4.3.3); DHCP. Searching a packet for a header is dear, and there is none if TCP or UDP follows the IPv6
 * header at once.
 */
static void put_never(struct buf *b) {
	buf_puts(b, "\tchain never {\n"
	            "\t\tmeta nfproto ipv6 jump never6\n"
	            "\t\tmeta l4proto != 17 goto other\n"
	            "\t\tth sport " DHCP_PORTS " drop\n"
	            "\t\tth dport " DHCP_PORTS " drop\n"
	            "\t\taccept\n\t}\n"
	            "\tchain never6 {\n"
	            "\t\tip6 daddr fd00:ec2::254 drop\n"
	            "\t\tip6 nexthdr { 6, 17 } return\n"
	            "\t\tip6 nexthdr 0 ip6 length 0 drop\n"
	            "\t\texthdr rt exists drop\n"
	            "\t\texthdr frag exists drop\n\t}\n"
	            "\tchain other {\n"
	            "\t\ticmpv6 type 130-137 drop\n"
	            "\t\ticmpv6 type 141-143 drop\n"
	            "\t\ticmpv6 type 148-149 drop\n"
	            "\t\ticmpv6 type 151-153 drop\n"
	            "\t\taccept\n\t}\n");
}

/*
 * What may pass is the firewall's to say (node/firewall_rules.c), whose chain comes before this one. Its mark is proof
 * that it was asked: without its table nothing passes. Invalid packets have no connection and so no mark.
 */
static void put_forward(const struct facts *f, struct buf *b) {
	buf_puts(b, "\tchain forward {\n\t\ttype filter hook forward priority filter + 20; policy drop;\n"
	            "\t\tiifname \"" INSTNET_TAP "\" oifname \"" INSTNET_UPLINK "\" ct mark != 0 goto never\n"
	            "\t\tiifname \"" INSTNET_UPLINK "\" oifname \"" INSTNET_TAP "\" ct mark != 0 accept\n");
	/* The guest reaches its own forwards. */
	if (f->shared)
		buf_puts(b, "\t\tiifname \"" INSTNET_TAP "\" oifname \"" INSTNET_TAP
		            "\" ct status dnat ct mark != 0 accept\n");
	buf_puts(b, "\t}\n");
}

/*
 * What each chain decides (docs/instances.md, "Fragments"):
 *
 * `antispoof` comes before reassembly, which the kernel does at priority -400 for connection tracking, and so also
 * before tracking itself. It checks the MAC and the source address of every fragment, so forged packets leave no trace.
 * `input` and `forward` come after reassembly and see whole packets, with their ports and ICMP types.
 *
 * The two sets limit how many addresses a guest can make the kernel remember, beside the link-local address made from
 * its MAC: a solicitation from a new source makes a neighbour entry, and so does an answer to a new link-local address.
 * The whole host shares one neighbour table. With two sets, many addresses of the guest's prefixes don't crowd out its
 * link-local addresses, by which it checks whether the gateway is still there.
 *
 * `output` is for programs in the container. nacre-vm sends router advertisements, answers of DHCP and metadata; QEMU
 * must not use the network. A socket that is bound to the tap sends elsewhere if an address names another device
 * (sin6_scope_id, ipv6(7)). So everything else that a process sends is dropped. What the kernel itself sends has no
 * user, so skuid doesn't match it. The kernel complains about hop-by-hop options before `antispoof`, to whatever source
 * the packet has: such an error may not have a link-local source outside, nor the address of metadata, and may not make
 * it ask for a forged neighbour.
 */
static void put_filter(const struct facts *f, struct buf *b) {
	instnet_put_set("linklocal", 4, b);
	instnet_put_set("neighbours", 12, b);
	put_antispoof(f, b);
	put_own(b);
	put_guest(f, b);
	if (has_ipv4(f))
		put_guest4(f, b);
	put_metadata(b);
	put_input(f, b);
	put_output(f, b);
	put_never(b);
	put_forward(f, b);
}

/* ---- table ip: translation, and what may leave ---- */

static const char *slice_ports(const struct instnet_slice *s, char out[static 16]) {
	snprintf(out, 16, "%lld-%lld", (long long)s->first, (long long)s->last);
	return out;
}

/* For each of N slices: "I : goto sliceI". */
static void put_choice(const char *hashed, size_t n, struct buf *b) {
	buf_printf(b, "\t\t%s mod %zu seed 1 vmap { ", hashed, n);
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%s%zu : goto slice%zu", i ? ", " : "", i, i);
	buf_puts(b, " }\n");
}

/*
 * A new connection gets a port of one of the first N slices. The hash of its source decides which one, so that a socket
 * has the same public port towards all destinations. (A second `snat` as a fallback is never reached, and a map from
 * the hash to addresses and ranges of ports is loaded but uses only the first port of each.) `snat` loads only in
 * chains that name the protocols.
 */
static void put_snat(const struct facts *f, struct buf *b) {
	size_t n = f->c->open_slices ? MIN(f->c->open_slices, f->spec->n_slices) : f->spec->n_slices;
	char ports[16], address[ADDR_STR_MAX];

	for (size_t i = 0; i < n; i++)
		buf_printf(b, "\tchain slice%zu {\n\t\tmeta l4proto { 1, 6, 17 } snat to %s:%s\n\t}\n", i,
		           addr_str(&f->spec->slices[i].address, address), slice_ports(&f->spec->slices[i], ports));
	buf_puts(b, "\tchain translate {\n");
	if (n > 1) {
		put_choice("meta l4proto { 6, 17 } jhash ip saddr . th sport", n, b);
		put_choice("icmp type echo-request jhash icmp id", n, b);
	} else if (n == 1) {
		buf_puts(b, "\t\tgoto slice0\n");
	}
	/* The second rule is for the guest's way to its own forwards: the answers must come back here. */
	buf_printf(b,
	           "\t}\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
	           "\t\toifname \"" INSTNET_UPLINK "\" ip saddr %s jump translate\n"
	           "\t\toifname \"" INSTNET_TAP "\" ip saddr %s ct status dnat jump translate\n\t}\n",
	           f->own4, f->own4);
}

static void put_dnat(const struct facts *f, struct buf *b) {
	char address[ADDR_STR_MAX];

	buf_puts(b, "\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n");
	for (size_t i = 0; i < f->spec->n_forwards; i++) {
		const struct instnet_forward *w = &f->spec->forwards[i];
		buf_printf(b, "\t\tip daddr %s %s dport %lld dnat to %s:%lld\n", addr_str(&w->address, address),
		           w->proto == INSTNET_UDP ? "udp" : "tcp", (long long)w->port, f->own4, (long long)w->target);
	}
	buf_puts(b, "\t}\n");
}

static void put_ports(const struct instnet_slice *s, struct buf *b) {
	char ports[16], address[ADDR_STR_MAX];

	buf_printf(b, "\t\tip saddr %s meta l4proto { 6, 17 } th sport %s accept\n", addr_str(&s->address, address),
	           slice_ports(s, ports));
}

/*
 * After translation: what leaves has a source of the instance. Translation leaves alone what it doesn't know, such as
 * other protocols and errors about unknown connections, and such packets would leave with the private address. The
 * first slice comes before the name of the device, which is dearer to compare: most instances have one slice,
 * and what goes to the guest may pass in any case.
 */
static void put_egress(const struct facts *f, struct buf *b) {
	size_t n = f->shared ? f->spec->n_slices : 0;
	char ports[16], address[ADDR_STR_MAX];

	buf_puts(b, "\tchain egress {\n\t\ttype filter hook postrouting priority 300; policy accept;\n");
	if (n)
		put_ports(&f->spec->slices[0], b);
	buf_puts(b, "\t\toifname != \"" INSTNET_UPLINK "\" accept\n");
	if (!f->shared)
		buf_printf(b, "\t\tip saddr %s accept\n", f->own4);
	for (size_t i = 1; i < n; i++)
		put_ports(&f->spec->slices[i], b);
	for (size_t i = 0; i < n; i++)
		buf_printf(b,
		           "\t\tip saddr %s icmp type echo-request icmp id %s accept\n"
		           "\t\tip saddr %s icmp type " ICMP_ERRORS " accept\n",
		           addr_str(&f->spec->slices[i].address, address), slice_ports(&f->spec->slices[i], ports),
		           address);
	buf_puts(b, "\t\tip saddr " DUMMY4 " icmp type " ICMP_ERRORS " accept\n\t\tdrop\n\t}\n");
}

static void put_nat(const struct facts *f, struct buf *b) {
	if (!has_ipv4(f))
		return;
	if (f->shared) {
		put_snat(f, b);
		put_dnat(f, b);
	}
	put_egress(f, b);
}

/* ---- table arp ---- */

/*
 * Only requests from the guest's own address, which is a permanent neighbour: others would make the kernel remember
 * them. The outside and the container itself need no ARP.
 */
static void put_arp(const struct facts *f, struct buf *b) {
	buf_puts(b, "\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n");
	if (has_ipv4(f))
		buf_printf(b,
		           "\t\tiifname \"" INSTNET_TAP "\" arp operation request arp saddr ether %s arp saddr ip %s "
		           "arp daddr ip { %s, %s } limit rate 20/second accept\n",
		           f->mac, f->own4, f->gateway4, f->metadata4);
	buf_puts(b, "\t}\n\tchain output {\n\t\ttype filter hook output priority filter; policy drop;\n");
	if (has_ipv4(f))
		buf_puts(b, "\t\toifname \"" INSTNET_TAP "\" arp operation reply accept\n");
	buf_puts(b, "\t}\n");
}

#define RULES_MAX 65536

int instnet_rules(const struct instnet_config *c, struct instnet_rules *ret, struct error *err) {
	const struct facts f = facts_of(c);
	struct instnet_rules r = {.filter = {.max = RULES_MAX}, .nat = {.max = RULES_MAX}, .arp = {.max = RULES_MAX}};

	put_filter(&f, &r.filter);
	buf_puts(&r.nat, "");
	put_nat(&f, &r.nat);
	put_arp(&f, &r.arp);
	if (r.filter.failed || r.nat.failed || r.arp.failed) {
		instnet_rules_done(&r);
		return error_oom(err);
	}
	*ret = r;
	return 0;
}

void instnet_rules_done(struct instnet_rules *r) {
	buf_free(&r->filter);
	buf_free(&r->nat);
	buf_free(&r->arp);
}
