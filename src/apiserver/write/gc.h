/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The collector: removes objects whose owners are gone (by uid), empties namespaces that are being deleted, does
 * foreground and orphaning deletion, and lets Events expire. It works through the queue of writes like any client,
 * from an index of owners that it keeps, and looks at everything once at start.
 */

#include "apiserver/request/queue.h"

struct gc;

#define EVENT_TTL_S 3600

int gc_new(struct gc **ret, struct queue *q, struct error *err) _must_use_;
struct gc *gc_free(struct gc *g);
/* A change became visible. */
void gc_notice(struct gc *g, unsigned kind, const struct watch_event *e);
/* Queues what there is to do. */
void gc_run(struct gc *g);
void gc_tick(struct gc *g);
