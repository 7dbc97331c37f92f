/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The Host object. It is created with role and vtep when it is missing. While the host is well, its status is kept up
 * to date: capacity, version, boot and the Ready condition. While the Host is not understood (kube/cache.h) it is
 * neither created nor written. Metadata and later changes of the spec belong to the operator; neither API server lets
 * an agent write them (docs/apiserver.md). The controller also writes Ready when an older Host has our VTEP; we leave
 * that condition until the controller removes it.
 *
 * The controller sets Ready to Unknown when heartbeats stop, and to True when they resume. An agent that has just
 * started doesn't know yet that all is well, so its heartbeat begins only when Ready is not Unknown any more, and until
 * then it sets Ready to False. A Ready=True that the agent before it has written stays.
 */

#include <string.h>

#include "api/host.h"
#include "base/util.h"
#include "fabric/internal.h"

#define CONFLICT_US (100 * USEC_PER_MSEC)
#define RETRY_US    USEC_PER_SEC

struct ready {
	bool well;
	const char *reason, *message;
};

#define REASON_READY "AgentReady"
static const struct ready ready_well = {true, REASON_READY,
                                        "the agent follows the API and keeps the overlay up to date"};
static const struct ready ready_starting = {false, "AgentStarting",
                                            "the agent has started and is still looking at its host"};

static const struct api_condition *fabric_host_ready(const struct host *h) {
	return h->status ? api_condition_find(h->status->conditions.v, h->status->conditions.n, "Ready") : NULL;
}

/* The boot id differs after each boot of the machine. */
static void boot_id(char out[static 64]) {
	_free_ char *text = NULL;
	size_t len;
	*out = 0;
	if (read_file("/proc/sys/kernel/random/boot_id", 256, &text, &len, NULL) < 0)
		return;
	text[strcspn(text, "\n")] = 0;
	snprintf(out, 64, "%.60s", text);
}

static int fabric_host_on_retry(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct fabric *f = userdata;
	f->host_waits = false;
	fabric_host_ensure(f);
	return 0;
}

static void fabric_host_on_done(const struct kube_response *resp, void *userdata) {
	struct fabric *f = userdata;
	void *obj;
	if (resp->error < 0) {
		/* Another client was faster: the watch delivers the current object. */
		bool conflict = resp->error == -EEXIST || resp->error == -ESTALE || resp->error == -ENOENT;
		if (!conflict)
			fabric_say(f, SUBJECT_HOST, &resp->err);
		/* Without memory for the timer the next tick retries. */
		f->host_waits = loop_timer(f->c.loop, &f->host_retry, conflict ? CONFLICT_US : RETRY_US,
		                           fabric_host_on_retry, f) >= 0;
		return;
	}
	if (kube_cache_count_bad(f->hosts) == 0)
		fabric_say(f, SUBJECT_HOST, NULL);
	if (kube_response_parse(resp, &api_kind_host, &obj, NULL) == 0)
		kube_cache_feed(f->hosts, obj);
}

static int fill_spec(const struct fabric *f, struct host *h) {
	char vtep[ADDR_STR_MAX];
	if (!h->spec && !(h->spec = calloc(1, sizeof(*h->spec))))
		return -ENOMEM;
	return string_set(&h->spec->role, f->c.role) < 0 ||
	                       string_set(&h->spec->vtep, addr_str(&f->c.underlay.vtep, vtep)) < 0
	               ? -ENOMEM
	               : 0;
}

static int fabric_host_create(struct fabric *f, struct error *err) {
	struct host *h = api_new(&api_kind_host);
	int r = -ENOMEM;
	if (h && string_set(&h->meta.name, f->c.host) >= 0 && fill_spec(f, h) == 0)
		r = kube_create(f->c.client, &api_kind_host, h, KUBE_CALL(fabric_host_on_done, f, &f->host_request),
		                err);
	else
		error_oom(err);
	api_free(&api_kind_host, h);
	return r;
}

static int fabric_host_fill_status(const struct fabric *f, struct host *h, const struct ready *ready) {
	char boot[64];
	struct host_status *s = h->status;
	if (!s->capacity && !(s->capacity = calloc(1, sizeof(*s->capacity))))
		return -ENOMEM;
	boot_id(boot);
	host_capacity_set(s->capacity, &f->c.capacity);
	if (string_set(&s->version, NACRE_VERSION) < 0 || string_set(&s->boot_id, boot) < 0)
		return -ENOMEM;
	if (f->c.condition) {
		struct fabric_condition c = {0};
		f->c.condition(&c, f->c.userdata);
		if (c.type && api_condition_set(&s->conditions.v, &s->conditions.n, c.type, c.holds ? "True" : "False",
		                                c.reason, c.message, h->meta.generation.v, now_realtime_us()) < 0)
			return -ENOMEM;
	}
	/* Only the controller writes and removes the condition that another Host has our VTEP. */
	const struct api_condition *is = fabric_host_ready(h);
	if (is && streq(is->reason, HOST_VTEP_CONFLICT))
		return 0;
	return api_condition_set(&s->conditions.v, &s->conditions.n, "Ready", ready->well ? "True" : "False",
	                         ready->reason, ready->message, h->meta.generation.v, now_realtime_us());
}

