/* SPDX-License-Identifier: Apache-2.0 */

/* Packets of IPv4 and IPv6: each layer is mostly right, so that the next one is reached, and one of many lies
 * otherwise. */

#include <string.h>
#include <sys/socket.h>

#include "base/vtep.h"
#include "node/test-spoof-make.h"

static const uint16_t ports[] = {1,   9,   22,  53,  67,   67,   68,   68,   80,   123,  179,   443,
                                 546, 546, 547, 547, 1024, 1100, 1101, 4789, 4789, 5353, 33434, 65535};

static unsigned any_port(struct maker *m) {
	return percent(m, 70) ? ONE_OF(m, ports) : below(m, 65536);
}

void put_ethernet(struct packet *p, const struct mac *dst, const struct mac *src, unsigned type) {
	put(p, dst->bytes, 6);
	put(p, src->bytes, 6);
	put16(p, type);
}

/* A header of IP with the first bytes of UDP: for errors that quote it, and for tunnels. */
static void put_inner(struct packet *p, int family) {
	const struct addr src = any_of(p->m, family, percent(p->m, 50)), dst = any_of(p->m, family, percent(p->m, 30));
	unsigned protocol = percent(p->m, 70) ? 17 : 6;

	if (family == AF_INET) {
		put32(p, 0x45000000 | (28 + below(p->m, 40)));
		put32(p, below(p->m, 65536) << 16);
		put16(p, 0x4000 | protocol);
		put16(p, 0);
	} else {
		put32(p, 0x60000000);
		put16(p, 8 + below(p->m, 40));
		put16(p, protocol << 8 | 64);
	}
	put_address(p, &src);
	put_address(p, &dst);
	put16(p, any_port(p->m));
	put16(p, any_port(p->m));
	put_random(p, 4 + below(p->m, 20));
}

static void put_payload(struct packet *p, unsigned sport, unsigned dport) {
	static const uint8_t servers[] = {2, 2, 7, 1, 13}; /* ADVERTISE, REPLY, ... */

	if (dport == VXLAN_PORT) {
		const struct mac anycast = vtep_anycast_mac();
		put32(p, 0x08000000);
		put32(p, p->m->world->config.vni << 8);
		put_ethernet(p, &anycast, &other(p->m)->spec.mac, 0x86dd);
		put_inner(p, AF_INET6);
	} else if (sport == 67 || dport == 67) {
		put32(p, percent(p->m, 50) ? 0x01010600 : 0x02010600);
		put_random(p, 232);
		put32(p, 0x63825363);
		put32(p, 0x350101ff | below(p->m, 8) << 8);
	} else if (sport == 547 || dport == 547) {
		put8(p, ONE_OF(p->m, servers));
		put_random(p, 3 + below(p->m, 40));
	} else {
		put_random(p, percent(p->m, 3) ? below(p->m, 2000) : below(p->m, 80));
	}
}

static void put_options_of_nd(struct packet *p) {
	const struct mac mac = percent(p->m, 50) ? p->m->from->spec.mac : other(p->m)->spec.mac;
	const struct addr prefix = target6(p->m);

	for (unsigned n = below(p->m, 3); n > 0; n--)
		switch (below(p->m, 4)) {
		case 0:
			put16(p, 0x0401);
			put(p, mac.bytes, 6);
			break;
		case 1:
			put32(p, 0x030440c0);
			put_random(p, 12);
			put_address(p, &prefix);
			break;
		case 2: put16(p, 0x0500 | below(p->m, 3)); break;
		default:
			put16(p, (percent(p->m, 50) ? 0x0101 : 0x0201));
			put(p, mac.bytes, 6);
			break;
		}
}

static void put_icmp6(struct packet *p) {
	static const uint8_t types[] = {1,   2,   3,   4,   128, 129, 130, 131, 132, 133, 133, 134, 134, 135, 135,
	                                135, 136, 136, 137, 138, 139, 140, 141, 142, 143, 148, 149, 151, 152, 153};
	const struct addr target = percent(p->m, 50) ? text_addr("fe80::1") : target6(p->m), to = target6(p->m);
	unsigned type = percent(p->m, 95) ? ONE_OF(p->m, types) : below(p->m, 256);

	put16(p, type << 8 | (percent(p->m, 90) ? 0 : below(p->m, 256)));
	put16(p, 0);
	put_random(p, 4);
	if (type <= 4) {
		put_inner(p, AF_INET6);
	} else if (type == 134) {
		put_random(p, 8);
	} else if (type >= 135 && type <= 137) {
		put_address(p, &target);
		if (type == 137)
			put_address(p, &to);
	}
	if (type >= 133 && type <= 137)
		put_options_of_nd(p);
	else
		put_random(p, below(p->m, 40));
}

