/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Frames as a receiver reads them: Ethernet, IPv4 (RFC 791), IPv6 with its chain of headers (RFC 8200), and the first
 * bytes of UDP, TCP and ICMP. What is behind a header of IPsec is read only by a receiver who has agreed on that with
 * the sender, so such a header ends the chain.
 */

#include <netinet/ip.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "node/test-spoof.h"

#define V4_SSRR 137
#define V4_LSRR 131

enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, DESTINATION = 60 };

static uint16_t get16(const uint8_t *p) {
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p) {
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static struct addr get_addr(int family, const uint8_t *p) {
	struct addr a = {.family = family};

	memcpy(a.bytes, p, family == AF_INET ? 4 : 16);
	return a;
}

bool is_icmp_error(const struct seen *s) {
	if (s->protocol == IPPROTO_ICMP && s->src.family == AF_INET)
		return s->icmp_type == 3 || s->icmp_type == 11 || s->icmp_type == 12;
	return s->protocol == PROTO_ICMP6 && s->src.family == AF_INET6 && s->icmp_type >= 1 && s->icmp_type <= 4;
}

uint32_t tag_number(const struct seen *s) {
	return get32(s->tag + 4);
}

static void parse_tag(struct seen *s, size_t at) {
	if (s->upper_len >= at + TAG_LEN && memcmp(s->upper + at, "NPRP", 4) == 0)
		s->tag = s->upper + at;
}

/* Of a whole packet or a first fragment: RFC 7112 requires all headers in it. */
static const char *parse_upper(struct seen *s) {
	bool icmp = s->protocol == (s->src.family == AF_INET ? IPPROTO_ICMP : PROTO_ICMP6);
	size_t least = s->protocol == IPPROTO_TCP ? 20 : s->protocol == IPPROTO_UDP || icmp ? 8 : 0;

	if (s->upper_len < least)
		return s->fragment ? "a first fragment without the header of its protocol" : "half a header";
	if (s->protocol == IPPROTO_TCP || s->protocol == IPPROTO_UDP) {
		s->sport = get16(s->upper);
		s->dport = get16(s->upper + 2);
	} else if (icmp) {
		s->icmp_type = s->upper[0];
		s->icmp_id = get16(s->upper + 4);
	}
	if (s->protocol == IPPROTO_UDP || icmp)
		parse_tag(s, 8);
	return NULL;
}

static const char *parse_v4(const uint8_t *p, size_t len, struct seen *s) {
	size_t header = len < 20 ? 0 : (size_t)(p[0] & 15) * 4, total = len < 20 ? 0 : get16(p + 2);

	if (header < 20 || p[0] >> 4 != 4 || total < header || total > len)
		return "malformed IPv4";
	s->src = get_addr(AF_INET, p + 12);
	s->dst = get_addr(AF_INET, p + 16);
	s->hops = p[8];
	s->protocol = p[9];
	s->id = get16(p + 4);
	s->offset = (get16(p + 6) & 0x1fffU) * 8;
	s->more = get16(p + 6) & 0x2000;
	s->fragment = s->more || s->offset;
	for (size_t i = 20; i < header && p[i] != 0;) {
		s->source_route |= p[i] == V4_SSRR || p[i] == V4_LSRR;
		if (p[i] == 1)
			i++;
		else if (i + 1 < header && p[i + 1] >= 2)
			i += p[i + 1];
		else
			return "malformed options of IPv4";
	}
	s->upper = p + header;
	s->upper_len = s->fragment_len = total - header;
	return s->offset ? NULL : parse_upper(s);
}

/* The header NEXT at P+AT of a chain. Returns its length, 0 if it isn't one, -1 if it is cut off. */
static int chain_header(const uint8_t *p, size_t at, size_t len, uint8_t next) {
	size_t size;

	if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION && next != FRAGMENT)
		return 0;
	if (at + 8 > len)
		return -1;
	size = next == FRAGMENT ? 8 : (p[at + 1] + 1U) * 8;
	return at + size > len ? -1 : (int)size;
}

static const char *parse_v6(const uint8_t *p, size_t len, struct seen *s) {
	size_t end = len < 40 ? 0 : 40U + get16(p + 4), at = 40;
	uint8_t next = len < 40 ? 0 : p[6];
	int size;

	if (len < 40 || p[0] >> 4 != 6 || end > len)
		return "malformed IPv6";
	if (end == 40 && next == HOP_BY_HOP)
		return "a length of zero before hop-by-hop options";
	s->src = get_addr(AF_INET6, p + 8);
	s->dst = get_addr(AF_INET6, p + 24);
	s->hops = p[7];
	while ((size = chain_header(p, at, end, next)) > 0) {
		s->source_route |= next == ROUTING;
		if (next == FRAGMENT && s->fragment)
			return "a fragment within a fragment";
		if (next == FRAGMENT) {
			s->fragment = true;
			s->offset = get16(p + at + 2) & 0xfff8U;
			s->more = p[at + 3] & 1;
			s->id = get32(p + at + 4);
			s->fragment_len = end - at - 8;
		}
		next = p[at];
		at += (size_t)size;
		if (s->offset)
			break;
	}
	s->protocol = next;
	s->upper = p + at;
	s->upper_len = end - at;
	if (s->offset)
		return NULL;
	/* A whole packet that ends within its headers has nothing in it that could be read. */
	if (size < 0)
		return s->fragment && s->more ? "a first fragment without all of its headers" : NULL;
	return parse_upper(s);
}

const char *parse_ip(const uint8_t *data, size_t len, uint16_t ethertype, struct seen *ret) {
	if (ethertype == 0x0800)
		return parse_v4(data, len, ret);
	return ethertype == 0x86dd ? parse_v6(data, len, ret) : NULL;
}

const char *parse_frame(const uint8_t *data, size_t len, struct seen *ret) {
	*ret = (struct seen){0};
	if (len < ETH_LEN)
		return "no header of Ethernet";
	ret->dst_mac = data;
	ret->src_mac = data + 6;
	ret->ethertype = get16(data + 12);
	return parse_ip(data + ETH_LEN, len - ETH_LEN, ret->ethertype, ret);
}
