/* SPDX-License-Identifier: Apache-2.0 */

/*
 * For bench/balancer.c. A test run gives a program its own output when it repeats it; so `pick` restores the packet
 * each time, gives it one of all slices at random, and then calls the program to be measured.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEADERS 112 /* restored, a multiple of 8: up to the IPv4 payload, and its ports */
#define AT_DEST 100
#define AT_PORT 106

/* Set before loading. */
const volatile __u32 addresses = 1, slices = 1, first_slice, slice_shift, first_address;

__u64 template[HEADERS / 8];
__u32 state = 1;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} measured SEC(".maps");

SEC("xdp.frags")
int pick(struct xdp_md *ctx) {
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + HEADERS > end)
		return XDP_ABORTED;
	__u64 *words = data;
	for (int i = 0; i < HEADERS / 8; i++)
		words[i] = template[i];
	__u32 x = state;
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	state = x;
	/* The high half of a product is evenly spread, without a division. */
	__u32 address = first_address + (__u32)((__u64)(x & 0xffff) * addresses >> 16);
	__u32 slice = first_slice + (__u32)((__u64)(x >> 16) * slices >> 16);
	*(__be32 *)(data + AT_DEST) = bpf_htonl(address);
	*(__be16 *)(data + AT_PORT) = bpf_htons((__u16)(slice << slice_shift | (x & ((1U << slice_shift) - 1))));
	bpf_tail_call(ctx, &measured, 0);
	return XDP_ABORTED;
}

/* What is left of a balancer that decides nothing. */
SEC("xdp.frags")
int reflect(struct xdp_md *ctx) {
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__u8 mac[6];
	if ((void *)(eth + 1) > end)
		return XDP_ABORTED;
	__builtin_memcpy(mac, eth->h_dest, 6);
	__builtin_memcpy(eth->h_dest, eth->h_source, 6);
	__builtin_memcpy(eth->h_source, mac, 6);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Apache-2.0";
