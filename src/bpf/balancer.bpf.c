/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The balancer (XDP): sends IPv4 packets for shared addresses, which come in VXLAN from an edge, on to the host of the
 * instance that has the port. It keeps no state. bpf/balancer.h has the maps.
 *
 *   Ethernet | IPv6 to this host's VTEP | UDP | VXLAN, public VNI | Ethernet to this host's router MAC | IPv4 …
 *
 * Everything else passes: BGP, neighbour discovery, frames for instances, other overlays.
 *
 * The owner is found by the destination port of TCP and UDP, by the identifier of an ICMP echo reply, and for an ICMP
 * error by the source port (or identifier) of the packet that it quotes. The program then changes the inner destination
 * MAC to the instance's, the inner source MAC to this host's, the outer addresses, the UDP checksum and the hop limit,
 * and sends the packet out of the same NIC. (A packet may come from the very host to which it goes, and a VXLAN device
 * drops frames whose source is its own MAC.) A packet for an instance on this host goes on to the stack, with only the
 * inner destination MAC changed. The length of a packet never changes, nor anything from the inner EtherType on.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/balancer.h"

#define VXLAN_VNI_VALID bpf_htonl(0x08000000) /* the only flag */
#define HOP_LIMIT       64
#define FRAGMENT        bpf_htons(0x3fff) /* "more fragments", and the offset */
#define FRAGMENT_OFFSET bpf_htons(0x1fff)
#define TCP_HEADER      20

/* From <linux/icmp.h>, which can't be included here. */
enum {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

/* A packet from an edge up to the IPv4 options. Gives the offsets only: a packed struct would be read byte by byte. */
struct headers {
	struct ethhdr outer;
	struct ipv6hdr ip6;
	struct udphdr udp;
	struct {
		__be32 flags, vni;
	} vxlan;
	struct ethhdr inner;
	struct iphdr ip;
} __attribute__((packed));

_Static_assert(sizeof(struct headers) == 104, "layout of a packet");

/* A member of the headers at P, as an lvalue of TYPE. */
#define AT(type, p, member) (*(type *)((char *)(p) + offsetof(struct headers, member)))

/* Volatile: the compiler must not believe the zeros that it sees here. */
const volatile struct balancer_settings settings;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BALANCER_BUCKETS);
	__type(key, __u32);
	__type(value, struct balancer_bucket);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BALANCER_OWNERS / BALANCER_BLOCK);
	__type(key, __u32);
	__type(value, struct balancer_block);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BALANCER_HOSTS);
	__type(key, __u32);
	__type(value, struct balancer_host);
} hosts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, BALANCER_PREFIXES);
	__type(key, struct balancer_prefix);
	__type(value, __u32);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BALANCER_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline int count(__u32 counter, int verdict) {
	__u64 *n = bpf_map_lookup_elem(&counters, &counter);
	if (n)
		++*n;
	return verdict;
}

static __always_inline bool equal16(const volatile void *a, const volatile void *b) {
	const volatile __u64 *x = a, *y = b;
	return x[0] == y[0] && x[1] == y[1];
}

static __always_inline void copy16(void *to, const volatile void *from) {
	const volatile __u64 *x = from;
	__u64 *y = to;
	y[0] = x[0];
	y[1] = x[1];
}

static __always_inline bool is_from_overlay(const void *h) {
	const volatile __u16 *mac = (const volatile __u16 *)settings.router_mac;
	return AT(__be16, h, outer.h_proto) == bpf_htons(ETH_P_IPV6) && AT(__u8, h, ip6) >> 4 == 6 &&
	       AT(__u8, h, ip6.nexthdr) == IPPROTO_UDP && AT(__be16, h, udp.dest) == settings.port &&
	       AT(__be32, h, vxlan.flags) == VXLAN_VNI_VALID && AT(__be32, h, vxlan.vni) == settings.vni &&
	       AT(__be16, h, inner.h_proto) == bpf_htons(ETH_P_IP) && AT(__u16, h, inner.h_dest) == mac[0] &&
	       AT(__u16, h, inner.h_dest[2]) == mac[1] && AT(__u16, h, inner.h_dest[4]) == mac[2] &&
	       equal16(&AT(__u8, h, ip6.daddr), settings.vtep);
}