/* Returns 0 if a request is under way, -EALREADY if the status is correct already. */
static int patch_status(struct fabric *f, const struct host *have, const struct ready *ready, struct error *err) {
	struct host *now = api_copy_with_status(&api_kind_host, have);
	int r = now && fabric_host_fill_status(f, now, ready) >= 0
	                ? kube_patch_status(f->c.client, &api_kind_host, have, now,
	                                    KUBE_CALL(fabric_host_on_done, f, &f->host_request), err)
	                : error_oom(err);
	api_free(&api_kind_host, now);
	return r;
}

static int fabric_host_settle(struct fabric *f, const struct host *have, struct error *err) {
	char vtep[ADDR_STR_MAX];
	if (!have)
		return fabric_host_create(f, err);
	if (!streq(have->spec->vtep, addr_str(&f->c.underlay.vtep, vtep)) || !streq(have->spec->role, f->c.role)) {
		error_set(err, EADDRNOTAVAIL,
		          "Host %s has spec.role %s and spec.vtep %s, but its agent runs as %s with --vtep %s; change "
		          "the "
		          "Host or start the agent with other options",
		          f->c.host, have->spec->role, have->spec->vtep, f->c.role, vtep);
		struct error lost = {0};
		(void)!patch_status(f, have, &(struct ready){false, "OptionsDiffer", err->msg}, &lost);
		return -EADDRNOTAVAIL;
	}
	snprintf(f->uid, sizeof(f->uid), "%s", have->meta.uid ? have->meta.uid : "");
	/* Ready only once underlay and overlay are correct, and the host can do its work. */
	const bool well = f->joined && f->started && (!f->c.able || f->c.able(f->c.userdata));
	const struct api_condition *is = fabric_host_ready(have);
	if (!well && (!is || streq(is->reason, REASON_READY)))
		return 0;
	int r = patch_status(f, have, well ? &ready_well : &ready_starting, err);
	f->registered |= well && r == -EALREADY;
	return r == -EALREADY ? 0 : r;
}

void fabric_host_ensure(struct fabric *f) {
	struct error err = {0};
	if (f->host_request || !kube_cache_synced(f->hosts) || f->host_waits)
		return;
	const struct host *have = kube_cache_get(f->hosts, NULL, f->c.host);
	const struct api_condition *is = have ? fabric_host_ready(have) : NULL;
	if (!is || !streq(is->status, "Unknown"))
		fabric_heartbeat_start(f);
	/* To the API it exists, so a create would be refused; an update would be made of an older version. */
	if (kube_cache_count_bad(f->hosts) > 0)
		return;
	if (fabric_host_settle(f, have, &err) < 0)
		fabric_say(f, SUBJECT_HOST, &err);
}

void fabric_update(struct fabric *f) {
	fabric_host_ensure(f);
}

static void fabric_host_on_change(_unused_ const struct kube_change *ch, void *userdata) {
	fabric_host_ensure(userdata);
}

static void fabric_host_on_bad(_unused_ const struct kube_cache *c, _unused_ const char *ns, const char *name,
                               const struct error *why, void *userdata) {
	struct error err;
	error_set(&err, EBADMSG,
	          "Host %s is not understood, left as it was: %.300s; correct the object or, if a newer program wrote "
	          "it, upgrade this agent",
	          name, why->msg);
	fabric_say(userdata, SUBJECT_HOST, &err);
}

static void fabric_host_on_good(_unused_ const struct kube_cache *c, _unused_ const char *ns, _unused_ const char *name,
                                void *userdata) {
	fabric_say(userdata, SUBJECT_HOST, NULL);
	fabric_host_ensure(userdata);
}

int fabric_host_start(struct fabric *f, struct error *err) {
	char selector[300];
	struct kube_cache_options o = {
		.select = {.field_selector = selector},
		.bad = fabric_host_on_bad,
		.good = fabric_host_on_good,
		.userdata = f,
	};
	snprintf(selector, sizeof(selector), "metadata.name=%s", f->c.host);
	int r = kube_cache_new(&f->hosts, f->c.client, &api_kind_host, &o, err);
	if (r >= 0 && kube_cache_on_change(f->hosts, fabric_host_on_change, f) < 0)
		r = error_oom(err);
	return r;
}
