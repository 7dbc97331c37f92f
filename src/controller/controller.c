/* SPDX-License-Identifier: Apache-2.0 */

/* Puts the parts together: caches, queues, who is queued when what changes, and leadership. */

#include "controller/addresses.h"
#include "controller/gang.h"
#include "controller/quota.h"

#include <string.h>

#include "base/log.h"
#include "base/util.h"

/* Requests of one concern that may be under way at once. */
#define PARALLEL 32
#define TICK_US  (500 * USEC_PER_MSEC)

static struct metric depth[N_QUEUES] = {
	{.name = "nacre_controller_queue_depth",
         .help = "Objects waiting.",
         .type = "gauge",
         .labels = "queue=\"instances\""},
	{.name = "nacre_controller_queue_depth",
         .help = "Objects waiting.",
         .type = "gauge",
         .labels = "queue=\"addresspools\""},
	{.name = "nacre_controller_queue_depth",
         .help = "Objects waiting.",
         .type = "gauge",
         .labels = "queue=\"allocations\""},
	{.name = "nacre_controller_queue_depth",
         .help = "Objects waiting.",
         .type = "gauge",
         .labels = "queue=\"endpoints\""},
	{.name = "nacre_controller_queue_depth",
         .help = "Objects waiting.",
         .type = "gauge",
         .labels = "queue=\"hosts\""},
	{.name = "nacre_controller_queue_depth",
         .help = "Objects waiting.",
         .type = "gauge",
         .labels = "queue=\"tenantquotas\""},
	{.name = "nacre_controller_queue_depth",
         .help = "Objects waiting.",
         .type = "gauge",
         .labels = "queue=\"clusters\""},
};
static struct metric leader = METRIC_GAUGE("nacre_controller_leader", "1 while this controller acts.");
static struct metric connected = METRIC_GAUGE("nacre_controller_api_connected", "1 while the API server answers.");
static struct metric n_instances = METRIC_GAUGE("nacre_controller_instances", "Instances there are.");
static struct metric n_allocations = METRIC_GAUGE("nacre_controller_allocations", "Allocations there are.");

/* ---- waiting for room ---- */

struct waiter {
	RB_ENTRY(waiter) node;
	enum queue queue;
	bool first;
	char created[32];
	char key[];
};

static int waiter_cmp(const struct waiter *a, const struct waiter *b) {
	if (a->first != b->first)
		return a->first ? -1 : 1;
	int c = strcmp(a->created, b->created);
	c = c ? c : (int)a->queue - (int)b->queue;
	return c ? c : strcmp(a->key, b->key);
}

RB_GENERATE_INTERNAL(waiters, waiter, node, waiter_cmp, _unused_ static)

void wait_for_room(struct controller *c, enum queue q, const struct api_meta *m, bool first) {
	char key[KUBE_KEY_MAX];
	size_t n = strlen(kube_key(m->ns, m->name, key)) + 1;
	struct waiter *w = calloc(1, sizeof(*w) + n);
	if (!w)
		abort(); /* it would wait for ever */
	memcpy(w->key, key, n);
	snprintf(w->created, sizeof(w->created), "%s", m->creation_timestamp ? m->creation_timestamp : "");
	w->queue = q;
	w->first = first;
	if (RB_INSERT(waiters, &c->waiters, w))
		free(w);
}

void room_made(struct controller *c) {
	struct waiter *w;
	while ((w = RB_MIN(waiters, &c->waiters))) {
		RB_REMOVE(waiters, &c->waiters, w);
		if (c->queues[w->queue])
			kube_workqueue_add(c->queues[w->queue], w->key);
		free(w);
	}
}

/* ---- when to act ---- */

void enqueue(struct controller *c, enum queue q, const char *ns, const char *name) {
	char key[KUBE_KEY_MAX];
	kube_workqueue_add(c->queues[q], kube_key(ns, name, key));
}

static bool synced(const struct controller *c) {
	const struct kube_cache *all[] = {c->instances, c->clusters, c->allocations, c->pools, c->types,
	                                  c->hosts,     c->leases,   c->endpoints,   c->quotas};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (!kube_cache_synced(all[i]))
			return false;
	return true;
}

bool may_act(const struct controller *c) {
	return synced(c) && (!c->elector || kube_elector_leading(c->elector));
}

bool controller_ready(void *userdata) {
	return synced(userdata);
}

static void enqueue_all(struct controller *c, enum queue q, const struct kube_cache *cache) {
	const void *obj;
	KUBE_CACHE_FOREACH(obj, cache) {
		const struct api_meta *m = obj;
		enqueue(c, q, m->ns, m->name);
	}
}

