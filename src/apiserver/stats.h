/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The server's metrics; see base/metrics.h. */

#include "apiserver/limits.h"
#include "apiserver/request.h"

void stats_register(void);
void stats_request(const struct request *r); /* R is answered */
void stats_commit(size_t changes, uint64_t took_ns, bool ok);
/* A line of the audit log had no room. */
void stats_audit_dropped(void);
/* Somebody wants more than the limit WHAT lets him have. */
void stats_refused(enum limit what);
/* Processor time that requests took. */
void stats_cpu(uint64_t ns);
void stats_watch(int change);
void stats_objects(int change);
