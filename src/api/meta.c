/* SPDX-License-Identifier: Apache-2.0 */
#include "api/meta.h"

#include <string.h>

#include "base/util.h"

API_DEFINE(api_owner_ref, API_OWNER_REF)
API_DEFINE(api_meta, API_META_FIELDS)
API_DEFINE(api_condition, API_CONDITION)
API_DEFINE(api_object_ref, API_OBJECT_REF)

bool api_labels_equal(const struct api_map *a, const struct api_map *b) {
	bool equal = a->n == b->n;
	for (size_t i = 0; equal && i < a->n; i++)
		equal = streq(api_map_get(b, a->v[i].key), a->v[i].value);
	return equal;
}

struct api_condition *api_condition_find(struct api_condition *v, size_t n, const char *type) {
	for (size_t i = 0; i < n; i++)
		if (streq(v[i].type, type))
			return &v[i];
	return NULL;
}

bool api_condition_is_true(const struct api_condition *v, size_t n, const char *type) {
	const struct api_condition *c = api_condition_find((struct api_condition *)v, n, type);
	return c && streq(c->status, "True");
}

int api_condition_set(struct api_condition **v, size_t *n, const char *type, const char *status, const char *reason,
                      const char *message, int64_t generation, uint64_t now_us) {
	struct api_condition *c = api_condition_find(*v, *n, type);
	char now[TIME_STR_MAX];
	int changed = 0, r;
	if (!c) {
		c = reallocarray(*v, *n + 1, sizeof(**v));
		if (!c)
			return -ENOMEM;
		*v = c;
		c += *n;
		*c = (struct api_condition){.type = strdup(type)};
		if (!c->type)
			return -ENOMEM;
		++*n;
	}
	if (!streq(c->status, status) || !c->last_transition_time) {
		if ((r = string_set(&c->last_transition_time, time_str(now_us, false, now))) < 0)
			return r;
	}
	struct {
		char **p;
		const char *value;
	} set[] = {{&c->status, status}, {&c->reason, reason}, {&c->message, message ? message : ""}};
	for (size_t i = 0; i < ARRAY_SIZE(set); i++) {
		if ((r = string_set(set[i].p, set[i].value)) < 0)
			return r;
		changed |= r;
	}
	if (!c->observed_generation.set || c->observed_generation.v != generation) {
		c->observed_generation = API_I64(generation);
		changed = 1;
	}
	return changed;
}