/* Those that a controller before this one was placing when it ended come first. */
static void enqueue_clusters(struct controller *c) {
	const struct cluster *cl;
	KUBE_CACHE_FOREACH(cl, c->clusters) {
		if (cluster_is_partial(c, cl))
			enqueue(c, QUEUE_CLUSTERS, cl->meta.ns, cl->meta.name);
	}
	enqueue_all(c, QUEUE_CLUSTERS, c->clusters);
}

static void update_running(struct controller *c) {
	bool run = may_act(c);
	if (kube_workqueue_running(c->queues[QUEUE_INSTANCES]) == run)
		return;
	if (run) {
		enqueue_clusters(c);
		enqueue_all(c, QUEUE_POOLS, c->pools);
		enqueue_all(c, QUEUE_HOSTS, c->hosts);
		enqueue_all(c, QUEUE_QUOTAS, c->quotas);
		enqueue_all(c, QUEUE_INSTANCES, c->instances);
		enqueue_all(c, QUEUE_ALLOCATIONS, c->allocations);
		enqueue_all(c, QUEUE_ENDPOINTS, c->endpoints);
	} else
		gangs_clear(c->gangs);
	for (int i = 0; i < N_QUEUES; i++)
		kube_workqueue_run(c->queues[i], run);
	metric_set(&leader, run);
	log_info(run ? "acting" : "standing by", "instances=%zu allocations=%zu hosts=%zu",
	         kube_cache_count(c->instances), kube_cache_count(c->allocations), kube_cache_count(c->hosts));
}

static int on_tick(sd_event_source *src, uint64_t usec, void *userdata) {
	struct controller *c = userdata;
	(void)src;
	(void)usec;
	update_running(c);
	for (int i = 0; i < N_QUEUES; i++)
		metric_set(&depth[i], (int64_t)kube_workqueue_depth(c->queues[i]));
	metric_set(&connected, kube_cache_connected(c->instances));
	metric_set(&n_instances, (int64_t)kube_cache_count(c->instances));
	metric_set(&n_allocations, (int64_t)kube_cache_count(c->allocations));
	return loop_timer(c->loop, &c->tick, TICK_US, on_tick, c);
}

static void on_leading(bool leading, const struct error *err, void *userdata) {
	struct controller *c = userdata;
	if (leading)
		log_info("leading", "lease=%s/nacre-controller", KUBE_SYSTEM_NS);
	else
		log_warn("no longer leading", "reason=\"%s\"", err ? err->msg : "");
	update_running(c);
}

/* ---- what changes queue ---- */

static void on_instance(const struct kube_change *ch, void *userdata) {
	struct controller *c = userdata;
	const struct allocation *a = NULL;
	if (ch->type == KUBE_SYNCED) {
		update_running(c);
		return;
	}
	enqueue(c, QUEUE_INSTANCES, ch->ns, ch->name);
	const struct api_owner_ref *gang = gang_owner(ch->obj);
	if (gang)
		enqueue(c, QUEUE_CLUSTERS, ch->ns, gang->name);
	if (ch->type != KUBE_DELETED)
		return;
	room_made(c);
	while ((a = addresses_owned_next(c->addresses, instance_id(ch->obj), a)))
		enqueue(c, QUEUE_ALLOCATIONS, NULL, a->meta.name);
}

/* What is told of a cluster that waits is told of its members, too. */
static void on_cluster(const struct kube_change *ch, void *userdata) {
	struct controller *c = userdata;
	const struct instance *i;
	if (ch->type == KUBE_SYNCED) {
		update_running(c);
		return;
	}
	enqueue(c, QUEUE_CLUSTERS, ch->ns, ch->name);
	if (ch->type == KUBE_MODIFIED && !cluster_tells_more(ch->old, ch->obj))
		return;
	for (i = kube_cache_first_in(c->instances, ch->ns); i && streq(i->meta.ns, ch->ns);
	     i = kube_cache_next(c->instances, i)) {
		const struct api_owner_ref *o = gang_owner(&i->meta);
		if (o && streq(o->name, ch->name) && !instance_is_bound(i))
			enqueue(c, QUEUE_INSTANCES, ch->ns, i->meta.name);
	}
}

static void on_pool(const struct kube_change *ch, void *userdata) {
	struct controller *c = userdata;
	if (ch->type == KUBE_SYNCED)
		update_running(c);
	/* A pool that came or went may overlap any other. */
	else if (ch->type == KUBE_MODIFIED)
		enqueue(c, QUEUE_POOLS, ch->ns, ch->name);
	else
		enqueue_all(c, QUEUE_POOLS, c->pools);
	if (ch->type != KUBE_SYNCED)
		room_made(c);
}

