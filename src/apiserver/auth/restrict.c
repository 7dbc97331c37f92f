/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/restrict.h"

#include <string.h>

#include "api/addresspool.h"
#include "api/core.h"
#include "api/edgepeer.h"
#include "api/endpoint.h"
#include "api/host.h"
#include "api/instance.h"
#include "api/roles.h"
#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/body.h"
#include "apiserver/request/limits.h"
#include "apiserver/request/reply.h"
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

/* ---- what an agent may see ---- */

/*
 * The kinds that agents work with. OBJECT and FIELD say whose an object is: PREFIX and the host's name are the value
 * there. Without these everybody may read it.
 */
struct scope {
	const struct api_kind *kind;
	bool host, edge; /* whose agents read and write it */
	const char *object, *field, *prefix;
};

static const struct scope scopes[] = {
	{&api_kind_instance, true, false, "status", "host", ""},
	{&api_kind_host, true, true, "metadata", "name", ""},
	{&api_kind_lease, true, true, "metadata", "name", "host-"},
	{&api_kind_event, true, true, "source", "host", ""},
	{&api_kind_edgepeer, false, true, "spec", "edge", ""},
	{&api_kind_endpoint, true, true, NULL, NULL, ""},
	{&api_kind_addresspool, false, true, NULL, NULL, ""},
	{&api_kind_image, true, true, NULL, NULL, ""},
	{&api_kind_instancetype, true, true, NULL, NULL, ""},
};

static const struct scope *scope_of(const struct agent *a, const struct api_kind *k) {
	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++)
		if (scopes[i].kind == k && (a->edge ? scopes[i].edge : scopes[i].host))
			return &scopes[i];
	return NULL;
}

/* The value of the scope's field in the agent's own objects; NULL on no memory, which is nobody's. */
static char *own_value(const struct agent *a, const struct scope *sc) {
	return strf("%s%s", sc->prefix, a->host);
}

static bool is_own(const struct agent *a, const struct scope *sc, const json_t *obj) {
	_free_ char *value = own_value(a, sc);
	return value && obj && streq(field(obj, sc->object, sc->field), value);
}

/* One answer, whether the object is another host's or isn't there: it tells nothing. */
static int refuse_foreign(struct request *r, const struct agent *a, const struct scope *sc) {
	return refuse(r, NULL, NULL, "its %s.%s is not %s%s: %s %s may not see or write it", sc->object, sc->field,
	              sc->prefix, a->host, a->what, a->host);
}

/* A list or watch of what is scoped asks for the agent's own. */
static int check_list(struct request *r, const struct agent *a, const struct scope *sc) {
	const struct api_kind *k = r->route.kind;
	const struct status_details d = {.group = k->group, .kind = k->plural};
	_free_ char *name = strf("%s.%s", sc->object, sc->field), *value = own_value(a, sc);
	if (name && value && selector_requires(r->selector, name, value))
		return 0;
	reply_status(&r->reply, 403, "Forbidden", &d,
	             "%s%s%s is forbidden: %s %s may ask for its own %ss only, by fieldSelector=%s.%s=%s%s", k->plural,
	             *k->group ? "." : "", k->group, a->what, a->host, k->kind, sc->object, sc->field, sc->prefix,
	             a->host);
	return -EPERM;
}

int restrict_stored(struct request *r, const json_t *old) {
	struct agent a;
	if (!agent_of(r, &a))
		return 0;
	const struct scope *sc = a.host ? scope_of(&a, r->route.kind) : NULL;
	if (!sc)
		return refuse(r, NULL, NULL, "%s %s may not see or write any %s", a.what,
		              a.host ? a.host : r->user->name, r->route.kind->kind);
	if (r->route.kind == &api_kind_endpoint)
		return old && !streq(field(old, "spec", "host"), a.host)
		               ? refuse(r, NULL, NULL, "its spec.host is not %s: %s %s may not write it", a.host,
		                        a.what, a.host)
		               : 0;
	/* These are only there or not, which is no secret; and an agent makes its own anew. */
	const bool may_be_missing =
		sc->kind == &api_kind_host || sc->kind == &api_kind_lease || sc->kind == &api_kind_event;
	return !sc->object || is_own(&a, sc, old) || (!old && may_be_missing) ? 0 : refuse_foreign(r, &a, sc);
}

