/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Decides which hosts are alive. A host is lost when its Lease did not change for as long as the Lease says, by the
 * controller's own clock, while the API answered without a break. If something could have kept a renewal from being
 * made or seen for more than a third of that time (a watch broke, the API stood still, the controller stood still), the
 * host gets a fresh full period of grace. Hosts renew three times in that period.
 *
 * When a host is lost, the Host's Ready becomes Unknown (HeartbeatLost), its Endpoints that don't belong to instances
 * are deleted (endpoints.c), and its instances say so (instance.c). The next renewal brings the host back: Ready is set
 * to True. The agent, which is alive then, corrects this if it knows better, and announces its Endpoints again. What
 * depends on a Host that is deleted is treated as if it were lost.
 *
 * A Lease that has no Host and that nobody has renewed for ORPHAN_TERMS of its duration is left over from a deleted
 * Host. The server is asked for the Host, then the Lease is deleted.
 */

#include <string.h>

#include "api/core.h"
#include "api/endpoint.h"
#include "api/instance.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/tree.h"
#include "base/util.h"
#include "controller/hosts.h"
#include "controller/room.h"
#include "controller/vteps.h"
#include "controller/work.h"
#include "kube/index.h"

#define TICK_US      (250 * USEC_PER_MSEC) /* also how often the API is asked whether it is there */
#define PROBE_MS     10000U
#define ORPHAN_TERMS 4
#define ORPHAN_MAX_S 3600 /* a Lease may name a longer duration than any agent has */
#define REASON_LOST  "HeartbeatLost"
#define REASON_READY "HeartbeatResumed"

struct beat {
	RB_ENTRY(beat) node;
	uint64_t seen; /* monotonic: when the lease was last seen to change, or grace began */
	bool lost;
	bool excess_told; /* an event said that it reports more than spec.limits */
	bool orphan;      /* its Lease is being deleted */
	char version[64]; /* resourceVersion of the lease; "" without one */
	char host[];
};

static int beat_cmp(const struct beat *a, const struct beat *b) {
	return strcmp(a->host, b->host);
}

RB_HEAD(beats, beat);
RB_GENERATE_INTERNAL(beats, beat, node, beat_cmp, _unused_ static)

struct liveness {
	struct controller *c;
	const struct kube_cache *hosts, *leases;
	struct kube_index *endpoints, *instances; /* by host */
	struct beats beats;
	sd_event_source *timer;
	struct kube_request *probe;
	uint64_t last_tick, last_contact;
	int64_t grace_s;
};

static struct metric lost_hosts = METRIC_GAUGE("nacre_controller_hosts_lost", "Hosts whose heartbeat ran out.");

static struct beat *beat_find(const struct liveness *l, const char *host) {
	return TREE_FIND_STRING(beat, &l->beats, node, host, host);
}

static struct beat *beat_get(struct liveness *l, const char *host) {
	struct beat *b = beat_find(l, host);
	size_t n = strlen(host) + 1;
	if (b)
		return b;
	b = calloc(1, sizeof(*b) + n);
	if (!b)
		abort(); /* a host without a beat would count as lost */
	memcpy(b->host, host, n);
	b->seen = now_monotonic_ns();
	RB_INSERT(beats, &l->beats, b);
	return b;
}

static struct liveness *liveness_of(const struct controller *c) {
	return concern_state(c, &concern_hosts);
}

bool host_is_lost(const struct controller *c, const char *host) {
	const struct liveness *l = liveness_of(c);
	struct beat *b = kube_cache_get(l->hosts, NULL, host) ? beat_find(l, host) : NULL;
	return !b || b->lost;
}

static const char *endpoint_host(const void *obj, _unused_ char buf[static KUBE_KEY_MAX]) {
	return ((const struct endpoint *)obj)->spec->host;
}

static const char *instance_host(const void *obj, _unused_ char buf[static KUBE_KEY_MAX]) {
	const struct instance *i = obj;
	return instance_is_bound(i) ? i->status->host : NULL;
}

const struct endpoint *host_endpoint_next(const struct controller *c, const char *host, const struct endpoint *prev) {
	const struct kube_index *x = liveness_of(c)->endpoints;
	return prev ? kube_index_next(x, host, prev) : kube_index_first(x, host);
}

