/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Unreachable routes for the pools that an edge announces: a packet to an unused address of a pool is answered with
 * "unreachable", instead of following the default route back to where it came from. Routes of endpoints are longer and
 * so take precedence.
 */

#include "base/inet.h"
#include "net/nl.h"

/*
 * Appends to *PREFIXES (malloc'ed) the prefixes that are unreachable now and not among them, so that aggregate_ensure()
 * leaves these routes. *PREFIXES and *N are correct after a failure, too.
 */
int aggregate_keep(struct nl *nl, struct prefix **prefixes, size_t *n, struct error *err) _must_use_;
/* Makes exactly these N prefixes unreachable in the namespace of NL. It compares with the kernel first, so calling it
 * again is cheap. */
int aggregate_ensure(struct nl *nl, const struct prefix *prefixes, size_t n, struct error *err) _must_use_;
