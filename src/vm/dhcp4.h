/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A DHCPv4 server (RFC 2131) for the one guest of a tap. The guest has one address, whatever client identifier it
 * sends, so each answer follows from the configuration and the message alone: there are no leases to keep, and a
 * restart changes nothing. DECLINE and RELEASE therefore have no effect.
 *
 * The guest is hostile. Only messages with its own MAC (chaddr) and without a relay are answered. Replies go to the
 * guest's address or to 255.255.255.255, never to an address that the message names. The socket is a UDP socket and not
 * a packet socket, since whoever has a packet socket can send any frame on any device past nftables, also once it is
 * bound (sll_ifindex, packet(7)). Of UDP the container's firewall sees each packet, in and out. It needs no ARP: the
 * guest's address has a route by a permanent neighbour.
 *
 * Answers are bounded by a bucket of DHCP4_BURST, which gets one back every 100 ms.
 */

#include "vm/responder.h"

#define DHCP4_BURST       20
#define DHCP4_MESSAGE_MAX 1472 /* 1500 bytes less the headers of IP and UDP */

/* Opens the socket for one interface of this network namespace. Needs CAP_NET_BIND_SERVICE; a user of the descriptor
 * needs no privilege. */
int dhcp4_open(const char *ifname, int *ret_fd, struct error *err) _must_use_;
/* Takes ownership of FD, from dhcp4_open(), even on failure. Copies CONFIG, which has an IPv4 address. */
int dhcp4_new(struct responder **ret, sd_event *loop, int fd, const struct vm_config *config,
              struct error *err) _must_use_;

/*
 * Answers the LEN bytes at MSG, the payload of a UDP packet. Returns the length of the reply in OUT, and in *RET_TO
 * where it goes: to the guest's address or to 255.255.255.255. Returns 0 if there is no answer; a malformed message has
 * none.
 */
size_t dhcp4_answer(const struct vm_config *c, const uint8_t *msg, size_t len, uint8_t out[static DHCP4_MESSAGE_MAX],
                    struct in_addr *ret_to);
