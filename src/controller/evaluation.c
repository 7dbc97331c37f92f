/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Compares one instance with the Firewalls of its namespace: which select it, which of these are applied, and in which
 * groups it is.
 */

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "controller/walls.h"

/* ---- begin ---- */

static void evaluation_set_words(struct wall_evaluation *e, size_t words) {
	if (e->words < words) {
		free(e->bits);
		e->bits = calloc(2 * words, sizeof(*e->bits));
		if (!e->bits)
			abort();
		e->words = words;
	}
	memset(e->bits, 0, 2 * e->words * sizeof(*e->bits));
}

static bool evaluation_has(const struct wall_evaluation *e, const struct wall_group *g) {
	for (size_t i = 0; i < e->n_groups; i++)
		if (e->groups[i] == g)
			return true;
	return false;
}

/* Takes over what is known about the instance, less the Firewalls that are gone. */
static void evaluation_take_over(struct wall_ns *n, struct wall_evaluation *e) {
	const struct wall_member *m = e->member;
	const struct wall *w;
	if (m->words)
		memcpy(e->bits, m->bits, m->words * sizeof(*m->bits));
	TAILQ_FOREACH (w, &n->gone, entry) {
		e->judge |= wall_bit(e->bits, w);
		wall_set_bit(e->bits, w, false);
	}
	for (size_t i = 0; i < m->n_groups; i++)
		if (m->groups[i]->users)
			e->groups[e->n_groups++] = m->groups[i];
}

static struct wall *evaluation_changed(const struct wall_evaluation *e, struct wall *w) {
	return w && w->changed > e->from ? w : NULL;
}

void evaluation_begin(struct wall_ns *n, struct wall_member *m, uint64_t from) {
	struct wall_evaluation *e = &n->now;
	evaluation_set_words(e, n->words);
	e->member = m;
	e->from = m->evaluate || m->crowded ? 0 : from;
	e->judge = !e->from;
	e->crowded = false;
	e->n_groups = 0;
	if (e->from)
		evaluation_take_over(n, e);
	/* In order of name, because the first Firewalls are the ones that are applied. */
	e->next = e->from ? evaluation_changed(e, TAILQ_LAST(&n->recent, wall_list)) : wall_first(n);
}

/* ---- one Firewall ---- */

static bool member_is_in(const struct wall_member *m, const struct wall_group *g) {
	for (size_t i = 0; i < m->n_groups; i++)
		if (m->groups[i] == g)
			return true;
	return false;
}

static void evaluation_look_at_group(struct wall_evaluation *e, const struct wall *w, struct wall_group *g,
                                     const struct api_map *labels) {
	if (evaluation_has(e, g) || !api_selector_matches(&g->peers, labels))
		return;
	if (e->n_groups == ENDPOINT_GROUPS_MAX || (g->members >= FIREWALL_MEMBERS_MAX && !member_is_in(e->member, g))) {
		e->crowded = true;
		wall_set_bit(e->bits + e->words, w, true);
	} else
		e->groups[e->n_groups++] = g;
}

static void evaluation_look_at(struct wall_evaluation *e, const struct wall *w, const struct api_map *labels) {
	const bool is = api_selector_matches(&w->instances, labels), was = wall_bit(e->bits, w);
	e->judge |= is || was;
	wall_set_bit(e->bits, w, is);
	for (size_t i = 0; w->groups && i < w->size.n_groups; i++)
		evaluation_look_at_group(e, w, w->groups[i], labels);
}

/* ---- end ---- */

/* Firewalls that select an instance, in order of name, and their verdicts. */
struct selected {
	const struct wall **walls;
	const struct firewall_size **sizes;
	struct firewall_verdict *verdicts;
	size_t n;
};

static void selected_free(struct selected *s) {
	free(s->walls);
	free(s->sizes);
	free(s->verdicts);
}

static void selected_judge(struct selected *s, const struct wall_ns *n, const uint64_t *bits, size_t words) {
	*s = (struct selected){.walls = calloc(n->n_walls + 1, sizeof(*s->walls)),
	                       .sizes = calloc(n->n_walls + 1, sizeof(*s->sizes)),
	                       .verdicts = calloc(n->n_walls + 1, sizeof(*s->verdicts))};
	if (!s->walls || !s->sizes || !s->verdicts)
		abort();
	for (struct wall *w = wall_first(n); w; w = wall_next(w))
		if (w->number / 64 < words && wall_bit(bits, w)) {
			s->walls[s->n] = w;
			s->sizes[s->n++] = &w->size;
		}
	firewall_judge(s->sizes, s->n, s->verdicts);
}

static void evaluation_judge(const struct wall_ns *n, struct wall_evaluation *e, const struct instance *i) {
	const bool refused = wall_refusal(i);
	struct selected s;
	selected_judge(&s, n, e->bits, e->words);
	for (size_t k = 0; k < s.n; k++)
		if (refused || s.verdicts[k].limit != FIREWALL_FITS)
			wall_set_bit(e->bits + e->words, s.walls[k], true);
	selected_free(&s);
}

static bool member_bit(const struct wall_member *m, const struct wall *w, size_t half) {
	return w->number / 64 < m->words && wall_bit(m->bits + half * m->words, w);
}

