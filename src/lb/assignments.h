/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who owns which ports, from the slices that Endpoints announce. Knows neither the API nor the kernel: lb.c puts the
 * Endpoints in, and gets calls that bring the balancer's table from the state before to the state after.
 *
 * If several Endpoints claim the same ports, the oldest of them gets them, then the first by name, and then the slice
 * with the lower port; the others get none of a slice of which they can't have all. That depends on nothing but the
 * Endpoints, so all balancers give the same answer.
 *
 * Level-triggered: a change marks the addresses that it concerns, and assignments_apply() compares what each of them
 * should have with what it has. What fails stays marked for assignments_retry().
 */

#include "service/balancer.h"

struct assignments;

struct assignments_config {
	/* Gives the ports of S to TO, whoever had them. */
	int (*set)(const struct slice *s, const struct balancer_endpoint *to, struct error *err, void *userdata);
	/* Nobody has the ports of S any more. */
	int (*clear)(const struct slice *s, struct error *err, void *userdata);
	/* The Endpoint LOSER gets nothing of S, which WINNER has. Called when that begins, not again. */
	void (*conflict)(const struct slice *s, const char *loser, const char *winner, void *userdata);
	void *userdata;
};

int assignments_new(struct assignments **ret, const struct assignments_config *c, struct error *err) _must_use_;
/* Calls nothing. */
struct assignments *assignments_free(struct assignments *o);

/*
 * The Endpoint NAME, created at CREATED (RFC 3339, as the server writes it), has N slices; it replaces what it had.
 * Slices must be aligned (-EINVAL). On failure it has what it had before.
 */
int assignments_put(struct assignments *o, const char *name, const char *created, const struct balancer_endpoint *to,
                    const struct slice *slices, size_t n, struct error *err) _must_use_;
/* Does nothing if the name is unknown. */
void assignments_remove(struct assignments *o, const char *name);

/*
 * Applies the changes of at most MAX addresses; the next call goes on (assignments_stats.waiting). An address whose
 * change fails is left for assignments_retry(); the others are done. Returns the first failure.
 */
int assignments_apply(struct assignments *o, size_t max, struct error *err) _must_use_;
/* What failed is tried again by the next assignments_apply(). */
void assignments_retry(struct assignments *o);
/* The table is not known any more: the next assignments_apply() sets everything, and clears nothing. */
void assignments_forget(struct assignments *o);

struct assignments_stats {
	size_t endpoints; /* with slices */
	size_t addresses; /* that slices are of */
	size_t slices;    /* in the table */
	size_t conflicts; /* slices that aren't there because another Endpoint has their ports */
	size_t waiting;   /* addresses for the next assignments_apply() */
	size_t failed;    /* addresses whose last change failed */
	uint64_t changes; /* successful calls of set and clear so far */
};
void assignments_stats(const struct assignments *o, struct assignments_stats *ret);
