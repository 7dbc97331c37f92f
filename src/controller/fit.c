/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/fit.h"

#include <stdlib.h>

#include "api/meta.h"
#include "base/util.h"

/* Why a host does not fit. SHORT + i: it is short of resource i. */
enum { NOT_READY, UNSCHEDULABLE, SELECTOR, SHORT, N_REASONS = SHORT + N_RESOURCES, FITS = N_REASONS };

static bool fit_labels_match(const struct host *h, const struct api_map *want) {
	for (size_t i = 0; i < want->n; i++) {
		const char *have = api_map_get(&h->meta.labels, want->v[i].key);
		if (!have || !streq(have, want->v[i].value))
			return false;
	}
	return true;
}

/* Judges all but the room. */
static int fit_judge_host(const struct fit_host *f, const struct instance_spec *spec) {
	const struct host *h = f->host;
	if (!f->alive || !h->status || !h->status->capacity || h->meta.deletion_timestamp ||
	    !api_condition_is_true(h->status->conditions.v, h->status->conditions.n, "Ready"))
		return NOT_READY;
	if (h->spec->unschedulable.v)
		return UNSCHEDULABLE;
	if (!fit_labels_match(h, &spec->host_selector))
		return SELECTOR;
	return FITS;
}

static int fit_judge(const struct fit_host *f, const struct instance_spec *spec, const struct resources *size) {
	int r = fit_judge_host(f, spec);
	return r == FITS ? SHORT + resources_short(&f->free, size) : r;
}

static bool fit_takes_instances(const struct host *h) {
	return !h->spec->role || streq(h->spec->role, "compute");
}

bool fit_takes(const struct fit_host *host, const struct instance_spec *spec) {
	return fit_takes_instances(host->host) && fit_judge_host(host, spec) == FITS;
}

bool fit_host(const struct fit_host *host, const struct instance_spec *spec, const struct instancetype *type) {
	const struct resources size = instancetype_size(type);
	return fit_takes_instances(host->host) && fit_judge(host, spec, &size) == FITS;
}

/* How much of the host is left with the instance on it: the sum over all resources, each in thousandths. */
static int64_t fit_score(const struct fit_host *f, const struct resources *size) {
	int64_t score = 0;
	RESOURCES_FOREACH (i)
		if (f->usable.v[i] != RESOURCE_UNLIMITED)
			score += (f->free.v[i] - size->v[i]) * 1000 / MAX(f->usable.v[i], (int64_t)1);
	return score;
}

/* MOST: for each resource, the most that is free on any of the hosts that are short of it. */
static void fit_explain(const size_t count[static N_REASONS], size_t total, const struct resources *most,
                        const struct resources *size, char out[static FIT_MESSAGE_MAX]) {
	size_t n = 0;
	const char *sep = ": ";
	n += (size_t)snprintf(out, FIT_MESSAGE_MAX, "0 of %zu host%s", total, total == 1 ? " fits" : "s fit");
	for (int i = 0; i < N_REASONS; i++) {
		char text[160], what[RESOURCE_SHORT_MAX];
		const char *one = count[i] == 1 ? "is" : "are", *has = count[i] == 1 ? "has" : "have";
		if (!count[i])
			continue;
		switch (i) {
		case NOT_READY: snprintf(text, sizeof(text), "%s not ready", one); break;
		case UNSCHEDULABLE: snprintf(text, sizeof(text), "%s unschedulable", one); break;
		case SELECTOR: snprintf(text, sizeof(text), "%s not the labels of hostSelector", has); break;
		default:
			resources_print_short(i - SHORT, most->v[i - SHORT], size->v[i - SHORT], what);
			snprintf(text, sizeof(text), "%s %s", has, what);
		}
		n += (size_t)snprintf(out + n, FIT_MESSAGE_MAX - n, "%s%zu %s", sep, count[i], text);
		n = MIN(n, (size_t)FIT_MESSAGE_MAX - 1);
		sep = ", ";
	}
}

