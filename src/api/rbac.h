/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Role, ClusterRole, RoleBinding and ClusterRoleBinding of rbac.authorization.k8s.io/v1. Semantics and messages:
 * Kubernetes API reference; pkg/apis/rbac/validation. apiserver/auth/rbac.h evaluates them.
 */

#include "api/meta.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"

/* The limit for lists in a rule. Rules that people write have a handful of elements. */
#define RBAC_LIST_MAX 256

#define POLICY_RULE(F, T)                                                                                    \
	F(T, strs, verbs, "verbs", 0, any, 0, RBAC_LIST_MAX, NULL, "Allowed verbs: get, list, … or *.")      \
	F(T, strs, groups, "apiGroups", API_MAY_BE_EMPTY, any, 0, RBAC_LIST_MAX, NULL,                       \
	  "Groups of the resources; \"\" is the core group, * is all.")                                      \
	F(T, strs, resources, "resources", 0, any, 0, RBAC_LIST_MAX, NULL,                                   \
	  "Resources, such as instances, instances/status, */status or *.")                                  \
	F(T, strs, names, "resourceNames", 0, any, 0, RBAC_LIST_MAX, NULL, "Only objects with these names.") \
	F(T, strs, urls, "nonResourceURLs", 0, any, 0, RBAC_LIST_MAX, NULL,                                  \
	  "Paths that are no resources; may end with *.")
API_DECLARE(policy_rule, POLICY_RULE)

#define SELECTOR_TERM(F, T)                                                      \
	F(T, str, key, "key", API_REQ, any, 1, 317, NULL, "The label.")          \
	F(T, str, operator, "operator", API_REQ, selector_operator, 1, 15, NULL, \
	  "How the label is compared: In, NotIn, Exists or DoesNotExist.")       \
	F(T, strs, values, "values", API_MAY_BE_EMPTY, any, 0, 64, NULL, "The values, for In and NotIn.")
API_DECLARE(selector_term, SELECTOR_TERM)
#define LABEL_SELECTOR(F, T)                                                                             \
	F(T, map, match_labels, "matchLabels", 0, _, 0, 64, NULL, "Labels that must have these values.") \
	F(T, list, terms, "matchExpressions", 0, selector_term, 0, 64, NULL, "Conditions on labels.")
API_DECLARE(label_selector, LABEL_SELECTOR)
#define AGGREGATION_RULE(F, T)                                                        \
	F(T, list, selectors, "clusterRoleSelectors", 0, label_selector, 0, 64, NULL, \
	  "The rules of all ClusterRoles that match any of these are combined.")
API_DECLARE(aggregation_rule, AGGREGATION_RULE)

#define ROLE(F, T)     \
	API_META(F, T) \
	F(T, list, rules, "rules", 0, policy_rule, 0, 1024, NULL, "The granted rights.")
API_DECLARE(role, ROLE)
/* Its beginning equals struct role, and it may be read as one. */
#define CLUSTER_ROLE(F, T)                                                         \
	ROLE(F, T)                                                                 \
	F(T, obj, aggregation, "aggregationRule", 0, aggregation_rule, 0, 0, NULL, \
	  "The server then fills in rules from other ClusterRoles.")
API_DECLARE(cluster_role, CLUSTER_ROLE)
extern const struct api_kind api_kind_role, api_kind_clusterrole;

#define SUBJECT(F, T)                                                                                                  \
	F(T, str, kind, "kind", 0, any, 0, 63, NULL, "User, Group or ServiceAccount.")                                 \
	F(T, str, group, "apiGroup", 0, any, 0, 253, NULL, "rbac.authorization.k8s.io, or \"\" for a ServiceAccount.") \
	F(T, str, name, "name", 0, any, 0, 1024, NULL, "Name.")                                                        \
	F(T, str, ns, "namespace", 0, any, 0, 63, NULL, "Namespace of a ServiceAccount.")
API_DECLARE(subject, SUBJECT)
#define ROLE_REF(F, T)                                                                                              \
	F(T, str, group, "apiGroup", 0, any, 0, 253, "\"rbac.authorization.k8s.io\"", "rbac.authorization.k8s.io.") \
	F(T, str, kind, "kind", 0, any, 0, 63, NULL, "Role or ClusterRole.")                                        \
	F(T, str, name, "name", 0, any, 0, 253, NULL, "Name.")
API_DECLARE(role_ref, ROLE_REF)
#define ROLE_BINDING(F, T)                                                                                     \
	API_META(F, T)                                                                                         \
	F(T, list, subjects, "subjects", 0, subject, 0, 1024, NULL, "The subjects that are granted the role.") \
	F(T, inl, role, "roleRef", API_ATOMIC, role_ref, 0, 0, NULL, "The role; can't change.")
API_DECLARE(role_binding, ROLE_BINDING)
extern const struct api_kind api_kind_rolebinding, api_kind_clusterrolebinding;
