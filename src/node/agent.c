/* SPDX-License-Identifier: Apache-2.0 */
#include "node/agent.h"

#include <string.h>

#include "api/access.h"
#include "base/util.h"
#include "node/agent-internal.h"
#include "node/desired.h"

#define PARALLEL 4

static int record_compare(const struct record *a, const struct record *b) {
	return strcmp(a->id, b->id);
}
RB_GENERATE(records, record, entry, record_compare)

struct record *agent_record(struct agent *a, const char *id) {
	return TREE_FIND_STRING(record, &a->records, entry, id, id);
}

const struct instance *agent_instance(struct agent *a, const struct record *rec) {
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;

	if (!rec)
		return NULL;
	kube_key_split(rec->key, buf, &ns, &name);
	const struct instance *inst = kube_cache_get(a->instances, ns, name);
	return inst && streq(instance_id(inst), rec->id) ? inst : NULL;
}

bool agent_holds(struct agent *a, const char *id) {
	const struct instance *inst;

	KUBE_CACHE_FOREACH_BAD(inst, a->instances) {
		const char *is = inst->status ? inst->status->id : NULL;
		if (!id || (is && *is ? streq(is, id) : !agent_record(a, id)))
			return true;
	}
	return false;
}

static void add_id(struct agent *a, const char *id) {
	char key[64];

	snprintf(key, sizeof(key), "@%s", id);
	kube_workqueue_add(a->queue, key);
}

struct reading *agent_reading(struct agent *a, const struct api_kind *k) {
	for (size_t i = 0; i < a->n_readings; i++)
		if (a->readings[i].kind == k)
			return &a->readings[i];
	return NULL;
}

/* ---- what the hypervisor says ---- */

/* Called in a worker, too. */
static void on_guest_guarded(void *userdata, const char *id, struct firewalls_attached *ret) {
	struct agent *a = userdata;
	const struct instance *inst = agent_instance(a, agent_record(a, id));

	if (inst)
		firewalls_attached(a->firewalls, inst->meta.ns, &inst->meta.labels, ret);
	else
		*ret = (struct firewalls_attached){.is = {.unknown = true}, .pending = true};
}

static void on_guest_changed(void *userdata, const char *id) {
	struct agent *a = userdata;
	struct record *rec = agent_record(a, id);

	if (rec)
		kube_workqueue_add(a->queue, rec->key);
}

static void on_guest_event(void *userdata, const char *id, bool warning, const char *reason, const char *message) {
	struct agent *a = userdata;
	const struct instance *inst = agent_instance(a, agent_record(a, id));

	if (inst)
		kube_event(a->recorder, &api_kind_instance, inst, warning ? KUBE_EVENT_WARNING : KUBE_EVENT_NORMAL,
		           reason, "%s", message);
}

static void on_guest_dropped(void *userdata, const char *id, const struct firewall_drop *drop) {
	struct agent *a = userdata;
	const struct instance *inst = agent_instance(a, agent_record(a, id));

	if (inst)
		a->c.dropped(inst, drop, a->c.userdata);
}

static void on_guest_gone(void *userdata, const char *id) {
	struct agent *a = userdata;
	struct record *rec = agent_record(a, id);

	if (rec) {
		rec->restarts_told = 0;
		if (rec->removal == REMOVAL_TOLD)
			rec->removal = REMOVAL_DONE;
	}
	add_id(a, id);
}

static void on_hypervisor_settled(void *userdata) {
	struct agent *a = userdata;

	if (agent_ready(a))
		a->c.ready(a->c.userdata);
}

static void on_hypervisor_failed(void *userdata, const struct error *err) {
	struct agent *a = userdata;

	a->c.failed(err, a->c.userdata);
}

/* ---- what the API says ---- */

static bool agent_knows(void *userdata, const char *id) {
	struct agent *a = userdata;

	return (id && agent_instance(a, agent_record(a, id))) || agent_holds(a, id);
}

bool agent_ready(const struct agent *a) {
	return kube_workqueue_running(a->queue) && hypervisor_is_settled(a->hypervisor);
}

static void check_synced(struct agent *a) {
	if (kube_workqueue_running(a->queue) || !kube_cache_synced(a->instances) || !kube_cache_synced(a->endpoints))
		return;
	for (size_t i = 0; i < a->n_readings; i++)
		if (!kube_cache_synced(a->readings[i].cache))
			return;
	/* Before that no instance is put, and a sweep would remove the networks of those that are off. */
	if (!firewalls_known_all(a->firewalls))
		return;
	hypervisor_sweep(a->hypervisor, agent_knows, a);
	kube_workqueue_run(a->queue, true);
}

static void on_firewalls_known(void *userdata) {
	check_synced(userdata);
}

