/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/auth/escalate.h"

#include <string.h>

#include "apiserver/auth/authz.h"
#include "apiserver/json/object.h"
#include "apiserver/request/reply.h"
#include "base/util.h"

#define MISSING_MAX 64 /* the message names so many */

/* A single right that is to be granted: a verb on one resource (or one object of it), or on one URL. */
struct right {
	const char *verb, *group, *resource, *name, *url;
};

struct missing {
	struct right right;
	struct buf verbs; /* rights that differ only in the verb are reported together */
};

struct check {
	const struct rbac *rbac;
	const struct user *user;
	const char *ns;
	struct right right;
	size_t work; /* at most RBAC_WORK_MAX, so that no role can block the server */
	struct missing missing[MISSING_MAX];
	size_t n_missing;
	bool any;
};

static bool listed(char *const *v, size_t n, const char *s, size_t *work) {
	*work += n;
	for (size_t i = 0; i < n; i++)
		if (streq(v[i], "*") || streq(v[i], s))
			return true;
	return false;
}

static bool covers_resource(const struct policy_rule *p, const char *want, size_t *work) {
	const char *sub = strchr(want, '/');
	if (listed(p->resources.v, p->resources.n, want, work))
		return true;
	for (size_t i = 0; sub && i < p->resources.n; i++)
		if (strncmp(p->resources.v[i], "*/", 2) == 0 && streq(p->resources.v[i] + 1, sub))
			return true;
	return false;
}

static bool covers_url(const struct policy_rule *p, const char *want) {
	for (size_t i = 0; i < p->urls.n; i++) {
		const char *have = p->urls.v[i];
		size_t n = strlen(have);
		if (streq(have, want))
			return true;
		if (n == 0 || have[n - 1] != '*')
			continue;
		while (n && have[n - 1] == '*')
			n--;
		if (strncmp(have, want, n) == 0)
			return true;
	}
	return false;
}

static bool covers(const struct policy_rule *p, _unused_ const struct rbac_source *from, void *userdata) {
	struct check *c = userdata;
	const struct right *w = &c->right;
	if (!listed(p->verbs.v, p->verbs.n, w->verb, &c->work))
		return false;
	if (w->url) {
		c->work += p->urls.n;
		return covers_url(p, w->url);
	}
	if (!listed(p->groups.v, p->groups.n, w->group, &c->work) || !covers_resource(p, w->resource, &c->work))
		return false;
	if (p->names.n == 0)
		return true;
	for (size_t i = 0; w->name && i < p->names.n; i++)
		if (streq(p->names.v[i], w->name))
			return true;
	return false;
}

static void quote(struct buf *b, const char *s) {
	buf_putc(b, '"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			buf_putc(b, '\\');
		buf_putc(b, *s);
	}
	buf_putc(b, '"');
}

/* Records that the right is missing. Rights that differ only in the verb are recorded together. */
static void note(struct check *c) {
	const struct right *w = &c->right;
	c->any = true;
	for (size_t i = 0; i < c->n_missing && !w->url; i++) {
		struct missing *m = &c->missing[i];
		c->work++;
		if (m->right.url || !streq(m->right.group, w->group) || !streq(m->right.resource, w->resource) ||
		    (m->right.name == NULL) != (w->name == NULL) || (w->name && !streq(m->right.name, w->name)))
			continue;
		buf_putc(&m->verbs, ' ');
		quote(&m->verbs, w->verb);
		return;
	}
	if (c->n_missing == MISSING_MAX)
		return;
	struct missing *m = &c->missing[c->n_missing++];
	*m = (struct missing){.right = *w, .verbs = {.max = 512}};
	quote(&m->verbs, w->verb);
}

/* -E2BIG: the check takes too long. */
static int check_right(struct check *c, const struct right *w) {
	c->right = *w;
	if (!rbac_visit(c->rbac, c->user, c->ns, covers, c, NULL, &c->work))
		note(c);
	return c->work > RBAC_WORK_MAX ? -E2BIG : 0;
}

