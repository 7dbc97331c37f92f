/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The limits of connection tracking. They are the same in all network namespaces of a host, and can be changed only in
 * the first one (the kernel's Documentation/networking/nf_conntrack-sysctl.rst):
 *
 *   nf_conntrack_max      the connections that are tracked in each namespace, and so of each guest
 *   nf_conntrack_buckets  the size of the hash table, which all namespaces share; a connection has two entries in it
 */

#include <stdint.h>

#include "base/error.h"

/* In the network namespace of the caller. */
#define CONNTRACK_DIR "/proc/sys/net/netfilter"

/* The most connections that a guest should have: 80 MiB of the kernel's memory, at 320 bytes each. */
#define CONNTRACK_MAX 262144
/* The longest chains, on average, that one guest should be able to make. The packets of all guests pass them. */
#define CONNTRACK_CHAIN 8

struct conntrack_limits {
	int64_t max, buckets;
};

/* Errors of both name the setting and the remedy. */
int conntrack_read(const char *dir, struct conntrack_limits *ret, struct error *err) _must_use_;
/* -ERANGE if a guest could take too much of the kernel's memory or make the chains too long. */
int conntrack_judge(const struct conntrack_limits *l, struct error *err) _must_use_;
