/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Looks every few seconds at what the firewalls of guests have dropped, and, of one guest in each look, at what each
 * rule has let pass. One worker looks at many guests, and the loop notes what it saw.
 */

#include <string.h>

#include "base/util.h"
#include "net/netns.h"
#include "node/internal.h"

#define WATCH_S        10
#define WATCH_BATCH_S  5
#define WATCH_MAX_MS   60000
#define WATCH_GUESTS   16
#define WATCH_DROPS    24
#define COUNTS_S       60 /* at least so long between two reports of the counters of a guest */
#define LINES_A_MINUTE 20 /* of dropped packets, for each guest */

struct watch_guest {
	char uid[37];
	uint64_t changes;    /* see struct guest */
	uint64_t watched_ns; /* see struct guest */
	size_t lines;        /* so many it may still have in its minute */
};

struct watch_look {
	struct hypervisor *h;
	uint64_t now_ns;
	size_t n, counted; /* COUNTED: the place of the guest whose counters are read; N: none */
	struct watch_guest guests[WATCH_GUESTS];
};

struct watch_result {
	size_t n; /* it looked at so many of them */
	struct {
		bool ok;
		uint64_t at_ns;   /* when it was read (monotonic) */
		uint64_t in, out; /* packets dropped since its network was made */
	} guests[WATCH_GUESTS];
	size_t n_drops, n_counts;
	struct watch_drop {
		struct addr addr;
		uint8_t guest, protocol;
		bool out;
		uint16_t port;
		uint64_t packets;
	} drops[WATCH_DROPS];
	struct firewall_count counts[INSTANCE_COUNTERS_MAX];
};
_Static_assert(sizeof(struct watch_result) <= JOB_RESULT_MAX, "a job returns no more");

/* ---- in the worker ---- */

/* Of each guest: the flows of which packets were dropped since the last look at it. */
struct watch_news {
	size_t n[WATCH_GUESTS];
	struct firewall_drop drops[WATCH_GUESTS][LINES_A_MINUTE];
};

bool watch_is_news(uint32_t age_ms, uint64_t now_ns, uint64_t last_ns) {
	const uint64_t since_ns = last_ns ? now_ns - last_ns : WATCH_S * NSEC_PER_SEC;

	return age_ms * NSEC_PER_MSEC < since_ns;
}

static void watch_drops(const struct watch_guest *g, uint64_t now_ns, const struct firewall_seen *seen,
                        struct watch_news *news, size_t k) {
	for (size_t i = 0; i < seen->n_drops && news->n[k] < g->lines; i++)
		if (watch_is_news(seen->drops[i].age_ms, now_ns, g->watched_ns))
			news->drops[k][news->n[k]++] = seen->drops[i];
}

size_t watch_turns(const size_t *len, size_t n, struct watch_turn *ret, size_t max) {
	size_t chosen = 0, before = SIZE_MAX;

	for (size_t place = 0; before != chosen && chosen < max; place++) {
		before = chosen;
		for (size_t k = 0; k < n && chosen < max; k++)
			if (place < len[k])
				ret[chosen++] = (struct watch_turn){k, place};
	}
	return chosen;
}

/* No guest takes the room of the others: each has a row before one has two. */
static void watch_share(const struct watch_news *news, size_t n, struct watch_result *ret) {
	struct watch_turn turns[WATCH_DROPS];

	ret->n_drops = watch_turns(news->n, n, turns, WATCH_DROPS);
	for (size_t i = 0; i < ret->n_drops; i++) {
		const struct firewall_drop *d = &news->drops[turns[i].list][turns[i].place];
		ret->drops[i] = (struct watch_drop){.guest = (uint8_t)turns[i].list,
		                                    .out = d->out,
		                                    .addr = d->addr,
		                                    .protocol = d->protocol,
		                                    .port = d->port,
		                                    .packets = d->packets};
	}
}

static void watch_one(const struct watch_look *l, size_t k, struct watch_news *news, struct watch_result *ret) {
	const struct guest *i = hypervisor_find(l->h, l->guests[k].uid);
	struct firewall_seen seen = {0};
	_close_ int fd = -1;
	struct error ignored;
	uint64_t now_ns = now_monotonic_ns();

	/* A namespace that is missing is the business of a look at the guest's parts. */
	if (!i || netns_open(i->name, &fd, &ignored) < 0 ||
	    firewall_read(fd, &i->network.firewall, k == l->counted, &seen, &ignored) < 0)
		return;
	ret->guests[k].ok = true;
	ret->guests[k].at_ns = now_ns;
	ret->guests[k].in = seen.dropped_in;
	ret->guests[k].out = seen.dropped_out;
	/* The kernel told the ages after NOW_NS. Measured from then on, no drop is missed between two looks. */
	watch_drops(&l->guests[k], now_monotonic_ns(), &seen, news, k);
	if (k == l->counted && seen.n_counts) {
		ret->n_counts = MIN(seen.n_counts, ARRAY_SIZE(ret->counts));
		memcpy(ret->counts, seen.counts, ret->n_counts * sizeof(*seen.counts));
	}
	firewall_seen_done(&seen);
}

