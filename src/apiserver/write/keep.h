/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Maintains what controllers maintain in Kubernetes: every namespace has a ServiceAccount `default`; an aggregated
 * ClusterRole has the rules of the roles that it selects; the default roles and bindings exist from the start; Secrets
 * for tokens of ServiceAccounts contain one. It writes through the queue like any client.
 */

#include "apiserver/auth/auth.h"
#include "apiserver/request/queue.h"

struct keep;

int keep_new(struct keep **ret, struct queue *q, const struct auth *auth, struct error *err) _must_use_;
struct keep *keep_free(struct keep *k);
/* Notes what to check after a visible change. */
void keep_notice(struct keep *k, unsigned kind, const struct watch_event *e);
/* Queues a write if there is work to do. */
void keep_run(struct keep *k);
void keep_tick(struct keep *k);
/* True if nothing is left to do and no write is queued. */
bool keep_idle(const struct keep *k);

/*
 * Stages the default roles and bindings that don't exist. To those that exist and have the annotation autoupdate it
 * adds what they lack; nothing is removed from them. 0 or -ENOMEM.
 */
int keep_stage_defaults(struct store *store, struct error *err) _must_use_;
