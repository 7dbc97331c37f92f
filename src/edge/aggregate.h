/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Unreachable routes for the pools that an edge announces: a packet to an address in a pool that nobody has is
 * answered with "unreachable", instead of following the default route back to where it came from. Routes of
 * endpoints are longer and win.
 */

#include "base/inet.h"
#include "net/nl.h"

/* Exactly these prefixes (N of them) are unreachable in the namespace of NL; compares with the kernel, so calling it
 * again is cheap. */
int aggregate_ensure(struct nl *nl, const struct prefix *prefixes, size_t n, struct error *err) _must_use_;
