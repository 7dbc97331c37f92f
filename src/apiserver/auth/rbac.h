/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Role based access control with kube-apiserver's semantics. An index of all roles and bindings is kept up to date with
 * the visible changes of the store. The rights of a user are found by his name, his groups and the namespace; bindings
 * of others are never visited.
 *
 * Rules belong to the index and are valid until the next change of a role.
 */

#include "api/rbac.h"
#include "apiserver/request/user.h"
#include "apiserver/store/store.h"

struct rbac;

/*
 * What somebody wants to do. PATH is not NULL for a path that is no resource; only VERB is then used. The other members
 * are never NULL.
 */
struct authz_attributes {
	const char *verb, *group, *resource, *subresource, *ns, *name;
	const char *path;
};

/* Builds the index from all objects in STORE. */
int rbac_new(struct rbac **ret, const struct store *store, struct error *err) _must_use_;
struct rbac *rbac_free(struct rbac *b);
/*
 * Updates the index after a visible change; other kinds are ignored. False: no memory; from now on rights may be
 * missing.
 */
bool rbac_notice(struct rbac *b, unsigned kind, const struct watch_event *e);

/* The binding that a rule comes from. */
struct rbac_source {
	const struct role_binding *binding;
	const char *ns; /* the binding's namespace; "" for a ClusterRoleBinding */
	const struct subject *subject;
};

/*
 * Calls RULE for every rule that U has in NS ("": only those for all namespaces) until it returns true. Returns whether
 * it did. A role is visited once for each of U's names, however many bindings name it. If MISSING is not NULL, it gets
 * the roles that bindings name and that don't exist.
 *
 * A tenant may create as many roles and bindings as his namespace may hold. WORK, which begins at 0, bounds the work
 * that a request causes: RULE adds the number of strings that it compares. Beyond RBAC_WORK_MAX no further rule is
 * visited, so what only such a rule would allow is denied. Cluster roles are visited first, so that no tenant can take
 * away what a ClusterRoleBinding grants.
 */
#define RBAC_WORK_MAX 600000
#define RBAC_TOO_MUCH                                                                                               \
	"RBAC: the rules of this user are too many to compare; delete roles or bindings that name the user or its " \
	"groups"
bool rbac_visit(const struct rbac *b, const struct user *u, const char *ns,
                bool (*rule)(const struct policy_rule *p, const struct rbac_source *from, void *userdata),
                void *userdata, struct buf *missing, size_t *work);

/*
 * True if some rule allows A. WHY (may be NULL) gets the binding that allows it, or the roles that are missing, in
 * kube-apiserver's words.
 */
bool rbac_allows(const struct rbac *b, const struct user *u, const struct authz_attributes *a, struct buf *why);

/* Returns the role that a binding in NS refers to; NULL: it doesn't exist. */
const struct role *rbac_role(const struct rbac *b, const char *ns, const struct role_ref *ref);

/* The number of strings in the rule. */
size_t rule_size(const struct policy_rule *p);
bool rule_allows(const struct policy_rule *p, const struct authz_attributes *a);