static int check_read(const struct auth *auth, struct request *r, const struct agent *a, const struct scope *sc) {
	const struct route *rt = &r->route;
	if (!sc->object)
		return 0;
	if (rt->verb != VERB_GET)
		return check_list(r, a, sc);
	const struct object *o = store_get(auth->store, rt->kind_index, rt->ns, rt->name);
	_json_decref_ json_t *obj = o ? object_load(o->value->data, o->value->len) : NULL;
	return restrict_stored(r, obj);
}

/* Of a Host and a Lease the path says whose it is, also of one that isn't there. */
static bool is_foreign_name(const struct request *r, const struct agent *a, const struct scope *sc) {
	_free_ char *value = own_value(a, sc);
	if (!streq(sc->object, "metadata"))
		return false;
	if (sc->kind == &api_kind_lease && !streq(r->route.ns, ROLES_SYSTEM_NS))
		return true;
	return *r->route.name && !streq(r->route.name, value);
}

int restrict_request(const struct auth *auth, struct request *r) {
	const struct route *rt = &r->route;
	const bool reads = rt->verb == VERB_GET || rt->verb == VERB_LIST || rt->verb == VERB_WATCH;
	struct agent a;
	if (!rt->kind || !agent_of(r, &a)) /* what has no kind is discovery, or a question about oneself */
		return 0;
	if (!a.host)
		return refuse(r, NULL, NULL, "user %s is in a group of agents, but its name says no host",
		              r->user->name);
	const struct scope *sc = scope_of(&a, rt->kind);
	if (!sc || rt->review || (!reads && sc->kind != &api_kind_endpoint && !sc->object))
		return refuse(r, NULL, NULL, "%s %s may not %s any %s", a.what, a.host, reads ? "see" : "write",
		              rt->review ? rt->review->kind : rt->kind->kind);
	if (rt->verb == VERB_DELETE_COLLECTION)
		return refuse(r, NULL, NULL, "agents may not delete collections");
	/* Each name that applies something has an entry in managedFields, of which there may be any number. */
	if (request_is_apply(r))
		return refuse(r, NULL, NULL, "agents may not apply: use another sort of patch");
	if (is_foreign_name(r, &a, sc))
		return refuse(r, NULL, NULL, "%s %s may see and write no %s but %s%s%s", a.what, a.host, rt->kind->kind,
		              sc->kind == &api_kind_lease ? ROLES_SYSTEM_NS "/" : "", sc->prefix, a.host);
	return reads ? check_read(auth, r, &a, sc) : 0;
}

/* ---- what an agent may write ---- */

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
		return refuse(r, old, obj, "its %s.%s is not %s: %s %s may not write it", object, name, a->host,
		              a->what, a->host);
	}
	return 0;
}

static bool same_member(const json_t *a, const json_t *b, const char *name) {
	const json_t *x = json_object_get(a, name), *y = json_object_get(b, name);
	return x == y || (x && y && json_equal(x, y));
}

/*
 * Labels place workloads, owner references and finalizers say what lives how long, and annotations hold as much as
 * fits: none of it is the agents' to write.
 */
static int check_meta(const struct agent *a, struct request *r, const json_t *old, const json_t *obj) {
	static const char *const names[] = {"labels", "annotations", "ownerReferences", "finalizers"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!same_member(object_meta(old), object_meta(obj), names[i]))
			return refuse(r, old, obj, "%s %s may not write metadata.%s: the operator does", a->what,
			              a->host, names[i]);
	return 0;
}

/*
 * An agent says where its host is when it makes its Host. Later changes are the operator's: of two Hosts with one VTEP
 * the older one has it, so that an agent could take that of every younger Host.
 */
