/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Packets for the tests and benchmarks of the balancer: what an edge sends, IPv4 in VXLAN over IPv6. Sizes and
 * checksums are right unless a caller breaks them afterwards.
 */

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "base/inet.h"
#include "base/vtep.h"

#define TEST_VNI 77

/* Where things are, from the beginning of a packet. */
enum {
	AT_OUTER_DEST = 0,
	AT_OUTER_SOURCE = 6,
	AT_OUTER_TYPE = 12,
	AT_IP6 = 14,
	AT_IP6_LENGTH = AT_IP6 + 4,
	AT_IP6_NEXT = AT_IP6 + 6,
	AT_IP6_HOPS = AT_IP6 + 7,
	AT_IP6_SOURCE = AT_IP6 + 8,
	AT_IP6_DEST = AT_IP6 + 24,
	AT_UDP = 54,
	AT_UDP_PORT = AT_UDP + 2,
	AT_UDP_LENGTH = AT_UDP + 4,
	AT_UDP_CHECK = AT_UDP + 6,
	AT_VXLAN = 62,
	AT_VNI = AT_VXLAN + 4,
	AT_INNER = 70,
	AT_INNER_SOURCE = AT_INNER + 6,
	AT_INNER_TYPE = AT_INNER + 12,
	AT_IP = 84,
	AT_IP_LENGTH = AT_IP + 2,
	AT_IP_FRAGMENT = AT_IP + 6,
	AT_IP_PROTOCOL = AT_IP + 9,
	AT_IP_SOURCE = AT_IP + 12,
	AT_IP_DEST = AT_IP + 16,
	AT_PAYLOAD = 104, /* without options */
};

struct packet {
	uint8_t data[8192];
	uint32_t len;
};

static inline void put16(void *at, unsigned value) {
	uint16_t v = htons((uint16_t)value);
	memcpy(at, &v, 2);
}

static inline unsigned get16(const void *at) {
	uint16_t v;
	memcpy(&v, at, 2);
	return ntohs(v);
}

/* The Internet checksum's sum over LEN bytes, folded; H is the sum of what comes before. */
static inline uint32_t packet_sum(uint32_t h, const uint8_t *data, size_t len) {
	for (size_t i = 0; i < len; i++)
		h += i % 2 ? data[i] : (uint32_t)data[i] << 8;
	while (h >> 16)
		h = (h & 0xffff) + (h >> 16);
	return h;
}

/* Over the pseudo header and the whole of the outer UDP; 0xffff if the checksum is right. */
static inline uint32_t packet_udp_sum(const struct packet *p) {
	uint32_t len = get16(p->data + AT_UDP_LENGTH);
	return packet_sum(packet_sum(len + IPPROTO_UDP, p->data + AT_IP6_SOURCE, 32), p->data + AT_UDP, len);
}

/* Makes lengths and checksums those of P->len bytes. */
static inline void packet_finish(struct packet *p) {
	put16(p->data + AT_IP6_LENGTH, p->len - AT_UDP);
	put16(p->data + AT_UDP_LENGTH, p->len - AT_UDP);
	put16(p->data + AT_IP_LENGTH, p->len - AT_IP);
	put16(p->data + AT_UDP_CHECK, 0);
	unsigned check = ~packet_udp_sum(p) & 0xffff;
	put16(p->data + AT_UDP_CHECK, check ? check : 0xffff);
}

/* An IPv4 packet of PROTOCOL from an edge to DEST, with OPTIONS bytes of options (a multiple of 4) and this payload. */
static inline void packet_make(struct packet *p, const struct addr *balancer, const char *dest, uint8_t protocol,
                               unsigned options, const void *payload, size_t len) {
	struct mac router = vtep_router_mac(balancer);
	static const uint8_t edge[16] = {0xfd, 0x5c, 0xa1, 0xab, [15] = 0xee};
	static const uint8_t outer[] = {2, 17, 17, 17, 17, 17, 2, 34, 34, 34, 34, 34, 0x86, 0xdd, 0x60};
	static const uint8_t inner_source[] = {2, 51, 51, 51, 51, 51, 8, 0};
	uint8_t *d = p->data;
	*p = (struct packet){.len = (uint32_t)(AT_PAYLOAD + options + len)};
	memcpy(d + AT_OUTER_DEST, outer, sizeof(outer));
	d[AT_IP6 + 3] = 0x5a; /* some flow label */
	d[AT_IP6_NEXT] = IPPROTO_UDP;
	d[AT_IP6_HOPS] = 61;
	memcpy(d + AT_IP6_SOURCE, edge, 16);
	memcpy(d + AT_IP6_DEST, balancer->bytes, 16);
	put16(d + AT_UDP, 54321);
	put16(d + AT_UDP_PORT, VXLAN_PORT);
	d[AT_VXLAN] = 8;
	d[AT_VNI + 2] = TEST_VNI;
	memcpy(d + AT_INNER, router.bytes, 6);
	memcpy(d + AT_INNER_SOURCE, inner_source, sizeof(inner_source));
	d[AT_IP] = (uint8_t)(0x45 + options / 4);
	memset(d + AT_PAYLOAD, 1, options); /* no operation */
	d[AT_IP + 8] = 60;
	d[AT_IP_PROTOCOL] = protocol;
	inet_pton(AF_INET, "203.0.113.9", d + AT_IP_SOURCE);
	inet_pton(AF_INET, dest, d + AT_IP_DEST);
	memcpy(d + AT_PAYLOAD + options, payload, len);
	packet_finish(p);
}
