/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Guard of offloads (tc, clsact ingress of an instance's tap): a guest can leave it to the host to complete a checksum
 * and to cut a large frame, and says where and how in the header of virtio-net. The kernel completes the checksum last,
 * when the frame leaves the machine or goes to another guest. If it lay in an address or a port, the guest would choose
 * these after all filters have seen others. So it must lie behind what filters and translation read. Filters and
 * translation read also the packet that a message of ICMP quotes, and nobody leaves the checksum of ICMP to a device,
 * so such a frame of ICMP is dropped. Pieces of a few bytes would make thousands of packets of one frame.
 *
 * A program can't read where the checksum is. But bpf_l4_csum_replace() changes nothing without a pseudo header if the
 * checksum isn't complete, and bpf_skb_change_tail() refuses to cut off a checksum that isn't complete (-EINVAL). It
 * cuts off everything else, or fails in another way, and the frame is dropped then.
 *
 * Filters read no deeper than the first header that isn't one of IP's, so the checksum may be anywhere behind that, for
 * the guest's own tunnels.
 */

#include <asm-generic/errno-base.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEADERS_MAX 8

/*
 * The most packets of one frame: a whole frame, 64 KiB, may be cut into pieces of 32 bytes. Linux sends as little as 36
 * bytes of data in a segment: its least MSS, 48 (tcp_min_snd_mss), less the option of timestamps; if other options take
 * all their 40 bytes, 8.
 */
#define PIECES_MAX 2048
#define PIECE_MIN  8

#define V6_HOP_BY_HOP   0
#define V6_ROUTING      43
#define V6_DESTINATION  60
#define V6_FRAGMENT     44
#define PROTOCOL_ICMPV6 58

struct layer4 {
	__u32 offset;
	__u8 protocol;
};

/* Where a checksum that isn't complete may begin; 0: nowhere. */
static __always_inline __u32 guarded(const struct layer4 *l) {
	switch (l->protocol) {
	case IPPROTO_TCP: return l->offset + 16;
	case IPPROTO_UDP: return l->offset + 6;
	case IPPROTO_ICMP:
	case PROTOCOL_ICMPV6:
	case V6_FRAGMENT: return 0;
	default: return l->offset;
	}
}

static __always_inline int read_v4(struct __sk_buff *skb, struct layer4 *ret) {
	__u8 h[20];
	if (bpf_skb_load_bytes(skb, ETH_HLEN, h, sizeof(h)) < 0 || (h[0] & 15) < 5)
		return -1;
	ret->offset = ETH_HLEN + (h[0] & 15) * 4U;
	ret->protocol = h[9];
	/* A fragment has no checksum of its own. */
	return (h[6] & 0x3f) || h[7] ? -1 : 0;
}

static __always_inline int read_v6(struct __sk_buff *skb, struct layer4 *ret) {
	__u8 h[2];
	if (bpf_skb_load_bytes(skb, ETH_HLEN + 6, &ret->protocol, 1) < 0)
		return -1;
	ret->offset = ETH_HLEN + 40;
	for (int i = 0; i < HEADERS_MAX; i++) {
		if (ret->protocol != V6_HOP_BY_HOP && ret->protocol != V6_ROUTING && ret->protocol != V6_DESTINATION)
			return 0;
		if (bpf_skb_load_bytes(skb, ret->offset, h, sizeof(h)) < 0)
			return -1;
		ret->protocol = h[0];
		ret->offset += (h[1] + 1U) * 8;
	}
	return -1;
}

/* Whether the kernel has to complete a checksum of the frame. */
static __always_inline int is_incomplete(struct __sk_buff *skb) {
	__u16 before, after;
	if (bpf_skb_load_bytes(skb, 0, &before, sizeof(before)) < 0 ||
	    bpf_l4_csum_replace(skb, 0, 0, bpf_htons(1), sizeof(before)) < 0 ||
	    bpf_skb_load_bytes(skb, 0, &after, sizeof(after)) < 0)
		return -1;
	if (before == after)
		return 1;
	return bpf_skb_store_bytes(skb, 0, &before, sizeof(before), 0) < 0 ? -1 : 0;
}

static __always_inline int has_tiny_pieces(const struct __sk_buff *skb) {
	__u32 size = skb->gso_size;
	return size && (size < PIECE_MIN || skb->len / size > PIECES_MAX);
}

SEC("tc")
int nacre_offload1(struct __sk_buff *skb) {
	struct layer4 l = {0};
	int r = -1, incomplete = is_incomplete(skb);
	if (incomplete < 0)
		return TC_ACT_SHOT;
	if (!incomplete && !skb->gso_size)
		return TC_ACT_OK;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		r = read_v4(skb, &l);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		r = read_v6(skb, &l);
	if (r < 0 || has_tiny_pieces(skb))
		return TC_ACT_SHOT;
	__u32 least = guarded(&l);
	if (incomplete && (!least || bpf_skb_change_tail(skb, least + 1, 0) != -EINVAL))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Apache-2.0";
