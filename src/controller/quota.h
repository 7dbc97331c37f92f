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

/* Lets I (not placed yet) in if it exceeds nothing; false: MSG says what. */
bool quotas_admit(struct quotas *q, const struct instance *i, const struct instancetype *type,
                  char msg[static QUOTA_MESSAGE_MAX]);
/* True if the instance was let in before. */
bool quotas_admitted(const struct quotas *q, const struct instance *i);
/*
 * All or none: lets N unplaced instances in, and keeps room for MISSING more that will follow, for CLUSTER; what was
 * let in and kept before is within that. Not all: neither are any, and MSG says why.
 */
bool quotas_admit_gang(struct quotas *q, const struct api_meta *cluster, const struct instancetype *type,
                       const struct instance *const *v, size_t n, size_t missing, char msg[static QUOTA_MESSAGE_MAX]);
/* Takes that back. */
void quotas_release_gang(struct quotas *q, const struct api_meta *cluster, const struct instance *const *v, size_t n);
/* The sum of MISSING over all clusters. */
uint64_t quotas_kept(const struct quotas *q);
