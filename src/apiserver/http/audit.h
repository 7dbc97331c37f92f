/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who did what: a line of JSON for each request that has ended, an Event of audit.k8s.io/v1 at level Metadata. Bodies
 * are never in it.
 *
 * A thread of its own writes, so that a slow disk holds up nobody. What waits is bounded: when the disk takes no more
 * (it is full, say), requests go on being served, lines past the bound are dropped and counted, and writing is tried
 * again every second. A line is written whole or not at all.
 */

#include "apiserver/request/request.h"

struct audit;

/* Appends to PATH, which is made with mode 0600. */
int audit_new(struct audit **ret, const char *path, struct error *err) _must_use_;
/* Writes what waits, for a second at most. */
struct audit *audit_free(struct audit *a);

/* What the server knows of a connection and its request's headers; any may be NULL. */
struct audit_client {
	const char *target, *address, *agent;
};
/* R has been answered. */
void audit_request(struct audit *a, const struct request *r, const struct audit_client *c);
/* Opens PATH anew: it was rotated. */
void audit_reopen(struct audit *a);

/* Why the last write failed (code 0: it did not). */
void audit_state(struct audit *a, struct error *ret_failure);
