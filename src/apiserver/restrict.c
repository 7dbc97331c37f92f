/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/restrict.h"

#include <string.h>

#include "api/addresspool.h"
#include "api/core.h"
#include "api/edgepeer.h"
#include "api/endpoint.h"
#include "api/host.h"
#include "api/instance.h"
#include "api/roles.h"
#include "apiserver/object.h"
#include "apiserver/reply.h"
#include "apiserver/stage.h"
#include "base/util.h"

struct agent {
	const char *what; /* "host", "edge"; for messages */
	const char *host; /* NULL: its name is none of an agent's */
	bool edge;
};

/* False: R is no agent's. */
static bool agent_of(const struct request *r, struct agent *a) {
	const struct user *u = r->user;
	bool edge = user_in_group(u, ROLES_EDGES);
	const char *prefix = edge ? ROLES_EDGE_PREFIX : ROLES_HOST_PREFIX;
	if ((!edge && !user_in_group(u, ROLES_HOSTS)) || user_in_group(u, GROUP_MASTERS))
		return false;
	const char *host = starts_with(u->name, prefix) ? u->name + strlen(prefix) : NULL;
	*a = (struct agent){edge ? "edge" : "host", host && *host ? host : NULL, edge};
	return true;
}

static const char *field(const json_t *obj, const char *object, const char *name) {
	return json_string_value(json_object_get(json_object_get(obj, object), name));
}

static int refuse(struct request *r, const json_t *old, const json_t *obj, const char *fmt, ...) _printf_(4, 5);
static int refuse(struct request *r, const json_t *old, const json_t *obj, const char *fmt, ...) {
	char msg[700];
	const char *name = object_meta_str(obj ? obj : old, "name");
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	reply_forbidden(r, name ? name : r->route.name, NULL, "%s", msg);
	return -EPERM;
}

/* Both before and after it must be the agent's. */
static int check_owned(const struct agent *a, struct request *r, const json_t *old, const json_t *obj,
                       const char *object, const char *name) {
	const json_t *const states[] = {old, obj};
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		const char *host = states[i] ? field(states[i], object, name) : NULL;
		if (!states[i] || streq(host, a->host))
			continue;
		if (i == 1 && old)
			return refuse(r, old, obj, "%s %s may not change its %s.%s from %s to %s", a->what, a->host,
			              object, name, a->host, host && *host ? host : "none");
		if (!host || !*host)
			return refuse(r, old, obj, "it belongs to no host; %s %s may not write it", a->what, a->host);
		return refuse(r, old, obj, "it belongs to host %s; %s %s may not write it", host, a->what, a->host);
	}
	return 0;
}

static int check_host(const struct agent *a, struct request *r, const json_t *old, const json_t *obj) {
	const char *name = object_meta_str(obj ? obj : old, "name"), *role = obj ? field(obj, "spec", "role") : NULL;
	if (!streq(name, a->host))
		return refuse(r, old, obj, "%s %s may write no Host but its own", a->what, a->host);
	if (!obj)
		return refuse(r, old, obj, "%s %s may not delete its Host", a->what, a->host);
	if (a->edge == streq(role, "edge"))
		return 0;
	return refuse(r, old, obj, "%s %s may not have spec.role %s", a->what, a->host, role ? role : "compute");
}

static int check_lease(const struct agent *a, struct request *r, const json_t *old, const json_t *obj) {
	_free_ char *own = strf("host-%s", a->host);
	const char *name = object_meta_str(obj ? obj : old, "name");
	if (own && streq(name, own) && streq(r->route.ns, ROLES_SYSTEM_NS) && obj)
		return 0;
	return refuse(r, old, obj, "%s %s may write no Lease but %s/host-%s", a->what, a->host, ROLES_SYSTEM_NS,
	              a->host);
}

/* In the status of an instance these are the agent's, all else is the controller's. */
static int check_instance(const struct agent *a, struct request *r, const json_t *old, const json_t *obj) {
	static const char *const own[] = {"phase", "restarts", "conditions"};
	if (!r->route.status)
		return refuse(r, old, obj, "host %s may write only the status of an Instance", a->host);
	int e = check_owned(a, r, old, obj, "status", "host");
	if (e < 0)
		return e;
	json_t *before = json_copy(json_object_get(old, "status")), *now = json_copy(json_object_get(obj, "status"));
	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		json_object_del(before, own[i]);
		json_object_del(now, own[i]);
	}
	if (!before || !now || !json_equal(before, now))
		e = refuse(r, old, obj,
		           "host %s may change only phase, restarts and conditions in the status of an Instance",
		           a->host);
	json_decref(before);
	json_decref(now);
	return e;
}

