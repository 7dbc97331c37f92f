/* SPDX-License-Identifier: Apache-2.0 */
#include "api/endpoint.h"

#include <string.h>
#include <sys/socket.h>

#include "api/access.h"
#include "api/addresspool.h"
#include "api/agents.h"
#include "api/host.h"
#include "api/instance.h"
#include "base/inet.h"
#include "base/util.h"

static int check_group_id(const char *s, struct error *err) {
	if (strlen(s) == ENDPOINT_GROUP_LENGTH && strspn(s, "0123456789abcdef") == ENDPOINT_GROUP_LENGTH)
		return 0;
	return error_set(err, EINVAL, "`%.80s` must be %d hexadecimal digits", s, ENDPOINT_GROUP_LENGTH);
}

static const struct api_format api_format_group_id = {"group id", "^[0-9a-f]{32}$", NULL, NULL, check_group_id};
API_DEFINE(endpoint_route, ENDPOINT_ROUTE)
API_DEFINE(endpoint_spec, ENDPOINT_SPEC)
API_DEFINE(endpoint_status, ENDPOINT_STATUS)
API_DEFINE(endpoint, ENDPOINT)

/* As AddressPools hand slices out: 2^k ports, and the first one is a multiple of that. */
static bool endpoint_ports_are_slice(int64_t first, int64_t last) {
	int64_t size = last - first + 1;
	return size <= 32768 && (size & (size - 1)) == 0 && first % size == 0;
}

static void endpoint_check(const void *obj, struct api_errors *errs) {
	const struct endpoint_spec *s = ((const struct endpoint *)obj)->spec;
	for (size_t i = 0; i < s->routes.n; i++) {
		const struct endpoint_route *r = &s->routes.v[i];
		struct prefix p;
		char path[64];
		snprintf(path, sizeof(path), "spec.routes[%zu]", i);
		if (r->first_port.set != r->last_port.set)
			api_errors_add(errs, API_INVALID, path, "must have both firstPort and lastPort, or neither");
		else if (r->first_port.set && r->first_port.v > r->last_port.v)
			api_errors_add(errs, API_INVALID, path, "firstPort is greater than lastPort");
		else if (r->first_port.set && !endpoint_ports_are_slice(r->first_port.v, r->last_port.v))
			api_errors_add(
				errs, API_INVALID, path,
				"must have 2^k ports, at most 32768, and firstPort be a multiple of their number");
		else if (r->first_port.set &&
		         (prefix_parse(r->prefix, &p, NULL) < 0 || p.addr.family != AF_INET || p.len != 32))
			api_errors_add(errs, API_INVALID, path, "ports are only for one IPv4 address, a /32");
	}
}

static const struct api_rule rules[] = {
	{"spec.routes[]",
         "has(self.firstPort) ? has(self.lastPort) && self.firstPort <= self.lastPort && "
         "self.prefix.endsWith('/32') && !self.prefix.contains(':') : !has(self.lastPort)",
         "firstPort and lastPort go together, and are only for one IPv4 address, a /32"},
	{"spec.routes[]",
         "!has(self.firstPort) || !has(self.lastPort) || "
         "(self.lastPort - self.firstPort + 1) in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, "
         "16384, "
         "32768] && self.firstPort % (self.lastPort - self.firstPort + 1) == 0",
         "must have 2^k ports, at most 32768, and firstPort be a multiple of their number"},
	{0},
};
static const char *const short_names[] = {"ep", NULL};
static const char *const selectable[] = {"spec.host", NULL};
static const struct api_column columns[] = {
	{"Host", "string", ".spec.host", "Host of the endpoint.", 0},
	{"IP", "string", ".spec.ip", "Address in the overlay.", 0},
	{"Routes", "string", ".spec.routes[*].prefix", "Prefixes reached through it.", 0},
	{"VTEP", "string", ".spec.vtep", "Tunnel endpoint of the host.", 1},
	{"MAC", "string", ".spec.mac", "MAC in the overlay.", 1},
	{0},
};

static const struct access_grant grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ " delete"},
	{ACCESS_CONTROLLER, "status", "get update patch"},
	{0},
};

/* ---- what agents may announce ---- */

