/* SPDX-License-Identifier: Apache-2.0 */
#include "node/desired.h"

#include <string.h>

#include "base/util.h"

const char *desired_endpoint_name(const char *id, char out[static DESIRED_NAME_MAX]) {
	snprintf(out, DESIRED_NAME_MAX, ENDPOINT_OF_INSTANCE "%s", id);
	return out;
}

const char *desired_endpoint_id(const char *name) {
	const char *id = starts_with(name, ENDPOINT_OF_INSTANCE) ? name + strlen(ENDPOINT_OF_INSTANCE) : "";

	return strlen(id) == 36 ? id : NULL;
}

static bool put_route(struct endpoint_spec *s, const char *prefix) {
	if (!prefix || !*prefix)
		return true;
	s->routes.v[s->routes.n].prefix = strdup(prefix);
	return s->routes.v[s->routes.n++].prefix != NULL;
}

struct endpoint *desired_endpoint(const struct instance *inst, const char *host, const char *vtep) {
	char name[DESIRED_NAME_MAX];
	struct endpoint *ep = api_new(&api_kind_endpoint);
	struct endpoint_spec *s = calloc(1, sizeof(*s));

	if (!ep || !s) {
		free(s);
		api_free(&api_kind_endpoint, ep);
		return NULL;
	}
	ep->spec = s;
	ep->meta.name = strdup(desired_endpoint_name(instance_id(inst), name));
	s->host = strdup(host);
	s->vtep = strdup(vtep);
	s->ip = strdup(inst->status->overlay_address);
	s->mac = strdup(inst->status->mac);
	s->routes.v = calloc(2, sizeof(*s->routes.v));
	s->owner = calloc(1, sizeof(*s->owner));
	bool ok = ep->meta.name && s->host && s->vtep && s->ip && s->mac && s->routes.v && s->owner;
	if (ok) {
		s->owner->kind = strdup("Instance");
		s->owner->ns = strdup(inst->meta.ns);
		s->owner->name = strdup(inst->meta.name);
		s->owner->uid = strdup(instance_id(inst));
		ok = s->owner->kind && s->owner->ns && s->owner->name && s->owner->uid &&
		     put_route(s, inst->status->prefix) && put_route(s, inst->status->delegated_prefix);
	}
	if (!ok) {
		api_free(&api_kind_endpoint, ep);
		return NULL;
	}
	return ep;
}

struct instance *desired_status(const struct instance *inst, const char *phase, int64_t restarts, bool ready,
                                const char *reason, const char *message) {
	struct instance *n = api_copy_with_status(&api_kind_instance, inst);

	if (!n)
		return NULL;
	struct instance_status *st = n->status;
	if (string_set(&st->phase, phase) < 0)
		goto failed;
	if (restarts)
		st->restarts = API_I64((st->restarts.set ? st->restarts.v : 0) + restarts);
	if (api_condition_set(&st->conditions.v, &st->conditions.n, "Ready", ready ? "True" : "False", reason, message,
	                      n->meta.generation.v, now_realtime_us()) < 0)
		goto failed;
	return n;
failed:
	api_free(&api_kind_instance, n);
	return NULL;
}
