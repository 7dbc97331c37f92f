/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What every host can compute about every other host from its VTEP address alone.
 *
 * Router MAC: 02:HH:HH:HH:HH:HH, where HH… are the low 40 bits of the 64-bit FNV-1a hash of the 16 bytes of the
 * address, most significant byte first. (The last step of FNV-1a is a bijection on the low bits, so VTEPs that differ
 * only in the last byte never share a MAC; others do with probability 2^-40.) Gateway: the link-local address fe80::
 * with the modified EUI-64 of that MAC.
 */

#include "base/inet.h"

#define VXLAN_PORT 4789

struct mac vtep_router_mac(const struct addr *vtep);
/* The link-local address fe80:: with the modified EUI-64 of MAC. */
struct addr vtep_link_local(const struct mac *mac);

/* The anycast gateway that every instance sees: fe80::1, and its MAC. */
struct addr vtep_anycast_gateway(void);
struct mac vtep_anycast_mac(void);
