/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The controller: one process, one loop. Caches of every kind it cares for; a work queue for each concern, whose
 * callback compares what the caches say with what should be, and sends what is missing. Its own writes are fed back
 * into the caches, so the next look sees them. Nothing is kept anywhere else: all of it can be killed at any time.
 *
 *   clusters   members of gangs: made, kept alike, placed together, deleted      cluster.c (gang.c, placement.c)
 *   instances  finalizer, addresses, placement, conditions, release at the end  instance.c (addresses.c, placement.c)
 *   pools      finalizer, usage, overlaps                                       pools.c
 *   allocations, endpoints   what nobody owns any more goes                     gc.c
 *   quotas     what a namespace takes together; who exceeds it waits             quota.c
 *              what claims the address or route of another goes                claims.c
 *   hosts      heartbeats; what a lost host's endpoints mean                    hosts.c
 *              whose a VTEP is that two of them name                           vteps.c
 *
 * Who writes what in an Instance's status: the controller everything but phase, restarts and the Ready condition of an
 * instance that is placed. Those are the agent's of the host it is placed on. Two exceptions: while the host is lost
 * the controller writes Ready=Unknown (HostLost), and with the placement itself Ready=False (Placed); the agent
 * overwrites both with what it sees. Every status patch carries the resourceVersion it is based on, so neither undoes
 * the other's.
 *
 * With leader election one controller acts at a time. What holds even if two act (--no-leader-election, or a leader
 * that stood still past its lease): no value is handed out twice (Allocations are named by value), and no instance is
 * placed twice or gets two values (one status patch wins by resourceVersion; what the loser allocated is deleted
 * again). What needs the leader: that two instances placed at the same moment don't overcommit one host.
 */

#include "api/addresspool.h"
#include "api/cluster.h"
#include "api/core.h"
#include "api/endpoint.h"
#include "api/host.h"
#include "api/instance.h"
#include "api/tenantquota.h"
#include "base/metrics.h"
#include "kube/cache.h"
#include "kube/event.h"
#include "kube/lease.h"
#include "kube/workqueue.h"

#define FINALIZER_INSTANCE "nacre.dev/instance"
#define FINALIZER_POOL     "nacre.dev/addresspool"
#define FINALIZER_CLUSTER  "nacre.dev/cluster"

enum queue {
	QUEUE_INSTANCES,
	QUEUE_POOLS,
	QUEUE_ALLOCATIONS,
	QUEUE_ENDPOINTS,
	QUEUE_HOSTS,
	QUEUE_QUOTAS,
	QUEUE_CLUSTERS, /* looked at before all others that wait */
	N_QUEUES
};

struct addresses;
struct gangs;
struct placement;
struct quotas;
struct liveness;
struct controller;
struct work;

/* One request of a piece of work, and what its answer is good for. */
struct op {
	struct work *work;
	struct kube_request *slot;
	struct kube_cache *feed; /* the answer is an object for this cache; or NULL */
	bool missing_ok;         /* 404 is as good as success */
	/* Called after feeding, before the work ends; may be NULL, and may begin further ops of the work. */
	void (*then)(struct op *op, const struct kube_response *r);
	char arg[KUBE_KEY_MAX]; /* for then */
	uint64_t index;         /* likewise: a value's number, or when the request was sent */
};

#define WORK_OPS_MAX 8

/* One key being reconciled: up to WORK_OPS_MAX requests in flight. Ends when all are answered. */
struct work {
	TAILQ_ENTRY(work) entry;
	struct controller *c;
	enum queue queue;
	unsigned pending;
	int result;
	struct error err; /* of the first failure */
	struct op ops[WORK_OPS_MAX];
	unsigned n_ops;
	char key[KUBE_KEY_MAX];
};

struct waiter;
RB_HEAD(waiters, waiter);

struct controller {
	sd_event *loop;
	struct kube_client *client;
	struct kube_cache *instances, *clusters, *allocations, *pools, *types, *hosts, *leases, *endpoints, *quotas;
	struct kube_workqueue *queues[N_QUEUES];
	TAILQ_HEAD(, work) works;
	struct waiters waiters;
	struct kube_elector *elector; /* NULL: without leader election */
	struct kube_recorder *recorder;
	struct addresses *addresses;
	struct placement *placement;
	struct gangs *gangs;
	struct quotas *quota;
	struct liveness *liveness;
	struct vteps *vteps;
	sd_event_source *tick;
};

