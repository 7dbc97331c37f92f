/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A DHCPv6 server (RFC 8415) for the one guest of a tap. The guest has one address, PREFIX::2 of its /64, and one
 * delegated prefix, whatever DUID and IAIDs it uses: cloud images change them within one boot. Each answer follows from
 * the configuration and the message alone: there are no leases to keep, and a restart or another host changes nothing.
 * DECLINE and RELEASE therefore have no effect.
 *
 * Of the IAs of a message, the first IA_NA gets the address and the first IA_PD the prefix. All others, and IA_TAs, get
 * a status that says that there is no more. The server's DUID is made from the instance's UUID.
 *
 * The guest is hostile. Only messages from a link-local address are answered, and the reply goes there. As with DHCPv4
 * (vm/dhcp4.h) the socket is a UDP socket, so that the container's firewall sees each packet. Relays are not answered.
 * A malformed message, one with more than DHCP6_IAS_MAX IAs, and one that RFC 8415 (section 16) lets a server discard
 * have no answer.
 *
 * Answers are bounded by a bucket of DHCP6_BURST, which gets one back every 100 ms.
 */

#include "vm/responder.h"

#define DHCP6_BURST       20
#define DHCP6_MESSAGE_MAX 1452 /* 1500 bytes less the headers of IPv6 and UDP */
#define DHCP6_IAS_MAX     8

/* Opens the socket for one interface of this network namespace. Needs CAP_NET_BIND_SERVICE; a user of the descriptor
 * needs no privilege. */
int dhcp6_open(const char *ifname, int *ret_fd, struct error *err) _must_use_;
/* Takes ownership of FD, from dhcp6_open(), even on failure. Copies CONFIG, which has a prefix. */
int dhcp6_new(struct responder **ret, sd_event *loop, int fd, const struct vm_config *config,
              struct error *err) _must_use_;

/*
 * Answers the LEN bytes at MSG, the payload of a UDP packet that came to a MULTICAST address or to the server's own.
 * Returns the length of the reply in OUT, which goes to where the message came from. Returns 0 if there is no answer.
 */
size_t dhcp6_answer(const struct vm_config *c, const uint8_t *msg, size_t len, bool multicast,
                    uint8_t out[static DHCP6_MESSAGE_MAX]);
