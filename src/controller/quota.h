/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * TenantQuotas, where the API server doesn't enforce them: an instance that exceeds one is given neither addresses nor
 * a host until there is room. What counts is what was let in: an instance that has a host, or was found to exceed
 * nothing. It then counts until it is gone, also when the quota is lowered.
 */

#include "api/instance.h"
#include "api/tenantquota.h"
#include "controller/concern.h"

struct quotas;

static inline struct quotas *quotas_of(const struct controller *c) {
	return concern_state(c, &concern_quotas);
}

/* Lets I (not placed yet) in with TYPE's size if it exceeds nothing, or was let in before; false: MSG says what. */
bool quotas_admit(struct quotas *q, const struct instance *i, const struct instancetype *type,
                  char msg[static QUOTA_MESSAGE_MAX]);
/* Takes that back. */
void quotas_release(struct quotas *q, const struct instance *i);
/*
 * All or none: lets in N members of CLUSTER that have no host, whether they exist yet or not; what was let in before is
 * within that. A member that is given a host counts by itself from then on. Not all: none is in, and MSG says why.
 */
bool quotas_admit_gang(struct quotas *q, const struct api_meta *cluster, const struct instancetype *type, size_t n,
                       char msg[static QUOTA_MESSAGE_MAX]);
/* Takes that back. */
void quotas_release_gang(struct quotas *q, const struct api_meta *cluster);
