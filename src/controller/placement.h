/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What is promised on each host, and the choice of a host. */

#include "controller/concern.h"
#include "controller/fit.h"

struct placement;

static inline struct placement *placement_of(const struct controller *c) {
	return concern_state(c, &concern_placement);
}

/*
 * Chooses a host for an instance. Returns 0 and the name in HOST (valid until control returns to the loop), or -ENOSPC
 * and WHY.
 */
int placement_choose(struct placement *p, const struct instance_spec *spec, const struct instancetype *type,
                     const char **ret_host, char why[static FIT_MESSAGE_MAX]) _must_use_;
/* True if that very host takes such instances now, whether it has room or not. */
bool placement_takes(struct placement *p, const char *host, const struct instance_spec *spec);
/* True if the instance fits on that very host. */
bool placement_fits(struct placement *p, const char *host, const struct instance_spec *spec,
                    const struct instancetype *type);
/*
 * Chooses hosts for COUNT instances alike. Returns how many fit. If all fit, HOSTS has their hosts; otherwise WHY says
 * why not.
 */
size_t placement_choose_gang(struct placement *p, const struct instance_spec *spec, const struct instancetype *type,
                             size_t count, const char **hosts, char why[static FIT_MESSAGE_MAX]) _must_use_;
/* Counts SIZE on HOST for a seat (seats.h). */
void placement_assume(struct placement *p, const char *host, const struct resources *size);
/*
 * Ends the count of SIZE on HOST. If I, the instance in the cache, is bound to HOST, it counts by itself, so nothing
 * has become free. I is NULL if the instance is gone or not bound.
 */
void placement_settle(struct placement *p, const struct instance *i, const char *host, const struct resources *size);
