/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The server's metrics; see base/metrics.h. */

#include "apiserver/request/limits.h"
#include "apiserver/request/request.h"

void stats_register(void);
void stats_request(const struct request *r); /* R is answered */
void stats_commit(size_t changes, uint64_t took_ns, bool ok);
/* A line of the audit log had no room. */
void stats_audit_dropped(void);
/* Somebody wants more than the limit WHAT lets him have. */
void stats_refused(enum limit what);
/* Processor time that was charged. */
void stats_cpu(enum work what, uint64_t ns);
/* A connection's handshake, ended or not, is charged for good. */
void stats_handshake(bool user);
/* A turn took NS of processor time, with what is done in it for connections. */
void stats_turn(uint64_t ns);
/* One watch more or less that waits for its user's share of processor time. */
void stats_late(int change);
void stats_watch(int change);
void stats_objects(int change);
