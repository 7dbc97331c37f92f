/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The user who sends a request: the result of authentication and the input of authorization. Users are
 * reference-counted, since all requests of a connection with a client certificate have the same user. A user is not
 * changed once it is shared.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

#define USER_GROUPS_MAX 256
#define USER_EXTRAS_MAX 32

#define USER_ADMIN          "system:admin"
#define USER_ANONYMOUS      "system:anonymous"
#define GROUP_MASTERS       "system:masters"
#define GROUP_AUTHENTICATED "system:authenticated"
#define GROUP_ANONYMOUS     "system:unauthenticated"
#define GROUP_ACCOUNTS      "system:serviceaccounts"
#define USER_ACCOUNT_PREFIX "system:serviceaccount:"
#define EXTRA_CREDENTIAL_ID "authentication.kubernetes.io/credential-id"

/* One value of an extra attribute. A key with several values has several of these. */
struct user_extra {
	char *key, *value;
};

struct user {
	unsigned refs;
	char *name, *uid; /* uid NULL: none */
	char **groups;
	size_t n_groups;
	struct user_extra *extras;
	size_t n_extras;
};

/* NULL: no memory. UID may be NULL. */
struct user *user_new(const char *name, const char *uid);
struct user *user_ref(struct user *u);
struct user *user_unref(struct user *u); /* U may be NULL; returns NULL */
DEFINE_CLEANUP(user, struct user *, user_unref)

/* Adds a group unless the user already has it. 0, -ENOMEM, or -E2BIG if there are too many. */
int user_add_group(struct user *u, const char *group) _must_use_;
int user_add_extra(struct user *u, const char *key, const char *value) _must_use_;
bool user_in_group(const struct user *u, const char *group);
/* True if U is in the group of a kind of agents (api/agents.h), whatever its name. */
bool user_is_agent(const struct user *u);

/* system:admin of system:masters, the local administrator, who may do everything. NULL: no memory. */
struct user *user_new_admin(void);
/* system:anonymous of system:unauthenticated: a client without credentials. NULL: no memory. */
struct user *user_new_anonymous(void);