/* Whether the lengths in the headers agree with each other and with the packet's. What the packet has more is padding.
 */
static __always_inline bool lengths_agree(struct xdp_md *ctx, const void *h, const void *end) {
	__u32 udp = bpf_ntohs(AT(__be16, h, udp.len)), ip = bpf_ntohs(AT(__be16, h, ip.tot_len));
	if (AT(__be16, h, ip6.payload_len) != AT(__be16, h, udp.len) ||
	    udp < ip + sizeof(struct headers) - sizeof(struct iphdr) - offsetof(struct headers, udp))
		return false;
	/* A packet of several buffers ends after END. */
	udp += offsetof(struct headers, udp);
	return udp <= (__u64)end - (__u64)h || udp <= bpf_xdp_get_buff_len(ctx);
}

/* The port of an ICMP error's owner, or -enum balancer_counter. QUOTE is the packet that it quotes, LENGTH the bytes
 * that it has of it. */
static __always_inline int port_of_quote(const struct iphdr *quote, const void *end, __u32 length, __be32 address) {
	if ((const void *)(quote + 1) > end || length < sizeof(*quote))
		return -BALANCER_QUOTE;
	__u32 header = quote->ihl * 4;
	const __be16 *port = (const void *)((const char *)quote + header);
	/* An error quotes eight bytes after the header, or more (RFC 792). */
	if (quote->version != 4 || header < sizeof(*quote) || length < header + 8 || (const void *)(port + 4) > end ||
	    quote->saddr != address || quote->frag_off & FRAGMENT_OFFSET)
		return -BALANCER_QUOTE;
	if (quote->protocol == IPPROTO_TCP || quote->protocol == IPPROTO_UDP)
		return bpf_ntohs(port[0]);
	if (quote->protocol == IPPROTO_ICMP && *(const __u8 *)port == ICMP_ECHO)
		return bpf_ntohs(port[2]);
	return -BALANCER_QUOTE;
}

/* The port (or ICMP identifier) by which the owner of a packet is found, or -enum balancer_counter. */
static __always_inline int port_of_packet(const void *h, const void *end) {
	const struct iphdr *ip = (const void *)&AT(__u8, h, ip);
	__u32 header = ip->ihl * 4, total = bpf_ntohs(ip->tot_len);
	const __be16 *payload = (const void *)((const char *)ip + header);
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return -BALANCER_MALFORMED;
	if (ip->frag_off & FRAGMENT)
		return -BALANCER_FRAGMENT;
	if (total < header + 8 || (const void *)(payload + 4) > end)
		return -BALANCER_MALFORMED;
	if (ip->protocol == IPPROTO_TCP)
		return total < header + TCP_HEADER ? -BALANCER_MALFORMED : bpf_ntohs(payload[1]);
	if (ip->protocol == IPPROTO_UDP)
		return bpf_ntohs(payload[1]);
	if (ip->protocol != IPPROTO_ICMP)
		return -BALANCER_PROTOCOL;
	switch (*(const __u8 *)payload) {
	case ICMP_ECHOREPLY: return bpf_ntohs(payload[2]);
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB: return port_of_quote((const void *)(payload + 4), end, total - header - 8, ip->daddr);
	}
	return -BALANCER_ICMP_TYPE;
}

/* The Internet checksum's sum of an IPv6 address, in 34 bits. */
static __always_inline __u64 sum16(const volatile void *address) {
	const volatile __u32 *w = address;
	return (__u64)w[0] + w[1] + w[2] + w[3];
}

/*
 * The UDP checksum after bytes with the sum REMOVED have been replaced by bytes with the sum ADDED, of up to 40 bits
 * each (RFC 1624, equation 3). One that is missing stays so.
 */
static __always_inline __u16 checksum_after(__u16 check, __u64 removed, __u64 added) {
	if (!check)
		return 0;
	__u64 sum = added + (~removed & 0xffffffffffff) + (__u16)~check;
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	__u16 result = ~sum;
	return result ? result : 0xffff;
}

/* Something of 64 bits that user space may be changing, read at once. */
union atomic64 {
	__u64 bits;
	struct balancer_address address;
	struct balancer_owner owner;
	__u16 words[4];
};