static const struct api_condition *host_ready(const struct host *h) {
	return h->status ? api_condition_find(h->status->conditions.v, h->status->conditions.n, "Ready") : NULL;
}

static bool host_says_lost(const struct host *h) {
	const struct api_condition *r = host_ready(h);
	return r && streq(r->status, "Unknown") && streq(r->reason, REASON_LOST);
}

/* Queues everything that depends on whether the host is alive, because WHAT has happened to it. */
static void host_enqueue_dependents(struct controller *c, const char *host, enum log_level level, const char *what) {
	const struct kube_index *x = liveness_of(c)->instances;
	const struct endpoint *e = NULL;
	size_t endpoints = 0, instances = 0;
	concern_enqueue(c, &concern_hosts, NULL, host);
	while ((e = host_endpoint_next(c, host, e))) {
		concern_enqueue(c, &concern_endpoints, NULL, e->meta.name);
		endpoints++;
	}
	for (const struct instance *i = kube_index_first(x, host); i; i = kube_index_next(x, host, i)) {
		concern_enqueue(c, &concern_instances, i->meta.ns, i->meta.name);
		instances++;
	}
	log_write(level, what, "host=%s endpoints=%zu instances=%zu", host, endpoints, instances);
}

static const struct lease *beat_lease(const struct liveness *l, const char *host) {
	char name[KUBE_LEASE_NAME_MAX];
	return kube_cache_get(l->leases, KUBE_SYSTEM_NS, kube_host_lease_name(host, name));
}

static uint64_t beat_grace_ns(const struct liveness *l, const char *host) {
	const struct lease *lease = beat_lease(l, host);
	int64_t s = lease && lease->spec && lease->spec->duration.set ? lease->spec->duration.v : l->grace_s;
	return (uint64_t)s * NSEC_PER_SEC;
}

static void beat_set_lost(struct liveness *l, struct beat *b, bool lost) {
	if (b->lost == lost)
		return;
	b->lost = lost;
	metric_add(&lost_hosts, lost ? 1 : -1);
	if (lost)
		room_reasons_changed(l->c);
	else
		room_on_host(l->c, b->host);
	host_enqueue_dependents(l->c, b->host, lost ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
	                        lost ? "host lost" : "host is back");
}

/* ---- what is seen ---- */

/* The Host or the Lease is gone. If both are gone, forgets the beat. */
static void beat_drop(struct liveness *l, struct beat *b) {
	if (kube_cache_get(l->hosts, NULL, b->host) || beat_lease(l, b->host))
		return;
	RB_REMOVE(beats, &l->beats, b);
	free(b);
}

static void hosts_lease_changed(struct controller *c, const struct kube_change *ch) {
	struct liveness *l = liveness_of(c);
	if (strncmp(ch->name, "host-", 5) != 0)
		return;
	if (ch->type == KUBE_DELETED) {
		/* The beat of a Host without a Lease runs out like one whose Lease is not renewed. */
		struct beat *gone = beat_find(l, ch->name + 5);
		if (gone)
			beat_drop(l, gone);
		return;
	}
	struct beat *b = beat_get(l, ch->name + 5);
	const char *version = ((const struct lease *)ch->obj)->meta.resource_version;
	if (streq(b->version, version))
		return;
	/* The first version that is seen of a Lease doesn't say when it was renewed. A further one proves a renewal. */
	bool first = !*b->version;
	snprintf(b->version, sizeof(b->version), "%s", version ? version : "");
	b->seen = now_monotonic_ns();
	b->orphan = false;
	if (!first)
		beat_set_lost(l, b, false);
}

