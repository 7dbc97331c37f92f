/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/keep.h"

#include <string.h>

#include "api/account.h"
#include "api/core.h"
#include "api/rbac.h"
#include "api/roles.h"
#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "apiserver/write/stage.h"
#include "apiserver/write/token_secret.h"
#include "base/util.h"

#define RULES_MAX       1024 /* rules of a ClusterRole */
#define ACCOUNT         "default"
#define CHANGES_A_BATCH 256
#define TOKENS_EVERY_S  3600 /* in seconds: how often tokens are checked for expiry */

/* What to check: a namespace, "NAME", or a Secret, "NAMESPACE/NAME". */
struct place {
	RB_ENTRY(place) node;
	TAILQ_ENTRY(place) link; /* in `doing`: its changes are not on disk yet */
	char name[];
};

RB_HEAD(place_tree, place);

struct keep {
	struct write write; /* first */
	struct queue *queue;
	const struct auth *auth;
	struct place_tree todo;
	TAILQ_HEAD(, place) doing;
	bool roles_todo, roles_doing, queued, backing_off;
	int64_t tokens_at_s; /* monotonic time of the last check of all tokens; 0: not since the start */
};

static int place_cmp(struct place *a, struct place *b) {
	return strcmp(a->name, b->name);
}

RB_GENERATE_INTERNAL(place_tree, place, node, place_cmp, _unused_ static)

/* If there is no memory for the note, the next start finds the object again. */
static void keep_look_at(struct keep *k, const char *ns, const char *secret) {
	size_t n = strlen(ns) + (secret ? strlen(secret) + 1 : 0) + 1;
	struct place *p = calloc(1, sizeof(*p) + n);
	if (!p)
		return;
	snprintf(p->name, n, "%s%s%s", ns, secret ? "/" : "", secret ? secret : "");
	if (RB_INSERT(place_tree, &k->todo, p))
		free(p);
}

static void look_at_token(struct keep *k, const char *ns, const char *name, const struct blob *b) {
	if (memmem(b->data, b->len, SECRET_TYPE_TOKEN, strlen(SECRET_TYPE_TOKEN)))
		keep_look_at(k, ns, name);
}

/* NS "": all namespaces. */
static void look_at_tokens(struct keep *k, const char *ns) {
	const unsigned kind = api_kind_index(&api_kind_secret);
	const struct store *st = k->queue->store;
	for (const struct object *o = store_seek(st, kind, ns, ""); o && (!*ns || streq(o->ns, ns));
	     o = store_next(st, kind, o))
		look_at_token(k, o->ns, o->name, o->value);
}

void keep_notice(struct keep *k, unsigned kind, const struct watch_event *e) {
	const struct api_kind *what = api_kinds[kind];
	if (what == &api_kind_clusterrole)
		k->roles_todo = true;
	else if (what == &api_kind_namespace && e->type == EVENT_ADDED)
		keep_look_at(k, e->name, NULL);
	else if (what == &api_kind_serviceaccount && e->type == EVENT_DELETED && streq(e->name, ACCOUNT))
		keep_look_at(k, e->ns, NULL);
	else if (what == &api_kind_serviceaccount && e->type == EVENT_ADDED)
		look_at_tokens(k, e->ns);
	else if (what == &api_kind_secret && e->type != EVENT_DELETED)
		look_at_token(k, e->ns, e->name, e->value);
}

/* ---- new objects ---- */

/* Sets the metadata that the server sets on new objects, and stages OBJ. */
static int stage_new(struct store *store, const struct api_kind *k, json_t *obj) {
	char uid[37], now[TIME_STR_MAX];
	const char *ns = object_meta_str(obj, "namespace");
	uuid_make(uid);
	int r = object_set_meta_str(obj, "uid", uid);
	if (r == 0)
		r = object_set_meta_str(obj, "creationTimestamp", time_str(now_realtime_us(), false, now));
	return r < 0 ? r : stage_put(store, api_kind_index(k), ns ? ns : "", object_meta_str(obj, "name"), obj);
}

/* ---- ServiceAccounts ---- */