static int watch_in_worker(void *arg, void *result, struct error *err) {
	const struct watch_look *l = arg;
	_free_ struct watch_news *news = calloc(1, sizeof(*news));
	struct watch_result *ret = result;
	uint64_t until_ns = now_monotonic_ns() + WATCH_BATCH_S * NSEC_PER_SEC;

	if (!news)
		return error_oom(err);
	while (ret->n < l->n && (ret->n == 0 || now_monotonic_ns() < until_ns))
		watch_one(l, ret->n++, news, ret);
	watch_share(news, ret->n, ret);
	return 0;
}

/* ---- in the loop ---- */

static bool is_guarded(const struct guest *i) {
	return i->want == WANT_YES && i->state.connected;
}

static size_t watch_lines_left(const struct guest *i, uint64_t now_ns) {
	if (now_ns - i->lines_since_ns >= 60 * NSEC_PER_SEC)
		return LINES_A_MINUTE;
	return LINES_A_MINUTE - MIN(i->lines, (unsigned)LINES_A_MINUTE);
}

static void watch_note_drop(struct guest *i, const struct watch_drop *d, uint64_t now_ns) {
	const struct firewall_drop drop = {
		.out = d->out, .addr = d->addr, .protocol = d->protocol, .port = d->port, .packets = d->packets};

	if (now_ns - i->lines_since_ns >= 60 * NSEC_PER_SEC) {
		i->lines_since_ns = now_ns;
		i->lines = 0;
	}
	if (i->lines++ < LINES_A_MINUTE)
		i->h->c.ops.dropped(i->h->c.userdata, i->uid, &drop);
}

static void watch_note_totals(struct guest *i, uint64_t in, uint64_t out) {
	struct guest_firewall *f = &i->state.firewall;

	/* A network that was made anew, after a failure or by somebody else, counts from 0. */
	i->h->dropped_in += in >= f->dropped_in ? in - f->dropped_in : in;
	i->h->dropped_out += out >= f->dropped_out ? out - f->dropped_out : out;
	f->dropped_in = in;
	f->dropped_out = out;
}

/* Returns the counters in the API's form; NULL: no memory. */
static struct instance_firewall *watch_report(const struct guest *i, const struct watch_result *seen) {
	const struct guest_firewall *f = &i->state.firewall;
	struct instance_firewall *ret = calloc(1, sizeof(*ret));
	struct firewalls_attached now;

	if (!ret || !(ret->rules.v = calloc(seen->n_counts + 1, sizeof(*ret->rules.v))))
		goto failed;
	ret->dropped_in = API_I64((int64_t)MIN(f->dropped_in, (uint64_t)INT64_MAX));
	ret->dropped_out = API_I64((int64_t)MIN(f->dropped_out, (uint64_t)INT64_MAX));
	guest_firewalls(i, &now);
	for (size_t k = 0; k < seen->n_counts; k++) {
		const struct firewall_count *c = &seen->counts[k];
		const struct firewall_spec *spec = c->firewall < now.is.n ? now.v[c->firewall]->spec : NULL;
		char label[FIREWALL_RULE_LABEL_MAX];
		if (!spec || c->rule >= (c->out ? spec->egress.n : spec->ingress.n))
			continue;
		struct instance_counter *row = &ret->rules.v[ret->rules.n++];
		const struct firewall_rule *rule = &(c->out ? spec->egress.v : spec->ingress.v)[c->rule];
		row->firewall = strdup(now.v[c->firewall]->meta.name);
		row->direction = strdup(c->out ? "egress" : "ingress");
		row->rule = strdup(firewall_rule_label(rule, c->rule, label));
		row->packets = API_I64((int64_t)MIN(c->packets, (uint64_t)INT64_MAX));
		row->bytes = API_I64((int64_t)MIN(c->bytes, (uint64_t)INT64_MAX));
		if (!row->firewall || !row->direction || !row->rule)
			goto failed;
	}
	return ret;
failed:
	api_clear(&api_desc_instance_firewall, ret);
	free(ret);
	return NULL;
}