static int check_host(const struct agent *a, struct request *r, const json_t *old, const json_t *obj) {
	static const char *const operators[] = {"unschedulable", "limits"};
	const char *name = object_meta_str(obj ? obj : old, "name"), *role = obj ? field(obj, "spec", "role") : NULL;
	if (!streq(name, a->host))
		return refuse(r, old, obj, "%s %s may write no Host but its own", a->what, a->host);
	if (!obj)
		return refuse(r, old, obj, "%s %s may not delete its Host", a->what, a->host);
	if (old && !same_member(old, obj, "spec"))
		return refuse(r, old, obj, "%s %s may not change the spec of its Host: the operator does", a->what,
		              a->host);
	for (size_t i = 0; !old && i < ARRAY_SIZE(operators); i++)
		if (json_object_get(json_object_get(obj, "spec"), operators[i]))
			return refuse(r, old, obj, "%s %s may not write spec.%s: the operator does", a->what, a->host,
			              operators[i]);
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

static json_t *load(const struct auth *auth, const struct api_kind *k, const char *ns, const char *name) {
	const struct object *o = ns && name ? store_get(auth->store, api_kind_index(k), ns, name) : NULL;
	return o ? object_load(o->value->data, o->value->len) : NULL;
}

/* About an object that is there and concerns the host, where that object is. */
static int check_event(const struct auth *auth, const struct agent *a, struct request *r, const json_t *old,
                       const json_t *obj) {
	static const struct api_kind *const kinds[] = {&api_kind_host, &api_kind_instance, &api_kind_edgepeer};
	const char *kind = obj ? field(obj, "involvedObject", "kind") : NULL;
	const char *ns = obj ? field(obj, "involvedObject", "namespace") : NULL;
	const char *name = obj ? field(obj, "involvedObject", "name") : NULL;
	const char *uid = obj ? field(obj, "involvedObject", "uid") : NULL;
	int e = check_owned(a, r, old, obj, "source", "host");
	if (e < 0)
		return e;
	if (!obj)
		return refuse(r, old, obj, "%s %s may not delete Events", a->what, a->host);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct api_kind *k = kinds[i];
		const struct scope *sc = scope_of(a, k);
		if (!streq(k->kind, kind) || !sc)
			continue;
		_json_decref_ json_t *about = load(auth, k, k->namespaced ? ns : "", name);
		if (!is_own(a, sc, about) || (uid && *uid && !streq(uid, object_meta_str(about, "uid"))))
			break;
		/* Where kube_event() and client-go put those of what has no namespace. */
		const char *place = k->namespaced ? ns : "default";
		if ((k->namespaced || !ns || !*ns) && streq(r->route.ns, place))
			return 0;
		return refuse(r, old, obj, "an Event about %s %s must be in namespace %s", kind, name, place);
	}
	return refuse(r, old, obj,
	              "%s %s may record Events only about what is there and its own: not about %.63s %.253s", a->what,
	              a->host, kind ? kind : "?", name ? name : "?");
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

static int check_endpoint_name(const struct agent *a, struct request *r, const json_t *old, const json_t *obj,
                               const char *prefix, const char *owner) {
	_free_ char *name = strf("%s%.253s", prefix, owner);
	if (name && streq(object_meta_str(obj, "name"), name))
		return 0;
	return refuse(r, old, obj, "%s %s must name this Endpoint %s%.253s", a->what, a->host, prefix, owner);
}

/* What leads to an instance: exactly what it was given, on the host that it was placed on. */
static int check_instance_endpoint(const struct auth *auth, const struct agent *a, struct request *r, const json_t *old,
                                   const json_t *obj) {
	static const char *const same[][2] = {{"ip", "overlayAddress"}, {"mac", "mac"}};
	const json_t *owner = json_object_get(json_object_get(obj, "spec"), "owner");
	const char *ns = json_string_value(json_object_get(owner, "namespace"));
	const char *name = json_string_value(json_object_get(owner, "name"));
	const char *uid = json_string_value(json_object_get(owner, "uid"));
	if (!streq(json_string_value(json_object_get(owner, "kind")), "Instance") || !ns || !name || !uid)
		return refuse(r, old, obj,
		              "host %s may announce only what leads to an Instance: spec.owner must name it", a->host);
	int e = check_endpoint_name(a, r, old, obj, ENDPOINT_OF_INSTANCE, uid);
	if (e < 0)
		return e;
	json_t *instance = load(auth, &api_kind_instance, ns, name);
	const char *host = field(instance, "status", "host"), *id = field(instance, "status", "id");
	/* As instance_id() has it. */
	if (!instance || !streq(id && *id ? id : object_meta_str(instance, "uid"), uid))
		e = refuse(r, old, obj, "its spec.owner, Instance %s/%s of uid %.63s, is not there", ns, name, uid);
	else if (!streq(host, a->host))
		e = refuse(r, old, obj, "its spec.owner, Instance %s/%s, is not on host %s", ns, name, a->host);
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
static int check_edge_endpoint(const struct auth *auth, const struct agent *a, struct request *r, const json_t *old,
                               const json_t *obj) {
	const unsigned kind = api_kind_index(&api_kind_addresspool);
	const char *text = field(obj, "spec", "ip");
	struct addr ip;
	int e = check_endpoint_name(a, r, old, obj, ENDPOINT_OF_EDGE, a->host);
	if (e < 0)
		return e;
	if (json_object_get(json_object_get(obj, "spec"), "owner"))
		return refuse(r, old, obj, "edge %s may not announce what belongs to another object", a->host);
	if (!text || addr_parse(text, &ip, NULL) < 0)
		return refuse(r, old, obj, "its spec.ip can't be read");
	for (const struct object *o = store_seek(auth->store, kind, "", ""); o; o = store_next(auth->store, kind, o)) {
		json_t *pool = object_load(o->value->data, o->value->len);
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

static int check_endpoint(const struct auth *auth, const struct agent *a, struct request *r, const json_t *old,
                          const json_t *obj) {
	int e = check_owned(a, r, old, obj, "spec", "host");
	if (e < 0 || !obj)
		return e;
	json_t *host = load(auth, &api_kind_host, "", a->host);
	const char *is = field(obj, "spec", "vtep"), *must = field(host, "spec", "vtep");
	if (!must)
		e = refuse(r, old, obj, "there is no Host %s yet, whose tunnel endpoint it must name", a->host);
	else if (!streq(is, must))
		e = refuse(r, old, obj, "its spec.vtep is %s, but spec.vtep of Host %s is %s", is ? is : "", a->host,
		           must);
	json_decref(host);
	if (e < 0)
		return e;
	return a->edge ? check_edge_endpoint(auth, a, r, old, obj) : check_instance_endpoint(auth, a, r, old, obj);
}

/* Before it is made: has the agent made too many lately? */
static int check_event_rate(const struct auth *auth, struct request *r, const json_t *old) {
	if (old || request_dry_run(r))
		return 0;
	struct party *p = limits_user(auth->limits, r->user);
	const bool ok = !p || party_event(p, now_monotonic_ns());
	if (!ok)
		limits_refuse(r, p, LIMIT_EVENTS);
	party_unref(p);
	return ok ? 0 : -EPERM;
}

int restrict_write(const struct auth *auth, struct request *r, const json_t *old, const json_t *obj, size_t len) {
	const struct api_kind *k = r->route.kind;
	struct agent a;
	if (!agent_of(r, &a))
		return 0;
	if (!a.host)
		return refuse(r, old, obj, "user %s is in a group of agents, but its name says no host", r->user->name);
	int e = obj ? check_meta(&a, r, old, obj) : 0;
	if (e < 0)
		return e;
	if (len > AGENT_OBJECT_MAX && (k == &api_kind_endpoint || k == &api_kind_lease || k == &api_kind_event))
		return refuse(r, old, obj, "it would take %zu bytes; of %s %s each %s may take %zu", len, a.what,
		              a.host, k->kind, AGENT_OBJECT_MAX);
	if (k == &api_kind_host)
		return check_host(&a, r, old, obj);
	if (k == &api_kind_lease)
		return check_lease(&a, r, old, obj);
	if (k == &api_kind_endpoint)
		return check_endpoint(auth, &a, r, old, obj);
	if (k == &api_kind_event) {
		e = check_event(auth, &a, r, old, obj);
		return e < 0 ? e : check_event_rate(auth, r, old);
	}
	if (k == &api_kind_instance && !a.edge)
		return check_instance(&a, r, old, obj);
	if (k == &api_kind_edgepeer && a.edge && r->route.status)
		return check_owned(&a, r, old, obj, "spec", "edge");
	return refuse(r, old, obj, "%s %s may not write any %s", a.what, a.host, k->kind);
}