static int check_rule(struct check *c, const struct policy_rule *p) {
	int e = 0;
	for (size_t v = 0; v < p->verbs.n && e == 0; v++) {
		for (size_t u = 0; u < p->urls.n && e == 0; u++)
			e = check_right(c, &(struct right){.verb = p->verbs.v[v], .url = p->urls.v[u]});
		for (size_t i = 0; i < p->groups.n * p->resources.n * MAX(p->names.n, (size_t)1) && e == 0; i++) {
			size_t n = MAX(p->names.n, (size_t)1), j = i / n;
			const struct right w = {.verb = p->verbs.v[v],
			                        .group = p->groups.v[j / p->resources.n],
			                        .resource = p->resources.v[j % p->resources.n],
			                        .name = p->names.n ? p->names.v[i % n] : NULL};
			e = check_right(c, &w);
		}
	}
	return e;
}

/* {APIGroups:["nacre.dev"], Resources:["instances"], Verbs:["get" "list"]} */
static char *describe(const struct missing *m) {
	_buf_free_ struct buf b = {.max = 2048};
	buf_puts(&b, "{");
	if (m->right.url) {
		buf_puts(&b, "NonResourceURLs:[");
		quote(&b, m->right.url);
	} else {
		buf_puts(&b, "APIGroups:[");
		quote(&b, m->right.group);
		buf_puts(&b, "], Resources:[");
		quote(&b, m->right.resource);
		if (m->right.name) {
			buf_puts(&b, "], ResourceNames:[");
			quote(&b, m->right.name);
		}
	}
	buf_printf(&b, "], Verbs:[%s]}", m->verbs.data ? m->verbs.data : "");
	return b.failed ? NULL : buf_steal(&b);
}