static void on_firewalls(void *userdata, const char *ns) {
	struct agent *a = userdata;
	const struct instance *inst;
	char key[KUBE_KEY_MAX];

	for (inst = kube_cache_first_in(a->instances, ns); inst && streq(inst->meta.ns, ns);
	     inst = kube_cache_next(a->instances, inst)) {
		/* Those that waited until the Firewalls are known have not been put yet. */
		kube_workqueue_add(a->queue, kube_key(inst->meta.ns, inst->meta.name, key));
		hypervisor_look(a->hypervisor, instance_id(inst));
	}
}

static void on_members(void *userdata, const char *ns, const char *const *ids, size_t n) {
	struct agent *a = userdata;
	const struct instance *inst;

	for (inst = kube_cache_first_in(a->instances, ns); inst && streq(inst->meta.ns, ns);
	     inst = kube_cache_next(a->instances, inst))
		if (firewalls_use(a->firewalls, ns, &inst->meta.labels, ids, n))
			hypervisor_members(a->hypervisor, instance_id(inst));
}

static void on_firewalls_refused(void *userdata, const char *ns, const struct error *why) {
	struct agent *a = userdata;
	_free_ char *what = strf("Firewalls of namespace %s", ns);
	struct error err;

	if (why)
		error_set(&err, why->code,
		          "%.350s; its instances can't be started or changed meanwhile; apply `nacre crds` and `nacre "
		          "rbac` of this version",
		          why->msg);
	if (what)
		a->c.problem(what, why ? &err : NULL, a->c.userdata);
}

static void on_firewall_problem(void *userdata, const char *ns, const char *name, const struct error *why) {
	struct agent *a = userdata;
	char key[KUBE_KEY_MAX];
	_free_ char *what = strf("Firewall %s", kube_key(ns, name, key));
	struct error err;

	if (why)
		error_set(
			&err, EBADMSG,
			"not understood: %.300s; the last version that was understood holds or, if there was none, the "
			"firewalls of its namespace's instances stay as they are; correct the object or, if a newer "
			"program wrote it, upgrade this agent",
			why->msg);
	if (what)
		a->c.problem(what, why ? &err : NULL, a->c.userdata);
}

/* Which Firewalls select the instance may be others now. */
static void on_labels(struct agent *a, const struct kube_change *ch) {
	const struct instance *inst = ch->obj, *old = ch->old;

	if (ch->type == KUBE_ADDED)
		firewalls_hold(a->firewalls, ch->ns);
	else if (ch->type == KUBE_DELETED)
		firewalls_release(a->firewalls, ch->ns);
	else if (!api_labels_equal(&inst->meta.labels, &old->meta.labels))
		hypervisor_look(a->hypervisor, instance_id(inst));
}

static void on_instance(const struct kube_change *ch, void *userdata) {
	struct agent *a = userdata;
	const struct instance *inst = ch->obj;
	char key[KUBE_KEY_MAX];

	if (ch->type == KUBE_SYNCED) {
		check_synced(a);
		return;
	}
	secrets_follow(a->secrets, ch->type == KUBE_DELETED ? inst : ch->old, ch->type == KUBE_DELETED ? NULL : inst);
	on_labels(a, ch);
	kube_key(ch->ns, ch->name, key);
	if (ch->type == KUBE_MODIFIED && !streq(instance_id(ch->old), instance_id(inst)))
		add_id(a, instance_id(ch->old));
	struct record *rec = agent_record(a, instance_id(inst));
	if (!rec) {
		rec = calloc(1, sizeof(*rec));
		if (!rec)
			abort();
		snprintf(rec->id, sizeof(rec->id), "%s", instance_id(inst));
		RB_INSERT(records, &a->records, rec);
	}
	memcpy(rec->key, key, sizeof(key));
	if (ch->type == KUBE_DELETED)
		add_id(a, instance_id(inst));
	else
		kube_workqueue_add(a->queue, key);
}

/* Tells the users of a running guest that a Secret can't be read any more. */
static void tell_secret_problem(struct agent *a, const struct instance *inst, const struct instance_secret *what) {
	const struct guest_state *s = hypervisor_state(a->hypervisor, instance_id(inst));
	const char *value, *reason;
	struct error err;
	size_t len;
	int r = secrets_get(a->secrets, inst->meta.ns, what, &value, &len, &reason, &err);

	if (r < 0 && r != -EAGAIN && s && s->phase == GUEST_RUNNING)
		kube_event(a->recorder, &api_kind_instance, inst, KUBE_EVENT_WARNING, reason,
		           "%s; the instance goes on with what it has", err.msg);
}

