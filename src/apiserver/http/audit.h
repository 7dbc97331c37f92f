/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The audit log: a line of JSON for each completed request, an Event of audit.k8s.io/v1 at level Metadata. It never
 * contains bodies.
 *
 * A thread of its own writes the log, so that a slow disk blocks nobody. The lines that wait are limited. If the log
 * can't be written (for example because the disk is full), requests are still served; lines beyond the limit are
 * dropped and counted, and the thread tries again every second. A line is written whole or not at all.
 */

#include "apiserver/request/request.h"

struct audit;

/* Appends to PATH, which is created with mode 0600 if it doesn't exist. */
int audit_new(struct audit **ret, const char *path, struct error *err) _must_use_;
/* Writes waiting lines, for at most a second, and ends the thread. A may be NULL; returns NULL. */
struct audit *audit_free(struct audit *a);

/* What the server knows of a connection and of the request's headers. Members may be NULL. */
struct audit_client {
	const char *target, *address, *agent;
};
/* Must be called when R has been answered. */
void audit_request(struct audit *a, const struct request *r, const struct audit_client *c);
/* Opens PATH again after it was rotated. */
void audit_reopen(struct audit *a);

/* Returns the error of the last write; code 0: it succeeded. */
void audit_state(struct audit *a, struct error *ret_failure);
