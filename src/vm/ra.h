/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Router advertisements (RFC 4861, section 6.2) on the tap of one guest: one prefix for stateless address
 * configuration, the MTU, the router's MAC, and the resolvers and search list (RFC 8106) that the guest has. The flags
 * M and O say that there is DHCPv6, too (vm/dhcp6.h).
 *
 * A solicitation is answered at once and to all nodes: the random delay of up to 0.5 s in RFC 4861, 6.2.6 keeps several
 * routers from answering together, and here is one router and one host. For the same reason multicast answers are not
 * limited to one in 3 s, but by a bucket of RA_BURST answers that gets one back every 3 s. The prefix is not on-link
 * (L=0): the guest is alone on the link, and all other hosts are behind the router.
 */

#include <systemd/sd-event.h>

#include "vm/config.h"

#define RA_BURST        5
#define RA_HEAD         64   /* bytes of the message without resolvers and search list */
#define RA_SEARCH_MAX   1024 /* of names; those that don't fit are left out */
#define RA_MESSAGE_MAX  (RA_HEAD + 8 + 16 * VM_DNS_MAX + 8 + RA_SEARCH_MAX)
#define RA_LIFETIME_S   1800 /* of router, resolvers and search list: three times RA_INTERVAL_MAX (RFC 8106, 5.1) */
#define RA_PREFIX_S     86400
#define RA_INTERVAL_MIN 200 /* seconds between unsolicited advertisements, at random in this range */
#define RA_INTERVAL_MAX 600

_Static_assert(RA_MESSAGE_MAX + 40 <= 1280, "fits in one packet on any link");

struct ra;

/* Opens the raw socket for one interface of this network namespace. Needs CAP_NET_RAW; a user of the descriptor needs
 * no privilege. */
int ra_open(const char *ifname, int *ret_fd, struct error *err) _must_use_;
/* Takes ownership of FD, from ra_open(), even on failure. Sends a first advertisement. Copies CONFIG, which has a
 * prefix. ROUTER is the MAC of the interface. */
int ra_new(struct ra **ret, sd_event *loop, int fd, const struct vm_config *config, const struct mac *router,
           struct error *err) _must_use_;
struct ra *ra_free(struct ra *ra);

/* Writes the ICMPv6 message without its checksum. Returns its length. */
size_t ra_build(const struct vm_config *c, const struct mac *router, uint8_t out[static RA_MESSAGE_MAX]);

/*
 * True if the LEN bytes at MSG are a router solicitation that must be answered (RFC 4861, 6.1.1), received from SRC
 * with HOP_LIMIT. The kernel has checked the checksum.
 */
bool ra_solicitation_valid(const uint8_t *msg, size_t len, const struct in6_addr *src, int hop_limit);

DEFINE_CLEANUP(ra, struct ra *, ra_free)
