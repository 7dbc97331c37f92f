/* SPDX-License-Identifier: Apache-2.0 */
#include "node/agent.h"

#include <string.h>

#include "api/access.h"
#include "base/tree.h"
#include "base/util.h"
#include "kube/cache.h"
#include "kube/event.h"
#include "kube/workqueue.h"
#include "node/desired.h"
#include "node/firewalls.h"
#include "node/part.h"

#define PARALLEL 4

/*
 * The queue has two kinds of keys: "NAMESPACE/NAME" of an Instance, and "@ID" for what may be left of an Instance that
 * is gone: its guest and its Endpoint.
 */

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

static int record_compare(const struct record *a, const struct record *b) {
	return strcmp(a->id, b->id);
}
RB_GENERATE_INTERNAL(records, record, entry, record_compare, _unused_ static);

static struct record *record_find(struct agent *a, const char *id) {
	return TREE_FIND_STRING(record, &a->records, entry, id, id);
}

/* The Instance with that id, if it belongs to this host. */
static const struct instance *instance_of(struct agent *a, const struct record *rec) {
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;

	if (!rec)
		return NULL;
	kube_key_split(rec->key, buf, &ns, &name);
	const struct instance *inst = kube_cache_get(a->instances, ns, name);
	return inst && streq(instance_id(inst), rec->id) ? inst : NULL;
}

/*
 * True if the Instance with that id (NULL: with any id) may exist although no cache has it, because this agent does not
 * understand it. After a move its id differs from its uid, so only status.id tells it.
 */
static bool agent_holds(struct agent *a, const char *id) {
	const struct instance *inst;

	KUBE_CACHE_FOREACH_BAD(inst, a->instances) {
		const char *is = inst->status ? inst->status->id : NULL;
		if (!id || (is && *is ? streq(is, id) : !record_find(a, id)))
			return true;
	}
	return false;
}

static void add_id(struct agent *a, const char *id) {
	char key[64];

	snprintf(key, sizeof(key), "@%s", id);
	kube_workqueue_add(a->queue, key);
}

/* ---- requests ---- */

static void work_free(struct work *w) {
	kube_request_cancel(&w->request);
	TAILQ_REMOVE(&w->a->work, w, entry);
	free(w);
}

static struct work *work_new(struct agent *a, const char *key, const char *id, struct kube_cache *cache) {
	struct work *w = calloc(1, sizeof(*w));

	/* As in kube/workqueue.h: a lost change is worse than a new start. */
	if (!w)
		abort();
	w->a = a;
	w->cache = cache;
	snprintf(w->key, sizeof(w->key), "%s", key);
	snprintf(w->id, sizeof(w->id), "%s", id);
	TAILQ_INSERT_TAIL(&a->work, w, entry);
	return w;
}

static void on_answer(const struct kube_response *r, void *userdata) {
	struct work *w = userdata;
	struct agent *a = w->a;
	char key[KUBE_KEY_MAX];
	int result = r->error;
	void *obj;

	memcpy(key, w->key, sizeof(key));
	if (r->error == 0 && w->cache && kube_response_parse(r, kube_cache_kind(w->cache), &obj, NULL) == 0) {
		struct record *rec = record_find(a, w->id);
		/* The guest may be gone by now, and a new guest counts from 0. */
		const struct guest_state *s = hypervisor_state(a->hypervisor, w->id);
		if (rec && w->cache == a->instances)
			rec->restarts_told = MIN(w->restarts, s ? s->restarts : 0);
		kube_cache_feed(w->cache, obj);
	}
	/* An object that is gone needs no change; an invalid request would be invalid again. */
	if (r->error == -ENOENT)
		result = 0;
	if (r->error == -EINVAL)
		a->c.problem(key, &r->err, a->c.userdata);
	work_free(w);
	if (r->error == 0)
		kube_workqueue_add(a->queue, key);
	kube_workqueue_done(a->queue, key, result);
}

#define CALL(w) KUBE_CALL(on_answer, (w), &(w)->request)

/* Ends the work on W's key if its request could not begin (R < 0). */
static void work_begun(struct work *w, int r) {
	struct agent *a = w->a;
	char key[KUBE_KEY_MAX];

	if (r == 0)
		return;
	memcpy(key, w->key, sizeof(key));
	work_free(w);
	kube_workqueue_done(a->queue, key, r);
}

/* An Endpoint that is not understood exists, too; NULL: there is none. */
static const struct api_meta *endpoint_meta(const struct agent *a, const char *name) {
	const void *ep = kube_cache_get(a->endpoints, NULL, name);

	return ep ? ep : kube_cache_get_bad(a->endpoints, NULL, name);
}

/*
 * Returns true if a request is under way. CURRENT: the container's network is as INST says. Before that the container
 * may still use a slice of ports that INST has no more, so the slice stays in the Endpoint. When it is gone from there,
 * the controller gives it to another instance. An Endpoint that is lost meanwhile is made anew only after that, since
 * nobody knows such a slice any more; without an Endpoint the controller releases none. Nothing else waits.
 */