static void hosts_host_changed(struct controller *c, const struct kube_change *ch) {
	struct liveness *l = liveness_of(c);
	if (ch->type != KUBE_DELETED) {
		bool known = beat_find(l, ch->name);
		struct beat *b = beat_get(l, ch->name);
		/* An old Lease says nothing about a new Host, so a new Host gets a whole term. */
		if (ch->type == KUBE_ADDED) {
			b->seen = now_monotonic_ns();
			b->orphan = false;
		}
		/*
		 * If an earlier controller found the host lost, it counts as lost until something is heard of the host.
		 */
		if ((!known || ch->type == KUBE_ADDED) && host_says_lost(ch->obj))
			beat_set_lost(l, b, true);
		/*
		 * The controller takes HeartbeatLost back only for a host that is not lost. So the agent did it, and
		 * the host is alive.
		 */
		if (b->lost && ch->old && host_says_lost(ch->old) && !host_says_lost(ch->obj)) {
			b->seen = now_monotonic_ns();
			beat_set_lost(l, b, false);
		}
		return;
	}
	struct beat *b = beat_find(l, ch->name);
	if (!b)
		return;
	/* A host that is gone counts as lost (host_is_lost()), but not in the metric. */
	if (b->lost)
		metric_add(&lost_hosts, -1);
	b->lost = false;
	b->seen = now_monotonic_ns();
	host_enqueue_dependents(c, ch->name, LOG_LEVEL_INFO, "host deleted");
	beat_drop(l, b);
}

/* The API or the controller was silent for GAP ns. A host gets a new term if that exceeds a third of its term. */
static void liveness_fresh_grace(struct liveness *l, uint64_t gap, const char *why) {
	struct beat *b;
	size_t n = 0;
	RB_FOREACH (b, beats, &l->beats) {
		if (!b->lost && gap > beat_grace_ns(l, b->host) / 3) {
			b->seen = now_monotonic_ns();
			n++;
		}
	}
	if (n)
		log_info("heartbeats begin afresh", "reason=\"%s\" silent_ms=%llu hosts=%zu", why,
		         (unsigned long long)(gap / NSEC_PER_MSEC), n);
}

/* True if B was not renewed for more than TERM ns although the API would have shown it. */
static bool beat_is_silent(const struct liveness *l, const struct beat *b, uint64_t term) {
	uint64_t now = now_monotonic_ns();
	return kube_cache_connected(l->leases) &&
	       now - kube_client_last_contact(controller_client(l->c)) < beat_grace_ns(l, b->host) / 3 &&
	       now - b->seen > term;
}

static bool beat_is_overdue(const struct liveness *l, const struct beat *b) {
	return !b->lost && beat_is_silent(l, b, beat_grace_ns(l, b->host));
}

/* Queues the host of B if it is overdue. A Lease without a Host is queued once, until it is deleted or renewed. */
static void beat_judge(struct liveness *l, struct beat *b) {
	if (kube_cache_get(l->hosts, NULL, b->host)) {
		if (beat_is_overdue(l, b))
			concern_enqueue(l->c, &concern_hosts, NULL, b->host);
	} else if (!b->orphan &&
	           beat_is_silent(l, b, MIN(ORPHAN_TERMS * beat_grace_ns(l, b->host), ORPHAN_MAX_S * NSEC_PER_SEC))) {
		b->orphan = true;
		concern_enqueue(l->c, &concern_hosts, NULL, b->host);
	}
}

static int liveness_on_tick(sd_event_source *src, uint64_t usec, void *userdata) {
	struct liveness *l = userdata;
	struct controller *c = l->c;
	uint64_t now = now_monotonic_ns(), contact = kube_client_last_contact(controller_client(c));
	struct beat *b;
	(void)src;
	(void)usec;
	liveness_fresh_grace(l, now - l->last_tick, "the controller stood still");
	if (l->last_contact && contact > l->last_contact)
		liveness_fresh_grace(l, contact - l->last_contact, "the API was away");
	l->last_tick = now;
	l->last_contact = contact;
	/* Silence only means something if the API answers, so ask it. */
	if (!l->probe && now - contact >= TICK_US * 1000) {
		struct kube_spec spec = {.method = "GET", .path = "/readyz", .timeout_ms = PROBE_MS};
		(void)!kube_request(controller_client(c), &spec, KUBE_CALL(NULL, NULL, &l->probe), NULL);
	}
	if (controller_may_act(c))
		RB_FOREACH (b, beats, &l->beats)
			beat_judge(l, b);
	return loop_timer(controller_loop(c), &l->timer, TICK_US, liveness_on_tick, l);
}

/* ---- what is done ---- */

