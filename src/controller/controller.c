/* SPDX-License-Identifier: Apache-2.0 */

/* Runs the table of concerns: opens their caches and queues, tells them about changes, and handles leader election. */

#include "controller/controller.h"

#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/util.h"
#include "controller/internal.h"

/* Keys of one concern that may be worked on at once. */
#define PARALLEL 32
#define TICK_US  (500 * USEC_PER_MSEC)

#define CONCERN_ENTRY(name) &concern_##name,
static const struct concern *const concerns[N_CONCERNS] = {CONCERNS(CONCERN_ENTRY)};

static struct metric depth[N_CONCERNS];
static char depth_labels[N_CONCERNS][64];
static struct metric leader = METRIC_GAUGE("nacre_controller_leader", "1 while this controller acts.");
static struct metric connected = METRIC_GAUGE("nacre_controller_api_connected", "1 while the API server answers.");

/* ---- for the concerns ---- */

static struct controller_cache *controller_find_cache(const struct controller *c, const struct api_kind *k) {
	for (size_t i = 0; i < c->n_caches; i++)
		if (c->caches[i].kind == k)
			return (struct controller_cache *)&c->caches[i];
	return NULL;
}

struct kube_cache *controller_cache(const struct controller *c, const struct api_kind *k) {
	const struct controller_cache *found = controller_find_cache(c, k);
	if (!found)
		abort(); /* no concern says that it watches the kind */
	return found->cache;
}

sd_event *controller_loop(const struct controller *c) {
	return c->loop;
}

struct kube_client *controller_client(const struct controller *c) {
	return c->client;
}

struct kube_recorder *controller_recorder(const struct controller *c) {
	return c->recorder;
}

static struct controller_row *controller_row_of(const struct controller *c, const struct concern *concern) {
	size_t i = 0;
	while (concerns[i] != concern)
		i++;
	return (struct controller_row *)&c->rows[i];
}

void *concern_state(const struct controller *c, const struct concern *concern) {
	return controller_row_of(c, concern)->state;
}

void concern_enqueue(struct controller *c, const struct concern *concern, const char *ns, const char *name) {
	concern_enqueue_after(c, concern, ns, name, 0);
}

void concern_enqueue_after(struct controller *c, const struct concern *concern, const char *ns, const char *name,
                           uint64_t delay_us) {
	char key[KUBE_KEY_MAX];
	kube_workqueue_add_after(controller_row_of(c, concern)->queue, kube_key(ns, name, key), delay_us);
}

bool concern_enqueue_first(struct controller *c, const struct concern *concern, const char *ns, const char *name) {
	char key[KUBE_KEY_MAX];
	return kube_workqueue_add_first(controller_row_of(c, concern)->queue, kube_key(ns, name, key));
}

void concern_enqueue_all(struct controller *c, const struct concern *concern) {
	const struct kube_cache *cache = controller_cache(c, concern->kind);
	const struct api_meta *m;
	KUBE_CACHE_FOREACH(m, cache)
	concern_enqueue(c, concern, m->ns, m->name);
}

void controller_tell_look(struct controller_row *row, const char *ns, const char *name) {
	for (size_t i = 0; i < N_CONCERNS; i++)
		if (concerns[i]->looked_at)
			concerns[i]->looked_at(row->c, row->concern, ns, name);
}

/* ---- when to act ---- */

bool controller_ready(void *userdata) {
	const struct controller *c = userdata;
	for (size_t i = 0; i < c->n_caches; i++)
		if (!kube_cache_synced(c->caches[i].cache))
			return false;
	return true;
}

bool controller_may_act(const struct controller *c) {
	return controller_ready((void *)c) && (!c->elector || kube_elector_leading(c->elector));
}

static void controller_start_acting(struct controller *c) {
	for (size_t i = 0; i < N_CONCERNS; i++) {
		if (concerns[i]->started)
			concerns[i]->started(c);
		if (concerns[i]->kind)
			concern_enqueue_all(c, concerns[i]);
	}
}

static void controller_stop_acting(struct controller *c) {
	for (size_t i = N_CONCERNS; i-- > 0;)
		if (concerns[i]->stopped)
			concerns[i]->stopped(c);
}

/* True if an earlier concern of the table has the same kind. */
static bool concern_shares_kind(size_t i) {
	for (size_t k = 0; k < i; k++)
		if (concerns[k]->kind == concerns[i]->kind)
			return true;
	return false;
}

/* "instances=3 hosts=2": how many objects there are of each kind that is reconciled. */
static const char *controller_counts(const struct controller *c, char out[static 512]) {
	size_t n = 0;
	for (size_t i = 0; i < N_CONCERNS; i++)
		if (concerns[i]->kind && !concern_shares_kind(i) && n < 512)
			n += (size_t)snprintf(out + n, 512 - n, "%s%s=%zu", n ? " " : "", concerns[i]->name,
			                      kube_cache_count(controller_cache(c, concerns[i]->kind)));
	return out;
}

