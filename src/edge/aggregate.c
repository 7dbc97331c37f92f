/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/aggregate.h"

#include <string.h>

#include "base/util.h"
#include "net/route.h"

/* Marks our unreachable routes among the routes of our protocol number. */
#define AGGREGATE_METRIC 8192
#define STALE_MAX        65536

struct survey {
	const struct prefix *wanted;
	size_t n_wanted;
	bool *there; /* for each wanted prefix: its route exists */
	struct route *stale;
	size_t n_stale;
};

static int aggregate_look_at_route(const struct route *r, void *userdata) {
	struct survey *s = userdata;
	if (r->type != RTN_UNREACHABLE || r->metric != AGGREGATE_METRIC)
		return 0;
	for (size_t i = 0; i < s->n_wanted; i++)
		if (prefix_cmp(&s->wanted[i], &r->dst) == 0) {
			s->there[i] = true;
			return 0;
		}
	if (s->n_stale == STALE_MAX)
		return 0; /* the next call removes the rest */
	struct route *more = reallocarray(s->stale, s->n_stale + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	s->stale = more;
	s->stale[s->n_stale++] = *r;
	return 0;
}

static int aggregate_survey(struct nl *nl, struct survey *s, struct error *err) {
	int r = route_dump(nl, AF_INET6, aggregate_look_at_route, s, err);
	return r >= 0 ? route_dump(nl, AF_INET, aggregate_look_at_route, s, err) : r;
}

int aggregate_keep(struct nl *nl, struct prefix **prefixes, size_t *n, struct error *err) {
	_free_ bool *there = calloc(*n + 1, sizeof(*there));
	struct survey s = {.wanted = *prefixes, .n_wanted = *n, .there = there};
	if (!there)
		return error_oom(err);
	int r = aggregate_survey(nl, &s, err);
	struct prefix *more = r >= 0 && s.n_stale ? reallocarray(*prefixes, *n + s.n_stale, sizeof(*more)) : NULL;
	if (more) {
		*prefixes = more;
		for (size_t i = 0; i < s.n_stale; i++)
			more[(*n)++] = s.stale[i].dst;
	} else if (r >= 0 && s.n_stale) {
		r = error_oom(err);
	}
	free(s.stale);
	return r;
}

int aggregate_ensure(struct nl *nl, const struct prefix *prefixes, size_t n, struct error *err) {
	_free_ bool *there = calloc(n + 1, sizeof(*there));
	struct survey s = {.wanted = prefixes, .n_wanted = n, .there = there};
	if (!there)
		return error_oom(err);
	int r = aggregate_survey(nl, &s, err);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct route route = {.dst = prefixes[i], .type = RTN_UNREACHABLE, .metric = AGGREGATE_METRIC};
		if (!there[i])
			r = route_put(nl, &route, err);
	}
	for (size_t i = 0; r >= 0 && i < s.n_stale; i++)
		r = route_delete(nl, &s.stale[i], err);
	free(s.stale);
	return r;
}
