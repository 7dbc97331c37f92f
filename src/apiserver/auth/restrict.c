/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/restrict.h"

#include <string.h>

#include "api/agents.h"
#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/body.h"
#include "apiserver/request/limits.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

/* False: R is not from an agent. RET->host NULL: the user is in a group of agents, but has no agent's name. */
static bool agent_of(const struct request *r, struct access_agent *ret) {
	const struct user *u = r->user;
	const struct agent_kind *k = agent_kind_of_user(u->name);
	if (!user_is_agent(u) || user_in_group(u, GROUP_MASTERS))
		return false;
	const char *host = k && user_in_group(u, k->group) ? u->name + strlen(k->user_prefix) : NULL;
	k = k ? k : agent_kinds;
	*ret = (struct access_agent){k->what, host && *host ? host : NULL, k->whose};
	return true;
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

/* The name of the agent's own object of a kind, such as "nacre-system/host-h1". The caller frees it. */
static char *own_name(const struct access_agent *a, const struct access_agents *g) {
	return strf("%s%s%s%s", g->ns ? g->ns : "", g->ns ? "/" : "", g->own_prefix ? g->own_prefix : "", a->host);
}

static bool is_own_by_name(const struct access_agents *g) {
	return streq(g->own, "metadata.name");
}

/* ---- what an agent may see ---- */

/* The answer is the same for an object of another host and for one that doesn't exist, so it reveals nothing. */
static int refuse_foreign(struct request *r, const struct access_agent *a, const struct access_agents *g) {
	return refuse(r, NULL, NULL, "its %s is not %s%s: %s %s may not %swrite it", g->own,
	              g->own_prefix ? g->own_prefix : "", a->host, a->what, a->host, g->sees_all ? "" : "see or ");
}

/* A list or watch of a kind that agents may not see as a whole must select the agent's own objects. */
static int check_list(struct request *r, const struct access_agent *a, const struct access_agents *g) {
	const struct api_kind *k = r->route.kind;
	const struct status_details d = {.group = k->group, .kind = k->plural};
	_free_ char *value = access_own_value(g, a);
	if (value && selector_requires(r->selector, g->own, value))
		return 0;
	reply_status(&r->reply, 403, "Forbidden", &d,
	             "%s%s%s is forbidden: %s %s may ask for its own %ss only, by fieldSelector=%s=%s", k->plural,
	             *k->group ? "." : "", k->group, a->what, a->host, k->kind, g->own, value ? value : "");
	return -EPERM;
}

int restrict_stored(struct request *r, const json_t *old) {
	const struct api_kind *k = r->route.kind;
	struct access_agent a;
	if (!agent_of(r, &a))
		return 0;
	const struct access_agents *g = a.host ? access_agents(k, a.whose) : NULL;
	if (!g)
		return refuse(r, NULL, NULL, "%s %s may not see or write any %s", a.what,
		              a.host ? a.host : r->user->name, k->kind);
	/* An agent may find that an object which it creates itself doesn't exist: it then creates it again. */
	return !g->own || (old ? access_is_own(g, &a, old) : g->creates != NULL) ? 0 : refuse_foreign(r, &a, g);
}

static json_t *rule_load(const void *store, const struct api_kind *k, const char *ns, const char *name) {
	const struct object *o = ns && name ? store_get(store, api_kind_index(k), ns, name) : NULL;
	return o ? object_load(o->value->data, o->value->len) : NULL;
}

static int check_read(const struct auth *auth, struct request *r, const struct access_agent *a,
                      const struct access_agents *g) {
	const struct route *rt = &r->route;
	const struct access_read seen = {a, rt->ns, rt->name, auth->store, rule_load};
	if (g->sees_all)
		return 0;
	if (g->sees)
		return rt->verb == VERB_GET && g->sees(&seen)
		               ? 0
		               : refuse(r, NULL, NULL, "%s %s may get only %s", a->what, a->host, g->sees_only);
	if (rt->verb != VERB_GET)
		return check_list(r, a, g);
	const struct object *o = store_get(auth->store, rt->kind_index, rt->ns, rt->name);
	_json_decref_ json_t *obj = o ? object_load(o->value->data, o->value->len) : NULL;
	return restrict_stored(r, obj);
}

/* True if the path alone shows that the object belongs to another host, whether or not the object exists. */
static bool is_foreign_path(const struct request *r, const struct access_agent *a, const struct access_agents *g) {
	_free_ char *value = access_own_value(g, a);
	if (g->ns && !streq(r->route.ns, g->ns))
		return true;
	return is_own_by_name(g) && *r->route.name && !streq(r->route.name, value);
}

int restrict_request(const struct auth *auth, struct request *r) {
	const struct route *rt = &r->route;
	const bool reads = rt->verb == VERB_GET || rt->verb == VERB_LIST || rt->verb == VERB_WATCH;
	struct access_agent a;
	if (!rt->kind || !agent_of(r, &a)) /* a route without a kind is discovery, or a review about the user himself */
		return 0;
	if (!a.host)
		return refuse(r, NULL, NULL, "user %s is in a group of agents, but its name says no host",
		              r->user->name);
	const struct access_agents *g = access_agents(rt->kind, a.whose);
	if (!g || rt->review || (!reads && !access_agents_write(g)))
		return refuse(r, NULL, NULL, "%s %s may not %s any %s", a.what, a.host, reads ? "see" : "write",
		              rt->review ? rt->review->kind : rt->kind->kind);
	if (rt->verb == VERB_DELETE_COLLECTION)
		return refuse(r, NULL, NULL, "agents may not delete collections");
	/* Each field manager that applies has an entry in managedFields, without a limit on their number. */
	if (request_is_apply(r))
		return refuse(r, NULL, NULL, "agents may not apply: use another type of patch");
	if (is_foreign_path(r, &a, g)) {
		_free_ char *own = own_name(&a, g);
		return refuse(r, NULL, NULL, "%s %s may see and write no %s but %s", a.what, a.host, rt->kind->kind,
		              own ? own : "its own");
	}
	return reads ? check_read(auth, r, &a, g) : 0;
}

/* ---- what an agent may write ---- */

static int check_verb(const struct access_agent *a, const struct access_agents *g, struct request *r, const json_t *old,
                      const json_t *obj) {
	const bool status = r->route.status;
	const char *kind = r->route.kind->kind;
	if (status ? g->status != NULL : !obj ? g->deletes : (old ? g->updates : g->creates) != NULL)
		return 0;
	if (!g->creates && !g->updates && !g->deletes)
		return refuse(r, old, obj, "%s %s may write only the status of its %ss", a->what, a->host, kind);
	return refuse(r, old, obj, "%s %s may not %s its %s", a->what, a->host,
	              status ? "write the status of"
	              : !obj ? "delete"
	              : old  ? "change"
	                     : "create",
	              kind);
}

/* Both the old and the new state must belong to the agent. */
static int check_owned(const struct access_agent *a, const struct access_agents *g, struct request *r,
                       const json_t *old, const json_t *obj) {
	const json_t *const states[] = {old, obj};
	const char *kind = r->route.kind->kind;
	_free_ char *name = own_name(a, g);
	if (is_own_by_name(g) && (!access_is_own(g, a, obj ? obj : old) || (g->ns && !streq(r->route.ns, g->ns))))
		return refuse(r, old, obj, "%s %s may write no %s but %s", a->what, a->host, kind,
		              name && (g->ns || g->own_prefix) ? name : "its own");
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		if (!states[i] || access_is_own(g, a, states[i]))
			continue;
		if (i == 0 || !old)
			return refuse(r, old, obj, "its %s is not %s: %s %s may not write it", g->own, a->host, a->what,
			              a->host);
		const char *now = access_string(obj, g->own);
		return refuse(r, old, obj, "%s %s may not change its %s from %s to %s", a->what, a->host, g->own,
		              a->host, now && *now ? now : "none");
	}
	return 0;
}

