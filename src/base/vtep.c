/* SPDX-License-Identifier: Apache-2.0 */
#include "base/vtep.h"

#include "base/hash.h"

struct mac vtep_router_mac(const struct addr *vtep) {
	uint64_t h = fnv1a(FNV1A_BASIS, vtep->bytes, sizeof(vtep->bytes));
	struct mac m = {.bytes = {0x02}};
	for (int i = 0; i < 5; i++)
		m.bytes[1 + i] = (uint8_t)(h >> (8 * (4 - i)));
	return m;
}

struct addr vtep_link_local(const struct mac *mac) {
	const struct addr net = {.family = AF_INET6, .bytes = {0xfe, 0x80}};
	return addr_eui64(&net, mac);
}

struct addr vtep_anycast_gateway(void) {
	return (struct addr){.family = AF_INET6, .bytes = {0xfe, 0x80, [15] = 1}};
}

struct mac vtep_anycast_mac(void) {
	/* The block that RFC 5798 assigns to IPv6 virtual routers; virtual router 1. */
	return (struct mac){.bytes = {0x00, 0x00, 0x5e, 0x00, 0x02, 0x01}};
}
