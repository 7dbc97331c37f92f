/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the server keeps right by itself, as controllers do in Kubernetes: every namespace has a ServiceAccount
 * `default`, the rules of an aggregated ClusterRole are those of the roles it selects, and the default roles and
 * bindings are there from the start, and Secrets that are to hold a ServiceAccount's token hold one. Works through the
 * queue of writes like any client.
 */

#include "apiserver/auth/auth.h"
#include "apiserver/request/queue.h"

struct keep;

int keep_new(struct keep **ret, struct queue *q, const struct auth *auth, struct error *err) _must_use_;
struct keep *keep_free(struct keep *k);
/* A change became visible. */
void keep_notice(struct keep *k, unsigned kind, const struct watch_event *e);
/* Queues what there is to do. */
void keep_run(struct keep *k);
void keep_tick(struct keep *k);
/* Nothing is left to do, nor queued. */
bool keep_idle(const struct keep *k);

/*
 * Stages the default roles and bindings that are missing, and adds to those that are there and say that they want it
 * (annotation autoupdate) what they lack; nothing is taken from them.
 */
int keep_stage_defaults(struct store *store, struct error *err) _must_use_;