/* What Ready must say if the controller must change it. False: it stays as it is; the agent writes it. */
static bool host_wants_ready(const struct controller *c, const struct host *h, const struct beat *b,
                             const char **status, const char **reason, char msg[static 256]) {
	const struct api_condition *is = host_ready(h);
	const struct host *rival = vteps_rival(vteps_of(c), h);
	bool conflict = is && streq(is->reason, HOST_VTEP_CONFLICT);
	if (b->lost) {
		*status = "Unknown";
		*reason = REASON_LOST;
		snprintf(msg, 256, "no heartbeat for %llu s",
		         (unsigned long long)(beat_grace_ns(liveness_of(c), h->meta.name) / NSEC_PER_SEC));
		return !host_says_lost(h);
	}
	if (rival) {
		bool same = streq(rival->spec->vtep, h->spec->vtep);
		*status = "False";
		*reason = HOST_VTEP_CONFLICT;
		snprintf(msg, 256,
		         "Host %.63s, which is older, has %s%s%s; set another spec.vtep on this Host and start its "
		         "agent with the same --vtep",
		         rival->meta.name, same ? "spec.vtep " : "the router MAC that follows from spec.vtep ",
		         h->spec->vtep, same ? " too" : ", as from its own");
		return !conflict || !streq(is->message, msg);
	}
	*status = "True";
	*reason = conflict ? "VTEPFree" : REASON_READY;
	snprintf(msg, 256, conflict ? "no other Host has its VTEP any more" : "the heartbeat is back");
	return conflict || host_says_lost(h);
}

static void host_patch_ready(struct work *w, const struct host *h, const char *status, const char *reason,
                             const char *msg) {
	struct host *n = api_copy_with_status(&api_kind_host, h);
	if (!n || api_condition_set(&n->status->conditions.v, &n->status->conditions.n, "Ready", status, reason, msg,
	                            h->meta.generation.v, now_realtime_us()) < 0)
		work_fail_oom(w);
	else if (work_patch_status(w, &api_kind_host, h, n, WORK_NO_THEN))
		kube_event(controller_recorder(work_controller(w)), &api_kind_host, h,
		           streq(status, "True") ? KUBE_EVENT_NORMAL : KUBE_EVENT_WARNING, reason, "%s", msg);
	api_free(&api_kind_host, n);
}

/* When the server was asked for a Lease: monotonic, ns. */
struct lease_question {
	uint64_t asked;
};

WORK_THEN_DEFINE(host_lease_asked, struct lease_question)

/* The server's answer about a Lease of which the watch has shown no renewal. */
static void host_lease_asked(struct work *w, const struct kube_response *r, const struct lease_question *q) {
	struct liveness *l = liveness_of(work_controller(w));
	struct beat *b = beat_find(l, work_key(w));
	struct lease *lease = NULL;
	if (!b || !work_may_go_on(w) || (r->error < 0 && r->error != -ENOENT))
		return;
	/* If the answer took so long, the API stood still, and the host may have tried to renew meanwhile. */
	if (now_monotonic_ns() - q->asked > beat_grace_ns(l, b->host) / 3)
		return;
	if (r->error == 0 && kube_response_parse(r, &api_kind_lease, (void **)&lease, NULL) < 0)
		return;
	const char *version = lease && lease->meta.resource_version ? lease->meta.resource_version : "";
	/*
	 * Without a Lease the host was not renewed either. A Lease was not renewed if its version is the one that was
	 * seen.
	 */
	bool unchanged = !lease || streq(version, b->version);
	api_free(&api_kind_lease, lease);
	if (unchanged && beat_is_overdue(l, b))
		beat_set_lost(l, b, true);
}

/* Says once that the agent reports more than spec.limits. Placement uses nothing beyond the limits. */
static void host_tell_excess(const struct controller *c, const struct host *h, struct beat *b) {
	const bool excess = host_exceeds_limits(h);
	if (excess && !b->excess_told) {
		struct resources has, use;
		char reported[RESOURCES_TEXT_MAX], usable[RESOURCES_TEXT_MAX];
		host_reported(h, &has);
		host_usable(h, &use);
		kube_event(controller_recorder(c), &api_kind_host, h, KUBE_EVENT_WARNING, "CapacityLimited",
		           "the agent reports %s; within spec.limits instances may have %s",
		           resources_print(&has, RESOURCES_OF_HOSTS, reported),
		           resources_print(&use, RESOURCES_OF_HOSTS, usable));
	}
	b->excess_told = excess;
}

