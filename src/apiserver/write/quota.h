/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Counts what each namespace stores, and decides whether it may store more. All objects of a namespace count against
 * limits that are the same for every namespace. Its instances also count against its TenantQuotas, or the default one.
 * Writes run one after the other and staged changes count at once, so two concurrent requests can't both use the last
 * room.
 *
 * An instance takes what its status says it was placed with; before it is placed, what its InstanceType says. If the
 * type doesn't exist, it takes nothing except that it counts as an instance. It can't be placed without the type
 * either; the scheduler then checks the quota again.
 */

#include "api/tenantquota.h"
#include "apiserver/store/store.h"

/*
 * What a namespace may store. Events are limited separately, so that a flood of them blocks nothing else, and
 * Firewalls, since each host with an instance of the namespace keeps them all in its memory, in about four times their
 * bytes.
 */
#define STORED_OBJECTS_MAX ((size_t)50000)
#define STORED_BYTES_MAX   ((size_t)256 << 20)
#define STORED_EVENTS_MAX  ((size_t)20000)
#define EVENT_BYTES_MAX    ((size_t)32 << 20)
#define FIREWALL_BYTES_MAX ((size_t)16 << 20) /* of FIREWALL_STORED_MAX */

struct quota;

/* Counts all objects in STORE. */
int quota_new(struct quota **ret, const struct store *store, struct error *err) _must_use_;
struct quota *quota_free(struct quota *q);

/* Must be called for each change that has become visible. */
void quota_notice(struct quota *q, unsigned kind, const struct watch_event *e);

/* May the instance in TEXT be created in NS? If not, MSG names the quota that forbids it. */
bool quota_allows(const struct quota *q, const char *ns, const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]);
/* May an object in NS change from WAS to N bytes (WAS 0: it is being created)? If not, MSG says why. */
bool quota_stores(const struct quota *q, unsigned kind, const char *ns, size_t was, size_t n,
                  char msg[static QUOTA_MESSAGE_MAX]);
/* Counts TEXT, which was staged instead of WAS bytes (0: it is new), until quota_settled(). 0 or -ENOMEM. */
int quota_stage(struct quota *q, unsigned kind, const char *ns, size_t was, const struct buf *text) _must_use_;
/* Must be called when the batch has become visible or has failed. */
void quota_settled(struct quota *q);
