/* SPDX-License-Identifier: Apache-2.0 */

/* DHCPv6 messages of a guest (vm/dhcp6.h). What holds for each answer is checked. */

#include "fuzz.h"

#include <string.h>

#include "vm/dhcp6.h"

enum { ADVERTISE = 2, REPLY = 7 };
enum { SERVER_ID = 2, IA_NA = 3, IA_TA = 4, ADDRESS = 5, IA_PD = 25, PREFIX = 26 };

static const uint8_t gone[8];

/* What has lifetimes is the guest's own. */
static void check_item(const struct vm_config *c, uint16_t code, const uint8_t *v, size_t len) {
	if (code == ADDRESS) {
		CHECK(len == 24);
		CHECK(memcmp(v + 16, gone, 8) == 0 || (memcmp(v, c->prefix.addr.bytes, 8) == 0 && v[15] == 2));
	}
	if (code == PREFIX) {
		CHECK(len == 25);
		CHECK(memcmp(v, gone, 8) == 0 ||
		      (v[8] == c->delegated.len && memcmp(v + 9, c->delegated.addr.bytes, 16) == 0));
	}
}

/* Options fill P exactly. Returns how many server identifiers there are. */
static int check_options(const struct vm_config *c, const uint8_t *p, size_t len) {
	int servers = 0;
	size_t at = 0;

	while (at < len) {
		CHECK(len - at >= 4);
		const uint16_t code = (uint16_t)(p[at] << 8 | p[at + 1]), n = (uint16_t)(p[at + 2] << 8 | p[at + 3]);
		const uint8_t *value = p + at + 4;
		const size_t head = code == IA_TA ? 4 : 12;
		CHECK(n <= len - at - 4);
		servers += code == SERVER_ID;
		check_item(c, code, value, n);
		if (code == IA_NA || code == IA_TA || code == IA_PD) {
			CHECK(n >= head);
			check_options(c, value + head, n - head);
		}
		at += 4U + n;
	}
	return servers;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const char text[] =
		"{\"name\":\"t/web\",\"uuid\":\"0b5ac4a8-4b0e-4c35-9c3d-000000000001\",\"kernel\":\"/k\","
		"\"mac\":\"02:4e:01:00:00:05\",\"tap\":\"tap\",\"mtu\":1280,\"prefix\":\"2001:db8:1:2::/64\","
		"\"delegated\":\"2001:db8:2::/60\",\"domain\":\"a.example\","
		"\"search\":[{\"domain\":\"b.example\"}],\"dns\":[{\"address\":\"2620:fe::fe\"}]}";
	uint8_t out[DHCP6_MESSAGE_MAX], again[DHCP6_MESSAGE_MAX];
	struct error err = {0};
	struct vm_config c;

	CHECK(vm_config_parse(text, sizeof(text) - 1, &c, &err) == 0);
	for (int multicast = 0; multicast < 2; multicast++) {
		/* What the answer leaves unwritten would differ. */
		memset(out, 0xaa, sizeof(out));
		memset(again, 0x55, sizeof(again));
		size_t len = dhcp6_answer(&c, data, size, multicast, out);
		CHECK(dhcp6_answer(&c, data, size, multicast, again) == len);
		if (!len)
			continue;
		CHECK(memcmp(out, again, len) == 0 && len >= 4 && len + 48 <= 1280);
		CHECK((out[0] == REPLY || (out[0] == ADVERTISE && multicast)) && memcmp(out + 1, data + 1, 3) == 0);
		CHECK(check_options(&c, out + 4, len - 4) == 1);
	}
	return 0;
}
