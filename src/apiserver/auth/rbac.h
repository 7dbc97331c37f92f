/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Role based access control, as kube-apiserver evaluates it: an index of all roles and bindings, kept from the
 * changes that become visible in the store. What somebody may do is looked up by who it is (name and groups) and the
 * namespace; bindings of others are never looked at.
 *
 * Rules belong to the index and live until the next change of a role.
 */

#include "api/rbac.h"
#include "apiserver/request/user.h"
#include "apiserver/store/store.h"

struct rbac;

/* What somebody wants to do. PATH: a path that is no resource, and only VERB beside it; else NULL. No NULLs else. */
struct authz_attributes {
	const char *verb, *group, *resource, *subresource, *ns, *name;
	const char *path;
};

/* Reads what STORE holds. */
int rbac_new(struct rbac **ret, const struct store *store, struct error *err) _must_use_;
struct rbac *rbac_free(struct rbac *b);
/* A change became visible; of other kinds it is passed over. False on no memory: rights may be missing since. */
bool rbac_notice(struct rbac *b, unsigned kind, const struct watch_event *e);

/* Where a rule comes from. */
struct rbac_source {
	const struct role_binding *binding;
	const char *ns; /* the binding's, "" of a ClusterRoleBinding */
	const struct subject *subject;
};

/*
 * Calls RULE for every rule that U has in NS ("": only those for all namespaces), until it returns true; returns
 * whether it did. A role is visited once for each of U's names, however many bindings name it. A role that a binding
 * names and that isn't there is told in MISSING, if that is not NULL.
 *
 * A tenant may make as many roles and bindings as his namespace holds. WORK, which begins at 0, bounds what one request
 * spends on them: RULE adds about the strings that it compares, and past RBAC_WORK_MAX no further rule is visited. That
 * denies what only such a rule would allow. Cluster roles come first, so that nobody takes from another what a
 * ClusterRoleBinding gives.
 */
#define RBAC_WORK_MAX 600000
#define RBAC_TOO_MUCH                                                                                               \
	"RBAC: the rules of this user are too many to compare; delete roles or bindings that name the user or its " \
	"groups"
bool rbac_visit(const struct rbac *b, const struct user *u, const char *ns,
                bool (*rule)(const struct policy_rule *p, const struct rbac_source *from, void *userdata),
                void *userdata, struct buf *missing, size_t *work);

/* True if some rule allows A. WHY: where from, or which roles are missing, as kube-apiserver puts it. */
bool rbac_allows(const struct rbac *b, const struct user *u, const struct authz_attributes *a, struct buf *why);

/* The rules of the role that a binding in NS refers to; NULL if it isn't there. */
const struct role *rbac_role(const struct rbac *b, const char *ns, const struct role_ref *ref);

/* Its strings. */
size_t rule_size(const struct policy_rule *p);
bool rule_allows(const struct policy_rule *p, const struct authz_attributes *a);