static int check_vtep(const struct access_write *w, struct error *err) {
	json_t *host = w->load(w->store, &api_kind_host, "", w->agent->host);
	const char *is = access_string(w->obj, "spec.vtep"), *must = access_string(host, "spec.vtep");
	int r = 0;
	if (!must)
		r = error_set(err, EPERM, "there is no Host %s yet, whose spec.vtep it must have", w->agent->host);
	else if (!streq(is, must))
		r = error_set(err, EPERM, "its spec.vtep is %s, but spec.vtep of Host %s is %s", is ? is : "",
		              w->agent->host, must);
	json_decref(host);
	return r;
}

static int check_name(const struct access_write *w, const char *prefix, const char *owner, struct error *err) {
	_free_ char *name = strf("%s%.253s", prefix, owner);
	if (name && streq(access_string(w->obj, "metadata.name"), name))
		return 0;
	return error_set(err, EPERM, "%s %s must name this Endpoint %s%.253s", w->agent->what, w->agent->host, prefix,
	                 owner);
}

/* Checks that MAY allows each of the routes, and that none occurs twice. WHAT says which ones MAY allows. */
static int check_routes(const struct access_write *w,
                        bool (*may)(const struct access_write *w, const json_t *route, const json_t *of),
                        const json_t *of, const char *what, struct error *err) {
	const json_t *routes = json_object_get(json_object_get(w->obj, "spec"), "routes");
	for (size_t i = 0; i < json_array_size(routes); i++) {
		const json_t *route = json_array_get(routes, i);
		const char *prefix = access_string(route, "prefix");
		if (!prefix || !may(w, route, of))
			return error_set(err, EPERM,
			                 "spec.routes[%zu].prefix %s may not be announced here by %s %s: only %s", i,
			                 prefix ? prefix : "", w->agent->what, w->agent->host, what);
		for (size_t k = 0; k < i; k++)
			if (json_equal(route, json_array_get(routes, k)))
				return error_set(err, EPERM, "spec.routes[%zu].prefix %s occurs twice", i, prefix);
	}
	return 0;
}

static bool is_default_route(_unused_ const struct access_write *w, const json_t *route, _unused_ const json_t *of) {
	const char *prefix = access_string(route, "prefix");
	return (streq(prefix, "::/0") || streq(prefix, "0.0.0.0/0")) && json_object_size(route) == 1;
}

/* True if the prefix of ROUTE is the whole of ADDRESS. */
static bool is_address(const json_t *route, const char *address) {
	const char *prefix = access_string(route, "prefix");
	size_t n = address ? strlen(address) : 0;
	return n && strncmp(prefix, address, n) == 0 && streq(prefix + n, "/32");
}

/* True if Instance OF was given what ROUTE says. */
static bool is_route_of(_unused_ const struct access_write *w, const json_t *route, const json_t *of) {
	const char *prefix = access_string(route, "prefix");
	const json_t *first = json_object_get(route, "firstPort"), *last = json_object_get(route, "lastPort"), *slice;
	size_t i;
	if (!first && !last)
		return streq(prefix, access_string(of, "status.prefix")) ||
		       streq(prefix, access_string(of, "status.delegatedPrefix")) ||
		       (streq(access_string(of, "spec.ipv4"), "dedicated") &&
		        is_address(route, access_string(of, "status.publicIPv4")));
	json_array_foreach(json_object_get(json_object_get(of, "status"), "portSlices"), i, slice) {
		if (is_address(route, access_string(slice, "address")) &&
		    json_equal(first, json_object_get(slice, "firstPort")) &&
		    json_equal(last, json_object_get(slice, "lastPort")))
			return true;
	}
	return false;
}

/*
 * Checks an Endpoint of an instance: it must have exactly the addresses of the instance, and be on the instance's host.
 */
