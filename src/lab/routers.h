/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The routers that a real data centre brings with it: the leaf switches and the internet, each with FRR in its
 * namespace, with BGP unnumbered (RFC 5549) to all neighbours.
 */

#include "lab/lab.h"
#include "net/frrconf.h"

#define LAB_ROUTERS (LAB_LEAVES + 1)

/* "leaf1", "leaf2", "internet"; "" after the last. */
const char *lab_router_name(int i);
/*
 * Creates the passwords of the BGP sessions (TCP-MD5) that are missing: DIR/bgp/underlay between leaves and hosts,
 * DIR/bgp/internet between edges and the internet. Agents need them when they start.
 */
int lab_router_passwords(const struct lab *lab, struct error *err) _must_use_;
/* Makes FRR run with the right configuration; another call repairs it. */
int lab_router_ensure(const struct lab *lab, int i, struct error *err) _must_use_;
/* The configuration of a router's FRR (internal; public for its test). OUT is a model of FRRCONF_TRADITIONAL and keeps
 * errors. */
void lab_router_frrconf(const struct lab *lab, int i, const char *secret, struct frrconf *out);
int lab_router_stop(const struct lab *lab, int i, struct error *err);
/* Counts the BGP sessions, and those that are established. */
int lab_router_sessions(const struct lab *lab, int i, int *ret_up, int *ret_all, struct error *err) _must_use_;
