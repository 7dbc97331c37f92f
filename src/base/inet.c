/* SPDX-License-Identifier: Apache-2.0 */
#include "base/inet.h"

#include <arpa/inet.h>
#include <string.h>

uint8_t addr_bits(int family) {
	return family == AF_INET ? 32 : 128;
}

const char *addr_str(const struct addr *a, char out[static ADDR_STR_MAX]) {
	if (!a->family || !inet_ntop(a->family, a->bytes, out, ADDR_STR_MAX))
		strcpy(out, "-");
	return out;
}

const char *prefix_str(const struct prefix *p, char out[static PREFIX_STR_MAX]) {
	addr_str(&p->addr, out);
	sprintf(out + strlen(out), "/%u", p->len);
	return out;
}

const char *mac_str(const struct mac *m, char out[static MAC_STR_MAX]) {
	const uint8_t *b = m->bytes;
	snprintf(out, MAC_STR_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
	return out;
}

int addr_parse(const char *s, struct addr *ret, struct error *err) {
	struct addr a = {.family = strchr(s, ':') ? AF_INET6 : AF_INET};
	char canon[ADDR_STR_MAX];
	if (inet_pton(a.family, s, a.bytes) != 1)
		return error_set(err, EINVAL, "`%s` is not an IP address", s);
	if (strcmp(addr_str(&a, canon), s) != 0)
		return error_set(err, EINVAL, "`%s` must be written `%s`", s, canon);
	*ret = a;
	return 0;
}

struct prefix prefix_of(const struct addr *a, uint8_t len) {
	struct prefix p = {.addr = *a, .len = len};
	for (unsigned i = 0; i < 16; i++) {
		int keep = (int)len - (int)i * 8;
		if (keep <= 0)
			p.addr.bytes[i] = 0;
		else if (keep < 8)
			p.addr.bytes[i] &= (uint8_t)(0xff << (8 - keep));
	}
	return p;
}

int prefix_parse(const char *s, struct prefix *ret, struct error *err) {
	char text[ADDR_STR_MAX], canon[PREFIX_STR_MAX];
	const char *slash = strchr(s, '/');
	if (!slash || (size_t)(slash - s) >= sizeof(text))
		return error_set(err, EINVAL, "`%s` is not a prefix (address/length)", s);
	memcpy(text, s, (size_t)(slash - s));
	text[slash - s] = 0;
	struct addr a;
	int r = addr_parse(text, &a, err);
	if (r < 0)
		return r;
	const char *digits = slash + 1;
	unsigned len = 0;
	for (const char *p = digits; *p; p++) {
		if (*p < '0' || *p > '9' || p - digits > 2 || (p > digits && *digits == '0'))
			return error_set(err, EINVAL, "`%s`: the length after `/` is not a number", s);
		len = len * 10 + (unsigned)(*p - '0');
	}
	if (!*digits || len > addr_bits(a.family))
		return error_set(err, EINVAL, "`%s`: the length must be 0 to %u", s, addr_bits(a.family));
	struct prefix p = prefix_of(&a, (uint8_t)len);
	if (memcmp(p.addr.bytes, a.bytes, 16) != 0)
		return error_set(err, EINVAL, "`%s` is not aligned: it has host bits set; did you mean `%s`?", s,
		                 prefix_str(&p, canon));
	*ret = p;
	return 0;
}

int mac_parse(const char *s, struct mac *ret, struct error *err) {
	struct mac m;
	static const struct mac zero;
	for (int i = 0; i < 6; i++) {
		unsigned v = 0;
		for (int k = 0; k < 2; k++) {
			char c = s[i * 3 + k];
			if (c >= '0' && c <= '9')
				v = v * 16 + (unsigned)(c - '0');
			else if (c >= 'a' && c <= 'f')
				v = v * 16 + (unsigned)(c - 'a' + 10);
			else
				return error_set(err, EINVAL,
				                 "`%s` is not a MAC address (like 02:00:00:00:00:01, lower case)", s);
		}
		if (s[i * 3 + 2] != (i < 5 ? ':' : 0))
			return error_set(err, EINVAL, "`%s` is not a MAC address (like 02:00:00:00:00:01, lower case)",
			                 s);
		m.bytes[i] = (uint8_t)v;
	}
	if (m.bytes[0] & 1)
		return error_set(err, EINVAL, "`%s` is a multicast MAC address; the first byte must be even", s);
	if (memcmp(&m, &zero, sizeof(m)) == 0)
		return error_set(err, EINVAL, "`%s` is the all-zero MAC address", s);
	*ret = m;
	return 0;
}

int addr_cmp(const struct addr *a, const struct addr *b) {
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	return memcmp(a->bytes, b->bytes, 16);
}

int prefix_cmp(const struct prefix *a, const struct prefix *b) {
	int r = addr_cmp(&a->addr, &b->addr);
	return r ? r : (int)a->len - (int)b->len;
}

bool prefix_contains_addr(const struct prefix *p, const struct addr *a) {
	if (p->addr.family != a->family)
		return false;
	struct prefix q = prefix_of(a, p->len);
	return memcmp(q.addr.bytes, p->addr.bytes, 16) == 0;
}

bool prefix_contains(const struct prefix *outer, const struct prefix *inner) {
	return inner->len >= outer->len && prefix_contains_addr(outer, &inner->addr);
}

bool prefix_overlaps(const struct prefix *a, const struct prefix *b) {
	return prefix_contains(a, b) || prefix_contains(b, a);
}

uint64_t prefix_count(const struct prefix *pool, uint8_t len) {
	if (len < pool->len || len > addr_bits(pool->addr.family))
		return 0;
	unsigned bits = len - pool->len;
	return bits >= 64 ? UINT64_MAX : (uint64_t)1 << bits;
}

int prefix_nth(const struct prefix *pool, uint8_t len, uint64_t index, struct prefix *ret) {
	uint64_t count = prefix_count(pool, len);
	if (index >= count)
		return -ERANGE;
	struct prefix p = {.addr = pool->addr, .len = len};
	/* Adds INDEX at bit position LEN; the pool's bits below its length are 0, so there is no carry. */
	for (unsigned bit = 0; bit < 64 && (index >> bit); bit++)
		if ((index >> bit) & 1) {
			unsigned pos = len - 1 - bit;
			p.addr.bytes[pos / 8] |= (uint8_t)(0x80 >> (pos % 8));
		}
	*ret = p;
	return 0;
}

struct addr addr_eui64(const struct addr *net, const struct mac *mac) {
	struct addr a = *net;
	const uint8_t *m = mac->bytes;
	const uint8_t id[8] = {m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};
	memcpy(a.bytes + 8, id, 8);
	return a;
}
