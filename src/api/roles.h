/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The default roles and bindings, made from what the kinds grant (access.h). Nacre's programs and tenants need some of
 * them on any Kubernetes API (deploy/rbac.yaml). nacre-apiserver also has those of Kubernetes itself, with the same
 * names and meaning (plugin/pkg/auth/authorizer/rbac/bootstrappolicy), for the resources that it has.
 */

#include <jansson.h>
#include <stdbool.h>

#include "api/access.h"
#include "base/buf.h"

/* The namespace of Nacre's own Leases. */
#define ROLES_SYSTEM_NS "nacre-system"

/* Groups and users of Nacre's programs. The prefixes are followed by the name of a Host. */
#define ROLES_HOSTS           "system:nacre:hosts"
#define ROLES_EDGES           "system:nacre:edges"
#define ROLES_BALANCERS       "system:nacre:balancers"
#define ROLES_HOST_PREFIX     "system:nacre:host:"
#define ROLES_EDGE_PREFIX     "system:nacre:edge:"
#define ROLES_BALANCER_PREFIX "system:nacre:balancer:"
#define ROLES_CONTROLLER      "system:nacre:controller"

/*
 * The RoleBinding by which the agent of a host may get the Secrets that the Instances of a namespace name which are
 * bound to the host. The controller keeps it, and the Role that it names (controller/secrets.c). Writes
 * "nacre-host-HOST"; if that were too long for a name, HOST is cut and a hash follows, after a character that no Host's
 * name has. Both objects have the label, and HOST as annotation.
 */
#define ROLES_NAME_MAX      254
#define ROLES_SECRETS       "nacre-host-"
#define ROLES_SECRETS_LABEL "nacre.dev/grant"
#define ROLES_SECRETS_VALUE "host-secrets"
#define ROLES_SECRETS_HOST  "nacre.dev/host"
const char *roles_secrets_name(const char *host, char out[static ROLES_NAME_MAX]);

#define ROLES_AUTOUPDATE "rbac.authorization.kubernetes.io/autoupdate"

/*
 * A new list of ClusterRoles, ClusterRoleBindings, Roles and RoleBindings as JSON trees, with apiVersion and kind. ALL:
 * also those of Kubernetes. NULL: no memory.
 */
json_t *roles_defaults(bool all);

/* The name of the first default role with the grants of ROLE: "nacre:view". "" if there is none. */
const char *roles_name(enum access_role role);

/* Writes deploy/rbac.yaml to OUT: the namespace, then Nacre's roles and bindings. */
int roles_yaml(struct buf *out, struct error *err) _must_use_;
