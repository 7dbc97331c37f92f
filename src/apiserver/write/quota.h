/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What each namespace has, counted as it comes and goes, and whether more may come: all its objects, against a bound
 * that is the same for every namespace; and its instances, against its TenantQuotas, or the default one. Since writes
 * run one after the other and what is staged counts at once, two that race can't both pass.
 *
 * An instance takes what it was placed with (its status), before that what its InstanceType says, and nothing but
 * itself while there is no such type: the scheduler, which needs the type as well, then looks again.
 */

#include "api/tenantquota.h"
#include "apiserver/store/store.h"

/* What a namespace may store; its Events by themselves, so that a flood of them holds up nothing else. */
#define STORED_OBJECTS_MAX ((size_t)50000)
#define STORED_BYTES_MAX   ((size_t)256 << 20)
#define STORED_EVENTS_MAX  ((size_t)20000)
#define EVENT_BYTES_MAX    ((size_t)32 << 20)

struct quota;

/* Counts what STORE has. */
int quota_new(struct quota **ret, const struct store *store, struct error *err) _must_use_;
struct quota *quota_free(struct quota *q);

/* Of each change that became visible. */
void quota_notice(struct quota *q, unsigned kind, const struct watch_event *e);

/* The instance in TEXT is about to be made in NS: true, or false and MSG if a quota forbids it. */
bool quota_allows(const struct quota *q, const char *ns, const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]);
/* An object in NS becomes N bytes, WAS is what it has been (0: it is made): true, or false and MSG if that is too much.
 */
bool quota_stores(const struct quota *q, unsigned kind, const char *ns, size_t was, size_t n,
                  char msg[static QUOTA_MESSAGE_MAX]);
/* TEXT was staged in the place of WAS bytes (0: it is new), and counts until quota_settled(). -ENOMEM, else 0. */
int quota_stage(struct quota *q, unsigned kind, const char *ns, size_t was, const struct buf *text) _must_use_;
/* The batch has become visible or failed. */
void quota_settled(struct quota *q);