/* Events of the agent's, about what is its host's or of no host any more. */
static int check_event(const struct server *s, const struct agent *a, struct request *r, const json_t *old,
                       const json_t *obj) {
	const char *kind = obj ? field(obj, "involvedObject", "kind") : NULL;
	const char *ns = obj ? field(obj, "involvedObject", "namespace") : NULL;
	const char *name = obj ? field(obj, "involvedObject", "name") : NULL;
	int e = check_owned(a, r, old, obj, "source", "host");
	if (e < 0)
		return e;
	if (!obj)
		return refuse(r, old, obj, "%s %s may not delete Events", a->what, a->host);
	if (streq(kind, "Host") && streq(name, a->host))
		return 0;
	if (a->edge && streq(kind, "EdgePeer"))
		return 0;
	if (a->edge || !streq(kind, "Instance") || !ns || !name)
		return refuse(r, old, obj, "%s %s may not record Events about %.63s %.253s", a->what, a->host,
		              kind ? kind : "?", name ? name : "?");
	const struct object *o = store_get(s->store, kind_index(&api_kind_instance), ns, name);
	json_t *instance = o ? object_load(o) : NULL;
	const char *host = instance ? field(instance, "status", "host") : a->host;
	if (!streq(host, a->host))
		e = refuse(r, old, obj, "Instance %s/%s belongs to %s%s; host %s may not record Events about it", ns,
		           name, host && *host ? "host " : "no host", host ? host : "", a->host);
	json_decref(instance);
	return e;
}

static json_t *load(const struct server *s, const struct api_kind *k, const char *ns, const char *name) {
	const struct object *o = ns && name ? store_get(s->store, kind_index(k), ns, name) : NULL;
	return o ? object_load(o) : NULL;
}

static bool is_one_of(const char *v, const char *a, const char *b) {
	return v && (streq(v, a) || streq(v, b));
}

/* Both routes are what the others may carry; more than these none has. */
static int check_routes(const struct agent *a, struct request *r, const json_t *old, const json_t *obj, const char *one,
                        const char *two) {
	size_t i;
	json_t *route;
	json_array_foreach(json_object_get(json_object_get(obj, "spec"), "routes"), i, route) {
		const char *prefix = json_string_value(json_object_get(route, "prefix"));
		if (!is_one_of(prefix, one, two))
			return refuse(r, old, obj,
			              "spec.routes[%zu].prefix %s is not for %s %s to announce here: only %s%s%s", i,
			              prefix ? prefix : "", a->what, a->host,
			              one   ? one
			              : two ? two
			                    : "nothing",
			              one && two ? " and " : "", one && two ? two : "");
	}
	return 0;
}

/* What leads to an instance: exactly what it was given, on the host that it was placed on. */
static int check_instance_endpoint(const struct server *s, const struct agent *a, struct request *r, const json_t *old,
                                   const json_t *obj) {
	static const char *const same[][2] = {{"ip", "overlayAddress"}, {"mac", "mac"}};
	const json_t *owner = json_object_get(json_object_get(obj, "spec"), "owner");
	const char *ns = json_string_value(json_object_get(owner, "namespace"));
	const char *name = json_string_value(json_object_get(owner, "name"));
	const char *uid = json_string_value(json_object_get(owner, "uid"));
	if (!streq(json_string_value(json_object_get(owner, "kind")), "Instance") || !ns || !name || !uid)
		return refuse(r, old, obj,
		              "host %s may announce only what leads to an Instance: spec.owner must name it", a->host);
	json_t *instance = load(s, &api_kind_instance, ns, name);
	const char *host = field(instance, "status", "host"), *id = field(instance, "status", "id");
	int e = 0;
	/* As instance_id() has it. */
	if (!instance || !streq(id && *id ? id : object_meta_str(instance, "uid"), uid))
		e = refuse(r, old, obj, "its spec.owner, Instance %s/%s of uid %.63s, is not there", ns, name, uid);
	else if (!streq(host, a->host))
		e = refuse(r, old, obj, "its spec.owner, Instance %s/%s, belongs to %s%s; host %s may not announce it",
		           ns, name, host && *host ? "host " : "no host", host ? host : "", a->host);
	for (size_t i = 0; e == 0 && i < ARRAY_SIZE(same); i++) {
		const char *is = field(obj, "spec", same[i][0]), *must = field(instance, "status", same[i][1]);
		if (!streq(is, must))
			e = refuse(r, old, obj, "its spec.%s is %s, but status.%s of Instance %s/%s is %s", same[i][0],
			           is ? is : "", same[i][1], ns, name, must && *must ? must : "empty");
	}
	if (e == 0)
		e = check_routes(a, r, old, obj, field(instance, "status", "prefix"),
		                 field(instance, "status", "delegatedPrefix"));
	json_decref(instance);
	return e;
}