/* The address's state is BALANCER_EMPTY if it is not in the table. */
static __always_inline struct balancer_address find_address(__be32 destination) {
	__u32 address = bpf_ntohl(destination), bucket = balancer_bucket_of(address), way = balancer_way_of(address);
	union atomic64 found = {0};
	for (int i = 0; i < BALANCER_PROBES; i++) {
		__u32 number = (bucket + i) % BALANCER_BUCKETS;
		const struct balancer_bucket *b = bpf_map_lookup_elem(&addresses, &number);
		if (!b)
			break;
		found.bits = *(const volatile __u64 *)&b->ways[way];
		if (found.address.state == BALANCER_EMPTY ||
		    (found.address.state == BALANCER_SHARED && found.address.address == destination))
			return found.address;
	}
	found.bits = 0;
	return found.address;
}

/* All 0 if nobody has the port. */
static __always_inline union atomic64 find_owner(struct balancer_address address, __u32 port) {
	__u32 group = port >> (address.shift & 15), block = address.block + group / BALANCER_BLOCK;
	const struct balancer_block *b = bpf_map_lookup_elem(&owners, &block);
	union atomic64 found = {.bits = b ? *(const volatile __u64 *)&b->owners[group % BALANCER_BLOCK] : 0};
	return found;
}

/* The Internet checksum's sum of a MAC. */
static __always_inline __u64 sum6(const void *mac) {
	const __u16 *w = mac;
	return (__u64)w[0] + w[1] + w[2];
}

static __always_inline void copy6(void *to, const void *from) {
	const __u16 *x = from;
	__u16 *y = to;
	y[0] = x[0];
	y[1] = x[1];
	y[2] = x[2];
}

static __always_inline int forward(void *h, union atomic64 owner, const struct balancer_host *to) {
	bool local = equal16(to->vtep, settings.vtep);
	__u64 removed = settings.router_sum, added = sum6(owner.words);
	/* This host's VTEP leaves the destination and comes to the source, so it doesn't change the sum, nor does its
	 * router MAC, for the same reason. */
	if (!local) {
		removed = sum16(&AT(__u8, h, ip6.saddr)) + sum6(&AT(__u8, h, inner.h_source));
		added += to->sum;
	}
	AT(__u16, h, udp.check) = checksum_after(AT(__u16, h, udp.check), removed, added);
	if (!local)
		copy6(&AT(__u8, h, inner.h_source), &AT(__u8, h, inner.h_dest));
	copy6(&AT(__u8, h, inner.h_dest), owner.words);
	if (local)
		return count(BALANCER_LOCAL, XDP_PASS);
	AT(__u8, h, ip6.hop_limit) = HOP_LIMIT;
	copy16(&AT(__u8, h, ip6.saddr), settings.vtep);
	copy16(&AT(__u8, h, ip6.daddr), to->vtep);
	__u16 mac[3];
	copy6(mac, &AT(__u8, h, outer.h_dest));
	copy6(&AT(__u8, h, outer.h_dest), &AT(__u8, h, outer.h_source));
	copy6(&AT(__u8, h, outer.h_source), mac);
	return count(BALANCER_FORWARDED, XDP_TX);
}

SEC("xdp.frags")
int nacre_balancer(struct xdp_md *ctx) {
	void *h = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (h + sizeof(struct headers) > end || !is_from_overlay(h))
		return XDP_PASS;
	__be32 destination = AT(__be32, h, ip.daddr);
	struct balancer_address address = find_address(destination);
	if (address.state == BALANCER_EMPTY) {
		struct balancer_prefix key = {.length = 32};
		__builtin_memcpy(key.address, &destination, 4);
		return bpf_map_lookup_elem(&prefixes, &key) ? count(BALANCER_NO_OWNER, XDP_DROP) : XDP_PASS;
	}
	if (!lengths_agree(ctx, h, end))
		return count(BALANCER_MALFORMED, XDP_DROP);
	int port = port_of_packet(h, end);
	if (port < 0)
		return count(-port, XDP_DROP);
	union atomic64 owner = find_owner(address, (__u32)port);
	__u32 host = owner.owner.host;
	const struct balancer_host *to = host ? bpf_map_lookup_elem(&hosts, &host) : NULL;
	return to ? forward(h, owner, to) : count(BALANCER_NO_OWNER, XDP_DROP);
}

char LICENSE[] SEC("license") = "Apache-2.0";