static void on_allocation(const struct kube_change *ch, void *userdata) {
	struct controller *c = userdata;
	const struct allocation *a = ch->obj;
	if (ch->type == KUBE_SYNCED) {
		update_running(c);
		return;
	}
	enqueue(c, QUEUE_ALLOCATIONS, ch->ns, ch->name);
	/* Its usage; not with every single one of many. */
	kube_workqueue_add_after(c->queues[QUEUE_POOLS], a->spec->pool, USEC_PER_SEC);
	if (ch->type == KUBE_DELETED)
		room_made(c);
	if (streq(a->spec->owner->kind, "Instance") && a->spec->owner->ns)
		enqueue(c, QUEUE_INSTANCES, a->spec->owner->ns, a->spec->owner->name);
}

static void on_type(const struct kube_change *ch, void *userdata) {
	struct controller *c = userdata;
	if (ch->type == KUBE_SYNCED) {
		update_running(c);
		return;
	}
	if (ch->type != KUBE_MODIFIED) { /* sizes can't be changed */
		quotas_type_changed(c->quota, ch->name);
		enqueue_all(c, QUEUE_CLUSTERS, c->clusters);
	}
	room_made(c);
}

static void on_quota(const struct kube_change *ch, void *userdata) {
	struct controller *c = userdata;
	if (ch->type == KUBE_SYNCED) {
		update_running(c);
		return;
	}
	enqueue(c, QUEUE_QUOTAS, ch->ns, ch->name);
	const struct tenantquota *now = ch->obj, *old = ch->old;
	/* One that is new can allow more than the default quota, which held until now. */
	if (ch->type != KUBE_MODIFIED || !api_equal(&api_desc_tenantquota_spec, now->spec, old->spec))
		room_made(c);
}

static void on_host(const struct kube_change *ch, void *userdata) {
	struct controller *c = userdata;
	const struct endpoint *e;
	if (ch->type == KUBE_SYNCED) {
		update_running(c);
		return;
	}
	enqueue(c, QUEUE_HOSTS, ch->ns, ch->name);
	room_made(c);
	const struct host *now = ch->obj, *old = ch->old;
	if (ch->type != KUBE_DELETED && (!old || streq(old->spec->vtep, now->spec->vtep)))
		return;
	KUBE_CACHE_FOREACH(e, c->endpoints) {
		if (streq(e->spec->host, ch->name))
			enqueue(c, QUEUE_ENDPOINTS, NULL, e->meta.name);
	}
}

static void on_endpoint(const struct kube_change *ch, void *userdata) {
	struct controller *c = userdata;
	if (ch->type == KUBE_SYNCED)
		update_running(c);
	else
		enqueue(c, QUEUE_ENDPOINTS, ch->ns, ch->name);
}

static void on_lease(const struct kube_change *ch, void *userdata) {
	if (ch->type == KUBE_SYNCED)
		update_running(userdata);
}

static void on_bad(const char *ns, const char *name, const struct error *err, void *userdata) {
	(void)userdata;
	log_warn("object not understood, left as it was", "object=\"%s%s%s\" error=\"%s\"", ns, *ns ? "/" : "", name,
	         err->msg);
}

static void on_state(const struct kube_cache *cache, bool up, const struct error *err, void *userdata) {
	struct controller *c = userdata;
	if (cache != c->instances)
		return; /* the others tell the same */
	if (up) {
		log_info("connected to the API", "instances=%zu", kube_cache_count(c->instances));
		/* What failed meanwhile need not wait for its backoff. */
		if (may_act(c))
			enqueue_all(c, QUEUE_INSTANCES, c->instances);
	} else
		log_warn("API away", "error=\"%s\"", err ? err->msg : "");
}

/* ---- ---- */

static int open_cache(struct controller *c, struct kube_cache **cache, const struct api_kind *k, const char *ns,
                      kube_change_fn fn, struct error *err) {
	struct kube_cache_options o = {.select = {.ns = ns}, .bad = on_bad, .state = on_state, .userdata = c};
	int r = kube_cache_new(cache, c->client, k, &o, err);
	return r < 0 ? r : kube_cache_on_change(*cache, fn, c) < 0 ? error_oom(err) : 0;
}

static int open_queues(struct controller *c, struct error *err) {
	static const kube_reconcile_fn fns[N_QUEUES] = {instance_reconcile, pool_reconcile, allocation_reconcile,
	                                                endpoint_reconcile, host_reconcile, quota_reconcile,
	                                                cluster_reconcile};
	for (int i = 0; i < N_QUEUES; i++) {
		int r = kube_workqueue_new(&c->queues[i], c->loop, PARALLEL, fns[i], c, err);
		if (r < 0)
			return r;
		metric_register(&depth[i]);
	}
	kube_workqueue_prefer(c->queues[QUEUE_CLUSTERS]);
	return 0;
}

