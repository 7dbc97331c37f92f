/* SPDX-License-Identifier: Apache-2.0 */

/* Single packets with a source of the guest that may not leave its container. */

#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>

#include "base/vtep.h"
#include "node/test-spoof-make.h"

struct spoof_case {
	const char *name, *dst;
	uint16_t sport, dport;
	uint8_t icmp;         /* type of ICMP or ICMPv6, instead of UDP */
	uint8_t protocol;     /* what the last header says that it is; 0: what it is */
	bool shared;          /* only of the guest that shares an address */
	bool link_local;      /* with a link-local source */
	bool foreign_mac;     /* from the MAC of another guest */
	bool no_length;       /* with a length of zero; the header in front is of hop-by-hop options */
	uint8_t headers[3];   /* of IPv6 in front of it */
	uint16_t fragment[2]; /* offset and more of each fragment header */
	uint8_t routing;      /* type of the routing header */
	uint16_t cut;         /* two fragments, the first of so many bytes */
	uint16_t sum_at;      /* where the kernel is asked to write a checksum */
	uint16_t piece;       /* size of the pieces that the kernel is asked to make */
};

#define FRAGMENT 44
#define ROUTING  43
#define OPTIONS  60
#define UDP_AT4  (ETH_LEN + 20)
#define UDP_AT6  (ETH_LEN + 40)

static const struct spoof_case cases[] = {
	{"to the unspecified address", "::", 9, 9},
	{"to a mapped address", "::ffff:192.0.2.1", 9, 9},
	{"to the address of metadata", METADATA6, 9, 9},
	{"to a link-local address", "fe80::77", 9, 9},
	{"to all nodes", "ff0e::1", 9, 9},
	{"with a source route", FAR6, 9, 9, .headers = {ROUTING}},
	{"with a segment routing header", FAR6, 9, 9, .headers = {ROUTING}, .routing = 4},
	{"with a source route behind options", FAR6, 9, 9, .headers = {OPTIONS, ROUTING}},
	{"with a source route in fragments", FAR6, 9, 9, .headers = {ROUTING}, .cut = 32},
	{"a fragment in fragments", FAR6, 9, 9, .headers = {FRAGMENT}, .fragment = {0x30}, .cut = 16},
	{"a fragment in an atomic fragment", FAR6, 9, 9, .headers = {FRAGMENT, FRAGMENT}, .fragment = {0, 0x30}},
	{"a first fragment without all headers", FAR6, 9, 9, .headers = {OPTIONS, 51}, .protocol = 135, .cut = 16},
	{"a neighbour solicitation", FAR6, .icmp = 135},
	{"a router advertisement behind options", FAR6, .icmp = 134, .headers = {OPTIONS}},
	{"a neighbour advertisement in fragments", FAR6, .icmp = 136, .cut = 16},
	{"an atomic neighbour advertisement", FAR6, .icmp = 136, .headers = {FRAGMENT}},
	{"a report of multicast listeners", FAR6, .icmp = 143},
	{"an answer of a DHCPv6 server", FAR6, 547, 546},
	{"an answer of a DHCPv6 server in fragments", FAR6, 547, 546, .cut = 16},
	{"an answer of a DHCPv4 server", FAR4, 67, 68},
	{"the beginning of a packet, too short for TCP's header", FAR4, 9, 9, .cut = 24},
	{"a checksum in the source", FAR6, 9, 9, .sum_at = ETH_LEN + 12},
	{"a checksum in the destination", FAR6, 9, 9, .sum_at = ETH_LEN + 32},
	{"a checksum in the port", FAR6, 9, 9, .sum_at = UDP_AT6},
	{"a checksum in the port behind options", FAR6, 9, 9, .headers = {OPTIONS}, .sum_at = UDP_AT6 + 8},
	{"a checksum in the source of IPv4", FAR4, 9, 9, .sum_at = ETH_LEN + 14},
	{"a checksum in the port of IPv4", FAR4, 9, 9, .sum_at = UDP_AT4 + 2},
	{"a checksum in the packet that ICMPv6 quotes", FAR6, .icmp = 128, .sum_at = UDP_AT6 + 8 + 26},
	{"a checksum in the packet that ICMP quotes", FAR4, .icmp = 8, .sum_at = UDP_AT4 + 8 + 22},
	{"a length of zero before options", FAR6, 9, 9, .headers = {OPTIONS}, .no_length = true},
	{"a length of zero before options and a fragment", FAR6, 9, 9, .headers = {OPTIONS, FRAGMENT},
         .no_length = true},
	{"a length of zero before a neighbour solicitation", FAR6, .icmp = 135, .headers = {OPTIONS},
         .no_length = true},
	{"a query of multicast listeners", FAR6, .icmp = 130},
	{"a report of multicast listeners behind options", FAR6, .icmp = 143, .headers = {OPTIONS}},
	{"a router solicitation", FAR6, .icmp = 133},
	{"a neighbour solicitation behind options", FAR6, .icmp = 135, .headers = {OPTIONS}},
	{"a redirect", FAR6, .icmp = 137},
	{"an inverse neighbour solicitation", FAR6, .icmp = 141},
	{"a certification path solicitation", FAR6, .icmp = 148},
	{"a multicast router advertisement", FAR6, .icmp = 151},
	{"a question of a DHCPv6 client", FAR6, 546, 547},
	{"an answer of a DHCPv6 server behind options", FAR6, 547, 546, .headers = {OPTIONS}},
	{"a question of a DHCPv4 client", FAR4, 68, 67},
	{"DHCPv6 in IPv4", FAR4, 547, 546},
	{"from a link-local address", FAR6, 9, 9, .link_local = true},
	{"from a link-local address to the one of metadata", METADATA6, 9, 80, .link_local = true},
	{"from a link-local address behind options", FAR6, 9, 9, .headers = {OPTIONS}, .link_local = true},
	{"from the MAC of another guest", FAR6, 9, 9, .foreign_mac = true},
	{"from the MAC of another guest, of IPv4", FAR4, 9, 9, .foreign_mac = true},
	{"IPv6 in IPv4, which nothing translates", FAR4, 9, 9, .protocol = 41, .shared = true},
	{"ICMPv6 in IPv4, which nothing translates", FAR4, .icmp = 134, .protocol = 58, .shared = true},
	{"ESP in IPv4, which nothing translates", FAR4, 9, 9, .protocol = 50, .shared = true},
	{"tiny pieces", FAR6, 9, 9, .sum_at = UDP_AT6 + 6, .piece = 7},
};