static void controller_update_acting(struct controller *c) {
	bool act = controller_may_act(c);
	char text[512];
	if (c->acting == act)
		return;
	c->acting = act;
	if (act)
		controller_start_acting(c);
	else
		controller_stop_acting(c);
	for (size_t i = 0; i < N_CONCERNS; i++)
		if (c->rows[i].queue)
			kube_workqueue_run(c->rows[i].queue, act);
	metric_set(&leader, act);
	log_info(act ? "acting" : "standing by", "%s", controller_counts(c, text));
}

static int controller_on_tick(sd_event_source *src, uint64_t usec, void *userdata) {
	struct controller *c = userdata;
	(void)src;
	(void)usec;
	controller_update_acting(c);
	for (size_t i = 0; i < N_CONCERNS; i++) {
		if (concerns[i]->kind)
			metric_set(&depth[i], (int64_t)kube_workqueue_depth(c->rows[i].queue));
		if (concerns[i]->count)
			metric_set(concerns[i]->count,
			           (int64_t)kube_cache_count(controller_cache(c, concerns[i]->kind)));
	}
	metric_set(&connected, kube_cache_connected(c->caches[0].cache));
	return loop_timer(c->loop, &c->tick, TICK_US, controller_on_tick, c);
}

static void controller_on_leading(bool leading, const struct error *err, void *userdata) {
	struct controller *c = userdata;
	if (leading)
		log_info("leading", "lease=%s/nacre-controller", KUBE_SYSTEM_NS);
	else
		log_warn("no longer leading", "reason=\"%s\"", err ? err->msg : "");
	controller_update_acting(c);
}

/* ---- caches ---- */

static void concern_watch_tell(struct controller *c, const struct concern_watch *w, const struct kube_change *ch) {
	if (ch->type == KUBE_SYNCED && w->synced)
		w->synced(c);
	if (ch->type != KUBE_SYNCED && w->changed)
		w->changed(c, ch);
}

static void controller_on_change(const struct kube_change *ch, void *userdata) {
	struct controller_cache *cache = userdata;
	struct controller *c = cache->c;
	for (size_t i = 0; i < N_CONCERNS; i++) {
		if (concerns[i]->kind == cache->kind && ch->type != KUBE_SYNCED)
			concern_enqueue(c, concerns[i], ch->ns, ch->name);
		for (const struct concern_watch *w = concerns[i]->watches; w->kind; w++)
			if (w->kind == cache->kind)
				concern_watch_tell(c, w, ch);
	}
	if (ch->type == KUBE_SYNCED)
		controller_update_acting(c);
}

static void controller_on_bad(_unused_ const struct kube_cache *c, const char *ns, const char *name,
                              const struct error *err, _unused_ void *userdata) {
	log_warn("object not understood, left as it was", "object=\"%s%s%s\" error=\"%s\"", ns, *ns ? "/" : "", name,
	         err->msg);
}

static void controller_on_state(const struct kube_cache *cache, bool up, const struct error *err, void *userdata) {
	struct controller *c = userdata;
	char text[512];
	/* Keys that failed while the API was away need not wait for their backoff. */
	for (size_t i = 0; up && i < N_CONCERNS; i++)
		if (concerns[i]->kind && concerns[i]->kind == kube_cache_kind(cache))
			kube_workqueue_retry(c->rows[i].queue);
	/* One kind is missing, or the role has no right to it: an older CRD or role. */
	if (!up && err && (err->code == EACCES || err->code == ENOENT)) {
		log_error(kube_cache_synced(cache)
		                  ? "this kind can't be followed, so its changes are seen late or not at all"
		                  : "this kind can't be followed, so nothing is done",
		          "kind=%s error=\"%s\" remedy=\"apply `nacre crds` and `nacre rbac` of this version\"",
		          kube_cache_kind(cache)->kind, err->msg);
		return;
	}
	if (cache != c->caches[0].cache)
		return; /* the other caches would log the same */
	if (up)
		log_info("connected to the API", "%s", controller_counts(c, text));
	else
		log_warn("API away", "error=\"%s\"", err ? err->msg : "");
}

static int controller_open_cache(struct controller *c, const struct api_kind *k, const char *ns, bool names_only,
                                 struct error *err) {
	struct controller_cache *have = controller_find_cache(c, k);
	if (have)
		return streq(have->ns, ns)
		               ? 0
		               : error_set(err, EINVAL, "concerns watch %s in different namespaces", k->plural);
	struct kube_cache_options o = {.select = {.ns = ns},
	                               .names_only = names_only,
	                               .bad = controller_on_bad,
	                               .state = controller_on_state,
	                               .userdata = c};
	struct controller_cache *cache = &c->caches[c->n_caches];
	*cache = (struct controller_cache){.c = c, .kind = k, .ns = ns};
	int r = kube_cache_new(&cache->cache, c->client, k, &o, err);
	if (r < 0)
		return r;
	c->n_caches++;
	return kube_cache_on_change(cache->cache, controller_on_change, cache) < 0 ? error_oom(err) : 0;
}