/* Counts M by its new bits, and no longer by those that it has. */
static void evaluation_count(struct controller *c, const struct wall_ns *n, const struct wall_evaluation *e) {
	const struct wall_member *m = e->member;
	for (struct wall *w = wall_first(n); w; w = wall_next(w)) {
		const bool was = member_bit(m, w, 0), is = wall_bit(e->bits, w);
		const bool was_bad = member_bit(m, w, 1), bad = wall_bit(e->bits + e->words, w);
		w->selected = w->selected + is - was;
		w->bad = w->bad + bad - was_bad;
		if (bad && (!w->example || strcmp(m->name, w->example->name) < 0))
			w->example = m;
		if (!bad && w->example == m)
			w->example = NULL;
		if (is != was || bad || was_bad)
			wall_queue_status(c, n, w);
	}
}

static bool bits_any(const uint64_t *bits, size_t words) {
	for (size_t i = 0; i < words; i++)
		if (bits[i])
			return true;
	return false;
}

static void evaluation_keep_bits(const struct wall_evaluation *e) {
	struct wall_member *m = e->member;
	if (m->words != e->words) {
		free(m->bits);
		m->bits = NULL;
		m->words = 0;
		if (!bits_any(e->bits, 2 * e->words))
			return;
		m->bits = calloc(2 * e->words, sizeof(*m->bits));
		if (!m->bits)
			abort();
		m->words = e->words;
	}
	if (m->words)
		memcpy(m->bits, e->bits, 2 * m->words * sizeof(*m->bits));
}

static int evaluation_group_cmp(const void *a, const void *b) {
	return strcmp((*(struct wall_group *const *)a)->id, (*(struct wall_group *const *)b)->id);
}

/* True if M is in other groups than before. */
static bool evaluation_keep_groups(struct wall_ns *n, struct wall_evaluation *e) {
	struct wall_member *m = e->member;
	const size_t size = e->n_groups * sizeof(*e->groups);
	if (e->n_groups)
		qsort(e->groups, e->n_groups, sizeof(*e->groups), evaluation_group_cmp);
	if (m->n_groups == e->n_groups && (!size || memcmp(m->groups, e->groups, size) == 0))
		return false;
	struct wall_group **groups = size ? malloc(size) : NULL;
	if (size && !groups)
		abort();
	if (size)
		memcpy(groups, e->groups, size);
	for (size_t i = 0; i < e->n_groups; i++)
		wall_group_ref(groups[i]);
	for (size_t i = 0; i < m->n_groups; i++)
		wall_group_unref(n, m->groups[i]);
	free(m->groups);
	m->groups = groups;
	m->n_groups = (uint16_t)e->n_groups;
	return true;
}

static void evaluation_end(struct controller *c, struct wall_ns *n, const struct instance *i, bool *ret_groups) {
	struct wall_evaluation *e = &n->now;
	struct wall_member *m = e->member;
	if (e->judge) {
		evaluation_judge(n, e, i);
		evaluation_count(c, n, e);
		evaluation_keep_bits(e);
	}
	const bool groups = evaluation_keep_groups(n, e);
	*ret_groups = groups || !e->from;
	m->crowded = e->crowded;
	m->evaluate = false;
	e->member = NULL;
}

bool evaluation_run(struct controller *c, struct wall_ns *n, const struct instance *i, uint64_t deadline_ns,
                    bool *ret_groups) {
	struct wall_evaluation *e = &n->now;
	while (e->next) {
		evaluation_look_at(e, e->next, &i->meta.labels);
		e->next = e->from ? evaluation_changed(e, TAILQ_PREV(e->next, wall_list, entry)) : wall_next(e->next);
		if (e->from && e->crowded) {
			/* Which groups are left out depends on all Firewalls. */
			e->member->evaluate = true;
			evaluation_begin(n, e->member, 0);
		}
		if (e->next && now_monotonic_ns() > deadline_ns)
			return false;
	}
	evaluation_end(c, n, i, ret_groups);
	return true;
}

/* ---- why ---- */

const char *evaluation_reason(const struct controller *c, const struct wall_ns *n, const struct wall *w,
                              const struct wall_member *m, char msg[static 1024]) {
	const struct instance *i = kube_cache_get(controller_cache(c, &api_kind_instance), n->name, m->name);
	const struct api_condition *refusal = i ? wall_refusal(i) : NULL;
	char text[FIREWALL_MESSAGE_MAX] = "";
	struct selected s;
	if (refusal && member_bit(m, w, 0)) {
		snprintf(msg, 1024, "instance %s: %.600s", m->name, refusal->message ? refusal->message : "");
		return refusal->reason;
	}
	selected_judge(&s, n, m->bits, m->words);
	for (size_t k = 0; k < s.n; k++)
		if (s.walls[k] == w && s.verdicts[k].limit != FIREWALL_FITS)
			firewall_verdict_message(&s.verdicts[k], text);
	selected_free(&s);
	if (*text)
		snprintf(msg, 1024, "instance %s: %s", m->name, text);
	else
		snprintf(msg, 1024,
		         "instance %s is one of the peers of a rule, but the rule doesn't know it: the peers of all "
		         "rules of "
		         "the namespace match an instance in at most %d ways, and at most %d instances in one way; use "
		         "fewer different peers",
		         m->name, ENDPOINT_GROUPS_MAX, FIREWALL_MEMBERS_MAX);
	return "LimitExceeded";
}
