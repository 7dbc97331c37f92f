/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the balancer's program (balancer.bpf.c) and its user space (service/balancer.c) share: maps, their limits and
 * the layout of their values.
 *
 *   addresses  array: a hash table of shared IPv4 addresses (struct balancer_address, eight in a bucket)
 *   owners     array: the owner (struct balancer_owner) of each group of 2^shift ports of an address
 *   hosts      array: struct balancer_host; number 0 is not used
 *   prefixes   longest-prefix match: all shared prefixes, for packets to an address that nobody has a slice of
 *   counters   array for each processor: enum balancer_counter
 *
 * The program reads addresses, then owners, then hosts. User space writes the first three through memory, in the
 * opposite order. An address and an owner are 64 bits each, so they change at once. A host in use is never changed; a
 * host or a block of owners that is no longer in use is written again only when no program that could have found it is
 * running any more.
 *
 * A packet costs one access to memory that is not in a near cache, that to the owner: neighbouring addresses share a
 * bucket, and there are few hosts.
 *
 * A change of anything here is a new BALANCER_LAYOUT: user space adopts maps of its own layout only.
 */

#include <linux/types.h>

#define BALANCER_LAYOUT 1

#define BALANCER_ADDRESSES 16384      /* shared addresses of which slices are in use */
#define BALANCER_OWNERS    (1U << 21) /* groups of ports, of all addresses together */
#define BALANCER_BLOCK     128        /* owners in an element of the map; each address has whole blocks */
#define BALANCER_HOSTS     65536
#define BALANCER_PREFIXES  256
#define BALANCER_SHIFT_MAX 9 /* slices of more than 2^9 ports have several groups */

#define BALANCER_WAYS    8    /* addresses in a bucket */
#define BALANCER_BUCKETS 8192 /* a quarter of the table is used at most */
#define BALANCER_PROBES  32   /* buckets that may hold an address */

/* An element of the hash table. */
struct balancer_address {
	__u32 address; /* network order */
	__u16 block;   /* the owners begin in this block */
	__u8 shift;    /* the owner of a port is number (port >> shift) from there */
	__u8 state;    /* enum balancer_state */
} __attribute__((aligned(8)));

enum balancer_state {
	BALANCER_EMPTY,   /* a search ends here */
	BALANCER_REMOVED, /* a search goes on */
	BALANCER_SHARED,  /* an address with owners */
};

struct balancer_bucket {
	struct balancer_address ways[BALANCER_WAYS];
};

/* The instance that has a group of ports. */
struct balancer_owner {
	__u8 mac[6]; /* in the public overlay */
	__u16 host;  /* 0: nobody has it */
} __attribute__((aligned(8)));

struct balancer_block {
	struct balancer_owner owners[BALANCER_BLOCK];
};

struct balancer_host {
	__u8 vtep[16];
	__u16 sum; /* the Internet checksum's sum of vtep (RFC 1071), not inverted, as in memory */
	__u8 zero[6];
};

struct balancer_prefix {
	__u32 length;
	__u8 address[4];
};

/* The bucket in which the search for an address (in host order) begins, and the way in each bucket. */
static inline __u32 balancer_bucket_of(__u32 address) {
	return ((address / BALANCER_WAYS) * 0x9e3779b1U) >> 19;
}

static inline __u32 balancer_way_of(__u32 address) {
	return (address + ((address / BALANCER_WAYS) * 0x85ebca6bU >> 29)) % BALANCER_WAYS;
}

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
	__u16 router_sum;   /* as balancer_host.sum, of router_mac */
	__u16 port;         /* of VXLAN, in network order */
	__u16 zero[3];
};

_Static_assert(sizeof(struct balancer_address) == 8, "an address changes at once");
_Static_assert(sizeof(struct balancer_owner) == 8, "an owner changes at once");
_Static_assert(sizeof(struct balancer_bucket) == 64, "a bucket is a cache line");
_Static_assert(sizeof(struct balancer_block) == 1024, "layout of a map");
_Static_assert(sizeof(struct balancer_host) == 24, "layout of a map");
_Static_assert(sizeof(struct balancer_prefix) == 8, "layout of a map");
_Static_assert(sizeof(struct balancer_settings) == 40, "layout of a map");
_Static_assert(BALANCER_BUCKETS == 1U << (32 - 19), "the hash gives the number of a bucket");
_Static_assert(BALANCER_ADDRESSES * 4 <= BALANCER_BUCKETS * BALANCER_WAYS, "searches are short");
_Static_assert((65536 >> BALANCER_SHIFT_MAX) % BALANCER_BLOCK == 0, "each address has whole blocks");
_Static_assert(BALANCER_OWNERS / BALANCER_BLOCK <= 65536, "a block's number has 16 bits");