static bool ensure_endpoint(struct agent *a, const char *key, const struct instance *inst, bool current) {
	char name[DESIRED_NAME_MAX];
	const struct endpoint *now = kube_cache_get(a->endpoints, NULL, desired_endpoint_name(instance_id(inst), name));
	struct endpoint *want;

	if (kube_cache_get_bad(a->endpoints, NULL, name))
		return false;
	if (!now && !current && instance_ipv4(inst->spec) == INSTANCE_IPV4_SHARED)
		return false;
	want = desired_endpoint(inst, a->c.host, a->c.vtep);
	if (!want)
		abort();
	if (now && (api_equal(&api_desc_endpoint_spec, now->spec, want->spec) ||
	            (!current && desired_endpoint_loses_slice(now, want)))) {
		api_free(&api_kind_endpoint, want);
		return false;
	}
	struct work *w = work_new(a, key, instance_id(inst), a->endpoints);
	if (!now) {
		work_begun(w, kube_create(a->c.client, &api_kind_endpoint, want, CALL(w), NULL));
	} else {
		want->meta.resource_version = strdup(now->meta.resource_version);
		work_begun(w, kube_update(a->c.client, &api_kind_endpoint, want, CALL(w), NULL));
	}
	api_free(&api_kind_endpoint, want);
	return true;
}

static bool delete_endpoint(struct agent *a, const char *key, const char *id) {
	char name[DESIRED_NAME_MAX];
	const struct api_meta *now = endpoint_meta(a, desired_endpoint_name(id, name));

	if (!now || now->deletion_timestamp)
		return false;
	struct work *w = work_new(a, key, id, NULL);
	work_begun(w, kube_delete(a->c.client, &api_kind_endpoint, NULL, name, now->uid, CALL(w), NULL));
	return true;
}

static bool write_status(struct agent *a, const char *key, const struct instance *inst, const char *phase, bool ready,
                         const char *reason, const char *message) {
	struct record *rec = record_find(a, instance_id(inst));
	const struct guest_state *s = hypervisor_state(a->hypervisor, instance_id(inst));
	int64_t restarts = s ? s->restarts : 0, more = rec ? restarts - rec->restarts_told : 0;
	const struct desired_status d = {.phase = phase,
	                                 .restarts = more,
	                                 .ready = ready,
	                                 .reason = reason,
	                                 .message = message,
	                                 .ports = s && s->ports.wanted ? &s->ports : NULL,
	                                 .firewall = s && s->firewall.known ? &s->firewall : NULL};
	struct instance *want = desired_status(inst, &d);

	if (!want)
		abort();
	struct work *w = work_new(a, key, instance_id(inst), a->instances);
	w->restarts = restarts;
	int r = kube_patch_status(a->c.client, &api_kind_instance, inst, want, CALL(w), NULL);
	api_free(&api_kind_instance, want);
	if (r == -EALREADY) {
		work_free(w);
		return false;
	}
	work_begun(w, r);
	return true;
}

/* ---- one instance ---- */

/*
 * True if nothing of the instance is left on the host and in the API. Otherwise its removal is under way; *REQUEST says
 * whether by a request for this key. ASKED: the API says that the Instance was deleted.
 */
static bool is_gone(struct agent *a, const char *key, const char *id, bool asked, bool *request) {
	char name[DESIRED_NAME_MAX];

	/* The Endpoint is deleted before the guest, so that no packets are sent to a guest that is gone. */
	seeds_drop(a->seeds, id);
	*request = delete_endpoint(a, key, id);
	if (*request || endpoint_meta(a, desired_endpoint_name(id, name)))
		return false;
	struct record *rec = asked ? record_find(a, id) : NULL;
	/* After a boot of the host the hypervisor doesn't know the guest, but there may be a disk. */
	if (!hypervisor_state(a->hypervisor, id) && (!rec || rec->removal == REMOVAL_DONE))
		return true;
	if (rec)
		rec->removal = REMOVAL_TOLD;
	hypervisor_remove(a->hypervisor, id, asked);
	/* An id that is not a UUID is never known. */
	return !hypervisor_state(a->hypervisor, id);
}

/* These functions return whether a request is under way; its answer then ends the work on the key. */
static bool reconcile_deleted(struct agent *a, const char *key, const struct instance *inst) {
	bool request;

	if (!is_gone(a, key, instance_id(inst), true, &request))
		return request;
	return write_status(a, key, inst, "Removed", false, "Removed", "nothing of it is left on its host");
}

static struct reading *reading_of(struct agent *a, const struct api_kind *k) {
	for (size_t i = 0; i < a->n_readings; i++)
		if (a->readings[i].kind == k)
			return &a->readings[i];
	return NULL;
}

