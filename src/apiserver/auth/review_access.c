/* SPDX-License-Identifier: Apache-2.0 */

/* May a user do something, and what may he do? authorization.k8s.io/v1. */

#include <string.h>

#include "apiserver/auth/authz.h"
#include "apiserver/auth/review.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

static const char *review_str(const json_t *obj, const char *key) {
	const char *v = json_string_value(json_object_get(obj, key));
	return v ? v : "";
}

/* Reads the spec. False: it doesn't name exactly one action; the reply is set. */
static bool attributes_of(struct request *r, struct authz_attributes *a) {
	const json_t *spec = json_object_get(r->json, "spec");
	const json_t *res = json_object_get(spec, "resourceAttributes");
	const json_t *url = json_object_get(spec, "nonResourceAttributes");
	if (json_is_object(res) == json_is_object(url)) {
		if (json_is_object(res))
			review_invalid(r, API_INVALID, "spec.nonResourceAttributes",
			               "Invalid value: cannot be specified in combination with resourceAttributes");
		else
			review_invalid(r, API_INVALID, "spec.resourceAttributes",
			               "Invalid value: null: exactly one of nonResourceAttributes or "
			               "resourceAttributes must be specified");
		return false;
	}
	if (json_is_object(res))
		*a = (struct authz_attributes){review_str(res, "verb"),
		                               review_str(res, "group"),
		                               review_str(res, "resource"),
		                               review_str(res, "subresource"),
		                               review_str(res, "namespace"),
		                               review_str(res, "name"),
		                               NULL};
	else
		*a = (struct authz_attributes){review_str(url, "verb"), "", "", "", "", "", review_str(url, "path")};
	return true;
}

static void reply_access(const struct auth *auth, struct request *r, const struct user *u) {
	struct authz_attributes a;
	_buf_free_ struct buf why = {.max = 2048};
	if (!attributes_of(r, &a))
		return;
	bool allowed = authz_check(auth->rbac, u, &a, &why);
	json_t *status = json_pack("{s:b}", "allowed", allowed);
	if (why.len && status)
		json_object_set_new(status, "reason", json_stringn(why.data, why.len));
	review_reply(r, status);
}

void review_self_access(const struct auth *auth, struct request *r) {
	reply_access(auth, r, r->user);
}

void review_access(const struct auth *auth, struct request *r) {
	const json_t *spec = json_object_get(r->json, "spec");
	const char *name = review_str(spec, "user");
	_cleanup_(cleanup_user) struct user *u = NULL;
	size_t i;
	json_t *group;
	if (!*name && !json_array_size(json_object_get(spec, "groups"))) {
		review_invalid(r, API_INVALID, "spec.user",
		               "Invalid value: \"\": at least one of user or group must be specified");
		return;
	}
	u = user_new(name, review_str(spec, "uid"));
	if (!u) {
		reply_internal(r, "out of memory");
		return;
	}
	json_array_foreach(json_object_get(spec, "groups"), i, group) {
		if (json_is_string(group) && user_add_group(u, json_string_value(group)) == 0)
			continue;
		review_invalid(r, API_INVALID, "spec.groups", "Invalid value: must be at most %d strings",
		               USER_GROUPS_MAX);
		return;
	}
	reply_access(auth, r, u);
}

void review_local_access(const struct auth *auth, struct request *r) {
	const json_t *res = json_object_get(json_object_get(r->json, "spec"), "resourceAttributes");
	if (json_is_object(res) && !streq(review_str(res, "namespace"), r->route.ns))
		review_invalid(r, API_INVALID, "spec.resourceAttributes.namespace",
		               "Invalid value: \"%.63s\": must match metadata.namespace", review_str(res, "namespace"));
	else if (!json_is_object(res))
		review_invalid(r, API_INVALID, "spec.nonResourceAttributes",
		               "Invalid value: disallowed on this kind of request");
	else
		review_access(auth, r);
}

/* ---- rules ---- */

/* Printing a string takes longer than comparing it (RBAC_WORK_MAX). */
#define WORK_A_STRING 8

struct rules {
	json_t *resources, *urls;
	size_t work;
	bool failed;
};

static json_t *review_strings(char *const *v, size_t n) {
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(list, json_string(v[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static bool add_rule(const struct policy_rule *p, _unused_ const struct rbac_source *from, void *userdata) {
	struct rules *out = userdata;
	out->work += WORK_A_STRING * (rule_size(p) + 2);
	json_t *verbs = review_strings(p->verbs.v, p->verbs.n), *rule;
	if (p->urls.n) {
		rule = json_pack("{s:o, s:o}", "verbs", verbs, "nonResourceURLs", review_strings(p->urls.v, p->urls.n));
		out->failed |= json_array_append_new(out->urls, rule) < 0;
		return false;
	}
	rule = json_pack("{s:o, s:o, s:o}", "verbs", verbs, "apiGroups", review_strings(p->groups.v, p->groups.n),
	                 "resources", review_strings(p->resources.v, p->resources.n));
	if (rule && p->names.n)
		out->failed |= json_object_set_new(rule, "resourceNames", review_strings(p->names.v, p->names.n)) < 0;
	out->failed |= json_array_append_new(out->resources, rule) < 0;
	return false;
}

void review_self_rules(const struct auth *auth, struct request *r) {
	static char *star[] = {"*"};
	static const struct policy_rule all[] = {
		{.verbs = {star, 1}, .groups = {star, 1}, .resources = {star, 1}},
		{.verbs = {star, 1}, .urls = {star, 1}},
	};
	const char *ns = review_str(json_object_get(r->json, "spec"), "namespace");
	struct rules out = {json_array(), json_array(), 0, false};
	_buf_free_ struct buf missing = {.max = 2048};
	if (!*ns) {
		reply_bad_request(r, "no namespace on request");
		json_decref(out.resources);
		json_decref(out.urls);
		return;
	}
	if (user_in_group(r->user, GROUP_MASTERS))
		for (size_t i = 0; i < ARRAY_SIZE(all); i++)
			add_rule(&all[i], NULL, &out);
	else /* further roles would add nothing to all rights */
		rbac_visit(auth->rbac, r->user, ns, add_rule, &out, &missing, &out.work);
	const bool incomplete = out.work > RBAC_WORK_MAX;
	if (incomplete)
		buf_printf(&missing, "%s" RBAC_TOO_MUCH, missing.len ? "; " : "");
	json_t *status = json_pack("{s:o, s:o, s:b}", "resourceRules", out.resources, "nonResourceRules", out.urls,
	                           "incomplete", incomplete);
	if (status && missing.len)
		out.failed |=
			json_object_set_new(status, "evaluationError", json_stringn(missing.data, missing.len)) < 0;
	if (out.failed) {
		json_decref(status);
		status = NULL;
	}
	review_reply(r, status);
}
