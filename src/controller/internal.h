/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What controller.c and work.c share. No concern includes this. */

#include "base/tree.h"
#include "controller/work.h"
#include "kube/workqueue.h"

#define CONCERN_COUNT(name) +1
enum { N_CONCERNS = CONCERNS(CONCERN_COUNT) };

/* Every concern may want a cache for its own kind and one for each kind that it watches. */
#define CONTROLLER_CACHES_MAX (N_CONCERNS * (CONCERN_WATCHES_MAX + 1))

struct controller_cache {
	struct controller *c;
	const struct api_kind *kind;
	const char *ns;
	struct kube_cache *cache;
};

/* One concern with its queue and its state. */
struct controller_row {
	struct controller *c;
	const struct concern *concern;
	struct kube_workqueue *queue; /* NULL: it has none */
	void *state;
};

struct controller {
	sd_event *loop;
	struct kube_client *client;
	struct controller_cache caches[CONTROLLER_CACHES_MAX];
	size_t n_caches;
	struct controller_row rows[N_CONCERNS];
	TAILQ_HEAD(, work) works;
	struct kube_elector *elector; /* NULL: without leader election */
	struct kube_recorder *recorder;
	sd_event_source *tick;
	bool acting;
};

/* Tells every concern that a key of ROW is about to be reconciled. */
void controller_tell_look(struct controller_row *row, const char *ns, const char *name);

void work_register_metrics(void);
/* Reconciles KEY, which the queue of ROW handed out. */
void work_run(struct controller_row *row, const char *key);
/* Frees all pieces of work and calls nobody. No answer may arrive any more. */
void work_free_all(struct controller *c);
