/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * TenantQuotas: what the instances of each namespace take together, counted as they come and go, and whether one more
 * may come. Since writes run one after the other and what is staged counts at once, two that race can't both pass.
 *
 * An instance takes the vCPUs and memory it was placed with (its status), before that those of its InstanceType, and
 * none while there is no such type: the scheduler, which needs the type as well, then looks again.
 */

#include "api/tenantquota.h"
#include "apiserver/server.h"

struct quota;

/* Counts what STORE has. */
int quota_new(struct quota **ret, const struct store *store, struct error *err) _must_use_;
struct quota *quota_free(struct quota *q);

/* Of each change that became visible. */
void quota_notice(struct quota *q, unsigned kind, const struct watch_event *e);

/* The instance in TEXT is about to be made in NS: true, or false and MSG if a quota forbids it. */
bool quota_allows(const struct quota *q, const char *ns, const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]);
/* It was staged, and counts until quota_settled(). -ENOMEM, else 0. */
int quota_stage(struct quota *q, const char *ns, const struct buf *text) _must_use_;
/* The batch has become visible or failed. */
void quota_settled(struct quota *q);
