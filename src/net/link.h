/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Network devices and their addresses. Each function acts in the namespace of the `struct nl` that it is given. The
 * link_ensure_*() functions compare with the kernel and correct differences, so calling them again changes nothing. A
 * device of the right name but the wrong kind is replaced.
 */

#include <net/if.h>
#include <sys/types.h>

#include "base/inet.h"
#include "net/nl.h"

struct link {
	int index;
	char name[IFNAMSIZ];
	char kind[16];  /* "veth", "vxlan", "tun", ""; */
	unsigned flags; /* IFF_* */
	uint32_t mtu;
	struct mac mac;
	int peer;     /* veth: index of the other end in its own namespace, else 0 */
	bool carrier; /* operationally up */
	struct {
		uint32_t vni;
		uint16_t port;
		struct addr local;
		bool learning;
	} vxlan;
};

/* -ENODEV if there is no device of that name. */
int link_get(struct nl *n, const char *name, struct link *ret, struct error *err) _must_use_;
typedef int (*link_handler)(const struct link *l, void *userdata);
int link_dump(struct nl *n, link_handler handler, void *userdata, struct error *err) _must_use_;
/* Decodes an RTM_NEWLINK or RTM_DELLINK message. */
void link_decode(const struct nlmsghdr *h, struct link *ret);

/* The changes to make; members that are 0 or NULL stay as they are. */
struct link_change {
	bool up, down;
	uint32_t mtu;
	const struct mac *mac;
	const char *name; /* new name; the device must be down */
	bool move;        /* move the device into netns_fd */
	int netns_fd;
	int master; /* index of the bridge to attach it to */
};
int link_set(struct nl *n, int index, const struct link_change *change, struct error *err) _must_use_;
/* Succeeds if the device does not exist. */
int link_delete(struct nl *n, const char *name, struct error *err);

/* One end of a veth pair. */
struct link_end {
	struct nl *nl;
	int netns_fd; /* the namespace of nl */
	const char *name;
	const struct mac *mac; /* NULL: the kernel chooses */
};
/* Makes both ends exist, connected to each other, with this MTU, and up. *RET_INDEX (may be NULL) is A's index. */
int link_ensure_veth(const struct link_end *a, const struct link_end *b, uint32_t mtu, int *ret_index,
                     struct error *err) _must_use_;

/* Makes the Ethernet bridge (without spanning tree) exist and be up. */
int link_ensure_bridge(struct nl *n, const char *name, int *ret_index, struct error *err) _must_use_;

/*
 * A VXLAN device without learning and without a default destination: a frame to a MAC without a forwarding entry is
 * dropped. Its outer packets use the namespace of UNDERLAY, where the device is created; the device itself is in INNER.
 * The outer MTU must be mtu + 70.
 */
struct link_vxlan {
	const char *name;
	uint32_t vni;
	uint16_t port;
	struct addr local; /* IPv6 */
	struct mac mac;
	uint32_t mtu;
};
int link_ensure_vxlan(struct nl *underlay, struct nl *inner, int inner_fd, const struct link_vxlan *spec,
                      int *ret_index, struct error *err) _must_use_;

/*
 * Opens the tap NAME in a namespace and brings it up; creates it if needed. The tap is persistent and belongs to OWNER,
 * so that an unprivileged process can open it again. The descriptor is non-blocking, carries a virtio-net header
 * (vnet_hdr) and is close-on-exec.
 */
int link_open_tap(int netns_fd, const char *name, uid_t owner, uint32_t mtu, int *ret_fd, struct error *err) _must_use_;

/*
 * Makes ADDR/LEN exist on the device (no duplicate address detection). Link-local addresses have link scope, so that
 * the kernel uses them as a source only on their device.
 */
int link_ensure_addr(struct nl *n, int index, const struct addr *addr, uint8_t len, struct error *err) _must_use_;
/* The same for an IPv6 address that the kernel never chooses as a source: it is deprecated (RFC 4862). */
int link_ensure_deprecated(struct nl *n, int index, const struct addr *addr, uint8_t len, struct error *err) _must_use_;
/* Removes addresses of global scope that are not in KEEP. */
int link_sweep_addrs(struct nl *n, int index, const struct addr *keep, size_t n_keep, struct error *err) _must_use_;