static int controller_open_caches(struct controller *c, struct error *err) {
	for (size_t i = 0; i < N_CONCERNS; i++) {
		int r = concerns[i]->kind ? controller_open_cache(c, concerns[i]->kind, NULL, false, err) : 0;
		for (const struct concern_watch *w = concerns[i]->watches; r == 0 && w->kind; w++)
			r = controller_open_cache(c, w->kind, w->ns, w->names_only, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- rows ---- */

static void controller_on_key(const char *key, void *userdata) {
	work_run(userdata, key);
}

static void controller_register_depth(size_t i) {
	snprintf(depth_labels[i], sizeof(depth_labels[i]), "queue=\"%s\"", concerns[i]->name);
	depth[i].name = "nacre_controller_queue_depth";
	depth[i].help = "Objects waiting.";
	depth[i].type = "gauge";
	depth[i].labels = depth_labels[i];
	metric_register(&depth[i]);
}

static int controller_open_queues(struct controller *c, struct error *err) {
	for (size_t i = 0; i < N_CONCERNS; i++) {
		struct controller_row *row = &c->rows[i];
		*row = (struct controller_row){.c = c, .concern = concerns[i]};
		if (!concerns[i]->kind)
			continue;
		int r = kube_workqueue_new(&row->queue, c->loop, PARALLEL, controller_on_key, row, err);
		if (r < 0)
			return r;
		if (concerns[i]->first)
			kube_workqueue_prefer(row->queue);
		controller_register_depth(i);
	}
	/* Metrics of one name must be registered one after the other. */
	for (size_t i = 0; i < N_CONCERNS; i++)
		if (concerns[i]->count)
			metric_register(concerns[i]->count);
	metric_register(&leader);
	metric_register(&connected);
	work_register_metrics();
	return 0;
}

static int controller_open_states(struct controller *c, const struct controller_options *o, struct error *err) {
	for (size_t i = 0; i < N_CONCERNS; i++) {
		int r = concerns[i]->open ? concerns[i]->open(c, o, &c->rows[i].state, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int controller_open_elector(struct controller *c, const struct controller_options *o, struct error *err) {
	struct kube_elector_options e = {.ns = KUBE_SYSTEM_NS,
	                                 .name = "nacre-controller",
	                                 .identity = o->identity,
	                                 .duration_ms = (uint32_t)o->lease_ms,
	                                 .deadline_ms = (uint32_t)o->deadline_ms,
	                                 .retry_ms = (uint32_t)o->retry_ms,
	                                 .changed = controller_on_leading,
	                                 .userdata = c};
	return kube_elector_new(&c->elector, c->client, &e, err);
}

int controller_new(struct controller **ret, sd_event *loop, const struct controller_options *o, struct error *err) {
	_cleanup_(cleanup_controller) struct controller *c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	c->loop = sd_event_ref(loop);
	TAILQ_INIT(&c->works);
	int r = kube_client_open(&c->client, loop, &o->access, "nacre-controller", err);
	if (r == 0)
		r = controller_open_queues(c, err);
	if (r == 0)
		r = kube_recorder_new(&c->recorder, c->client, "nacre-controller", NULL, err);
	if (r == 0)
		r = controller_open_caches(c, err);
	if (r == 0)
		r = controller_open_states(c, o, err);
	if (r == 0 && !o->no_election)
		r = controller_open_elector(c, o, err);
	if (r < 0)
		return r;
	r = loop_timer(loop, &c->tick, TICK_US, controller_on_tick, c);
	if (r < 0)
		return error_errno(err, r, "controller timer");
	*ret = TAKE_PTR(c);
	return 0;
}

struct controller *controller_free(struct controller *c) {
	if (!c)
		return NULL;
	sd_event_source_disable_unref(c->tick);
	kube_elector_free(c->elector);
	kube_recorder_free(c->recorder);
	for (size_t i = 0; i < c->n_caches; i++)
		kube_cache_free(c->caches[i].cache);
	for (size_t i = N_CONCERNS; i-- > 0;)
		if (c->rows[i].state)
			concerns[i]->close(c->rows[i].state);
	kube_client_free(c->client); /* no callback is called after this */
	work_free_all(c);
	for (size_t i = 0; i < N_CONCERNS; i++)
		kube_workqueue_free(c->rows[i].queue);
	sd_event_unref(c->loop);
	free(c);
	return NULL;
}