static int by_text(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_missing(struct check *c, struct buf *out) {
	char *lines[MISSING_MAX];
	size_t n = 0;
	for (size_t i = 0; i < c->n_missing; i++) {
		lines[n] = describe(&c->missing[i]);
		n += lines[n] != NULL;
		buf_free(&c->missing[i].verbs);
	}
	qsort(lines, n, sizeof(*lines), by_text);
	for (size_t i = 0; i < n; i++) {
		buf_printf(out, "\n%s", lines[i]);
		free(lines[i]);
	}
}

/* Checks that the user has all RULES in NS. -EPERM, -E2BIG or -ENOMEM with the reply set. */
static int confirm(const struct rbac *rbac, struct request *r, const char *name, const char *ns,
                   const struct policy_rule *rules, size_t n) {
	const struct user *u = r->user;
	struct check *c = calloc(1, sizeof(*c));
	int e = c ? 0 : -ENOMEM;
	if (c)
		*c = (struct check){.rbac = rbac, .user = u, .ns = ns};
	for (size_t i = 0; i < n && e == 0; i++)
		e = check_rule(c, &rules[i]);
	_buf_free_ struct buf groups = {.max = 4096}, what = {.max = 3072};
	for (size_t i = 0; i < u->n_groups; i++) {
		buf_puts(&groups, i ? " " : "");
		quote(&groups, u->groups[i]);
	}
	if (c)
		print_missing(c, &what);
	if (e == -ENOMEM)
		reply_internal(r, "out of memory");
	else if (e == -E2BIG)
		reply_forbidden(r, name, NULL, "its rules are too many to compare with those of user \"%s\"", u->name);
	else if (c->any) {
		char res[192];
		const struct api_kind *k = r->route.kind;
		const struct status_details d = {.name = name, .group = k->group, .kind = k->plural};
		reply_status(&r->reply, 403, "Forbidden", &d,
		             "%s \"%s\" is forbidden: user \"%s\" (groups=[%.1000s]) is attempting to grant RBAC "
		             "permissions not currently held:%s",
		             resource_name(k, res), name, u->name, groups.data ? groups.data : "",
		             what.data ? what.data : "");
		e = -EPERM;
	}
	free(c);
	return e;
}

static bool may(const struct rbac *rbac, const struct user *u, const char *verb, const char *resource, const char *ns,
                const char *name) {
	const struct authz_attributes a = {verb, RBAC_GROUP, resource, "", ns, name, NULL};
	return authz_check(rbac, u, &a, NULL);
}

static void *parse(struct request *r, const json_t *obj, int *ret) {
	struct api_errors errs = {0};
	void *out = NULL;
	char *text = json_dumps(obj, JSON_COMPACT);
	*ret = text ? api_parse(r->route.kind, text, strlen(text), &out, &errs) : -ENOMEM;
	free(text);
	if (*ret == -EINVAL)
		reply_invalid(r, object_meta_str(obj, "name"), &errs);
	else if (*ret < 0)
		reply_internal(r, "out of memory");
	return *ret < 0 ? NULL : out;
}

static int check_role(const struct rbac *rbac, struct request *r, const json_t *old, const json_t *obj) {
	static char *star[] = {"*"};
	static const struct policy_rule all[] = {
		{.verbs = {star, 1}, .groups = {star, 1}, .resources = {star, 1}},
		{.verbs = {star, 1}, .urls = {star, 1}},
	};
	const struct api_kind *k = r->route.kind;
	const char *name = object_meta_str(obj, "name");
	int e;
	if (may(rbac, r->user, "escalate", k->plural, r->route.ns, r->route.name))
		return 0;
	struct role *role = parse(r, obj, &e);
	if (!role)
		return e;
	e = confirm(rbac, r, name, r->route.ns, role->rules.v, role->rules.n);
	if (e == 0 && (json_object_get(obj, "aggregationRule") || json_object_get(old, "aggregationRule")) &&
	    confirm(rbac, r, name, "", all, ARRAY_SIZE(all)) < 0) {
		reply_forbidden(r, name, NULL, "must have cluster-admin privileges to use the aggregationRule");
		e = -EPERM;
	}
	api_free(k, role);
	return e;
}

static int check_binding(const struct rbac *rbac, struct request *r, const json_t *obj) {
	const struct api_kind *k = r->route.kind;
	int e;
	struct role_binding *b = parse(r, obj, &e);
	if (!b)
		return e;
	const struct role_ref *ref = &b->role;
	const bool cluster = streq(ref->kind, "ClusterRole");
	if (!may(rbac, r->user, "bind", cluster ? "clusterroles" : "roles", r->route.ns, ref->name)) {
		const struct role *role = rbac_role(rbac, r->route.ns, ref);
		if (role)
			e = confirm(rbac, r, b->meta.name, r->route.ns, role->rules.v, role->rules.n);
		else {
			/* kube-apiserver names the binding's resource here, although the role is what is missing. */
			const struct status_details d = {.name = ref->name, .group = RBAC_GROUP, .kind = k->plural};
			reply_status(&r->reply, 404, "NotFound", &d, "%s.%s \"%s\" not found", d.kind, RBAC_GROUP,
			             ref->name);
			e = -EPERM;
		}
	}
	api_free(k, b);
	return e;
}

int escalate_check(const struct rbac *rbac, struct request *r, const json_t *old, const json_t *obj) {
	const struct api_kind *k = r->route.kind;
	if (!streq(k->group, RBAC_GROUP) || user_in_group(r->user, GROUP_MASTERS))
		return 0;
	/*
	 * A write that changes only metadata other than labels, such as finalizers or owner references, grants nothing.
	 */
	if (old && !object_desired_differs(k, old, obj) &&
	    json_equal(json_object_get(object_meta(old), "labels"), json_object_get(object_meta(obj), "labels")))
		return 0;
	return k == &api_kind_role || k == &api_kind_clusterrole ? check_role(rbac, r, old, obj)
	                                                         : check_binding(rbac, r, obj);
}
