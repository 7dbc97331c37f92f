/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request/user.h"

#include <errno.h>
#include <string.h>

#include "api/agents.h"

struct user *user_new(const char *name, const char *uid) {
	_cleanup_(cleanup_user) struct user *u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->refs = 1;
	u->name = strdup(name);
	u->uid = uid ? strdup(uid) : NULL;
	return u->name && (u->uid || !uid) ? TAKE_PTR(u) : NULL;
}

struct user *user_ref(struct user *u) {
	u->refs++;
	return u;
}

struct user *user_unref(struct user *u) {
	if (!u || --u->refs)
		return NULL;
	for (size_t i = 0; i < u->n_groups; i++)
		free(u->groups[i]);
	for (size_t i = 0; i < u->n_extras; i++) {
		free(u->extras[i].key);
		free(u->extras[i].value);
	}
	free(u->groups);
	free(u->extras);
	free(u->name);
	free(u->uid);
	free(u);
	return NULL;
}

bool user_in_group(const struct user *u, const char *group) {
	for (size_t i = 0; i < u->n_groups; i++)
		if (strcmp(u->groups[i], group) == 0)
			return true;
	return false;
}

bool user_is_agent(const struct user *u) {
	for (const struct agent_kind *k = agent_kinds; k->whose; k++)
		if (user_in_group(u, k->group))
			return true;
	return false;
}

int user_add_group(struct user *u, const char *group) {
	if (user_in_group(u, group))
		return 0;
	if (u->n_groups == USER_GROUPS_MAX)
		return -E2BIG;
	char **groups = reallocarray(u->groups, u->n_groups + 1, sizeof(*groups));
	if (!groups)
		return -ENOMEM;
	u->groups = groups;
	groups[u->n_groups] = strdup(group);
	if (!groups[u->n_groups])
		return -ENOMEM;
	u->n_groups++;
	return 0;
}

int user_add_extra(struct user *u, const char *key, const char *value) {
	if (u->n_extras == USER_EXTRAS_MAX)
		return -E2BIG;
	struct user_extra *extras = reallocarray(u->extras, u->n_extras + 1, sizeof(*extras));
	if (!extras)
		return -ENOMEM;
	u->extras = extras;
	struct user_extra *e = &extras[u->n_extras];
	*e = (struct user_extra){strdup(key), strdup(value)};
	u->n_extras++; /* counted even if it is incomplete, so that it is freed with the user */
	return e->key && e->value ? 0 : -ENOMEM;
}

static struct user *new_in_groups(const char *name, const char *a, const char *b) {
	_cleanup_(cleanup_user) struct user *u = user_new(name, NULL);
	if (!u || user_add_group(u, a) < 0 || (b && user_add_group(u, b) < 0))
		return NULL;
	return TAKE_PTR(u);
}

struct user *user_new_admin(void) {
	return new_in_groups(USER_ADMIN, GROUP_MASTERS, GROUP_AUTHENTICATED);
}

struct user *user_new_anonymous(void) {
	return new_in_groups(USER_ANONYMOUS, GROUP_ANONYMOUS, NULL);
}
