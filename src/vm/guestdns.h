/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a guest is told about the DNS over IPv6: the same by router advertisements (RFC 8106) and DHCPv6 (RFC 3646). */

#include "vm/config.h"

/* The IPv6 addresses of the resolvers, in their order. Returns how many there are. */
size_t guestdns_servers6(const struct vm_config *c, struct in6_addr out[static VM_DNS_MAX]);
/*
 * The names in which a guest searches, as in messages: the guest's domain and then the search list, each name once.
 * IPv6 has no option for the domain itself. Returns the length in bytes; a name that ROOM has no place for is left out.
 */
size_t guestdns_search(const struct vm_config *c, uint8_t *out, size_t room);