static int check_of_instance(const struct access_write *w, struct error *err) {
	static const char *const same[][2] = {{"spec.ip", "status.overlayAddress"}, {"spec.mac", "status.mac"}};
	const char *ns = access_string(w->obj, "spec.owner.namespace");
	const char *name = access_string(w->obj, "spec.owner.name");
	const char *uid = access_string(w->obj, "spec.owner.uid");
	if (!streq(access_string(w->obj, "spec.owner.kind"), "Instance") || !ns || !name || !uid)
		return error_set(err, EPERM,
		                 "host %s may announce only Endpoints of Instances: spec.owner must name the Instance",
		                 w->agent->host);
	int r = check_name(w, ENDPOINT_OF_INSTANCE, uid, err);
	if (r < 0)
		return r;
	json_t *instance = w->load(w->store, &api_kind_instance, ns, name);
	const char *id = access_string(instance, "status.id");
	/* The same rule as in instance_id(). */
	if (!instance || !streq(id && *id ? id : access_string(instance, "metadata.uid"), uid))
		r = error_set(err, EPERM, "its spec.owner, Instance %s/%s of uid %.63s, doesn't exist", ns, name, uid);
	else if (!streq(access_string(instance, "status.host"), w->agent->host))
		r = error_set(err, EPERM, "its spec.owner, Instance %s/%s, is not on host %s", ns, name,
		              w->agent->host);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(same); i++) {
		const char *is = access_string(w->obj, same[i][0]), *must = access_string(instance, same[i][1]);
		if (!streq(is, must))
			r = error_set(err, EPERM, "its %s is %s, but %s of Instance %s/%s is %s", same[i][0],
			              is ? is : "", same[i][1], ns, name, must && *must ? must : "empty");
	}
	if (r == 0)
		r = check_routes(w, is_route_of, instance, "what the Instance's status says", err);
	json_decref(instance);
	return r;
}

static bool pool_holds(const json_t *pool, const void *ip) {
	const char *prefix = access_string(pool, "spec.prefix");
	struct prefix p;
	return prefix && prefix_parse(prefix, &p, NULL) == 0 && prefix_contains_addr(&p, ip);
}

/* True for the pool with use shared whose prefix is PREFIX. */
static bool pool_shares(const json_t *pool, const void *prefix) {
	return streq(access_string(pool, "spec.use"), "shared") && streq(access_string(pool, "spec.prefix"), prefix);
}

static bool is_shared_pool(const struct access_write *w, const json_t *route, _unused_ const json_t *of) {
	return json_object_size(route) == 1 &&
	       w->find(w->store, &api_kind_addresspool, pool_shares, access_string(route, "prefix"));
}

/* Checks an Endpoint that belongs to the agent's Host: its address must be one that no instance can have. */
static int check_of_host(const struct access_write *w, const char *prefix, struct error *err) {
	const char *text = access_string(w->obj, "spec.ip");
	struct addr ip;
	int r = check_name(w, prefix, w->agent->host, err);
	if (r < 0)
		return r;
	if (json_object_get(json_object_get(w->obj, "spec"), "owner"))
		return error_set(err, EPERM, "%s %s may not announce an Endpoint with spec.owner", w->agent->what,
		                 w->agent->host);
	if (!text || addr_parse(text, &ip, NULL) < 0)
		return error_set(err, EPERM, "its spec.ip can't be read");
	const char *pool = w->find(w->store, &api_kind_addresspool, pool_holds, &ip);
	if (pool)
		return error_set(err, EPERM,
		                 "its spec.ip %s is in AddressPool %s, whose addresses are handed out to others", text,
		                 pool);
	return 0;
}

/* The way to the internet. */
static int check_of_edge(const struct access_write *w, struct error *err) {
	int r = check_of_host(w, ENDPOINT_OF_EDGE, err);
	return r < 0 ? r : check_routes(w, is_default_route, NULL, "::/0 and 0.0.0.0/0", err);
}

/* The way to the owners of slices. */
static int check_of_balancer(const struct access_write *w, struct error *err) {
	int r = check_of_host(w, ENDPOINT_OF_BALANCER, err);
	return r < 0 ? r : check_routes(w, is_shared_pool, NULL, "the prefixes of AddressPools with use shared", err);
}

/*
 * A policy can't look up the Host and the Instance; nacre-controller deletes an Endpoint that doesn't match them. What
 * the policy checks itself keeps an agent of a host from default routes, and all agents from the names of others'
 * Endpoints.
 */