size_t n_cases(void) {
	return ARRAY_SIZE(cases);
}

const char *case_name(size_t number) {
	return cases[number].name;
}

static uint8_t case_protocol(const struct spoof_case *c, const struct addr *dst) {
	if (dst->family == AF_INET && c->protocol)
		return c->protocol;
	if (!c->icmp)
		return 17;
	return dst->family == AF_INET ? 1 : PROTO_ICMP6;
}

static void put_case_headers(struct packet *p, const struct spoof_case *c, uint8_t protocol) {
	const struct addr via = text_addr("2001:db8:9::66");
	size_t fragment = 0;

	for (size_t i = 0; i < ARRAY_SIZE(c->headers) && c->headers[i]; i++) {
		put8(p, i + 1 < ARRAY_SIZE(c->headers) && c->headers[i + 1] ? c->headers[i + 1] : protocol);
		if (c->headers[i] == ROUTING) {
			put8(p, 2);
			put16(p, (unsigned)c->routing << 8 | 1);
			put32(p, 0);
			put_address(p, &via);
		} else if (c->headers[i] == FRAGMENT) {
			put8(p, 0);
			put16(p, c->fragment[fragment++]);
			put32(p, 7);
		} else {
			put8(p, c->headers[i] == OPTIONS ? 0 : 200);
			put16(p, 0x0104);
			put32(p, 0);
		}
	}
}

static void put_case_upper(struct packet *p, const struct spoof_case *c, uint32_t tag, const struct addr *src,
                           const struct addr *dst) {
	size_t start = p->len, length = 8 + TAG_LEN + 64;

	put32(p, c->icmp ? (uint32_t)c->icmp << 24 : (uint32_t)c->sport << 16 | c->dport);
	put32(p, c->icmp ? 0 : (uint32_t)length << 16);
	put(p, "NPRP", 4);
	put32(p, tag);
	put8(p, 64);
	put_random(p, 64);
	finish_sum(p, start, case_protocol(c, dst), src, dst);
}

