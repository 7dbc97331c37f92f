/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The garbage collector. It deletes objects whose owners no longer exist (by uid), empties namespaces that are being
 * deleted, carries out foreground and orphaning deletion, and deletes expired Events. It writes through the queue like
 * any client. It keeps an index of owner references, and checks all objects once at the start.
 */

#include "apiserver/request/queue.h"

struct gc;

#define EVENT_TTL_S 3600

int gc_new(struct gc **ret, struct queue *q, struct error *err) _must_use_;
struct gc *gc_free(struct gc *g);
/* Updates the index after a visible change and notes what to check. */
void gc_notice(struct gc *g, unsigned kind, const struct watch_event *e);
/* Queues a write if there is work to do. */
void gc_run(struct gc *g);
void gc_tick(struct gc *g);
