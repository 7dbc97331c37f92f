/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The filter of an edge's uplinks: it drops packets whose source lies in one of the cloud's own pools (BCP 38, RFC
 * 2827, seen from inside). Nobody outside has such an address, but a tenant may have allowed one in a firewall. The
 * source of each fragment is checked; nothing is reassembled.
 */

#include "base/buf.h"
#include "base/inet.h"

/*
 * Makes table `inet nacre-edge` of the namespace drop packets from UPLINKS with a source in PREFIXES, of both families.
 * Prefixes may overlap. While the table is replaced, `inet nacre-edge-cover` drops the same, so no such packet passes.
 * *STATE is 0 at first; the caller keeps it between calls (net/nft.h). On failure the old rules
 * stay.
 */
int filter_ensure(int netns_fd, const char *const *uplinks, size_t n_uplinks, const struct prefix *prefixes,
                  size_t n_prefixes, uint64_t *state, struct error *err) _must_use_;

/* The ruleset, for tests: the text between the braces of the table. */
void filter_ruleset(const char *const *uplinks, size_t n_uplinks, const struct prefix *prefixes, size_t n_prefixes,
                    struct buf *out);
