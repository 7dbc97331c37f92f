/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The network of one instance: a namespace of its own, which is a router between the
 * host's `public` namespace and the guest.
 *
 *   public: i-ID (fe80::1, anycast MAC) --veth-- uplink (endpoint's MAC, ip/128) :instance: tap (fe80::1) -- guest
 *
 * Nothing in it is learnt. Towards the guest, its /64 and its delegated prefix go to the
 * neighbour fe80::2, which is permanently the guest's MAC, so that scanning the prefix
 * makes no state; towards the outside all goes to the permanent neighbour fe80::1.
 * nftables drops what doesn't come from the guest's own addresses and what the outside
 * may not send in.
 *
 * Names: ID is the first 12 hex digits of the instance's status.id; namespace PREFIX"i-"ID,
 * device in public "i-"ID.
 */

#include <stdbool.h>

#include "base/buf.h"
#include "base/inet.h"
#include "net/nl.h"

#define INSTNET_ID_LEN      12
#define INSTNET_INGRESS_MAX 64
#define INSTNET_TAP         "tap"
#define INSTNET_NAME_MAX    64

enum instnet_proto { INSTNET_TCP, INSTNET_UDP, INSTNET_ICMP };

struct instnet_ingress {
	enum instnet_proto proto;
	uint16_t port;      /* tcp, udp */
	struct prefix from; /* family 0: anywhere */
};

struct instnet_config {
	const char *prefix; /* of namespace names; "" on a real host */
	const char *id;
	struct mac mac;          /* of the guest, and of the endpoint */
	struct addr ip;          /* of the endpoint in the overlay */
	struct prefix net;       /* /64 */
	struct prefix delegated; /* family 0: none */
	uid_t uid;               /* may open the tap */
	uint32_t mtu;
	const struct instnet_ingress *ingress;
	size_t n_ingress;
};

/* The ID of a uid ("0b5ac4a8-4b0e-…"). False if UID is not a UUID. */
bool instnet_id(const char *uid, char out[static INSTNET_ID_LEN + 1]);
/* "i-ID": the device in `public`, and after the prefix the namespace. */
const char *instnet_device(const char *id, char out[static 16]);
/* The ID in the name of such a device; NULL if NAME is none. */
const char *instnet_id_of_device(const char *name);
/* The ID in the name of such a namespace; NULL if NAME is none, or has another prefix. */
const char *instnet_id_of_netns(const char *prefix, const char *name);
/* What the names of all such namespaces begin with. */
const char *instnet_netns_begin(const char *prefix, char out[static INSTNET_NAME_MAX]);
const char *instnet_netns(const char *prefix, const char *id, char out[static INSTNET_NAME_MAX]);

/*
 * Makes it so, repairs what differs; changes nothing when all is well. *NFT_STATE is 0 at first,
 * then kept by the caller (net/nft.h). On failure what was made stays; calling again carries on.
 */
int instnet_ensure(const struct instnet_config *c, struct nl *public_nl, int public_fd, uint64_t *nft_state,
                   struct error *err) _must_use_;
/* Deletes the namespace, and with it all devices. */
int instnet_remove(const char *prefix, const char *id, struct nl *public_nl, struct error *err);

/* The nftables ruleset, for tests: what stands between the braces of table inet nacre. */
void instnet_ruleset(const struct instnet_config *c, struct buf *out);
