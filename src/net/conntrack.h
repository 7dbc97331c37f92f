/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The connections that the kernel tracks in one namespace, by ctnetlink. Only IPv4 for now. The socket is one of
 * nl_open_netfilter().
 *
 * Listing walks the hash table that all namespaces of the kernel share, whatever the number of connections in this one.
 */

#include <netinet/in.h>

#include "net/nl.h"

/* Ports in the host's order. Of ICMP both are the identifier of the echo; of other protocols without ports, 0. */
struct conntrack_tuple {
	struct in_addr src, dst;
	uint16_t src_port, dst_port;
};

/*
 * The first packet of the connection is as in ORIGINAL; answers to what leaves this namespace come in as in REPLY. If
 * the source is translated, reply.dst isn't original.src; if the destination is, reply.src isn't original.dst.
 */
struct conntrack_entry {
	struct conntrack_tuple original, reply;
	uint8_t protocol;
};

/* Calls FN for each IPv4 connection; one that comes or goes meanwhile may be missed or seen twice. */
int conntrack_list(struct nl *n, void (*fn)(const struct conntrack_entry *e, void *userdata), void *userdata,
                   struct error *err) _must_use_;

/*
 * Removes the IPv4 connections for which GOES is true. Their packets are new ones from then on.
 */
int conntrack_cut(struct nl *n, bool (*goes)(const struct conntrack_entry *e, void *userdata), void *userdata,
                  struct error *err) _must_use_;

struct conntrack_stats {
	uint64_t entries; /* now, of all families */
	/*
	 * Packets since the namespace was made that belonged to a new connection and were dropped: mostly because no
	 * free port was found for them. Modulo 2^32.
	 */
	uint32_t refused;
};
int conntrack_stats(struct nl *n, struct conntrack_stats *ret, struct error *err) _must_use_;
