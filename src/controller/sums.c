/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "controller/walls.h"

/* What one rule counted in all instances. The text has direction and rule. */
struct sum {
	RB_ENTRY(sum) node;
	size_t rows; /* of instances; never 0 */
	int64_t packets, bytes;
	const char *rule;
	char direction[];
};

static int sum_cmp(const struct sum *a, const struct sum *b) {
	int c = strcmp(a->direction, b->direction);
	return c ? c : strcmp(a->rule, b->rule);
}

RB_HEAD(sum_tree, sum);
RB_GENERATE_INTERNAL(sum_tree, sum, node, sum_cmp, _unused_ static)

/* A Firewall of which an instance has counters, whether it exists or not. */
struct sums_of {
	RB_ENTRY(sums_of) node;
	struct sum_tree sums; /* never empty */
	char key[];
};

static int sums_of_cmp(const struct sums_of *a, const struct sums_of *b) {
	return strcmp(a->key, b->key);
}

RB_HEAD(sums_of_tree, sums_of);
RB_GENERATE_INTERNAL(sums_of_tree, sums_of, node, sums_of_cmp, _unused_ static)

struct sums {
	struct sums_of_tree tree;
};

static void *sums_alloc(size_t size) {
	void *p = calloc(1, size);
	if (!p)
		abort(); /* the sums would be wrong for good */
	return p;
}

struct sums *sums_new(void) {
	struct sums *s = sums_alloc(sizeof(*s));
	RB_INIT(&s->tree);
	return s;
}

static struct sums_of *sums_get(struct sums *s, const char *ns, const char *firewall) {
	char key[KUBE_KEY_MAX];
	struct sums_of *of = TREE_FIND_STRING(sums_of, &s->tree, node, key, kube_key(ns, firewall, key));
	if (of)
		return of;
	of = sums_alloc(sizeof(*of) + strlen(key) + 1);
	strcpy(of->key, key);
	RB_INIT(&of->sums);
	RB_INSERT(sums_of_tree, &s->tree, of);
	return of;
}

static struct sum *sum_get(struct sums_of *of, const struct instance_counter *row) {
	const size_t direction = strlen(row->direction) + 1, rule = strlen(row->rule) + 1;
	struct sum *sum = sums_alloc(sizeof(*sum) + direction + rule);
	memcpy(sum->direction, row->direction, direction);
	sum->rule = memcpy(sum->direction + direction, row->rule, rule);
	struct sum *have = RB_INSERT(sum_tree, &of->sums, sum);
	if (!have)
		return sum;
	free(sum);
	return have;
}

static void sum_remove(struct sums *s, struct sums_of *of, struct sum *sum) {
	RB_REMOVE(sum_tree, &of->sums, sum);
	free(sum);
	if (!RB_EMPTY(&of->sums))
		return;
	RB_REMOVE(sums_of_tree, &s->tree, of);
	free(of);
}

/* Adds the row, or takes it away. Sums that an agent's figures make too large are wrong, but nothing else is. */
static void sums_row(struct sums *s, const char *ns, const struct instance_counter *row, bool add) {
	struct sums_of *of = sums_get(s, ns, row->firewall);
	struct sum *sum = sum_get(of, row);
	const uint64_t sign = add ? 1 : (uint64_t)-1;
	sum->packets = (int64_t)((uint64_t)sum->packets + sign * (uint64_t)row->packets.v);
	sum->bytes = (int64_t)((uint64_t)sum->bytes + sign * (uint64_t)row->bytes.v);
	sum->rows += add ? 1 : (size_t)-1;
	if (!sum->rows)
		sum_remove(s, of, sum);
}

void sums_change(struct sums *s, const char *ns, const struct instance_firewall *was,
                 const struct instance_firewall *is,
                 void (*told)(struct controller *c, const char *ns, const char *firewall), struct controller *c) {
	if ((!was && !is) || (was && is && api_equal(&api_desc_instance_firewall, was, is)))
		return;
	const struct instance_firewall *const sides[] = {is,
	                                                 was}; /* added first, so that no sum goes and comes again */
	for (size_t side = 0; side < ARRAY_SIZE(sides); side++) {
		const char *last = NULL;
		for (size_t i = 0; sides[side] && i < sides[side]->rules.n; i++) {
			const struct instance_counter *row = &sides[side]->rules.v[i];
			sums_row(s, ns, row, sides[side] == is);
			if (!streq(row->firewall, last))
				told(c, ns, row->firewall);
			last = row->firewall;
		}
	}
}

static int sum_order(const void *a, const void *b) {
	const struct sum *x = *(const struct sum *const *)a, *y = *(const struct sum *const *)b;
	return x->packets != y->packets ? (x->packets > y->packets ? -1 : 1) : sum_cmp(x, y);
}

size_t sums_list(const struct sums *s, const char *ns, const char *firewall,
                 struct firewall_counter v[static FIREWALL_COUNTERS_MAX]) {
	char key[KUBE_KEY_MAX];
	struct sums_of *of = TREE_FIND_STRING(sums_of, &s->tree, node, key, kube_key(ns, firewall, key));
	struct sum *sum;
	size_t n = 0, listed = 0;
	if (!of)
		return 0;
	RB_FOREACH (sum, sum_tree, &of->sums)
		n++;
	struct sum **order = sums_alloc(n * sizeof(struct sum *));
	n = 0;
	RB_FOREACH (sum, sum_tree, &of->sums)
		order[n++] = sum;
	qsort(order, n, sizeof(struct sum *), sum_order);
	for (; listed < MIN(n, (size_t)FIREWALL_COUNTERS_MAX); listed++)
		v[listed] = (struct firewall_counter){.direction = order[listed]->direction,
		                                      .rule = (char *)order[listed]->rule,
		                                      .packets = API_I64(MAX(order[listed]->packets, 0)),
		                                      .bytes = API_I64(MAX(order[listed]->bytes, 0))};
	free(order);
	return listed;
}

void sums_free(struct sums *s) {
	struct sums_of *of;
	while ((of = RB_MIN(sums_of_tree, &s->tree))) {
		struct sum *sum, *next;
		RB_FOREACH_SAFE (sum, sum_tree, &of->sums, next) {
			RB_REMOVE(sum_tree, &of->sums, sum);
			free(sum);
		}
		RB_REMOVE(sums_of_tree, &s->tree, of);
		free(of);
	}
	free(s);
}