static bool same_member(const json_t *a, const json_t *b, const char *name) {
	const json_t *x = json_object_get(a, name), *y = json_object_get(b, name);
	return x == y || (x && y && json_equal(x, y));
}

/*
 * Agents may not write labels, which place workloads, nor owner references and finalizers, which decide how long
 * objects live, nor annotations, which may hold large amounts of data.
 */
static int check_meta(const struct access_agent *a, struct request *r, const json_t *old, const json_t *obj) {
	static const char *const names[] = {"labels", "annotations", "ownerReferences", "finalizers"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!same_member(object_meta(old), object_meta(obj), names[i]))
			return refuse(r, old, obj, "%s %s may not write metadata.%s: the operator does", a->what,
			              a->host, names[i]);
	return 0;
}

/* True if a member that is not in WORDS differs. Either object may be NULL. */
static bool others_differ(json_t *before, json_t *now, const char *words) {
	const char *name;
	json_t *v;
	json_object_foreach(before, name, v) {
		if (!access_has_word(words, name) && !same_member(before, now, name))
			return true;
	}
	json_object_foreach(now, name, v) {
		if (!access_has_word(words, name) && !json_object_get(before, name))
			return true;
	}
	return false;
}

/* Agents may only change the members of spec or status that are declared for them. */
static int check_members(const struct access_agent *a, const struct access_agents *g, struct request *r,
                         const json_t *old, const json_t *obj) {
	const bool status = r->route.status;
	const char *words = status ? g->status : old ? g->updates : g->creates, *kind = r->route.kind->kind;
	const char *part = status ? "status" : "spec";
	if (streq(words, "*") || !others_differ(json_object_get(old, part), json_object_get(obj, part), words))
		return 0;
	if (!*words)
		return refuse(r, old, obj, "%s %s may not change the %s of its %s: the operator does", a->what, a->host,
		              part, kind);
	_buf_free_ struct buf list = {.max = 256};
	access_print_words(&list, words, "");
	return refuse(r, old, obj, "%s %s may %s only %s in the %s of its %s", a->what, a->host, old ? "change" : "set",
	              list.failed ? words : list.data, part, kind);
}

