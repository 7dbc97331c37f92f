/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Enforces TenantQuotas where the API server doesn't: an instance that exceeds a quota gets neither addresses nor a
 * host until there is room. Only admitted instances count: those that have a host, and those that were found to exceed
 * nothing. An admitted instance counts until it is gone, even if the quota is lowered.
 */

#include "api/cluster.h"
#include "api/instance.h"
#include "api/tenantquota.h"
#include "controller/concern.h"

struct quotas;

static inline struct quotas *quotas_of(const struct controller *c) {
	return concern_state(c, &concern_quotas);
}

/*
 * Admits I (not placed yet) with TYPE's size if it exceeds nothing or was admitted before. False: it is not admitted,
 * and MSG says what it exceeds.
 */
bool quotas_admit(struct quotas *q, const struct instance *i, const struct instancetype *type,
                  char msg[static QUOTA_MESSAGE_MAX]);
/* Takes the admission of I back. */
void quotas_release(struct quotas *q, const struct instance *i);
/*
 * Admits N members of the Cluster CL that have no host, whether they exist yet or not: all or none. N includes members
 * that were admitted before. A member that is given a host counts by itself from then on. False: none is admitted, and
 * MSG says why.
 */
bool quotas_admit_gang(struct quotas *q, const struct cluster *cl, const struct instancetype *type, size_t n,
                       char msg[static QUOTA_MESSAGE_MAX]);
/* Takes the admission of the gang back. */
void quotas_release_gang(struct quotas *q, const struct api_meta *cluster);
