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

/* The public IPv4 of ST: an address of its own, or slices of the ports of shared ones. S has room for them. */
static bool put_ipv4(struct endpoint_spec *s, enum instance_ipv4 how, const struct instance_status *st) {
	char prefix[PREFIX_STR_MAX];

	if (how == INSTANCE_IPV4_DEDICATED && st->public_ipv4 && *st->public_ipv4) {
		snprintf(prefix, sizeof(prefix), "%s/32", st->public_ipv4);
		return put_route(s, prefix);
	}
	for (size_t i = 0; how == INSTANCE_IPV4_SHARED && i < st->port_slices.n; i++) {
		const struct instance_slice *slice = &st->port_slices.v[i];
		snprintf(prefix, sizeof(prefix), "%s/32", slice->address);
		s->routes.v[s->routes.n].first_port = slice->first_port;
		s->routes.v[s->routes.n].last_port = slice->last_port;
		if (!put_route(s, prefix))
			return false;
	}
	return true;
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
	s->routes.v = calloc(3 + inst->status->port_slices.n, sizeof(*s->routes.v));
	s->owner = calloc(1, sizeof(*s->owner));
	bool ok = ep->meta.name && s->host && s->vtep && s->ip && s->mac && s->routes.v && s->owner;
	if (ok) {
		s->owner->kind = strdup("Instance");
		s->owner->ns = strdup(inst->meta.ns);
		s->owner->name = strdup(inst->meta.name);
		s->owner->uid = strdup(instance_id(inst));
		ok = s->owner->kind && s->owner->ns && s->owner->name && s->owner->uid &&
		     put_route(s, inst->status->prefix) && put_route(s, inst->status->delegated_prefix) &&
		     put_ipv4(s, instance_ipv4(inst->spec), inst->status);
	}
	if (!ok) {
		api_free(&api_kind_endpoint, ep);
		return NULL;
	}
	return ep;
}

static bool has_route(const struct endpoint *ep, const struct endpoint_route *r) {
	const struct endpoint_spec *s = ep->spec;

	for (size_t i = 0; i < s->routes.n; i++)
		if (api_equal(&api_desc_endpoint_route, &s->routes.v[i], r))
			return true;
	return false;
}

bool desired_endpoint_loses_slice(const struct endpoint *now, const struct endpoint *want) {
	for (size_t i = 0; i < now->spec->routes.n; i++)
		if (endpoint_route_is_slice(&now->spec->routes.v[i]) && !has_route(want, &now->spec->routes.v[i]))
			return true;
	return false;
}

static bool copy_counts(struct instance_firewall *to, const struct instance_firewall *from) {
	api_clear(&api_desc_instance_firewall, to);
	to->dropped_in = from->dropped_in;
	to->dropped_out = from->dropped_out;
	to->rules.v = calloc(from->rules.n + 1, sizeof(*to->rules.v));
	for (size_t i = 0; to->rules.v && i < from->rules.n; i++) {
		const struct instance_counter *row = &from->rules.v[i];
		struct instance_counter *copy = &to->rules.v[to->rules.n++];
		*copy = (struct instance_counter){.firewall = strdup(row->firewall),
		                                  .direction = strdup(row->direction),
		                                  .rule = strdup(row->rule),
		                                  .packets = row->packets,
		                                  .bytes = row->bytes};
		if (!copy->firewall || !copy->direction || !copy->rule)
			return false;
	}
	return to->rules.v != NULL;
}

static bool put_firewall(struct instance *n, const struct guest_firewall *f, uint64_t now) {
	struct instance_status *st = n->status;

	if (api_condition_set(&st->conditions.v, &st->conditions.n, FIREWALL_INSTANCE_CONDITION,
	                      f->whole ? "True" : "False", f->reason, f->message, n->meta.generation.v, now) < 0)
		return false;
	if (!f->counts)
		return true;
	if (!st->firewall)
		st->firewall = calloc(1, sizeof(*st->firewall));
	return st->firewall && copy_counts(st->firewall, f->counts);
}

struct instance *desired_status(const struct instance *inst, const struct desired_status *d) {
	struct instance *n = api_copy_with_status(&api_kind_instance, inst);

	if (!n)
		return NULL;
	struct instance_status *st = n->status;
	uint64_t now = now_realtime_us();
	if (string_set(&st->phase, d->phase) < 0)
		goto failed;
	if (d->restarts)
		st->restarts = API_I64((st->restarts.set ? st->restarts.v : 0) + d->restarts);
	if (api_condition_set(&st->conditions.v, &st->conditions.n, "Ready", d->ready ? "True" : "False", d->reason,
	                      d->message, n->meta.generation.v, now) < 0)
		goto failed;
	if (d->firewall && !put_firewall(n, d->firewall, now))
		goto failed;
	if (!d->ports)
		return n;
	st->port_slices_wanted = API_I64(d->ports->wanted);
	bool out = d->ports->exhausted;
	if (api_condition_set(&st->conditions.v, &st->conditions.n, "PortsAvailable", out ? "False" : "True",
	                      out ? "PortsExhausted" : "Available",
	                      out ? d->ports->message : "new connections find a free port", n->meta.generation.v,
	                      now) < 0)
		goto failed;
	return n;
failed:
	api_free(&api_kind_instance, n);
	return NULL;
}
