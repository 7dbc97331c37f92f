/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The routers that are not ours in a real data centre: the leaf switches and the internet, each an FRR pair in its
 * namespace, with BGP unnumbered (RFC 5549) to all neighbours.
 */

#include "lab/lab.h"
#include "net/frrconf.h"

#define LAB_ROUTERS (LAB_LEAVES + 1)

/* "leaf1", "leaf2", "internet"; "" past the end. */
const char *lab_router_name(int i);
/*
 * The passwords of the BGP sessions (TCP-MD5): DIR/bgp/underlay between leaves and hosts, DIR/bgp/internet between
 * edges and the internet. Made where they are missing; agents need them when they start.
 */
int lab_router_passwords(const struct lab *lab, struct error *err) _must_use_;
/* FRR runs there with the right configuration; calling it again repairs. */
int lab_router_ensure(const struct lab *lab, int i, struct error *err) _must_use_;
/* What FRR of a router has to do (internal; here for its test). OUT is of FRRCONF_TRADITIONAL; errors are its. */
void lab_router_frrconf(const struct lab *lab, int i, const char *secret, struct frrconf *out);
int lab_router_stop(const struct lab *lab, int i, struct error *err);
/* How many sessions are up, of how many. */
int lab_router_sessions(const struct lab *lab, int i, int *ret_up, int *ret_all, struct error *err) _must_use_;