static const struct access_rule agent_rules[] = {
	{ACCESS_OF_ALL, "may announce only the spec.vtep of its Host, which must exist", check_vtep, NULL},
	{ACCESS_OF_HOST,
         "may announce only Endpoints of Instances on its host, which spec.owner names: the address, MAC, /64, /60 "
         "and public IPv4 of the Instance, as Endpoint " ENDPOINT_OF_INSTANCE "UID",
         check_of_instance,
         "has(object.spec.owner) && object.spec.owner.kind == 'Instance' && has(object.spec.owner.namespace) && "
         "object.metadata.name == '" ENDPOINT_OF_INSTANCE "' + object.spec.owner.uid && "
         "(!has(object.spec.routes) || size(object.spec.routes) <= 18 && "
         "object.spec.routes.all(r, r.prefix.endsWith('/64') || r.prefix.endsWith('/60') || "
         "r.prefix.endsWith('/32') && !r.prefix.contains(':')) && "
         "size(object.spec.routes.filter(r, r.prefix.endsWith('/32') && !has(r.firstPort))) <= 1 && "
         "size(object.spec.routes.filter(r, r.prefix.endsWith('/64'))) <= 1 && "
         "size(object.spec.routes.filter(r, r.prefix.endsWith('/60'))) <= 1)"},
	{ACCESS_OF_EDGE,
         "may announce only ::/0 and 0.0.0.0/0, without spec.owner, by an address that is in no AddressPool, as "
         "Endpoint " ENDPOINT_OF_EDGE "NAME",
         check_of_edge,
         "object.metadata.name == '" ENDPOINT_OF_EDGE "' + variables.host && !has(object.spec.owner) && "
         "(!has(object.spec.routes) || size(object.spec.routes) <= 2 && "
         "object.spec.routes.all(r, r.prefix in ['::/0', '0.0.0.0/0'] && !has(r.firstPort)) && "
         "size(object.spec.routes.filter(r, r.prefix == '::/0')) <= 1 && "
         "size(object.spec.routes.filter(r, r.prefix == '0.0.0.0/0')) <= 1)"},
	{ACCESS_OF_BALANCER,
         "may announce only the prefixes of AddressPools with use shared, without spec.owner, by an address that is in "
         "no AddressPool, as Endpoint " ENDPOINT_OF_BALANCER "NAME",
         check_of_balancer,
         "object.metadata.name == '" ENDPOINT_OF_BALANCER "' + variables.host && !has(object.spec.owner) && "
         "(!has(object.spec.routes) || object.spec.routes.all(r, !r.prefix.contains(':') && "
         "r.prefix.matches('/(1[89]|2[0-9]|3[0-2])$') && !has(r.firstPort)))"},
	{0},
};
static const struct api_access endpoint_access = {
	.grants = grants,
	.agents = {.whose = ACCESS_OF_ALL,
                   .own = "spec.host",
                   .sees_all = true,
                   .reads = ACCESS_READ,
                   .creates = "*",
                   .updates = "*",
                   .deletes = true,
                   .max_bytes = ACCESS_SMALL,
                   .rules = agent_rules},
};

const struct api_kind api_kind_endpoint = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Endpoint",
	.plural = "endpoints",
	.singular = "endpoint",
	.short_names = short_names,
	.has_status = true,
	.doc = "An instance, edge or balancer in the public overlay, and the prefixes that are reached through it.",
	.desc = &api_desc_endpoint,
	.access = &endpoint_access,
	.max_bytes = ENDPOINT_MAX,
	.check = endpoint_check,
	.rules = rules,
	.columns = columns,
	.selectable_fields = selectable,
};

bool endpoint_name_is_own(const struct endpoint *e) {
	const struct api_object_ref *o = e->spec->owner;
	const char *id =
		starts_with(e->meta.name, ENDPOINT_OF_INSTANCE) ? e->meta.name + strlen(ENDPOINT_OF_INSTANCE) : NULL;
	if (id || (o && streq(o->kind, "Instance")))
		return id && o && streq(o->kind, "Instance") && streq(o->uid, id);
	for (const struct agent_kind *k = agent_kinds; k->whose; k++)
		if (k->endpoint && starts_with(e->meta.name, k->endpoint))
			return !o && streq(e->spec->host, e->meta.name + strlen(k->endpoint));
	return true;
}

bool endpoint_name_is_reserved(const char *name) {
	bool reserved = starts_with(name, ENDPOINT_OF_INSTANCE);
	for (const struct agent_kind *k = agent_kinds; k->whose; k++)
		reserved |= k->endpoint && starts_with(name, k->endpoint);
	return reserved;
}

bool endpoint_route_value(const struct endpoint_route *r, char out[static SLICE_STR_MAX]) {
	struct prefix p;
	if (!endpoint_route_is_slice(r) || prefix_parse(r->prefix, &p, NULL) < 0)
		return false;
	slice_str(&(struct slice){p.addr, (uint16_t)r->first_port.v, (uint16_t)r->last_port.v}, out);
	return true;
}