static const char *rule_find(const void *store, const struct api_kind *k,
                             bool (*fits)(const json_t *obj, const void *of), const void *of) {
	const unsigned kind = api_kind_index(k);
	for (const struct object *o = store_seek(store, kind, "", ""); o; o = store_next(store, kind, o)) {
		_json_decref_ json_t *obj = object_load(o->value->data, o->value->len);
		if (fits(obj, of))
			return o->name;
	}
	return NULL;
}

static int check_rules(const struct auth *auth, const struct access_agent *a, const struct access_agents *g,
                       struct request *r, const json_t *old, const json_t *obj) {
	const struct access_write w = {a, r->route.ns, old, obj, auth->store, rule_load, rule_find};
	struct error err = {0};
	for (const struct access_rule *rule = g->rules; rule && rule->whose; rule++)
		if (rule->whose & a->whose && rule->check(&w, &err) < 0)
			return refuse(r, old, obj, "%s", err.msg);
	return 0;
}

/* Refuses to create an object if the agent has created too many lately. */
static int check_rate(const struct auth *auth, struct request *r) {
	if (request_dry_run(r))
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
	struct access_agent a;
	if (!agent_of(r, &a))
		return 0;
	if (!a.host)
		return refuse(r, old, obj, "user %s is in a group of agents, but its name says no host", r->user->name);
	const struct access_agents *g = access_agents(k, a.whose);
	if (!g || !access_agents_write(g))
		return refuse(r, old, obj, "%s %s may not write any %s", a.what, a.host, k->kind);
	int e = obj ? check_meta(&a, r, old, obj) : 0;
	if (e == 0 && obj && g->max_bytes && len > g->max_bytes)
		e = refuse(r, old, obj, "it would take %zu bytes; for %s %s each %s may take %zu", len, a.what, a.host,
		           k->kind, g->max_bytes);
	if (e == 0)
		e = check_verb(&a, g, r, old, obj);
	if (e == 0)
		e = check_owned(&a, g, r, old, obj);
	if (e == 0 && obj)
		e = check_members(&a, g, r, old, obj);
	if (e == 0 && obj)
		e = check_rules(auth, &a, g, r, old, obj);
	return e == 0 && !old && g->counts ? check_rate(auth, r) : e;
}