static void on_secret_changed(void *userdata, const char *ns, const char *secret) {
	struct agent *a = userdata;
	struct instance_secret what;
	const struct instance *inst;
	char key[KUBE_KEY_MAX];

	for (inst = kube_cache_first_in(a->instances, ns); inst && streq(inst->meta.ns, ns);
	     inst = kube_cache_next(a->instances, inst))
		for (unsigned k = 0; k < N_INSTANCE_SECRETS; k++)
			if (instance_secret(inst->spec, k, &what) && streq(what.secret, secret)) {
				kube_workqueue_add(a->queue, kube_key(ns, inst->meta.name, key));
				tell_secret_problem(a, inst, &what);
			}
}

static bool reads_object(const struct instance *inst, const struct api_kind *k, const char *ns, const char *name) {
	for (size_t i = 0; i < N_PARTS; i++)
		if (parts[i]->reads == k && parts[i]->names(inst, ns, name))
			return true;
	return false;
}

static void add_readers(struct agent *a, const struct api_kind *k, const char *ns, const char *name) {
	const struct instance *inst;
	char key[KUBE_KEY_MAX];

	KUBE_CACHE_FOREACH(inst, a->instances)
	if (reads_object(inst, k, ns, name))
		kube_workqueue_add(a->queue, kube_key(inst->meta.ns, inst->meta.name, key));
}

static void on_read_change(const struct kube_change *ch, void *userdata) {
	const struct reading *reading = userdata;

	if (ch->type == KUBE_SYNCED)
		check_synced(reading->a);
	else
		add_readers(reading->a, reading->kind, ch->ns, ch->name);
}

static void add_endpoint(struct agent *a, const char *name) {
	if (desired_endpoint_id(name))
		add_id(a, desired_endpoint_id(name));
}

static void on_endpoint(const struct kube_change *ch, void *userdata) {
	struct agent *a = userdata;

	if (ch->type == KUBE_SYNCED)
		check_synced(a);
	else
		add_endpoint(a, ch->name);
}

/* ---- objects that are not understood ---- */

static void agent_tell(struct agent *a, const struct kube_cache *c, const char *ns, const char *name,
                       const struct error *err) {
	char key[KUBE_KEY_MAX];
	_free_ char *what = strf("%s %s", kube_cache_kind(c)->kind, kube_key(ns, name, key));

	if (what)
		a->c.problem(what, err, a->c.userdata);
}

static void on_bad(const struct kube_cache *c, const char *ns, const char *name, const struct error *why,
                   void *userdata) {
	struct agent *a = userdata;
	struct error err;

	error_set(&err, EBADMSG,
	          "not understood, left as it was: %.300s; correct the object or, if a newer program wrote it, upgrade "
	          "this agent",
	          why->msg);
	agent_tell(a, c, ns, name, &err);
	add_readers(a, kube_cache_kind(c), ns, name);
}

/* What was kept because it might belong to this Instance may be removed now. */
static void agent_resume(struct agent *a) {
	const struct endpoint *ep;

	if (!kube_workqueue_running(a->queue))
		return;
	hypervisor_sweep(a->hypervisor, agent_knows, a);
	KUBE_CACHE_FOREACH(ep, a->endpoints)
	add_endpoint(a, ep->meta.name);
}

static void on_good(const struct kube_cache *c, const char *ns, const char *name, void *userdata) {
	struct agent *a = userdata;

	agent_tell(a, c, ns, name, NULL);
	if (c == a->instances)
		agent_resume(a);
	else if (c == a->endpoints)
		add_endpoint(a, name);
	else
		add_readers(a, kube_cache_kind(c), ns, name);
}

void agent_endpoint(struct agent *a, const struct kube_change *ch) {
	firewalls_endpoint(a->firewalls, ch);
}

const char *agent_device(const struct endpoint *ep, char out[static 16], void *userdata) {
	(void)userdata;
	const char *uid = desired_endpoint_id(ep->meta.name);
	char id[INSTNET_ID_LEN + 1];

	if (!uid || !instnet_id(uid, id))
		return NULL;
	return instnet_device(id, out);
}

/* An agent may see only its own host's objects of some kinds, and must select them (api/access.h). */
static int start_reading(struct agent *a, const struct api_kind *k, struct error *err) {
	struct reading *reading = &a->readings[a->n_readings];
	struct kube_cache_options mine = {.bad = on_bad, .good = on_good, .userdata = a};
	_free_ char *own = NULL;

	if (!k || agent_reading(a, k))
		return 0;
	const struct access_agents *g = access_agents(k, ACCESS_OF_HOST);
	if (g && g->own && !g->sees_all) {
		own = strf("%s=%s%s", g->own, g->own_prefix ? g->own_prefix : "", a->c.host);
		if (!own)
			return error_oom(err);
		mine.select.field_selector = own;
	}
	int r = kube_cache_new(&reading->cache, a->c.client, k, &mine, err);
	if (r < 0)
		return r;
	reading->a = a;
	reading->kind = k;
	a->n_readings++;
	return kube_cache_on_change(reading->cache, on_read_change, reading) < 0 ? error_oom(err) : 0;
}

