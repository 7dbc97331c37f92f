/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/managers.h"

#include <ctype.h>
#include <string.h>

#include "apiserver/fields/apply.h"
#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/reply.h"
#include "apiserver/write/bounds.h"
#include "base/util.h"

json_t *managers_detach(json_t *obj) {
	json_t *meta = object_meta(obj), *list = json_incref(json_object_get(meta, "managedFields"));
	json_object_del(meta, "managedFields");
	return list;
}

int managers_attach(json_t *obj, json_t *list) {
	if (!json_array_size(list))
		return 0;
	return json_object_set(object_meta(obj), "managedFields", list) < 0 ? -ENOMEM : 0;
}

/* What managed fields depend on in a request. */
struct context {
	struct arena arena;
	struct typed type;
	struct writer who;
	const struct fields *ignored;
	char gv[64], manager[MANAGER_NAME_MAX + 1];
};

/* The printable part of the program's name: "kubectl" of "kubectl/v1.32.0 (linux/amd64)". */
static void name_of_agent(const char *agent, char out[static MANAGER_NAME_MAX + 1]) {
	size_t n = 0;
	for (const char *p = agent ? agent : ""; *p && *p != '/' && n < MANAGER_NAME_MAX; p++)
		if (isprint((unsigned char)*p))
			out[n++] = *p;
	out[n] = '\0';
}

static void managers_begin(struct context *c, const struct request *r, const struct api_kind *k) {
	static const struct fields status = {.n = 1, .v = {{ELEMENT_FIELD, true, "status", NULL}}};
	static const struct fields spec = {.n = 1, .v = {{ELEMENT_FIELD, true, "spec", NULL}}};
	const struct route *rt = &r->route;
	const char *manager = request_param(r, "fieldManager");
	*c = (struct context){.type.kind = k, .ignored = rt->status ? &spec : k->has_status ? &status : NULL};
	c->type.arena = &c->arena;
	api_kind_version(k, c->gv);
	if (manager && *manager)
		snprintf(c->manager, sizeof(c->manager), "%s", manager);
	else
		name_of_agent(r->user_agent, c->manager);
	c->who = (struct writer){.manager = *c->manager ? c->manager : "unknown",
	                         .version = c->gv,
	                         .subresource = rt->status  ? "status"
	                                        : rt->scale ? "scale"
	                                                    : ""};
	time_str(now_realtime_us(), false, c->who.now);
}

static void managers_end(struct context *c) {
	arena_free(&c->arena);
}

/* A client that sends [] or [{}] wants all managed fields forgotten. */
static bool is_reset(const json_t *list) {
	size_t n = json_array_size(list);
	const json_t *first = json_array_get(list, 0);
	return json_is_array(list) && (n == 0 || (n == 1 && json_is_object(first) && json_object_size(first) == 0));
}

int managers_update(const struct request *r, const struct api_kind *k, const json_t *old, const json_t *was,
                    const json_t *obj, const json_t *sent, json_t **ret) {
	_cleanup_(managers_end) struct context c;
	struct managed e;
	managers_begin(&c, r, k);
	if (r->route.status || r->route.scale)
		sent = NULL;
	const bool reset = old && is_reset(sent);
	if (managed_read(&c.arena, reset ? NULL : sent, &e) < 0 || (!e.n && !reset))
		(void)!managed_read(&c.arena, was, &e);
	*ret = NULL;
	if (old && !e.n)
		return c.arena.failed ? -ENOMEM : 0;
	managed_update(&c.type, &e, old, obj, c.ignored, &c.who);
	*ret = managed_print(&e);
	return *ret ? 0 : -ENOMEM;
}

/* ---- apply ---- */

static int managers_bad(struct request *r, const char *text, const char *detail) {
	reply_bad_request(r, "%s%s", text, detail);
	return -EINVAL;
}

/* The configuration must name its kind and version and fit the declared type. */
static int managers_check(struct request *r, const struct context *c, const json_t *config) {
	const struct api_kind *k = r->route.kind;
	const char *kind = json_string_value(json_object_get(config, "kind"));
	const char *version = json_string_value(json_object_get(config, "apiVersion"));
	const char *ns = object_meta_str(config, "namespace"), *name = object_meta_str(config, "name");
	struct error err;
	if (!streq(kind, k->kind) || !streq(version, c->gv)) {
		char text[300];
		/* Group and version in full: "/v1" for a kind without a group. */
		bool bare = !version || !strchr(version, '/');
		snprintf(text, sizeof(text), "%s%.100s, Kind=%.100s", bare ? "/" : "", version ? version : "",
		         kind ? kind : "");
		return managers_bad(r, "invalid object type: ", text);
	}
	if (json_object_get(object_meta(config), "managedFields"))
		return managers_bad(r, "metadata.managedFields must be nil", "");
	if (typed_check(&c->type, config, &err) == 0)
		return 0;
	reply_status(&r->reply, 500, NULL, NULL, "failed to create typed patch object (%s/%s; %s, Kind=%s): %s",
	             ns ? ns : "", name ? name : "", c->gv, k->kind, err.msg);
	return -EINVAL;
}

int managers_apply(struct request *r, json_t *live, const json_t *was, json_t **ret, json_t **ret_list) {
	_cleanup_(managers_end) struct context c;
	struct managed e;
	struct conflicts conflicts = {0};
	const char *force = request_param(r, "force");
	managers_begin(&c, r, r->route.kind);
	if (bounds_check_lengths(r, r->json, 0) < 0)
		return -EINVAL;
	json_t *config = tree_copy(r->json), *obj = NULL;
	drop_nulls(config);
	const struct apply a = {.type = &c.type,
	                        .who = &c.who,
	                        .ignored = c.ignored,
	                        .force = force && !streq(force, "false") && !streq(force, "0")};
	int n = config ? managers_check(r, &c, config) : -ENOMEM;
	if (n == 0 && managed_read(&c.arena, was, &e) < 0) {
		reply_internal(r, "failed to decode managed fields");
		n = -EINVAL;
	}
	if (n == 0)
		n = apply(&a, &e, live, config, &obj, &conflicts);
	if (n == -EEXIST) {
		json_t *status = conflicts_status(&conflicts);
		reply_dom(&r->reply, 409, status);
		json_decref(status);
	}
	json_t *list = n == 0 ? managed_print(&e) : NULL;
	if (n == 0 && !list)
		n = -ENOMEM;
	if (n == -ENOMEM)
		reply_internal(r, "out of memory");
	json_decref(config);
	if (n == 0) {
		*ret = obj;
		*ret_list = list;
	} else
		json_decref(obj);
	return n;
}
