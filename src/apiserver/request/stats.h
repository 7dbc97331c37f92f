/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The server's metrics; see base/metrics.h. */

#include "apiserver/request/limits.h"
#include "apiserver/request/request.h"

void stats_register(void);
void stats_request(const struct request *r); /* R has been answered. */
void stats_commit(size_t changes, uint64_t took_ns, bool ok);
/* A line of the audit log was dropped because the queue was full. */
void stats_audit_dropped(void);
/* The limit WHAT was reached and something was refused. */
void stats_refused(enum limit what);
/* NS of processor time were charged. */
void stats_cpu(enum work what, uint64_t ns);
/* The charge for a connection's handshake, complete or not, is final. */
void stats_handshake(bool user);
/* A turn of the loop took NS of processor time, including the work for connections in it. */
void stats_turn(uint64_t ns);
/* The number of watches that wait for processor time changed by CHANGE. */
void stats_late(int change);
void stats_watch(int change);
void stats_objects(int change);
