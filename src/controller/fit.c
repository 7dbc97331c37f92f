/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/fit.h"

#include "api/meta.h"
#include "base/util.h"

enum reason { NOT_READY, UNSCHEDULABLE, SELECTOR, VCPUS, MEMORY, N_REASONS, FITS };

static bool fit_labels_match(const struct host *h, const struct api_map *want) {
	for (size_t i = 0; i < want->n; i++) {
		const char *have = api_map_get(&h->meta.labels, want->v[i].key);
		if (!have || !streq(have, want->v[i].value))
			return false;
	}
	return true;
}

static enum reason fit_judge(const struct fit_host *f, const struct instance_spec *spec,
                             const struct instancetype *type) {
	const struct host *h = f->host;
	if (!f->alive || !h->status || !h->status->capacity || h->meta.deletion_timestamp ||
	    !api_condition_is_true(h->status->conditions.v, h->status->conditions.n, "Ready"))
		return NOT_READY;
	if (h->spec->unschedulable.v)
		return UNSCHEDULABLE;
	if (!fit_labels_match(h, &spec->host_selector))
		return SELECTOR;
	if (f->free_vcpus < type->spec->vcpus.v)
		return VCPUS;
	return f->free_memory_mib < type->spec->memory_mib.v ? MEMORY : FITS;
}

static bool fit_takes_instances(const struct host *h) {
	return !h->spec->role || streq(h->spec->role, "compute");
}

bool fit_host(const struct fit_host *host, const struct instance_spec *spec, const struct instancetype *type) {
	return fit_takes_instances(host->host) && fit_judge(host, spec, type) == FITS;
}

/* What is left of a host with the instance on it, in thousandths of vCPUs and of memory together. */
static int64_t fit_score(const struct fit_host *f, const struct instancetype *t) {
	const struct host_capacity c = host_usable(f->host);
	return (f->free_vcpus - t->spec->vcpus.v) * 1000 / MAX(c.vcpus.v, (int64_t)1) +
	       (f->free_memory_mib - t->spec->memory_mib.v) * 1000 / MAX(c.memory_mib.v, (int64_t)1);
}

static void fit_explain(const size_t count[static N_REASONS], size_t total, int64_t max_vcpus, int64_t max_memory,
                        const struct instancetype *t, char out[static FIT_MESSAGE_MAX]) {
	size_t n = 0;
	const char *sep = ": ";
	n += (size_t)snprintf(out, FIT_MESSAGE_MAX, "0 of %zu host%s", total, total == 1 ? " fits" : "s fit");
	for (int i = 0; i < N_REASONS; i++) {
		char text[160];
		const char *one = count[i] == 1 ? "is" : "are", *has = count[i] == 1 ? "has" : "have";
		if (!count[i])
			continue;
		switch ((enum reason)i) {
		case NOT_READY: snprintf(text, sizeof(text), "%s not ready", one); break;
		case UNSCHEDULABLE: snprintf(text, sizeof(text), "%s unschedulable", one); break;
		case SELECTOR: snprintf(text, sizeof(text), "%s not the labels of hostSelector", has); break;
		case VCPUS:
			snprintf(text, sizeof(text), "%s too few vCPUs (free %lld at most, asked %lld)", has,
			         (long long)max_vcpus, (long long)t->spec->vcpus.v);
			break;
		default:
			snprintf(text, sizeof(text), "%s too little memory (free %lld MiB at most, asked %lld)", has,
			         (long long)max_memory, (long long)t->spec->memory_mib.v);
		}
		n += (size_t)snprintf(out + n, FIT_MESSAGE_MAX - n, "%s%zu %s", sep, count[i], text);
		sep = ", ";
	}
}

int fit_choose(const struct fit_host *hosts, size_t n, const struct instance_spec *spec,
               const struct instancetype *type, char why[static FIT_MESSAGE_MAX]) {
	size_t count[N_REASONS] = {0}, total = 0;
	int64_t best_score = 0, max_vcpus = 0, max_memory = 0;
	int best = -1;
	for (size_t i = 0; i < n; i++) {
		const struct fit_host *f = &hosts[i];
		if (!fit_takes_instances(f->host))
			continue;
		total++;
		enum reason r = fit_judge(f, spec, type);
		if (r != FITS) {
			count[r]++;
			if (r == VCPUS)
				max_vcpus = MAX(max_vcpus, f->free_vcpus);
			if (r == MEMORY)
				max_memory = MAX(max_memory, f->free_memory_mib);
			continue;
		}
		int64_t s = fit_score(f, type);
		if (best < 0 || s > best_score) {
			best = (int)i;
			best_score = s;
		}
	}
	if (best < 0) {
		if (total)
			fit_explain(count, total, max_vcpus, max_memory, type, why);
		else
			snprintf(why, FIT_MESSAGE_MAX, "there are no hosts of role compute");
	}
	return best;
}

size_t fit_gang(struct fit_host *hosts, size_t n, const struct instance_spec *spec, const struct instancetype *type,
                size_t count, int *at, char why[static FIT_MESSAGE_MAX]) {
	size_t i;
	for (i = 0; i < count; i++) {
		int best = fit_choose(hosts, n, spec, type, why);
		if (best < 0)
			break;
		hosts[best].free_vcpus -= type->spec->vcpus.v;
		hosts[best].free_memory_mib -= type->spec->memory_mib.v;
		at[i] = best;
	}
	return i;
}
