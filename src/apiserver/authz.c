/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/authz.h"

#include <ctype.h>
#include <string.h>

#include "apiserver/reply.h"
#include "apiserver/server.h"
#include "base/util.h"

/* What the target of a request asks for: apimachinery's RequestInfo. It owns its strings. */
struct asked {
	struct authz_attributes a;
	char *text, *name, verb[16];
};

static void asked_clear(struct asked *q) {
	free(q->text);
	free(q->name);
}

static const char *verb_of(const char *method) {
	static const char *const verbs[][2] = {{"POST", "create"}, {"GET", "get"},     {"HEAD", "get"},
	                                       {"PUT", "update"},  {"PATCH", "patch"}, {"DELETE", "delete"}};
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (streq(verbs[i][0], method))
			return verbs[i][1];
	return "";
}

/* A list of the one object whose name the selector says is a question about that object. */
static int name_of_selector(const struct request *r, struct asked *q) {
	const char *p = request_param(r, "fieldSelector");
	while (p && *p) {
		size_t n = strcspn(p, ",");
		if (n > 14 && strncmp(p, "metadata.name=", 14) == 0) {
			size_t skip = p[14] == '=' ? 15 : 14;
			q->name = strndup(p + skip, n - skip);
			if (!q->name)
				return -ENOMEM;
			q->a.name = q->name;
		}
		p += n + (p[n] == ',');
	}
	return 0;
}

static int resource_of(const struct request *r, char **seg, size_t n, struct asked *q) {
	struct authz_attributes *a = &q->a;
	a->verb = verb_of(r->method);
	if (streq(seg[0], "namespaces") && n > 1) {
		a->ns = seg[1];
		if (n > 2 && !streq(seg[2], "status") && !streq(seg[2], "finalize")) {
			seg += 2;
			n -= 2;
		}
	}
	a->resource = seg[0];
	if (n > 1)
		a->name = seg[1];
	if (n > 2)
		a->subresource = seg[2];
	if (*a->name)
		return 0;
	if (streq(a->verb, "delete"))
		a->verb = "deletecollection";
	if (!streq(a->verb, "get"))
		return 0;
	a->verb = request_flag(r, "watch") ? "watch" : "list";
	return name_of_selector(r, q);
}

static int ask(const struct request *r, struct asked *q) {
	char *seg[12], *save = NULL;
	size_t n = 0;
	*q = (struct asked){.a = {"", "", "", "", "", "", NULL}};
	q->text = strdup(r->path);
	if (!q->text)
		return -ENOMEM;
	for (char *p = strtok_r(q->text, "/", &save); p && n < ARRAY_SIZE(seg); p = strtok_r(NULL, "/", &save))
		seg[n++] = p;
	bool core = n >= 3 && streq(seg[0], "api");
	if (core || (n >= 4 && streq(seg[0], "apis"))) {
		q->a.group = core ? "" : seg[1];
		return resource_of(r, seg + (core ? 2 : 3), n - (core ? 2 : 3), q);
	}
	for (size_t i = 0; r->method[i] && i < sizeof(q->verb) - 1; i++)
		q->verb[i] = (char)tolower((unsigned char)r->method[i]);
	q->a.verb = q->verb;
	q->a.path = r->path;
	return 0;
}

bool authz_check(const struct server *s, const struct user *u, const struct authz_attributes *a, struct buf *why) {
	return user_in_group(u, GROUP_MASTERS) || rbac_allows(s->rbac, u, a, why);
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

/* The Ith of what U is beside its name: groups, extra attributes, uid. */
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

/* May BY be taken for U? */
static bool may_impersonate(const struct server *s, struct request *r, const struct user *by, const struct user *u) {
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
		if (!rbac_allows(s->rbac, by, &a, &why)) {
			authz_forbidden(r, by, &a, why.data);
			return false;
		}
	} while (part_of(u, i++, &a));
	return true;
}

/* The groups that authentication would have given U. */
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

bool authz_request(const struct server *s, struct request *r) {
	const struct user *u = r->user;
	if (!u) {
		reply_status(&r->reply, 401, "Unauthorized", NULL, "Unauthorized");
		return false;
	}
	if (r->as) {
		if (!may_impersonate(s, r, u, r->as))
			return false;
		if (complete(r->as) < 0) {
			reply_bad_request(r, "the user to be taken for has too many groups");
			return false;
		}
		r->by = r->user;
		u = r->user = TAKE_PTR(r->as);
	}
	if (user_in_group(u, GROUP_MASTERS))
		return true;
	_buf_free_ struct buf why = {.max = 2048};
	struct asked q;
	bool allowed = false;
	if (ask(r, &q) < 0)
		reply_internal(r, "out of memory");
	else if (!(allowed = rbac_allows(s->rbac, u, &q.a, &why)))
		authz_forbidden(r, u, &q.a, why.data);
	asked_clear(&q);
	return allowed;
}

bool authz_create(const struct server *s, struct request *r) {
	struct asked q;
	bool allowed = user_in_group(r->user, GROUP_MASTERS);
	if (allowed)
		return true;
	if (ask(r, &q) < 0) {
		reply_internal(r, "out of memory");
		asked_clear(&q);
		return false;
	}
	q.a.verb = "create";
	_buf_free_ struct buf why = {.max = 2048};
	allowed = rbac_allows(s->rbac, r->user, &q.a, &why);
	if (!allowed)
		authz_forbidden(r, r->user, &q.a, why.data);
	asked_clear(&q);
	return allowed;
}