int fit_choose(const struct fit_host *hosts, size_t n, const struct instance_spec *spec,
               const struct instancetype *type, char why[static FIT_MESSAGE_MAX]) {
	size_t count[N_REASONS] = {0}, total = 0;
	const struct resources size = instancetype_size(type);
	struct resources most = {0};
	int64_t best_score = 0;
	int best = -1;
	for (size_t i = 0; i < n; i++) {
		const struct fit_host *f = &hosts[i];
		if (!fit_takes_instances(f->host))
			continue;
		total++;
		int r = fit_judge(f, spec, &size);
		if (r != FITS) {
			count[r]++;
			if (r >= SHORT)
				most.v[r - SHORT] = MAX(most.v[r - SHORT], f->free.v[r - SHORT]);
			continue;
		}
		int64_t s = fit_score(f, &size);
		if (best < 0 || s > best_score) {
			best = (int)i;
			best_score = s;
		}
	}
	if (best < 0) {
		if (total)
			fit_explain(count, total, &most, &size, why);
		else
			snprintf(why, FIT_MESSAGE_MAX, "there are no hosts of role compute");
	}
	return best;
}

/* ---- gangs ---- */

/* A host that has room for at least one more member, and what its score is with that member on it. */
struct fit_place {
	int64_t score;
	size_t at;
};

/* fit_choose() would choose A before B. */
static bool fit_place_before(const struct fit_place *a, const struct fit_place *b) {
	return a->score != b->score ? a->score > b->score : a->at < b->at;
}

/* Moves the place I of a heap down to where it belongs: the best place is the first. */
static void fit_sift(struct fit_place *v, size_t n, size_t i) {
	const struct fit_place moved = v[i];
	for (size_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && fit_place_before(&v[child + 1], &v[child]))
			child++;
		if (!fit_place_before(&v[child], &moved))
			break;
		v[i] = v[child];
	}
	v[i] = moved;
}

/* How many instances of SIZE have room in FREE, at most MAX. */
static size_t fit_count(const struct resources *free, const struct resources *size, size_t max) {
	if (resources_short(free, size) < N_RESOURCES)
		return 0;
	RESOURCES_FOREACH (i)
		if (size->v[i] > 0)
			max = MIN(max, (uint64_t)(free->v[i] / size->v[i]));
	return max;
}

size_t fit_gang(struct fit_host *hosts, size_t n, const struct instance_spec *spec, const struct instancetype *type,
                size_t count, int *at, char why[static FIT_MESSAGE_MAX]) {
	const struct resources size = instancetype_size(type);
	struct fit_place *v = calloc(n + 1, sizeof(*v));
	size_t n_places = 0, room = 0;
	if (!v)
		abort();
	for (size_t i = 0; i < n; i++) {
		size_t here = fit_takes(&hosts[i], spec) ? fit_count(&hosts[i].free, &size, count) : 0;
		room += here;
		if (here)
			v[n_places++] = (struct fit_place){fit_score(&hosts[i], &size), i};
	}
	if (room < count) {
		for (size_t i = 0; i < n_places; i++) {
			struct resources *left = &hosts[v[i].at].free;
			const struct resources taken = resources_times(&size, (int64_t)fit_count(left, &size, count));
			resources_subtract(left, &taken);
		}
		(void)fit_choose(hosts, n, spec, type, why);
		free(v);
		return room;
	}
	for (size_t i = n_places / 2; i-- > 0;)
		fit_sift(v, n_places, i);
	for (size_t i = 0; i < count; i++) {
		struct fit_host *best = &hosts[v->at];
		at[i] = (int)v->at;
		resources_subtract(&best->free, &size);
		if (resources_short(&best->free, &size) == N_RESOURCES)
			v->score = fit_score(best, &size);
		else
			*v = v[--n_places];
		fit_sift(v, n_places, 0);
	}
	free(v);
	return count;
}
