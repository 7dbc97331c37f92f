/* SPDX-License-Identifier: Apache-2.0 */

/* DHCPv4 messages of a guest (vm/dhcp4.h). What holds for each answer is checked. */

#include "fuzz.h"

#include <arpa/inet.h>
#include <string.h>

#include "vm/dhcp4.h"

#define OPTIONS_AT 240

static void check_answer(const struct vm_config *c, const uint8_t *out, size_t len, struct in_addr to) {
	size_t at = OPTIONS_AT;

	CHECK(len >= 300 && len <= DHCP4_MESSAGE_MAX && (int64_t)len + 28 <= c->mtu);
	CHECK(to.s_addr == c->ipv4.v4.s_addr || to.s_addr == htonl(INADDR_BROADCAST));
	CHECK(memcmp(out + 28, &c->mac, sizeof(c->mac)) == 0);
	for (; out[at] != 255; at += 2U + out[at + 1])
		CHECK(out[at + 1] > 0 && at + 2U + out[at + 1] < len);
	for (at++; at < len; at++)
		CHECK(out[at] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const char text[] =
		"{\"name\":\"t/web\",\"uuid\":\"0b5ac4a8-4b0e-4c35-9c3d-000000000001\",\"kernel\":\"/k\","
		"\"mac\":\"02:4e:01:00:00:05\",\"tap\":\"tap\",\"mtu\":1400,\"ipv4\":\"192.0.0.2\","
		"\"ipv4Router\":\"169.254.0.1\",\"hostname\":\"web\",\"domain\":\"a.example\","
		"\"search\":[{\"domain\":\"b.example\"}],\"dns\":[{\"address\":\"9.9.9.9\"}]}";
	uint8_t out[DHCP4_MESSAGE_MAX], again[DHCP4_MESSAGE_MAX];
	struct error err = {0};
	struct in_addr to, to_again;
	struct vm_config c;

	CHECK(vm_config_parse(text, sizeof(text) - 1, &c, &err) == 0);
	/* What the answer leaves unwritten would differ. */
	memset(out, 0xaa, sizeof(out));
	memset(again, 0x55, sizeof(again));
	size_t len = dhcp4_answer(&c, data, size, out, &to);
	CHECK(dhcp4_answer(&c, data, size, again, &to_again) == len);
	if (len) {
		CHECK(memcmp(out, again, len) == 0 && to.s_addr == to_again.s_addr);
		check_answer(&c, out, len, to);
	}
	return 0;
}
