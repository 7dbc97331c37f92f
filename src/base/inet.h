/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Addresses, prefixes and MACs: parse, print, compare. Parsers accept only the canonical text (RFC 5952 for IPv6), so
 * that a value has one spelling and can be used as a name. An IPv4 address has the family AF_INET and is never mapped
 * into IPv6.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct addr {
	int family; /* AF_INET or AF_INET6, 0 = unset */
	union {
		struct in_addr v4;
		struct in6_addr v6;
		uint8_t bytes[16]; /* network order; unused bytes are 0 */
	};
};

struct prefix {
	struct addr addr; /* host bits are 0 */
	uint8_t len;
};

struct mac {
	uint8_t bytes[6];
};

#define ADDR_STR_MAX   46
#define PREFIX_STR_MAX 50
#define MAC_STR_MAX    18

int addr_parse(const char *s, struct addr *ret, struct error *err) _must_use_;
/* -EINVAL if host bits are set or the spelling is not canonical; the message gives the right spelling. */
int prefix_parse(const char *s, struct prefix *ret, struct error *err) _must_use_;
/* Accepts lower-case hex with colons. Refuses multicast MACs and the all-zero MAC. */
int mac_parse(const char *s, struct mac *ret, struct error *err) _must_use_;

const char *addr_str(const struct addr *a, char out[static ADDR_STR_MAX]);
const char *prefix_str(const struct prefix *p, char out[static PREFIX_STR_MAX]);
const char *mac_str(const struct mac *m, char out[static MAC_STR_MAX]);

int addr_cmp(const struct addr *a, const struct addr *b);
int prefix_cmp(const struct prefix *a, const struct prefix *b);
bool prefix_contains(const struct prefix *outer, const struct prefix *inner);
bool prefix_contains_addr(const struct prefix *p, const struct addr *a);
bool prefix_overlaps(const struct prefix *a, const struct prefix *b);
struct prefix prefix_of(const struct addr *a, uint8_t len); /* clears host bits */
uint8_t addr_bits(int family);                              /* 32 or 128 */

/*
 * The prefix number INDEX (from 0) of length LEN inside POOL. -ERANGE if there is none: LEN is shorter than the pool's
 * length, or INDEX is too large.
 */
int prefix_nth(const struct prefix *pool, uint8_t len, uint64_t index, struct prefix *ret) _must_use_;
/* How many prefixes of length LEN fit in POOL; UINT64_MAX if there are more. */
uint64_t prefix_count(const struct prefix *pool, uint8_t len);

/* The address of the /64 of NET whose interface identifier is the modified EUI-64 of MAC (RFC 4291, appendix A). */
struct addr addr_eui64(const struct addr *net, const struct mac *mac);