static void watch_note_counts(struct guest *i, const struct watch_result *seen, uint64_t now_ns) {
	struct instance_firewall *counts = watch_report(i, seen);

	if (!counts)
		return;
	/* Nothing is told before a rule has counted, so that the first connection is told soon. */
	bool same = i->state.firewall.counts ? api_equal(&api_desc_instance_firewall, i->state.firewall.counts, counts)
	                                     : counts->rules.n == 0;
	guest_free_counts(i);
	i->state.firewall.counts = counts;
	if (same)
		return;
	i->told_ns = now_ns;
	i->h->c.ops.changed(i->h->c.userdata, i->uid);
}

static void on_watched(void *userdata, _unused_ int r, const void *result, _unused_ const struct error *err) {
	_free_ struct watch_look *l = userdata;
	const struct watch_result *seen = result;
	struct hypervisor *h = l->h;
	struct guest *guests[WATCH_GUESTS] = {NULL};
	h->watch_look = NULL;
	/* A worker that was killed has told nothing: the look goes on with the guests after these. */
	size_t n = seen ? seen->n : l->n;

	for (size_t k = 0; seen && k < n; k++) {
		struct guest *i = hypervisor_find(h, l->guests[k].uid);
		if (!i || !is_guarded(i) || !seen->guests[k].ok)
			continue;
		guests[k] = i;
		i->watched_ns = seen->guests[k].at_ns;
		watch_note_totals(i, seen->guests[k].in, seen->guests[k].out);
		/* The counters name Firewalls by their order, so that must still be what the worker saw. */
		if (k == l->counted && i->guard_changes == l->guests[k].changes)
			watch_note_counts(i, seen, l->now_ns);
	}
	for (size_t k = 0; seen && k < seen->n_drops; k++)
		if (guests[seen->drops[k].guest])
			watch_note_drop(guests[seen->drops[k].guest], &seen->drops[k], l->now_ns);
	bool more = n == WATCH_GUESTS || n < l->n;
	snprintf(h->watch_after, sizeof(h->watch_after), "%s", more ? l->guests[n - 1].uid : "");
	firewall_watch(h, more ? USEC_PER_SEC : WATCH_S * USEC_PER_SEC);
}

/* The guest whose counters are read next: of those that may be told again, the one that was read the longest ago. */
static const struct guest *watch_next_counted(const struct hypervisor *h, uint64_t now_ns) {
	const struct guest *next = NULL;
	struct guest *i;

	if (h->counted_ns && now_ns - h->counted_ns < WATCH_S * NSEC_PER_SEC)
		return NULL;
	RB_FOREACH (i, guests, (struct guests *)&h->all) {
		bool due = !i->told_ns || now_ns - i->told_ns >= COUNTS_S * NSEC_PER_SEC;
		if (due && is_guarded(i) && (!next || i->counted_ns < next->counted_ns))
			next = i;
	}
	return next;
}

static int on_watch(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct hypervisor *h = userdata;
	struct watch_look *l = calloc(1, sizeof(*l));
	struct guest *i;
	struct job *job;

	if (!l)
		abort();
	h->watch_look = l;
	l->h = h;
	l->now_ns = now_monotonic_ns();
	const struct guest *counted = watch_next_counted(h, l->now_ns);
	l->counted = WATCH_GUESTS;
	RB_FOREACH (i, guests, &h->all) {
		if (l->n == WATCH_GUESTS)
			break;
		if (!is_guarded(i) || strcmp(i->uid, h->watch_after) <= 0)
			continue;
		if (i == counted) {
			l->counted = l->n;
			h->counted_ns = i->counted_ns = l->now_ns;
		}
		struct watch_guest *g = &l->guests[l->n++];
		memcpy(g->uid, i->uid, sizeof(i->uid));
		g->changes = i->guard_changes;
		g->watched_ns = i->watched_ns;
		g->lines = watch_lines_left(i, l->now_ns);
	}
	const struct job_spec spec = {.fn = watch_in_worker,
	                              .arg = l,
	                              .result_size = sizeof(struct watch_result),
	                              .timeout_ms = WATCH_MAX_MS,
	                              .done = on_watched,
	                              .userdata = l};
	if (l->n == 0 || job_start(h->jobs, &spec, &job, NULL) < 0)
		on_watched(l, 0, NULL, NULL);
	return 0;
}

void firewall_watch(struct hypervisor *h, uint64_t delay_us) {
	if (loop_timer(h->c.loop, &h->watch_timer, delay_us, on_watch, h) < 0)
		abort();
}
