/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the balancer's program (balancer.bpf.c) and its user space (service/balancer.c) share: maps, their limits and
 * the layout of their values.
 *
 *   addresses  hash: shared IPv4 address -> struct balancer_address
 *   owners     array: number of an endpoint for each group of 2^shift ports of an address; 0: nobody
 *   endpoints  array: struct balancer_target; number 0 is not used
 *   prefixes   longest-prefix match: all shared prefixes, for packets to an address that nobody has a slice of
 *   counters   array for each processor: enum balancer_counter
 *
 * The program reads addresses, then owners[base + (port >> shift)], then endpoints. User space writes in the opposite
 * order, so the program never sees a number of something that isn't complete. An endpoint in use is never changed; what
 * is no longer in use is written again only when no program that could have found it is running any more.
 *
 * A change of anything here is a new BALANCER_LAYOUT: user space adopts maps of its own layout only.
 */

#include <linux/types.h>

#define BALANCER_LAYOUT 1

#define BALANCER_ADDRESSES 32768      /* shared addresses of which slices are in use */
#define BALANCER_OWNERS    (1U << 22) /* groups of ports, of all addresses together */
#define BALANCER_BLOCK     128        /* owners in an element of the map; each address has whole blocks */
#define BALANCER_ENDPOINTS (1U << 19)
#define BALANCER_PREFIXES  256
#define BALANCER_SHIFT_MAX 9 /* slices of more than 2^9 ports have several groups */

/* Numbers of endpoints. (An array rounds the size of its elements up to 8 bytes; together the elements are an array of
 * BALANCER_OWNERS numbers.) */
struct balancer_block {
	__u32 endpoints[BALANCER_BLOCK];
};

/* The group of a port is in owners[base + (port >> shift)]. */
struct balancer_address {
	__u32 base;
	__u32 shift;
};

struct balancer_target {
	__u8 vtep[16];
	__u8 mac[6]; /* of the instance, in the public overlay */
	__u16 sum;   /* the Internet checksum's sum of vtep and mac (RFC 1071), not inverted, as in memory */
};

struct balancer_prefix {
	__u32 length;
	__u8 address[4];
};

/* What became of a packet to a shared address. Metrics have these names (balancer_counter_name()). */
enum balancer_counter {
	BALANCER_FORWARDED, /* sent to another host */
	BALANCER_LOCAL,     /* the owner is on this host */
	/* Dropped, because … */
	BALANCER_NO_OWNER,  /* nobody has the port or identifier */
	BALANCER_FRAGMENT,  /* any IPv4 fragment: the first can be assigned, but the others have no port */
	BALANCER_PROTOCOL,  /* neither TCP, UDP nor ICMP */
	BALANCER_ICMP_TYPE, /* no echo reply and no error: an echo request, for example */
	BALANCER_QUOTE,     /* an ICMP error that doesn't quote a packet which this address can have sent */
	BALANCER_MALFORMED, /* lengths or headers contradict each other */
	BALANCER_COUNTERS,
};

/* Constants of a loaded program. */
struct balancer_settings {
	__u32 layout;       /* BALANCER_LAYOUT */
	__u32 vni;          /* the last four bytes of a VXLAN header with the public overlay's VNI, as in memory */
	__u8 vtep[16];      /* of this host */
	__u8 router_mac[6]; /* base/vtep.h */
	__u16 router_sum;   /* as balancer_target.sum, of router_mac */
	__u16 port;         /* of VXLAN, in network order */
	__u16 zero[3];
};

_Static_assert(sizeof(struct balancer_address) == 8, "layout of a map");
_Static_assert(sizeof(struct balancer_block) % 8 == 0, "blocks have no gaps between them");
_Static_assert((65536 >> BALANCER_SHIFT_MAX) % BALANCER_BLOCK == 0, "each address has whole blocks");
_Static_assert(BALANCER_OWNERS % BALANCER_BLOCK == 0, "there are whole blocks only");
_Static_assert(sizeof(struct balancer_target) == 24, "layout of a map");
_Static_assert(sizeof(struct balancer_prefix) == 8, "layout of a map");
_Static_assert(sizeof(struct balancer_settings) == 40, "layout of a map");