/* The way out, by an address that no instance can have. */
static int check_edge_endpoint(const struct server *s, const struct agent *a, struct request *r, const json_t *old,
                               const json_t *obj) {
	const unsigned kind = kind_index(&api_kind_addresspool);
	const char *text = field(obj, "spec", "ip");
	struct addr ip;
	if (json_object_get(json_object_get(obj, "spec"), "owner"))
		return refuse(r, old, obj, "edge %s may not announce what belongs to another object", a->host);
	if (!text || addr_parse(text, &ip, NULL) < 0)
		return refuse(r, old, obj, "its spec.ip can't be read");
	for (const struct object *o = store_seek(s->store, kind, "", ""); o; o = store_next(s->store, kind, o)) {
		json_t *pool = object_load(o);
		const char *prefix = field(pool, "spec", "prefix");
		struct prefix p;
		bool inside = prefix && prefix_parse(prefix, &p, NULL) == 0 && prefix_contains_addr(&p, &ip);
		json_decref(pool);
		if (inside)
			return refuse(r, old, obj,
			              "its spec.ip %s lies in AddressPool %s, whose addresses are for others", text,
			              o->name);
	}
	return check_routes(a, r, old, obj, "::/0", "0.0.0.0/0");
}

static int check_endpoint(const struct server *s, const struct agent *a, struct request *r, const json_t *old,
                          const json_t *obj) {
	int e = check_owned(a, r, old, obj, "spec", "host");
	if (e < 0 || !obj)
		return e;
	json_t *host = load(s, &api_kind_host, "", a->host);
	const char *is = field(obj, "spec", "vtep"), *must = field(host, "spec", "vtep");
	if (!must)
		e = refuse(r, old, obj, "there is no Host %s yet, whose tunnel endpoint it must name", a->host);
	else if (!streq(is, must))
		e = refuse(r, old, obj, "its spec.vtep is %s, but spec.vtep of Host %s is %s", is ? is : "", a->host,
		           must);
	json_decref(host);
	if (e < 0)
		return e;
	return a->edge ? check_edge_endpoint(s, a, r, old, obj) : check_instance_endpoint(s, a, r, old, obj);
}

int restrict_write(const struct server *s, struct request *r, const json_t *old, const json_t *obj) {
	const struct api_kind *k = r->route.kind;
	struct agent a;
	if (!agent_of(r, &a))
		return 0;
	if (!a.host)
		return refuse(r, old, obj, "user %s is in a group of agents, but its name says no host", r->user->name);
	if (k == &api_kind_host)
		return check_host(&a, r, old, obj);
	if (k == &api_kind_lease)
		return check_lease(&a, r, old, obj);
	if (k == &api_kind_endpoint)
		return check_endpoint(s, &a, r, old, obj);
	if (k == &api_kind_event)
		return check_event(s, &a, r, old, obj);
	if (k == &api_kind_instance && !a.edge)
		return check_instance(&a, r, old, obj);
	if (k == &api_kind_edgepeer && a.edge && r->route.status)
		return check_owned(&a, r, old, obj, "spec", "edge");
	return refuse(r, old, obj, "%s %s may not write any %s", a.what, a.host, k->kind);
}

/* Is "FIELD=VALUE" one of the terms of the field selector? */
static bool selects(const struct request *r, const char *name, const char *value) {
	const char *p = request_param(r, "fieldSelector");
	size_t n = strlen(name), m = strlen(value);
	while (p && *p) {
		size_t len = strcspn(p, ",");
		size_t eq = strncmp(p + (len > n ? n : len), "==", 2) == 0 ? 2 : 1;
		if (len == n + eq + m && strncmp(p, name, n) == 0 && p[n] == '=' && strncmp(p + n + eq, value, m) == 0)
			return true;
		p += len + (p[len] == ',');
	}
	return false;
}

int restrict_request(const struct server *s, struct request *r) {
	const struct route *rt = &r->route;
	struct agent a;
	if (rt->verb == VERB_DELETE_COLLECTION && agent_of(r, &a))
		return refuse(r, NULL, NULL, "agents may not delete collections");
	bool reads = rt->verb == VERB_GET || rt->verb == VERB_LIST || rt->verb == VERB_WATCH;
	if (!reads || rt->kind != &api_kind_instance || !agent_of(r, &a))
		return 0;
	if (!a.host)
		return refuse(r, NULL, NULL, "user %s is in a group of agents, but its name says no host",
		              r->user->name);
	if (rt->verb != VERB_GET) {
		if (selects(r, "status.host", a.host))
			return 0;
		const struct status_details d = {.group = rt->kind->group, .kind = rt->kind->plural};
		reply_status(&r->reply, 403, "Forbidden", &d,
		             "instances.nacre.dev is forbidden: %s %s may ask for its own Instances only, by "
		             "fieldSelector=status.host=%s",
		             a.what, a.host, a.host);
		return -EPERM;
	}
	const struct object *o = store_get(s->store, rt->kind_index, rt->ns, rt->name);
	json_t *obj = o ? object_load(o) : NULL;
	int e = 0;
	if (o && !streq(field(obj, "status", "host"), a.host))
		e = refuse(r, NULL, obj, "it does not belong to %s %s, which may not read it", a.what, a.host);
	json_decref(obj);
	return e;
}