static int start_caches(struct agent *a, struct error *err) {
	_free_ char *by_status = strf("status.host=%s", a->c.host), *by_spec = strf("spec.host=%s", a->c.host);
	struct kube_cache_options mine = {.bad = on_bad, .good = on_good, .userdata = a}, eps = mine;

	if (!by_status || !by_spec)
		return error_oom(err);
	mine.select.field_selector = by_status;
	eps.select.field_selector = by_spec;
	int r = kube_cache_new(&a->instances, a->c.client, &api_kind_instance, &mine, err);
	if (r >= 0)
		r = kube_cache_new(&a->endpoints, a->c.client, &api_kind_endpoint, &eps, err);
	for (size_t i = 0; i < N_PARTS && r >= 0; i++)
		r = start_reading(a, parts[i]->reads, err);
	if (r < 0)
		return r;
	if (kube_cache_on_change(a->instances, on_instance, a) < 0 ||
	    kube_cache_on_change(a->endpoints, on_endpoint, a) < 0)
		return error_oom(err);
	return 0;
}

int agent_new(struct agent **ret, const struct agent_config *c, struct error *err) {
	_cleanup_(cleanup_agent) struct agent *a = calloc(1, sizeof(*a));
	struct hypervisor_config h;
	const struct firewalls_config fw = {.client = c->client,
	                                    .changed = on_firewalls,
	                                    .members = on_members,
	                                    .known = on_firewalls_known,
	                                    .refused = on_firewalls_refused,
	                                    .problem = on_firewall_problem,
	                                    .userdata = a};

	if (!a)
		return error_oom(err);
	a->c = *c;
	RB_INIT(&a->records);
	TAILQ_INIT(&a->work);
	h = c->hypervisor;
	h.loop = c->loop;
	h.public_fd = fabric_underlay(c->fabric)->public_fd;
	h.ops = (struct hypervisor_ops){.guarded = on_guest_guarded,
	                                .changed = on_guest_changed,
	                                .event = on_guest_event,
	                                .dropped = on_guest_dropped,
	                                .gone = on_guest_gone,
	                                .settled = on_hypervisor_settled,
	                                .failed = on_hypervisor_failed};
	h.userdata = a;
	int r = seeds_new(&a->seeds, err);
	h.seeds = a->seeds;
	if (r >= 0)
		r = secrets_new(&a->secrets, c->client, on_secret_changed, a, err);
	if (r >= 0)
		r = kube_workqueue_new(&a->queue, c->loop, PARALLEL, agent_reconcile, a, err);
	if (r >= 0)
		r = kube_recorder_new(&a->recorder, c->client, "nacre-node", c->host, err);
	if (r >= 0)
		r = firewalls_new(&a->firewalls, &fw, err);
	if (r >= 0)
		r = hypervisor_new(&a->hypervisor, &h, err);
	if (r >= 0)
		r = start_caches(a, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(a);
	return 0;
}

struct agent *agent_free(struct agent *a) {
	struct record *rec, *next_rec;
	struct work *w, *next;

	if (!a)
		return NULL;
	kube_cache_free(a->instances);
	kube_cache_free(a->endpoints);
	for (size_t i = 0; i < a->n_readings; i++)
		kube_cache_free(a->readings[i].cache);
	secrets_free(a->secrets);
	hypervisor_free(a->hypervisor);
	seeds_free(a->seeds);
	firewalls_free(a->firewalls);
	TAILQ_FOREACH_SAFE (w, &a->work, entry, next)
		agent_work_free(w);
	kube_recorder_free(a->recorder);
	kube_workqueue_free(a->queue);
	RB_FOREACH_SAFE (rec, records, &a->records, next_rec) {
		RB_REMOVE(records, &a->records, rec);
		free(rec);
	}
	free(a);
	return NULL;
}

size_t agent_not_understood(const struct agent *a) {
	size_t n = kube_cache_count_bad(a->instances) + kube_cache_count_bad(a->endpoints) +
	           firewalls_not_understood(a->firewalls);

	for (size_t i = 0; i < a->n_readings; i++)
		n += kube_cache_count_bad(a->readings[i].cache);
	return n;
}

void agent_stats(const struct agent *a, struct hypervisor_stats *ret) {
	hypervisor_stats(a->hypervisor, ret);
}

unsigned agent_missing_controllers(const struct agent *a) {
	return hypervisor_missing_controllers(a->hypervisor);
}

bool agent_uses_kvm(const struct agent *a, const char **ret_why_not) {
	return hypervisor_uses_kvm(a->hypervisor, ret_why_not);
}
