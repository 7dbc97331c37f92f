/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Shared by the files of the agent (node/agent.h): agent.c follows the API and hears the hypervisor, and queues the
 * instances that something has happened to; agent_reconcile.c compares one of them with what the API says, and makes
 * the requests that follow.
 */

#include "base/tree.h"
#include "kube/cache.h"
#include "kube/event.h"
#include "kube/workqueue.h"
#include "node/agent.h"
#include "node/firewalls.h"
#include "node/part.h"

/* Which Instance has an id (status.id): the hypervisor knows guests by their id. */
struct record {
	RB_ENTRY(record) entry;
	char id[37];
	char key[KUBE_KEY_MAX];
	int64_t restarts_told; /* how many of the hypervisor's restarts were reported */
	/* For an Instance that was deleted: whether the hypervisor was told, and has removed everything since. */
	enum { REMOVAL_UNTOLD, REMOVAL_TOLD, REMOVAL_DONE } removal;
};
RB_HEAD(records, record);
RB_PROTOTYPE(records, record, entry, record_compare)

/* A request under way for a key. */
struct work {
	TAILQ_ENTRY(work) entry;
	struct agent *a;
	struct kube_cache *cache; /* the cache for the object in the answer; NULL: none */
	struct kube_request *request;
	char id[37];
	int64_t restarts; /* the hypervisor's count at the request */
	char key[KUBE_KEY_MAX];
};

/* A kind that parts read (node/part.h). */
struct reading {
	struct agent *a;
	const struct api_kind *kind;
	struct kube_cache *cache;
};

/*
 * The queue has two kinds of keys: "NAMESPACE/NAME" of an Instance, and "@ID" for what may be left of an Instance that
 * is gone: its guest and its Endpoint.
 */
struct agent {
	struct agent_config c;
	struct hypervisor *hypervisor;
	struct firewalls *firewalls;
	struct kube_cache *instances, *endpoints;
	struct reading readings[N_PARTS];
	size_t n_readings;
	struct kube_workqueue *queue;
	struct kube_recorder *recorder;
	struct secrets *secrets;
	struct seeds *seeds;
	struct records records;
	TAILQ_HEAD(, work) work;
};

/* agent.c. NULL: there is none. */
struct record *agent_record(struct agent *a, const char *id);
/* The Instance with that id, if it belongs to this host. */
const struct instance *agent_instance(struct agent *a, const struct record *rec);
/*
 * True if the Instance with that id (NULL: with any id) may exist although no cache has it, because this agent does not
 * understand it. After a move its id differs from its uid, so only status.id tells it.
 */
bool agent_holds(struct agent *a, const char *id);
struct reading *agent_reading(struct agent *a, const struct api_kind *k);

/* agent_reconcile.c: the work queue's function. */
void agent_reconcile(const char *key, void *userdata);
/* Cancels the request. */
void agent_work_free(struct work *w);