static void put_case_offload(const struct spoof_case *c, struct burst *b) {
	const struct virtio_net_hdr h = {.flags = c->sum_at ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
	                                 .gso_type = c->piece ? VIRTIO_NET_HDR_GSO_UDP : 0,
	                                 .gso_size = c->piece,
	                                 .csum_start = c->piece ? UDP_AT6 : c->sum_at,
	                                 .csum_offset = c->piece ? 6 : 0};

	memcpy(b->frames[0].data, &h, VNET_LEN);
}

static struct addr case_source(const struct spoof_case *c, const struct guest *g, int family) {
	if (family == AF_INET)
		return own4(g);
	return c->link_local ? link_local_of(g) : g->spec.net.addr;
}

static void put_case_lengths(struct packet *p, const struct spoof_case *c, size_t body, int family) {
	if (family == AF_INET) {
		set16(p, ETH_LEN + 2, (unsigned)(p->len - ETH_LEN));
		finish_header4(p, ETH_LEN, 20);
		return;
	}
	set16(p, ETH_LEN + 4, c->no_length ? 0 : (unsigned)(p->len - body));
	if (c->no_length)
		p->data[ETH_LEN + 6] = 0; /* hop-by-hop options */
}

bool make_case(struct maker *m, size_t number, uint32_t tag, struct burst *b) {
	const struct spoof_case *c = &cases[number];
	const struct mac gateway = vtep_anycast_mac(), *mac = &(c->foreign_mac ? other(m) : m->from)->spec.mac;
	const struct addr dst = text_addr(c->dst), src = case_source(c, m->from, dst.family);
	const enum instnet_ipv4 ipv4 = m->from->spec.ipv4;
	struct packet p = {.m = m};
	uint8_t protocol = case_protocol(c, &dst);
	size_t body;

	put_ethernet(&p, &gateway, mac, dst.family == AF_INET ? 0x0800 : 0x86dd);
	put32(&p, dst.family == AF_INET ? 0x45000000 : 0x60000000);
	put32(&p, dst.family == AF_INET ? tag << 16 : (uint32_t)(c->headers[0] ? c->headers[0] : protocol) << 8 | 64);
	if (dst.family == AF_INET)
		put32(&p, 64U << 24 | (uint32_t)protocol << 16);
	put_address(&p, &src);
	put_address(&p, &dst);
	body = p.len;
	put_case_headers(&p, c, c->protocol ? c->protocol : protocol);
	put_case_upper(&p, c, tag, &src, &dst);
	b->n = 0;
	b->arrival = NOWHERE;
	put_case_lengths(&p, c, body, dst.family);
	if (c->cut) {
		add_fragment(b, &p, ETH_LEN, body, ETH_LEN + 6, 0, c->cut, true, tag);
		add_fragment(b, &p, ETH_LEN, body, ETH_LEN + 6, c->cut, p.len - body, false, tag);
	} else {
		add_frame(b, &p, p.len);
		put_case_offload(c, b);
	}
	return c->shared ? ipv4 == INSTNET_SHARED : dst.family == AF_INET6 || ipv4 != INSTNET_NO_IPV4;
}

void make_complaint(struct maker *m, bool link_local, struct burst *b) {
	static const struct spoof_case any = {.sport = 9, .dport = 9};
	const struct prefix link = {.addr = {.family = AF_INET6, .bytes = {0xfe, 0x80}}, .len = 64};
	const struct addr src = inside_of(m, link_local ? &link : &other(m)->spec.net), dst = text_addr("fe80::1");
	const struct mac gateway = vtep_anycast_mac();
	struct packet p = {.m = m};

	put_ethernet(&p, &gateway, &m->from->spec.mac, 0x86dd);
	put32(&p, 0x60000000);
	put32(&p, (8 + 8 + TAG_LEN + 64) << 16 | 64);
	put_address(&p, &src);
	put_address(&p, &dst);
	put32(&p, 17 << 24 | 0x9e04); /* unknown, to be reported (RFC 8200, section 4.2) */
	put32(&p, 0);
	put_case_upper(&p, &any, 0, &src, &dst);
	b->n = 0;
	b->arrival = NOWHERE;
	add_frame(b, &p, p.len);
}