static int keep_account(const struct keep *k, const char *ns) {
	const unsigned kind = api_kind_index(&api_kind_serviceaccount), ns_kind = api_kind_index(&api_kind_namespace);
	if (store_staged(k->queue->store, kind, ns, ACCOUNT) || store_staged(k->queue->store, ns_kind, "", ns))
		return -EAGAIN;
	const struct object *o = store_get(k->queue->store, ns_kind, "", ns);
	if (!o || store_get(k->queue->store, kind, ns, ACCOUNT))
		return 0;
	json_t *place = object_load(o->value->data, o->value->len), *obj = NULL;
	int r = place ? 0 : -ENOMEM;
	if (place && !object_deleting(place)) {
		obj = json_pack("{s:{s:s, s:s}}", "metadata", "name", ACCOUNT, "namespace", ns);
		r = obj ? stage_new(k->queue->store, &api_kind_serviceaccount, obj) : -ENOMEM;
	}
	json_decref(place);
	json_decref(obj);
	return r;
}

/* ---- tokens ---- */

/*
 * Fills in a Secret whose ServiceAccount was created later, whose token somebody removed, or whose token has expired.
 */
static int keep_token(const struct keep *k, const char *ns, const char *name) {
	const unsigned kind = api_kind_index(&api_kind_secret);
	if (store_staged(k->queue->store, kind, ns, name))
		return -EAGAIN;
	const struct object *o = store_get(k->queue->store, kind, ns, name);
	json_t *obj = o ? object_load(o->value->data, o->value->len) : NULL, *before = tree_copy(obj);
	int r = !o || (obj && before) ? 0 : -ENOMEM;
	if (r == 0 && o && !object_deleting(obj))
		r = token_secret_fill(k->auth, ns, obj);
	if (r == 0 && o && !json_equal(obj, before))
		r = stage_put(k->queue->store, kind, ns, name, obj);
	json_decref(obj);
	json_decref(before);
	return r;
}

static int keep_place(const struct keep *k, const char *place) {
	const char *slash = strchr(place, '/');
	char ns[64];
	if (!slash)
		return keep_account(k, place);
	snprintf(ns, sizeof(ns), "%.*s", (int)(slash - place), place);
	return keep_token(k, ns, slash + 1);
}

/* ---- aggregation ---- */

static bool term_fits(const json_t *t, const json_t *labels) {
	const char *op = json_string_value(json_object_get(t, "operator"));
	const json_t *v = json_object_get(labels, json_string_value(json_object_get(t, "key")));
	bool found = false;
	size_t i;
	json_t *want;
	if (streq(op, "Exists") || streq(op, "DoesNotExist"))
		return (v != NULL) == streq(op, "Exists");
	json_array_foreach(json_object_get(t, "values"), i, want) found |= v && json_equal(v, want);
	return streq(op, "In") ? found : !found;
}

static bool selector_fits(const json_t *sel, const json_t *labels) {
	const char *key;
	size_t i;
	json_t *v;
	json_object_foreach(json_object_get(sel, "matchLabels"), key, v) {
		if (!json_equal(v, json_object_get(labels, key)))
			return false;
	}
	json_array_foreach(json_object_get(sel, "matchExpressions"), i, v) {
		if (!term_fits(v, labels))
			return false;
	}
	return true;
}

static bool has_rule(const json_t *rules, const json_t *rule) {
	size_t i;
	json_t *v;
	json_array_foreach((json_t *)rules, i, v) {
		if (json_equal(v, rule))
			return true;
	}
	return false;
}

static bool lists(const json_t *rule, const char *key, const json_t *value) {
	size_t i;
	json_t *v;
	json_array_foreach(json_object_get(rule, key), i, v) {
		if (json_equal(v, value))
			return true;
	}
	return false;
}

/* True if RULES grant VERB on a resource of GROUP or, if GROUP is NULL, on a URL. */
static bool has_right(const json_t *rules, const json_t *group, const json_t *what, const json_t *verb) {
	size_t i;
	json_t *rule;
	json_array_foreach((json_t *)rules, i, rule) {
		if (lists(rule, "verbs", verb) && lists(rule, group ? "resources" : "nonResourceURLs", what) &&
		    (!group || lists(rule, "apiGroups", group)) &&
		    !json_array_size(json_object_get(rule, "resourceNames")))
			return true;
	}
	return false;
}

/* True if RULES grant all that RULE grants, even if in different words. RULE has no resourceNames. */
static bool has_rights(const json_t *rules, const json_t *rule) {
	size_t i, k, m;
	json_t *verb, *group, *what;
	json_array_foreach(json_object_get(rule, "verbs"), i, verb) {
		json_array_foreach(json_object_get(rule, "nonResourceURLs"), m, what) {
			if (!has_right(rules, NULL, what, verb))
				return false;
		}
		json_array_foreach(json_object_get(rule, "apiGroups"), k, group) {
			json_array_foreach(json_object_get(rule, "resources"), m, what) {
				if (!has_right(rules, group, what, verb))
					return false;
			}
		}
	}
	return true;
}