static void put_icmp4(struct packet *p) {
	static const uint8_t types[] = {0, 3, 3, 4, 5, 8, 8, 9, 10, 11, 12, 13, 15, 17};
	unsigned type = percent(p->m, 95) ? ONE_OF(p->m, types) : below(p->m, 256);

	put16(p, type << 8 | below(p->m, 5));
	put16(p, 0);
	put_random(p, 4);
	if (type == 3 || type == 4 || type == 5 || type == 11 || type == 12)
		put_inner(p, AF_INET);
	put_random(p, below(p->m, 40));
}

static void put_tcp(struct packet *p) {
	static const uint8_t flags[] = {2, 2, 2, 0x12, 0x10, 4, 0x14, 1, 0, 0x29, 0xff};

	put16(p, any_port(p->m));
	put16(p, any_port(p->m));
	put_random(p, 8);
	put8(p, percent(p->m, 90) ? 0x50 : below(p->m, 16) << 4);
	put8(p, ONE_OF(p->m, flags));
	put16(p, 65535);
	put32(p, 0);
	put_random(p, below(p->m, 60));
}

static void put_udp(struct packet *p) {
	unsigned sport = any_port(p->m), dport = any_port(p->m);
	size_t start = p->len;

	put16(p, sport);
	put16(p, dport);
	put32(p, 0);
	put_payload(p, sport, dport);
	set16(p, start + 4, (unsigned)(p->len - start) + (percent(p->m, 95) ? 0 : below(p->m, 99)));
}

/* Where the checksum is in the header of PROTOCOL; 0: it has none. */
static size_t sum_at(unsigned protocol) {
	return protocol == 6 ? 16 : protocol == 17 ? 6 : protocol == 1 || protocol == 58 || protocol == 2 ? 2 : 0;
}

unsigned pseudo_sum(const struct addr *src, const struct addr *dst, unsigned protocol, size_t len) {
	size_t bytes = src->family == AF_INET ? 4 : 16;

	return fold(sum(dst->bytes, bytes, sum(src->bytes, bytes, protocol + (uint32_t)len)));
}

void finish_sum(struct packet *p, size_t start, unsigned protocol, const struct addr *src, const struct addr *dst) {
	size_t at = sum_at(protocol);
	uint32_t h = 0;

	if (!at || start + at + 2 > p->len)
		return;
	if (protocol != 1 && protocol != 2)
		h = pseudo_sum(src, dst, protocol, p->len - start);
	set16(p, start + at, 0);
	h = 0xffff & ~fold(sum(p->data + start, p->len - start, h));
	set16(p, start + at, h || protocol != 17 ? h : 0xffff);
}

static unsigned any_protocol(struct maker *m, int family) {
	static const uint8_t others[] = {1,   2,   4,   41,  47,  50,  51,  58,  89, 103,
	                                 112, 115, 132, 135, 136, 139, 140, 253, 255};

	switch (below(m, 10)) {
	case 0:
	case 1:
	case 2: return 17;
	case 3:
	case 4: return 6;
	case 5:
	case 6:
	case 7: return family == AF_INET ? 1 : 58;
	case 8: return ONE_OF(m, others);
	default: return percent(m, 80) ? 17 : below(m, 256);
	}
}

static void put_upper(struct packet *p, unsigned protocol, const struct addr *src, const struct addr *dst) {
	size_t start = p->len;

	switch (protocol) {
	case 1: put_icmp4(p); break;
	case 2:
		put32(p, (percent(p->m, 50) ? 0x16000000 : 0x22000000));
		put_random(p, 4 + 8 * below(p->m, 3));
		break;
	case 4: put_inner(p, AF_INET); break;
	case 6: put_tcp(p); break;
	case 17: put_udp(p); break;
	case 41: put_inner(p, AF_INET6); break;
	case 47:
		put32(p, percent(p->m, 50) ? 0x0800 : 0x86dd);
		put_inner(p, AF_INET);
		break;
	case 58: put_icmp6(p); break;
	default: put_random(p, below(p->m, 60)); break;
	}
	if (percent(p->m, 92))
		finish_sum(p, start, protocol, src, dst);
}

/* ---- IPv6 ---- */

