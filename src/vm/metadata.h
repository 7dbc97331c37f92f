/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The metadata service of one guest: HTTP/1.1 on 169.254.169.254 and fd00:ec2::254, port 80, of the container. It tells
 * the guest what the configuration and the seed say (vm/imds.h), to whatever process of the guest asks. Paths in EC2's
 * shape need a token (IMDSv2, vm/imdstoken.h); those of NoCloud don't, since cloud-init sends none. A request that went
 * through a proxy (X-Forwarded-For) is refused as in EC2, and so is one whose Host isn't one of the two addresses: a
 * web page whose name leads here (DNS rebinding) can't read anything. Answers have a TTL or hop limit of 1, as in EC2,
 * so that no container or machine behind the guest gets one.
 *
 * The service has its own small parser (vm/http1.h) although nacre-apiserver uses libmicrohttpd. nacre-vm is the first
 * process of a container and has a filter of few system calls, one thread, one loop, and a hostile client. What is
 * needed of HTTP are three methods without bodies: 150 lines, without allocations and fuzzed. The library would bring
 * its own loop of select(2) or epoll(7) with timeouts of its own, threads and TLS that link p11-kit and six more
 * libraries into each container, system calls at accept (setsockopt, getpeername) that the filter would have to allow,
 * and a much larger parser; closing the oldest connection when all are in use is not possible with it.
 *
 * A guest can occupy METADATA_CONNECTIONS_MAX connections. When there is one more, the one that has waited for its
 * request or its answer for the longest time is closed. A request must be complete, and an answer taken,
 * METADATA_TIMEOUT_S after the one before. A connection that is closed by these limits is reset, so that the kernel
 * keeps nothing of it. The other events of the loop come first.
 */

#include <systemd/sd-event.h>

#include "vm/http1.h"
#include "vm/imds.h"
#include "vm/imdstoken.h"

#define METADATA_ADDRESS4        "169.254.169.254"
#define METADATA_ADDRESS6        "fd00:ec2::254"
#define METADATA_PORT            80
#define METADATA_CONNECTIONS_MAX 16
#define METADATA_TIMEOUT_S       10
#define METADATA_ANSWER_MAX      ((size_t)1 << 20) /* 64 keys, each character of them escaped, take half of it */

struct metadata;

/*
 * Opens a listening socket for an address family on one interface of this network namespace. The address need not
 * exist yet. Needs CAP_NET_BIND_SERVICE; a user of the descriptor needs no privilege.
 */
int metadata_open(const char *ifname, int family, int *ret_fd, struct error *err) _must_use_;
/* Takes ownership of FD4 and FD6, from metadata_open(), even on failure; -1: none. Copies CONFIG. */
int metadata_new(struct metadata **ret, sd_event *loop, int fd4, int fd6, const struct vm_config *config,
                 struct error *err) _must_use_;
struct metadata *metadata_free(struct metadata *m);

/*
 * Answers a request (vm/metadata-answer.c): appends the whole answer to OUT, which records a failure (base/buf.h).
 * Answers are the same for the same request, key and second.
 */
void metadata_answer(const struct imds *m, const struct imdstoken_key *key, uint64_t now_s,
                     const struct http1_request *q, struct buf *out);
/* Refuses what http1_parse() has refused with STATUS. */
void metadata_refuse(int status, struct buf *out);

DEFINE_CLEANUP(metadata, struct metadata *, metadata_free)