/* Adds the elements of FROM that RULES lack. */
static int add_rules(json_t *rules, const json_t *from, bool (*has)(const json_t *rules, const json_t *rule)) {
	size_t i;
	json_t *v;
	json_array_foreach((json_t *)from, i, v) {
		if (!has(rules, v) && json_array_size(rules) < RULES_MAX && json_array_append(rules, v) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int keep_collect(struct store *store, const char *name, const json_t *selectors, json_t *rules) {
	const unsigned kind = api_kind_index(&api_kind_clusterrole);
	int r = 0;
	for (const struct object *o = store_seek(store, kind, "", ""); o && r == 0; o = store_next(store, kind, o)) {
		if (streq(o->name, name))
			continue;
		json_t *obj = object_load(o->value->data, o->value->len), *sel;
		size_t i;
		bool fits = false;
		json_array_foreach(selectors, i, sel) {
			fits |= selector_fits(sel, json_object_get(object_meta(obj), "labels"));
		}
		r = !obj ? -ENOMEM : fits ? add_rules(rules, json_object_get(obj, "rules"), has_rule) : 0;
		json_decref(obj);
	}
	return r;
}

static int aggregate(struct store *store, const struct object *o) {
	const unsigned kind = api_kind_index(&api_kind_clusterrole);
	/* Nearly all ClusterRoles have none. */
	if (!memmem(o->value->data, o->value->len, "\"aggregationRule\"", 17))
		return 0;
	if (store_staged(store, kind, "", o->name))
		return -EAGAIN;
	json_t *obj = object_load(o->value->data, o->value->len), *rules = json_array();
	const json_t *selectors = json_object_get(json_object_get(obj, "aggregationRule"), "clusterRoleSelectors");
	int r = obj && rules ? 0 : -ENOMEM;
	if (r == 0 && selectors) {
		r = keep_collect(store, o->name, selectors, rules);
		if (r == 0 && !json_equal(rules, json_object_get(obj, "rules"))) {
			r = json_object_set(obj, "rules", rules) < 0 ? -ENOMEM : 0;
			if (r == 0)
				r = stage_put(store, kind, "", o->name, obj);
		}
	}
	json_decref(obj);
	json_decref(rules);
	return r;
}

static int aggregate_all(struct store *store) {
	const unsigned kind = api_kind_index(&api_kind_clusterrole);
	int r = 0;
	for (const struct object *o = store_seek(store, kind, "", ""); o; o = store_next(store, kind, o)) {
		int e = aggregate(store, o);
		r = e < 0 ? e : r;
	}
	return r;
}

/* ---- the queue ---- */

static enum write_result keep_write_run(struct queue *q, struct write *w) {
	struct keep *k = (struct keep *)w;
	struct place *p, *next;
	size_t before = store_staged_count(q->store);
	if (k->roles_todo) {
		k->roles_doing = true;
		k->roles_todo = aggregate_all(q->store) < 0;
	}
	RB_FOREACH_SAFE (p, place_tree, &k->todo, next) {
		if (store_staged_count(q->store) >= before + CHANGES_A_BATCH)
			break;
		if (keep_place(k, p->name) < 0)
			continue;
		RB_REMOVE(place_tree, &k->todo, p);
		TAILQ_INSERT_TAIL(&k->doing, p, link);
	}
	return store_staged_count(q->store) > before ? WRITE_STAGED : WRITE_DONE;
}

static void keep_write_done(_unused_ struct queue *q, struct write *w, int r, _unused_ const struct error *cause) {
	struct keep *k = (struct keep *)w;
	struct place *p;
	k->queued = false;
	/* A failed write, for example because the disk is full, is tried again at the next tick. */
	k->backing_off = r < 0;
	k->roles_todo |= r < 0 && k->roles_doing;
	k->roles_doing = false;
	while ((p = TAILQ_FIRST(&k->doing))) {
		TAILQ_REMOVE(&k->doing, p, link);
		if (r == 0 || RB_INSERT(place_tree, &k->todo, p))
			free(p);
	}
}

bool keep_idle(const struct keep *k) {
	return !k->queued && RB_EMPTY(&k->todo) && !k->roles_todo;
}

void keep_run(struct keep *k) {
	if (k->backing_off || k->queued || keep_idle(k))
		return;
	k->queued = true;
	k->write.run = keep_write_run;
	k->write.done = keep_write_done;
	queue_write(k->queue, &k->write);
}

void keep_tick(struct keep *k) {
	k->backing_off = false;
	const int64_t now_s = (int64_t)(now_monotonic_ns() / NSEC_PER_SEC);
	if (k->auth->authn && (!k->tokens_at_s || now_s - k->tokens_at_s >= TOKENS_EVERY_S)) {
		k->tokens_at_s = now_s;
		look_at_tokens(k, "");
	}
	keep_run(k);
}

/* ---- defaults ---- */

static int merge_map(json_t *obj, const char *key, const json_t *from) {
	const char *name;
	json_t *v, *to = json_object_get(object_meta(obj), key);
	if (!from)
		return 0;
	if (!to && json_object_set_new(object_meta(obj), key, to = json_object()) < 0)
		return -ENOMEM;
	json_object_foreach((json_t *)from, name, v) {
		if (!json_object_get(to, name) && json_object_set(to, name, v) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Adds to HAVE what it lacks of WANT. The rules of an aggregated role come from other roles. */
static int keep_merge(json_t *have, const json_t *want) {
	const bool binding = json_object_get(want, "roleRef") != NULL;
	const char *list = binding ? "subjects" : "rules";
	json_t *to = json_object_get(have, list);
	if (!to && json_object_set_new(have, list, to = json_array()) < 0)
		return -ENOMEM;
	int r = json_object_get(want, "aggregationRule")
	                ? 0
	                : add_rules(to, json_object_get(want, list), binding ? has_rule : has_rights);
	if (r == 0)
		r = merge_map(have, "labels", json_object_get(object_meta(want), "labels"));
	return r < 0 ? r : merge_map(have, "annotations", json_object_get(object_meta(want), "annotations"));
}

static int stage_default(struct store *store, json_t *want) {
	const struct api_kind *k =
		api_kind_find_by_kind(RBAC_GROUP, "v1", json_string_value(json_object_get(want, "kind")));
	const char *ns = object_meta_str(want, "namespace"), *name = object_meta_str(want, "name");
	const struct object *o = store_get(store, api_kind_index(k), ns ? ns : "", name);
	if (!o)
		return stage_new(store, k, want);
	json_t *obj = object_load(o->value->data, o->value->len), *before = tree_copy(obj);
	const json_t *how = json_object_get(json_object_get(object_meta(obj), "annotations"), ROLES_AUTOUPDATE);
	int r = obj && before ? 0 : -ENOMEM;
	if (r == 0 && !streq(json_string_value(how), "false"))
		r = keep_merge(obj, want);
	if (r == 0 && !json_equal(obj, before))
		r = stage_put(store, api_kind_index(k), o->ns, o->name, obj);
	json_decref(obj);
	json_decref(before);
	return r;
}

int keep_stage_defaults(struct store *store, struct error *err) {
	size_t i;
	json_t *v, *list = roles_defaults(true);
	int r = list ? 0 : -ENOMEM;
	json_array_foreach(list, i, v) {
		if (r == 0)
			r = stage_default(store, v);
	}
	json_decref(list);
	return r < 0 ? error_oom(err) : 0;
}

/* ---- life ---- */

int keep_new(struct keep **ret, struct queue *q, const struct auth *auth, struct error *err) {
	const unsigned kind = api_kind_index(&api_kind_namespace);
	struct keep *k = calloc(1, sizeof(*k));
	if (!k)
		return error_oom(err);
	k->queue = q;
	k->auth = auth;
	k->roles_todo = true;
	TAILQ_INIT(&k->doing);
	for (const struct object *o = store_seek(q->store, kind, "", ""); o; o = store_next(q->store, kind, o))
		keep_look_at(k, o->name, NULL);
	*ret = k;
	return 0;
}

struct keep *keep_free(struct keep *k) {
	struct place *p, *next;
	if (!k)
		return NULL;
	RB_FOREACH_SAFE (p, place_tree, &k->todo, next) {
		RB_REMOVE(place_tree, &k->todo, p);
		free(p);
	}
	while ((p = TAILQ_FIRST(&k->doing))) {
		TAILQ_REMOVE(&k->doing, p, link);
		free(p);
	}
	free(k);
	return NULL;
}
