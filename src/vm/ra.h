/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Router advertisements (RFC 4861, section 6.2) on the tap of one guest: one prefix for stateless address
 * configuration, the MTU and the router's MAC.
 *
 * A solicitation is answered at once and to all nodes: the random delay of up to 0.5 s in RFC 4861, 6.2.6 keeps several
 * routers from answering together, and here is one router and one host. For the same reason multicast answers are not
 * limited to one in 3 s, but by a bucket of RA_BURST answers that gets one back every 3 s. The prefix is not on-link
 * (L=0): the guest is alone on the link, and all other hosts are behind the router.
 */

#include <systemd/sd-event.h>

#include "base/inet.h"

#define RA_BURST        5
#define RA_MESSAGE_MAX  64
#define RA_LIFETIME_S   1800
#define RA_PREFIX_S     86400
#define RA_INTERVAL_MIN 200 /* seconds between unsolicited advertisements, at random in this range */
#define RA_INTERVAL_MAX 600

struct ra_config {
	struct mac mac; /* of the router, on its interface */
	struct prefix prefix;
	uint32_t mtu;
};

struct ra;

/* Opens the raw socket for one interface of this network namespace. Needs CAP_NET_RAW; a user of the descriptor needs
 * no privilege. */
int ra_open(const char *ifname, int *ret_fd, struct error *err) _must_use_;
/* Takes ownership of FD, from ra_open(), even on failure. Sends a first advertisement. */
int ra_new(struct ra **ret, sd_event *loop, int fd, const struct ra_config *config, struct error *err) _must_use_;
struct ra *ra_free(struct ra *ra);

/* Writes the ICMPv6 message without its checksum. Returns its length. */
size_t ra_build(const struct ra_config *config, uint8_t out[static RA_MESSAGE_MAX]);

/*
 * True if the LEN bytes at MSG are a router solicitation that must be answered (RFC 4861, 6.1.1), received from SRC
 * with HOP_LIMIT. The kernel has checked the checksum.
 */
bool ra_solicitation_valid(const uint8_t *msg, size_t len, const struct in6_addr *src, int hop_limit);

DEFINE_CLEANUP(ra, struct ra *, ra_free)