static void put_extension(struct packet *p, unsigned kind) {
	static const uint8_t routing[] = {0, 0, 2, 3, 4, 4, 5, 253};
	const struct addr via = target6(p->m);

	if (kind == 43) {
		unsigned hops = below(p->m, 3);
		put8(p, hops * 2);
		put8(p, ONE_OF(p->m, routing));
		put8(p, percent(p->m, 70) ? hops : below(p->m, 256));
		put8(p, hops ? hops - 1 : 0);
		put_random(p, 3);
		for (; hops > 0; hops--)
			put_address(p, &via);
	} else if (kind == 44) {
		put8(p, percent(p->m, 95) ? 0 : below(p->m, 256));
		put16(p, percent(p->m, 50) ? 0 : below(p->m, 400) << 3 | below(p->m, 2));
		put32(p, (uint32_t)any64(p->m));
	} else if (kind == 51) {
		put8(p, 4);
		put_random(p, 22);
	} else if (percent(p->m, 70)) {
		put8(p, 0);
		put32(p, percent(p->m, 50) ? 0x05020000 : 0x01020000); /* router alert, padding */
		put16(p, 0x0100);
	} else {
		put8(p, below(p->m, 3));
		put_random(p, 6 + 8 * below(p->m, 3));
	}
}

/* Returns where the fragmentable part begins, and sets *RET_NEXT to where its protocol is. */
size_t put_ipv6(struct packet *p, size_t *ret_next) {
	static const uint8_t kinds[] = {0, 43, 44, 44, 60, 60, 51, 135, 139, 253};
	static const uint8_t limits[] = {0, 1, 2, 64, 64, 64, 255, 255, 255};
	const struct addr src = source6(p->m), dst = target6(p->m);
	size_t start = p->len, next = start + 6, unfragmentable = start + 40;
	unsigned n = percent(p->m, 60) ? 0 : 1 + below(p->m, 3), protocol = any_protocol(p->m, AF_INET6);

	put32(p, (percent(p->m, 98) ? 0x60000000 : (uint32_t)below(p->m, 16) << 28) | below(p->m, 2));
	put16(p, 0);
	put8(p, protocol);
	put8(p, ONE_OF(p->m, limits));
	put_address(p, &src);
	put_address(p, &dst);
	*ret_next = next;
	for (unsigned i = 0; i < n; i++) {
		unsigned kind = i == 0 && percent(p->m, 25) ? 0 : ONE_OF(p->m, kinds);
		p->data[next] = (uint8_t)kind;
		next = p->len;
		put8(p, protocol);
		put_extension(p, kind);
		if (percent(p->m, 30) && p->len < sizeof(p->data)) {
			*ret_next = next;
			unfragmentable = p->len;
		}
	}
	if (percent(p->m, 1))
		p->data[next] = 59;
	put_upper(p, protocol, &src, &dst);
	set16(p, start + 4, (unsigned)(p->len - start - 40) + (percent(p->m, 95) ? 0 : below(p->m, 200) - 100U));
	return unfragmentable;
}

/* ---- IPv4 ---- */

static void put_options4(struct packet *p) {
	const struct addr via = target4(p->m);

	switch (below(p->m, 5)) {
	case 0: /* loose or strict source route */
		put32(p, (percent(p->m, 50) ? 0x83000000U : 0x89000000U) | 0x070400U);
		put_address(p, &via);
		break;
	case 1:
		put32(p, 0x07070400);
		put32(p, 0);
		break; /* record route */
	case 2:
		put32(p, 0x44080501);
		put32(p, 0);
		break;                       /* timestamp */
	case 3: put32(p, 0x94040000); break; /* router alert */
	default: put_random(p, 4 * (1 + below(p->m, 10))); break;
	}
}

void finish_header4(struct packet *p, size_t start, size_t header) {
	set16(p, start + 10, 0);
	set16(p, start + 10, 0xffff & ~fold(sum(p->data + start, header, 0)));
}

size_t put_ipv4(struct packet *p) {
	static const uint16_t flags[] = {0, 0, 0, 0, 0x4000, 0x4000, 0x2000, 0x2001, 1, 0x8000, 0x1fff, 0xffff};
	static const uint8_t limits[] = {0, 1, 2, 64, 64, 64, 255, 255};
	const struct addr src = source4(p->m), dst = target4(p->m);
	size_t start = p->len, header;
	unsigned protocol = any_protocol(p->m, AF_INET);

	put32(p, 0x45000000);
	put16(p, below(p->m, 65536));
	put16(p, ONE_OF(p->m, flags));
	put8(p, ONE_OF(p->m, limits));
	put8(p, protocol);
	put16(p, 0);
	put_address(p, &src);
	put_address(p, &dst);
	if (percent(p->m, 15))
		put_options4(p);
	header = p->len - start;
	p->data[start] = (uint8_t)(percent(p->m, 97) ? 0x40 | header / 4 : below(p->m, 256));
	put_upper(p, protocol, &src, &dst);
	set16(p, start + 2, (unsigned)(p->len - start) + (percent(p->m, 95) ? 0 : below(p->m, 200) - 100U));
	if (percent(p->m, 96))
		finish_header4(p, start, header);
	return start + header;
}