/* Its Lease is not deleted now: beat_judge() queues it again after another term. */
static void beat_keep_orphan(struct beat *b) {
	b->orphan = false;
	b->seen = now_monotonic_ns();
}

static void host_orphan_asked(struct work *w, const struct kube_response *r, _unused_ const void *arg) {
	struct liveness *l = liveness_of(work_controller(w));
	struct beat *b = beat_find(l, work_key(w));
	const struct lease *lease = beat_lease(l, work_key(w));
	if (!b || !b->orphan)
		return;
	if (!lease || lease->meta.deletion_timestamp || r->error != -ENOENT ||
	    kube_cache_get(l->hosts, NULL, b->host) || !work_may_go_on(w)) {
		beat_keep_orphan(b);
		return;
	}
	log_info("lease of a host that is gone deleted", "lease=%s", lease->meta.name);
	work_delete(w, &api_kind_lease, &lease->meta);
}

static void host_reconcile(struct work *w, const void *obj) {
	const struct controller *c = work_controller(w);
	const struct host *h = obj;
	struct liveness *l = liveness_of(c);
	struct beat *b = beat_find(l, work_key(w));
	char name[KUBE_LEASE_NAME_MAX], msg[256];
	const char *status, *reason;
	if (!b)
		return;
	if (!h) {
		if (b->orphan)
			work_get(w, &api_kind_host, NULL, b->host, WORK_THEN(host_orphan_asked));
		return;
	}
	host_tell_excess(c, h, b);
	if (host_wants_ready(c, h, b, &status, &reason, msg))
		host_patch_ready(w, h, status, reason, msg);
	else if (beat_is_overdue(l, b)) {
		const struct lease_question q = {.asked = now_monotonic_ns()};
		work_get(w, &api_kind_lease, KUBE_SYSTEM_NS, kube_host_lease_name(b->host, name),
		         host_lease_asked_then(&q));
	}
}

static int hosts_open(struct controller *c, const struct controller_options *o, void **ret, struct error *err) {
	struct liveness *l = calloc(1, sizeof(*l));
	if (!l)
		return error_oom(err);
	*l = (struct liveness){.c = c,
	                       .hosts = controller_cache(c, &api_kind_host),
	                       .leases = controller_cache(c, &api_kind_lease),
	                       .grace_s = o->host_grace_s,
	                       .last_tick = now_monotonic_ns()};
	RB_INIT(&l->beats);
	*ret = l;
	metric_register(&lost_hosts);
	int r = kube_index_new(&l->endpoints, controller_cache(c, &api_kind_endpoint), endpoint_host, err);
	if (r == 0)
		r = kube_index_new(&l->instances, controller_cache(c, &api_kind_instance), instance_host, err);
	if (r < 0)
		return r;
	r = loop_timer(controller_loop(c), &l->timer, TICK_US, liveness_on_tick, l);
	return r < 0 ? error_errno(err, r, "timer of heartbeats") : 0;
}

static void hosts_close(void *state) {
	struct liveness *l = state;
	struct beat *b;
	sd_event_source_disable_unref(l->timer);
	kube_request_cancel(&l->probe);
	kube_index_free(l->endpoints);
	kube_index_free(l->instances);
	while ((b = RB_MIN(beats, &l->beats))) {
		RB_REMOVE(beats, &l->beats, b);
		free(b);
	}
	free(l);
}

const struct concern concern_hosts = {
	.name = "hosts",
	.kind = &api_kind_host,
	.watches = {{.kind = &api_kind_host, .changed = hosts_host_changed},
                    {.kind = &api_kind_lease, .ns = KUBE_SYSTEM_NS, .changed = hosts_lease_changed},
                    {.kind = &api_kind_endpoint},
                    {.kind = &api_kind_instance}},
	.open = hosts_open,
	.reconcile = host_reconcile,
	.close = hosts_close,
};