struct controller_options {
	struct kube_access access;
	const char *identity;
	bool no_election;
	int64_t lease_ms, deadline_ms, retry_ms;
	int64_t host_grace_s; /* for hosts whose lease names no duration */
};

int controller_new(struct controller **ret, sd_event *loop, const struct controller_options *o,
                   struct error *err) _must_use_;
struct controller *controller_free(struct controller *c);
DEFINE_CLEANUP(controller, struct controller *, controller_free)
bool controller_ready(void *c); /* all caches are filled */

/* ---- for the concerns ---- */

void enqueue(struct controller *c, enum queue q, const char *ns, const char *name);
/*
 * Instances and clusters that wait for room, of whatever sort: all are queued again, the oldest first, when there may
 * be some (a value or an instance is gone, a pool or a host changed). One that still finds none says wait_for_room()
 * again. FIRST: before those that are not.
 */
void wait_for_room(struct controller *c, enum queue q, const struct api_meta *m, bool first);
void room_made(struct controller *c);
/* True while this controller may write: it leads, by its own clock. */
bool may_act(const struct controller *c);

struct work *work_new(struct controller *c, enum queue q, const char *key);
/* The next op of W, for the KUBE_CALL of a request; it counts as pending once work_sent() was told of success. */
struct op *work_op(struct work *w, struct kube_cache *feed);
struct kube_call op_call(struct op *op);
/* R: what beginning the request returned. */
void work_sent(struct work *w, int r, const struct error *err);
/* True while this controller may write (may_act()); if not, W has failed and its key comes again. */
bool work_may_go_on(struct work *w);
/* Nothing more will be begun from here: ends W now if nothing is pending, else when the last answer came. */
void work_close(struct work *w);

/* Adds or removes a finalizer by a patch that presumes the version seen. */
void work_patch_finalizers(struct work *w, struct kube_cache *cache, const struct api_meta *m, const char *finalizer,
                           bool add);
bool has_finalizer(const struct api_meta *m, const char *finalizer);
void work_delete(struct work *w, const struct api_kind *k, const struct api_meta *m);
/* A deep copy of an object; NULL without memory. */
void *clone(const struct api_kind *k, const void *obj);

/* instance.c */
void instance_reconcile(const char *key, void *userdata);
/* cluster.c */
void cluster_reconcile(const char *key, void *userdata);
/* True if NOW says something else about the members that wait than OLD. */
bool cluster_tells_more(const struct cluster *old, const struct cluster *now);
/* True if some of its members have a host and some don't. */
bool cluster_is_partial(const struct controller *c, const struct cluster *cl);
/* addresses.c, see there */
int addresses_new(struct addresses **ret, struct controller *c);
struct addresses *addresses_free(struct addresses *a);
/* placement.c */
int placement_new(struct placement **ret, struct controller *c);
struct placement *placement_free(struct placement *p);
/* pools.c */
void pool_reconcile(const char *key, void *userdata);
/* gc.c */
void allocation_reconcile(const char *key, void *userdata);
void endpoint_reconcile(const char *key, void *userdata);
/* claims.c: true if E seems to claim what isn't its Host's and the server is being asked, which ends in its deletion.
 */
bool claims_check(struct work *w, const struct endpoint *e);
/* vteps.c */
struct vteps;
int vteps_new(struct vteps **ret, struct controller *c);
struct vteps *vteps_free(struct vteps *v);
/* The older Host that has the VTEP of H, or its router MAC; NULL: it is H's own. */
const struct host *vteps_rival(const struct vteps *v, const struct host *h);
/* hosts.c */
void host_reconcile(const char *key, void *userdata);
int liveness_new(struct liveness **ret, struct controller *c, int64_t grace_s);
struct liveness *liveness_free(struct liveness *l);
/* True if HOST is known to be lost: its heartbeat ran out, or there is no such Host. */
bool host_is_lost(const struct controller *c, const char *host);
