/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * TenantQuotas, where the API server doesn't enforce them: an instance that exceeds one is given neither addresses nor
 * a host until there is room. What counts is what was let in: an instance that has a host, or was found to exceed
 * nothing. It then counts until it is gone, also when the quota is lowered.
 */

#include "api/tenantquota.h"
#include "controller/controller.h"

struct quotas;

int quotas_new(struct quotas **ret, struct controller *c);
struct quotas *quotas_free(struct quotas *q);

/* Lets I (not placed yet) in if it exceeds nothing; false: MSG says what. */
bool quotas_admit(struct quotas *q, const struct instance *i, const struct instancetype *type,
                  char msg[static QUOTA_MESSAGE_MAX]);
/* An InstanceType came or went. */
void quotas_type_changed(struct quotas *q, const char *type);
/* The status of a TenantQuota. */
void quota_reconcile(const char *key, void *userdata);
