/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The network of one instance: a namespace of its own, which is a router between the
 * host's `public` namespace and the guest.
 *
 *   public: i-ID (fe80::1, anycast MAC) --veth-- uplink (endpoint's MAC, ip/128) :instance: tap (fe80::1) -- guest
 *
 * Nothing in the namespace is learnt. Towards the guest, the /64, the delegated prefix and the IPv4 address are routed
 * to the neighbour fe80::2, which is permanently the guest's MAC, so that a scan of a prefix makes no state and the
 * namespace never asks by ARP. Towards the outside, everything is routed to the permanent neighbour fe80::1. nftables
 * drops packets from addresses that are not the guest's own (node/instnet_rules.c), and packets that the outside may
 * not send in or the guest may not send out (node/firewall.h).
 *
 * nacre-vm serves metadata (vm/metadata.h) to the guest on 169.254.169.254 and fd00:ec2::254. The IPv6 address is on
 * `lo` and deprecated: on the tap it would be the source of the kernel's solicitations of the guest, and otherwise that
 * of its ICMP errors.
 *
 * The guest's IPv4 gateway is 169.254.0.1, on the tap. An instance with a public address of its own has that address
 * (dedicated). One that shares public addresses (shared) has the private address 192.0.0.2, which no tenant's network
 * uses (RFC 7335), and slices of the ports of shared addresses, to which its connections are translated.
 *
 * Names: ID is the first 12 hex digits of the instance's status.id; namespace PREFIX"i-"ID,
 * device in public "i-"ID.
 */

#include "base/jsontable.h"
#include "net/nl.h"
#include "node/firewall.h"

#define INSTNET_ID_LEN      12
#define INSTNET_INGRESS_MAX 64
#define INSTNET_TAP         "tap"
#define INSTNET_UPLINK      "uplink"
#define INSTNET_NAME_MAX    64

#define INSTNET_SLICES_MAX   16
#define INSTNET_FORWARDS_MAX 32

enum instnet_proto { INSTNET_TCP, INSTNET_UDP, INSTNET_ICMP };
enum instnet_ipv4 { INSTNET_NO_IPV4, INSTNET_DEDICATED, INSTNET_SHARED };

/* clang-format off */
#define INSTNET_INGRESS_FIELDS(F, T) \
	F(T, word, proto, "proto", instnet_proto) \
	F(T, i64, port, "port", 0, 65535, 0) /* tcp, udp */ \
	F(T, prefix, from, "from")           /* family 0: anywhere */

/* Of ports, both ends inclusive; of echo requests the identifiers. */
#define INSTNET_SLICE_FIELDS(F, T) \
	F(T, addr, address, "address") /* IPv4 */ \
	F(T, i64, first, "first", 0, 65535, 0) \
	F(T, i64, last, "last", 0, 65535, 0)

#define INSTNET_FORWARD_FIELDS(F, T) \
	F(T, word, proto, "proto", instnet_proto) /* tcp or udp */ \
	F(T, addr, address, "address")            /* of a slice, as is the port */ \
	F(T, i64, port, "port", 1, 65535, 1) \
	F(T, i64, target, "target", 1, 65535, 1)  /* port of the guest */

#define INSTNET_SPEC_FIELDS(F, T) \
	F(T, mac, mac, "mac")                /* of the guest, and of the endpoint */ \
	F(T, addr, ip, "ip")                 /* of the endpoint in the overlay */ \
	F(T, prefix, net, "net")             /* /64; family 0: the instance has no network */ \
	F(T, prefix, delegated, "delegated") /* family 0: none */ \
	F(T, list, ingress, "ingress", instnet_ingress, INSTNET_INGRESS_MAX) \
	F(T, word, ipv4, "ipv4", instnet_ipv4) \
	F(T, addr, address4, "address4")     /* the guest's own; without meaning if it has no IPv4 */ \
	F(T, list, slices, "slices", instnet_slice, INSTNET_SLICES_MAX)        /* shared */ \
	F(T, list, forwards, "forwards", instnet_forward, INSTNET_FORWARDS_MAX) /* shared */
/* clang-format on */
JT_DECLARE(instnet_ingress, INSTNET_INGRESS_FIELDS)
JT_DECLARE(instnet_slice, INSTNET_SLICE_FIELDS)
JT_DECLARE(instnet_forward, INSTNET_FORWARD_FIELDS)
JT_DECLARE(instnet_spec, INSTNET_SPEC_FIELDS)

struct instnet_config {
	const char *prefix; /* of namespace names; "" on a real host */
	const char *id;
	const struct instnet_spec *spec;
	const struct firewall_attached *firewalls; /* node/firewall.h; NULL: none */
	/* A socket of nl_open_netfilter() in the namespace, which the caller keeps (struct guest). NULL: none. */
	struct nl *netfilter;
	/*
	 * Where it is told why the firewall's table could not be made: EIO, or EAGAIN if it was not tried again yet.
	 * All else goes on. NULL: the whole call fails.
	 */
	struct error *firewall_failed;
	size_t open_slices; /* so many of the slices, the first ones, are used for new connections; 0: all */
	uid_t uid;          /* may open the tap */
	uint32_t mtu;
};

/* The address of every guest that shares public addresses, and the IPv4 gateway of every guest. */
struct addr instnet_shared_address(void);
struct addr instnet_gateway4(void);
/* Where the guest asks for its metadata, by IPv4 (the address is on the tap) and by IPv6 (on `lo`). */
struct addr instnet_metadata4(void);
struct addr instnet_metadata6(void);

/* The ID of a uid ("0b5ac4a8-4b0e-…"). False if UID is not a UUID. */
bool instnet_id(const char *uid, char out[static INSTNET_ID_LEN + 1]);
/* "i-ID": the device in `public`, and after the prefix the namespace. */
const char *instnet_device(const char *id, char out[static 16]);
/* The ID in the name of such a device; NULL if NAME is not such a name. */
const char *instnet_id_of_device(const char *name);
/* The ID in the name of such a namespace; NULL if NAME is not such a name, or has another prefix. */
const char *instnet_id_of_netns(const char *prefix, const char *name);
/* The beginning of the names of all such namespaces. */
const char *instnet_netns_begin(const char *prefix, char out[static INSTNET_NAME_MAX]);
const char *instnet_netns(const char *prefix, const char *id, char out[static INSTNET_NAME_MAX]);

/* What was applied to the namespace; all zero at first. */
struct instnet_state {
	size_t open_slices; /* as in instnet_config */
	uint64_t rules;     /* net/nft.h */
	uint64_t wanted;    /* a hash of the rules without the firewall's */
	uint64_t ports;     /* a hash of the translation, slices and forwards; all other connections have been cut */
	uint32_t genid;     /* the namespace's last nftables transaction (net/nftset.h); 0: unknown */
	struct firewall_state firewall;
};

/*
 * Makes the network as C says and repairs what differs; changes nothing if all is right. The caller keeps *STATE. After
 * a failure, what was made stays; another call carries on.
 *
 * Other slices or forwards are one change of the rules. Connections of slices and forwards that stay go on; those of
 * slices and forwards that are gone are cut before this returns.
 */
int instnet_ensure(const struct instnet_config *c, struct nl *public_nl, int public_fd, struct instnet_state *state,
                   struct error *err) _must_use_;
/* Deletes the namespace, and all devices with it. */
int instnet_remove(const char *prefix, const char *id, struct nl *public_nl, struct error *err);

/*
 * The rules (node/instnet_rules.c): what is between the braces of the table `nacre` of each family. FILTER (inet)
 * decides what may pass, NAT (ip) translates and checks what leaves, ARP (arp) lets the guest ask for its gateway.
 */
struct instnet_rules {
	struct buf filter, nat, arp;
};
int instnet_rules(const struct instnet_config *c, struct instnet_rules *ret, struct error *err) _must_use_;
void instnet_rules_done(struct instnet_rules *r);
