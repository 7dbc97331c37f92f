/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/authz.h"

#include <ctype.h>
#include <string.h>

#include "apiserver/request/reply.h"
#include "base/util.h"

/* What R asks for. VERB has room for the method in lower case, which is the verb if the path is no resource. */
static struct authz_attributes attributes_of(const struct request *r, char verb[static 16]) {
	const struct route *rt = &r->route;
	if (!rt->is_resource) {
		size_t n = 0;
		for (; r->method[n] && n < 15; n++)
			verb[n] = (char)tolower((unsigned char)r->method[n]);
		verb[n] = '\0';
		return (struct authz_attributes){verb, "", "", "", "", "", r->path};
	}
	/*
	 * A Namespace object is requested in its own namespace. A list whose selector names one object is about that
	 * object.
	 */
	const bool lists = rt->asked == VERB_LIST || rt->asked == VERB_WATCH;
	const char *ns = streq(rt->plural, "namespaces") && !*rt->ns ? rt->name : rt->ns;
	const char *name = lists ? selector_name(r->selector) : rt->name;
	return (struct authz_attributes){rt->asked == VERB_NONE ? "" : verb_name(rt->asked),
	                                 rt->group,
	                                 rt->plural,
	                                 rt->subresource,
	                                 ns,
	                                 name ? name : "",
	                                 NULL};
}

bool authz_check(const struct rbac *rbac, const struct user *u, const struct authz_attributes *a, struct buf *why) {
	return user_in_group(u, GROUP_MASTERS) || rbac_allows(rbac, u, a, why);
}

void authz_forbidden(struct request *r, const struct user *u, const struct authz_attributes *a, const char *why) {
	char res[512], scope[320] = "at the cluster scope";
	const char *colon = why && *why ? ": " : "";
	why = why ? why : "";
	if (a->path) {
		const struct status_details d = {0};
		reply_status(&r->reply, 403, "Forbidden", &d, "forbidden: User \"%s\" cannot %s path \"%s\"%s%s",
		             u->name, a->verb, a->path, colon, why);
		return;
	}
	const struct status_details d = {.name = a->name, .group = a->group, .kind = a->resource};
	snprintf(res, sizeof(res), "%.250s%s%.250s", a->resource, *a->group ? "." : "", a->group);
	if (*a->ns)
		snprintf(scope, sizeof(scope), "in the namespace \"%.253s\"", a->ns);
	reply_status(&r->reply, 403, "Forbidden", &d,
	             "%s%s%s%s is forbidden: User \"%s\" cannot %s resource \"%s%s%s\" in API group \"%s\" %s%s%s", res,
	             *a->name ? " \"" : "", a->name, *a->name ? "\"" : "", u->name, a->verb, a->resource,
	             *a->subresource ? "/" : "", a->subresource, a->group, scope, colon, why);
}

/* The attribute number I that impersonating U requires besides its name: groups, extra attributes, uid. */
static bool part_of(const struct user *u, size_t i, struct authz_attributes *ret) {
	const char *group = "authentication.k8s.io", *resource = "uids", *key = "", *name = NULL;
	if (i < u->n_groups) {
		group = "";
		resource = "groups";
		name = u->groups[i];
	} else if ((i -= u->n_groups) < u->n_extras) {
		resource = "userextras";
		key = u->extras[i].key;
		name = u->extras[i].value;
	} else if (i == u->n_extras)
		name = u->uid;
	if (name)
		*ret = (struct authz_attributes){"impersonate", group, resource, key, "", name, NULL};
	return name != NULL;
}

/* May BY impersonate U? False: R has the reply 403. */
static bool may_impersonate(const struct rbac *rbac, struct request *r, const struct user *by, const struct user *u) {
	struct authz_attributes a = {"impersonate", "", "users", "", "", u->name, NULL};
	char ns[254];
	if (user_in_group(by, GROUP_MASTERS))
		return true;
	const size_t prefix = starts_with(u->name, USER_ACCOUNT_PREFIX) ? strlen(USER_ACCOUNT_PREFIX) : 0;
	const char *account = u->name + prefix, *colon = prefix ? strchr(account, ':') : NULL;
	if (colon) {
		snprintf(ns, sizeof(ns), "%.*s", (int)(colon - account), account);
		a.resource = "serviceaccounts";
		a.ns = ns;
		a.name = colon + 1;
	}
	size_t i = 0;
	do {
		_buf_free_ struct buf why = {.max = 1024};
		if (!rbac_allows(rbac, by, &a, &why)) {
			authz_forbidden(r, by, &a, why.data);
			return false;
		}
	} while (part_of(u, i++, &a));
	return true;
}

/* Adds the groups that authentication would have given U. */
static int complete(struct user *u) {
	const char *account = starts_with(u->name, USER_ACCOUNT_PREFIX) ? u->name + strlen(USER_ACCOUNT_PREFIX) : NULL;
	bool anonymous = streq(u->name, USER_ANONYMOUS) || user_in_group(u, GROUP_ANONYMOUS);
	int r = 0;
	if (account && u->n_groups == 0) {
		_free_ char *group = strf(GROUP_ACCOUNTS ":%.*s", (int)strcspn(account, ":"), account);
		r = group ? user_add_group(u, GROUP_ACCOUNTS) : -ENOMEM;
		if (r == 0)
			r = user_add_group(u, group);
	}
	return r < 0 ? r : user_add_group(u, anonymous ? GROUP_ANONYMOUS : GROUP_AUTHENTICATED);
}

bool authz_request(const struct rbac *rbac, struct request *r) {
	const struct user *u = r->user;
	if (!u) {
		reply_status(&r->reply, 401, "Unauthorized", NULL, "Unauthorized");
		return false;
	}
	if (r->as) {
		if (!may_impersonate(rbac, r, u, r->as))
			return false;
		if (complete(r->as) < 0) {
			reply_bad_request(r, "the impersonated user has too many groups");
			return false;
		}
		r->by = r->user;
		u = r->user = TAKE_PTR(r->as);
	}
	if (user_in_group(u, GROUP_MASTERS))
		return true;
	_buf_free_ struct buf why = {.max = 2048};
	char verb[16];
	const struct authz_attributes a = attributes_of(r, verb);
	bool allowed = rbac_allows(rbac, u, &a, &why);
	if (!allowed)
		authz_forbidden(r, u, &a, why.data);
	return allowed;
}

bool authz_create(const struct rbac *rbac, struct request *r) {
	_buf_free_ struct buf why = {.max = 2048};
	char verb[16];
	struct authz_attributes a = attributes_of(r, verb);
	a.verb = "create";
	bool allowed = user_in_group(r->user, GROUP_MASTERS) || rbac_allows(rbac, r->user, &a, &why);
	if (!allowed)
		authz_forbidden(r, r->user, &a, why.data);
	return allowed;
}
