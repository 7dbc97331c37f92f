/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The roles and bindings that are there from the start, made of what the kinds grant (access.h): those that Nacre's
 * programs and tenants need on any Kubernetes API (deploy/rbac.yaml is made of them), and for nacre-apiserver those of
 * Kubernetes itself as well, of the same names and meaning (plugin/pkg/auth/authorizer/rbac/bootstrappolicy), as far as
 * there are such resources.
 */

#include <jansson.h>
#include <stdbool.h>

#include "api/access.h"
#include "base/buf.h"

/* The namespace of Nacre's own leases. */
#define ROLES_SYSTEM_NS "nacre-system"

/* Groups and users of Nacre's programs; a name follows the prefix. */
#define ROLES_HOSTS       "system:nacre:hosts"
#define ROLES_EDGES       "system:nacre:edges"
#define ROLES_HOST_PREFIX "system:nacre:host:"
#define ROLES_EDGE_PREFIX "system:nacre:edge:"
#define ROLES_CONTROLLER  "system:nacre:controller"

#define ROLES_AUTOUPDATE "rbac.authorization.kubernetes.io/autoupdate"

/*
 * A new list of ClusterRoles, ClusterRoleBindings, Roles and RoleBindings as JSON trees, with apiVersion and kind.
 * ALL: Kubernetes' as well. NULL on no memory.
 */
json_t *roles_defaults(bool all);

/* As "nacre:view". */
const char *roles_name(enum access_role role);

/* deploy/rbac.yaml: the namespace, then Nacre's roles and bindings. */
int roles_yaml(struct buf *out, struct error *err) _must_use_;
