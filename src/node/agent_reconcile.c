/* SPDX-License-Identifier: Apache-2.0 */

/* One instance: what it is compared with what the API says, and the requests that follow (node/agent-internal.h). */

#include <string.h>

#include "base/util.h"
#include "node/agent-internal.h"
#include "node/desired.h"

/* ---- requests ---- */

void agent_work_free(struct work *w) {
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
		struct record *rec = agent_record(a, w->id);
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
	agent_work_free(w);
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
	agent_work_free(w);
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
	struct record *rec = agent_record(a, instance_id(inst));
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
		agent_work_free(w);
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
	struct record *rec = asked ? agent_record(a, id) : NULL;
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

static const void *get_read(const struct part_source *s, const struct api_kind *k, const char *ns, const char *name,
                            struct error *err) {
	const struct kube_cache *c = agent_reading(s->userdata, k)->cache;
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

	struct record *rec = agent_record(a, instance_id(inst));
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
	struct record *rec = agent_record(a, id);
	const struct instance *inst = agent_instance(a, rec);
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

void agent_reconcile(const char *key, void *userdata) {
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
