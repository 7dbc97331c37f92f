/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/socket.h>

#include "node/test-spoof-make.h"

/* splitmix64 */
uint64_t any64(struct maker *m) {
	uint64_t z = m->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

unsigned below(struct maker *m, unsigned n) {
	return (unsigned)(any64(m) % n);
}

bool percent(struct maker *m, unsigned n) {
	return below(m, 100) < n;
}

/* ---- bytes ---- */

void put(struct packet *p, const void *data, size_t len) {
	if (len > sizeof(p->data) - p->len)
		len = sizeof(p->data) - p->len;
	memcpy(p->data + p->len, data, len);
	p->len += len;
}

void put8(struct packet *p, unsigned v) {
	put(p, &(uint8_t){(uint8_t)v}, 1);
}

void put16(struct packet *p, unsigned v) {
	put8(p, v >> 8);
	put8(p, v);
}

void put32(struct packet *p, uint32_t v) {
	put16(p, v >> 16);
	put16(p, v & 0xffff);
}

void put_random(struct packet *p, size_t len) {
	for (; len > 0; len--)
		put8(p, (unsigned)any64(p->m));
}

void put_address(struct packet *p, const struct addr *a) {
	put(p, a->bytes, a->family == AF_INET ? 4 : 16);
}

void set16(struct packet *p, size_t at, unsigned v) {
	if (at + 2 <= p->len) {
		p->data[at] = (uint8_t)(v >> 8);
		p->data[at + 1] = (uint8_t)v;
	}
}

uint32_t sum(const uint8_t *p, size_t len, uint32_t h) {
	for (; len > 1; p += 2, len -= 2)
		h += (uint32_t)p[0] << 8 | p[1];
	return len ? h + ((uint32_t)p[0] << 8) : h;
}

unsigned fold(uint32_t h) {
	while (h >> 16)
		h = (h & 0xffff) + (h >> 16);
	return h;
}

/* ---- addresses ---- */

struct addr text_addr(const char *text) {
	struct addr a = {0};
	struct error err;

	(void)!addr_parse(text, &a, &err);
	return a;
}

struct addr inside_of(struct maker *m, const struct prefix *p) {
	struct addr a = p->addr;

	for (unsigned i = p->len / 8; i < 16; i++)
		if (i > p->len / 8 || p->len % 8 == 0)
			a.bytes[i] = percent(m, 70) && i < 14 ? 0 : (uint8_t)any64(m);
	return a;
}

const struct guest *other(struct maker *m) {
	const struct guest *g = &m->world->guests[below(m, GUESTS)];

	return g == m->from ? &m->world->guests[(size_t)(g - m->world->guests + 1) % GUESTS] : g;
}

static const char *const strange6[] = {"::",
                                       "::1",
                                       "::ffff:192.0.2.1",
                                       "::2",
                                       "fe80::1",
                                       "fe80::2",
                                       "fe80::1eaf",
                                       "ff02::1",
                                       "ff02::2",
                                       "ff02::16",
                                       "ff02::1:2",
                                       "ff02::fb",
                                       "ff02::1:ff00:1",
                                       "ff02::1:ff00:2",
                                       "ff01::1",
                                       "ff05::2",
                                       "ff05::1:3",
                                       "ff0e::1",
                                       "fec0::1",
                                       METADATA6,
                                       "fd4e::1:1",
                                       "fd4e::9:1",
                                       "fd10::5",
                                       "fd10::6",
                                       "fd10::7",
                                       "fd10::e",
                                       "64:ff9b::102:304",
                                       "2001:db8:9::1",
                                       "2001:db8:ffff::1",
                                       "100::1"};
static const char *const strange4[] = {
	"0.0.0.0",     "0.0.0.1",     "127.0.0.1",   "169.254.0.1", "169.254.169.254", "169.254.1.1",
	"224.0.0.1",   "224.0.0.22",  "224.0.0.251", "239.1.2.3",   "240.0.0.1",       "255.255.255.255",
	"192.0.0.1",   "192.0.0.2",   "192.0.0.8",   "10.0.0.2",    SHARED_ADDRESS,    "198.51.100.9",
	"203.0.113.7", "203.0.113.8", "192.0.2.1",   "100.64.0.1"};

struct addr link_local_of(const struct guest *g) {
	const struct addr net = {.family = AF_INET6, .bytes = {0xfe, 0x80}};

	return addr_eui64(&net, &g->spec.mac);
}

struct addr source6(struct maker *m) {
	const struct prefix link = {.addr = {.family = AF_INET6, .bytes = {0xfe, 0x80}}, .len = 64};

	switch (below(m, 20)) {
	case 0: return link_local_of(m->from);
	case 1: return inside_of(m, &link);
	case 2: return inside_of(m, &other(m)->spec.net);
	case 3: return inside_of(m, &other(m)->spec.delegated);
	case 4: return other(m)->spec.ip;
	case 5: return m->from->spec.ip;
	case 6:
	case 7: return text_addr(ONE_OF(m, strange6));
	case 8:
	case 9:
	case 10: return inside_of(m, &m->from->spec.delegated);
	default: return inside_of(m, &m->from->spec.net);
	}
}

struct addr target6(struct maker *m) {
	const struct prefix far = {.addr = {.family = AF_INET6, .bytes = {0x20, 1, 0x0d, 0xb8, 0, 9, 1}}, .len = 64};

	switch (below(m, 12)) {
	case 0: return inside_of(m, &other(m)->spec.net);
	case 1: return inside_of(m, &other(m)->spec.delegated);
	case 2: return m->from->spec.ip;
	case 3: return inside_of(m, &m->from->spec.net);
	case 4: return text_addr("fe80::1");
	case 5:
	case 6:
	case 7: return text_addr(ONE_OF(m, strange6));
	default: return inside_of(m, &far);
	}
}

struct addr own4(const struct guest *g) {
	return g->spec.ipv4 == INSTNET_NO_IPV4 ? instnet_shared_address() : g->spec.address4;
}

struct addr source4(struct maker *m) {
	return percent(m, 75) ? own4(m->from) : text_addr(ONE_OF(m, strange4));
}

struct addr target4(struct maker *m) {
	struct addr far = text_addr("192.0.2.1");

	if (percent(m, 50))
		return text_addr(ONE_OF(m, strange4));
	far.bytes[3] = (uint8_t)below(m, 64);
	return far;
}

struct addr any_of(struct maker *m, int family, bool source) {
	if (family == AF_INET)
		return source ? source4(m) : target4(m);
	return source ? source6(m) : target6(m);
}