static const void *get_read(const struct part_source *s, const struct api_kind *k, const char *ns, const char *name,
                            struct error *err) {
	const struct kube_cache *c = reading_of(s->userdata, k)->cache;
	const void *obj = kube_cache_get(c, ns, name);

	if (obj)
		return obj;
	if (kube_cache_get_bad(c, ns, name))
		error_set(err, EBADMSG, "%s `%s` is not understood by the host's agent, whose log names the field",
		          k->kind, name);
	else
		error_set(err, ENOENT, "%s `%s` does not exist", k->kind, name);
	return NULL;
}

static bool reconcile_live(struct agent *a, const char *key, const struct instance *inst) {
	const struct guest_state *s = hypervisor_state(a->hypervisor, instance_id(inst));
	const struct part_source source = {.inst = inst,
	                                   .image_dir = a->c.image_dir,
	                                   .get = get_read,
	                                   .userdata = a,
	                                   .known = s != NULL,
	                                   .secrets = a->secrets,
	                                   .seeds = a->seeds};
	const char *reason = NULL;
	struct guest_spec spec;
	struct error err = {0};

	struct record *rec = record_find(a, instance_id(inst));
	if (rec)
		rec->removal = REMOVAL_UNTOLD;
	/* Before that, a new instance isn't started, and one that runs is left as it is. */
	if (!firewalls_known(a->firewalls, inst->meta.ns))
		return false;
	int r = parts_desire(&source, &spec, &reason, &err);
	if (r == 0)
		r = hypervisor_put(a->hypervisor, &spec, &err);
	if (r > 0)
		return false;
	s = hypervisor_state(a->hypervisor, instance_id(inst));
	/* A guest that runs goes on, whatever happened to its image. */
	if (r < 0 && (!s || s->phase == GUEST_FAILED))
		return write_status(a, key, inst, "Failed", false, reason, err.msg);
	if (!s || s->phase == GUEST_PENDING)
		return false;
	/* If R < 0, the hypervisor was not told what INST says. */
	if (s->connected && ensure_endpoint(a, key, inst, r >= 0 && s->current))
		return true;
	return write_status(a, key, inst, guest_phase_name(s->phase), s->phase == GUEST_RUNNING, s->reason, s->message);
}

static bool reconcile_id(struct agent *a, const char *key) {
	const char *id = key + 1;
	struct record *rec = record_find(a, id);
	const struct instance *inst = instance_of(a, rec);
	bool request;

	if (inst) {
		kube_workqueue_add(a->queue, rec->key);
		return false;
	}
	if (agent_holds(a, id))
		return false;
	if (is_gone(a, key, id, false, &request) && rec) {
		RB_REMOVE(records, &a->records, rec);
		free(rec);
	}
	return request;
}

static void reconcile(const char *key, void *userdata) {
	struct agent *a = userdata;
	char buf[KUBE_KEY_MAX];
	const char *ns, *name;
	bool request = false;

	if (key[0] == '@') {
		request = reconcile_id(a, key);
	} else {
		kube_key_split(key, buf, &ns, &name);
		const struct instance *inst = kube_cache_get(a->instances, ns, name);
		if (inst)
			request = inst->meta.deletion_timestamp ? reconcile_deleted(a, key, inst)
			                                        : reconcile_live(a, key, inst);
	}
	if (!request)
		kube_workqueue_done(a->queue, key, 0);
}

/* ---- what the hypervisor says ---- */

/* Called in a worker, too. */
static void on_guest_guarded(void *userdata, const char *id, struct firewalls_attached *ret) {
	struct agent *a = userdata;
	const struct instance *inst = instance_of(a, record_find(a, id));

	if (inst)
		firewalls_attached(a->firewalls, inst->meta.ns, &inst->meta.labels, ret);
	else
		*ret = (struct firewalls_attached){.is = {.unknown = true}, .pending = true};
}

static void on_guest_changed(void *userdata, const char *id) {
	struct agent *a = userdata;
	struct record *rec = record_find(a, id);

	if (rec)
		kube_workqueue_add(a->queue, rec->key);
}

static void on_guest_event(void *userdata, const char *id, bool warning, const char *reason, const char *message) {
	struct agent *a = userdata;
	const struct instance *inst = instance_of(a, record_find(a, id));

	if (inst)
		kube_event(a->recorder, &api_kind_instance, inst, warning ? KUBE_EVENT_WARNING : KUBE_EVENT_NORMAL,
		           reason, "%s", message);
}

static void on_guest_dropped(void *userdata, const char *id, const struct firewall_drop *drop) {
	struct agent *a = userdata;
	const struct instance *inst = instance_of(a, record_find(a, id));

	if (inst)
		a->c.dropped(inst, drop, a->c.userdata);
}

static void on_guest_gone(void *userdata, const char *id) {
	struct agent *a = userdata;
	struct record *rec = record_find(a, id);

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

	return (id && instance_of(a, record_find(a, id))) || agent_holds(a, id);
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
			hypervisor_look(a->hypervisor, instance_id(inst));
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
	struct record *rec = record_find(a, instance_id(inst));
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

	if (!k || reading_of(a, k))
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
		r = kube_workqueue_new(&a->queue, c->loop, PARALLEL, reconcile, a, err);
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
		work_free(w);
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
