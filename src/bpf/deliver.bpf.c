/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Delivery (tc, clsact ingress of the VXLAN device in `public`): sends a frame for an instance's MAC to the instance's
 * device. A VXLAN device that is no port of a bridge would drop it. bpf/deliver.h has the maps.
 *
 * A frame may be large: what the kernel has put together (GRO), or what a sender on this machine has left to be cut
 * (GSO) and its checksum to be completed. A redirect keeps what the kernel knows about it, and the device's driver does
 * the rest.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "bpf/deliver.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DELIVER_INSTANCES);
	__type(key, struct deliver_mac);
	__type(value, __u32);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} delivered SEC(".maps");

SEC("tc")
int nacre_deliver(struct __sk_buff *skb) {
	const void *data = (const void *)(long)skb->data, *end = (const void *)(long)skb->data_end;
	const struct ethhdr *eth = data;
	struct deliver_mac mac = {0};
	__u32 first = 0;
	if ((const void *)(eth + 1) > end)
		return TC_ACT_OK;
	__builtin_memcpy(mac.bytes, eth->h_dest, sizeof(mac.bytes));
	const __u32 *device = bpf_map_lookup_elem(&devices, &mac);
	if (!device)
		return TC_ACT_OK;
	__u64 *n = bpf_map_lookup_elem(&delivered, &first);
	if (n)
		++*n;
	return (int)bpf_redirect(*device, 0);
}

char LICENSE[] SEC("license") = "Apache-2.0";