int controller_new(struct controller **ret, sd_event *loop, const struct controller_options *o, struct error *err) {
	_cleanup_(cleanup_controller) struct controller *c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	c->loop = sd_event_ref(loop);
	TAILQ_INIT(&c->works);
	RB_INIT(&c->waiters);
	int r = kube_client_open(&c->client, loop, &o->access, "nacre-controller", err);
	if (r == 0)
		r = open_queues(c, err);
	if (r == 0)
		r = kube_recorder_new(&c->recorder, c->client, "nacre-controller", NULL, err);
	/*
	 * The handlers here come first, those of the indexes (addresses, placement, liveness) after them: all run
	 * before the loop hands out the keys that were queued.
	 */
	if (r == 0)
		r = open_cache(c, &c->pools, &api_kind_addresspool, NULL, on_pool, err);
	if (r == 0)
		r = open_cache(c, &c->allocations, &api_kind_allocation, NULL, on_allocation, err);
	if (r == 0)
		r = open_cache(c, &c->types, &api_kind_instancetype, NULL, on_type, err);
	if (r == 0)
		r = open_cache(c, &c->hosts, &api_kind_host, NULL, on_host, err);
	if (r == 0)
		r = open_cache(c, &c->leases, &api_kind_lease, KUBE_SYSTEM_NS, on_lease, err);
	if (r == 0)
		r = open_cache(c, &c->endpoints, &api_kind_endpoint, NULL, on_endpoint, err);
	if (r == 0)
		r = open_cache(c, &c->quotas, &api_kind_tenantquota, NULL, on_quota, err);
	if (r == 0)
		r = open_cache(c, &c->clusters, &api_kind_cluster, NULL, on_cluster, err);
	if (r == 0)
		r = open_cache(c, &c->instances, &api_kind_instance, NULL, on_instance, err);
	if (r < 0)
		return r;
	if (addresses_new(&c->addresses, c) < 0 || placement_new(&c->placement, c) < 0 || gangs_new(&c->gangs, c) < 0 ||
	    quotas_new(&c->quota, c) < 0 || liveness_new(&c->liveness, c, o->host_grace_s) < 0 ||
	    vteps_new(&c->vteps, c) < 0)
		return error_oom(err);
	if (!o->no_election) {
		struct kube_elector_options e = {.ns = KUBE_SYSTEM_NS,
		                                 .name = "nacre-controller",
		                                 .identity = o->identity,
		                                 .duration_ms = (uint32_t)o->lease_ms,
		                                 .deadline_ms = (uint32_t)o->deadline_ms,
		                                 .retry_ms = (uint32_t)o->retry_ms,
		                                 .changed = on_leading,
		                                 .userdata = c};
		r = kube_elector_new(&c->elector, c->client, &e, err);
		if (r < 0)
			return r;
	}
	struct metric *gauges[] = {&leader, &connected, &n_instances, &n_allocations};
	for (size_t i = 0; i < ARRAY_SIZE(gauges); i++)
		metric_register(gauges[i]);
	r = loop_timer(loop, &c->tick, TICK_US, on_tick, c);
	if (r < 0)
		return error_errno(err, r, "controller timer");
	*ret = TAKE_PTR(c);
	return 0;
}

struct controller *controller_free(struct controller *c) {
	struct work *w;
	struct waiter *waiter;
	if (!c)
		return NULL;
	sd_event_source_disable_unref(c->tick);
	kube_elector_free(c->elector);
	kube_recorder_free(c->recorder);
	struct kube_cache *all[] = {c->instances, c->clusters, c->allocations, c->pools, c->types,
	                            c->hosts,     c->leases,   c->endpoints,   c->quotas};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		kube_cache_free(all[i]);
	liveness_free(c->liveness);
	gangs_free(c->gangs);
	vteps_free(c->vteps);
	placement_free(c->placement);
	quotas_free(c->quota);
	addresses_free(c->addresses);
	kube_client_free(c->client); /* no callback comes any more */
	while ((w = TAILQ_FIRST(&c->works))) {
		TAILQ_REMOVE(&c->works, w, entry);
		free(w);
	}
	while ((waiter = RB_MIN(waiters, &c->waiters))) {
		RB_REMOVE(waiters, &c->waiters, waiter);
		free(waiter);
	}
	for (int i = 0; i < N_QUEUES; i++)
		kube_workqueue_free(c->queues[i]);
	sd_event_unref(c->loop);
	free(c);
	return NULL;
}
