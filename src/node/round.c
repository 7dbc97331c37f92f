/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A round: one worker looks at many guests. Each guest is looked at every half minute even if nothing happened to it,
 * and a worker costs several times as much as the look itself. So guests that run and are only due again are collected
 * for a second. The worker says which of them have a problem or were repaired; each of these then gets a look of its
 * own, which finds and reports the cause.
 */

#include "base/util.h"
#include "node/internal.h"

#define ROUND_US     USEC_PER_SEC
#define ROUND_GUESTS 24
/* One look that hangs must not delay the others for long: after this time each guest gets a look of its own. */
#define ROUND_MAX_MS 10000

struct round {
	struct hypervisor *h;
	size_t n;
	struct guest *guests[ROUND_GUESTS]; /* the round is their job, so they are not freed */
};

struct round_result {
	uint32_t need_look; /* a bit for each guest: it needs a look of its own */
	struct instnet_state network[ROUND_GUESTS];
};
_Static_assert(sizeof(struct round_result) <= JOB_RESULT_MAX, "a job returns no more");

static int round_in_worker(void *arg, void *result, _unused_ struct error *err) {
	const struct round *round = arg;
	struct round_result *found = result;

	for (size_t k = 0; k < round->n; k++) {
		const struct guest *i = round->guests[k];
		struct guest_result ret = {0};
		struct guest_look l;
		struct error scratch;
		found->network[k] = i->network;
		guest_look_of(i, &ret, &l);
		/* If something happened to the guest while the round waited for its turn, it gets a look of its own. */
		if (i->again || !i->pid)
			continue;
		if (parts_ensure(&l, &scratch) < 0 || ret.network_lost || ret.postponed ||
		    ret.network.rules != i->network.rules || ret.connected != i->state.connected ||
		    (ret.firewall.code == 0) != i->state.firewall.whole)
			found->need_look |= UINT32_C(1) << k;
		found->network[k] = ret.network;
	}
	return 0;
}

static int on_round(sd_event_source *s, uint64_t usec, void *userdata);

static void round_arm(struct hypervisor *h, uint64_t delay_us) {
	int on = SD_EVENT_OFF;

	if (h->round_timer && sd_event_source_get_enabled(h->round_timer, &on) > 0 && on != SD_EVENT_OFF)
		return;
	if (loop_timer(h->c.loop, &h->round_timer, delay_us, on_round, h) < 0 ||
	    sd_event_source_set_priority(h->round_timer, LOOK_PRIORITY) < 0)
		abort();
}

static void on_round_done(void *userdata, int r, const void *result, _unused_ const struct error *err) {
	struct round *round = userdata;
	const struct round_result *found = result;
	struct hypervisor *h = round->h;

	h->round = NULL;
	for (size_t k = 0; k < round->n; k++) {
		struct guest *i = round->guests[k];
		i->job = NULL;
		i->in_round = false;
		/* Otherwise the next look would replace a table that was repaired. */
		if (found)
			guest_set_network(i, &found->network[k]);
		/* One of the guests must be removed, so the round was cancelled: the others join the next round. */
		if (r == -ECANCELED && i->want == WANT_YES && !i->again)
			round_add(i);
		else if (!found || i->again || found->need_look & (UINT32_C(1) << k))
			guest_wake(i, 0);
		else
			guest_wake_quietly(i);
		i->again = false;
	}
	free(round);
	if (!TAILQ_EMPTY(&h->due))
		round_arm(h, 0);
}

static int on_round(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct hypervisor *h = userdata;
	struct guest *i;
	struct job *job;

	if (h->round || TAILQ_EMPTY(&h->due))
		return 0;
	struct round *round = h->round = calloc(1, sizeof(*round));
	if (!round)
		abort();
	round->h = h;
	while (round->n < ROUND_GUESTS && (i = TAILQ_FIRST(&h->due))) {
		round_drop(i);
		/* If something has happened meanwhile, the guest has had a look of its own, or has one now. */
		if (!i->job && !i->following && i->want == WANT_YES && i->pid)
			round->guests[round->n++] = i;
	}
	if (round->n == 0) {
		round_free(h);
		return 0;
	}
	const struct job_spec spec = {.fn = round_in_worker,
	                              .arg = round,
	                              .result_size = sizeof(struct round_result),
	                              .keep = {h->host.public_fd},
	                              .n_keep = 1,
	                              .timeout_ms = ROUND_MAX_MS,
	                              .done = on_round_done,
	                              .userdata = round};
	if (job_start(h->jobs, &spec, &job, NULL) < 0) {
		on_round_done(round, -ENOMEM, NULL, NULL);
		return 0;
	}
	for (size_t k = 0; k < round->n; k++) {
		i = round->guests[k];
		i->job = job;
		i->pool = h->jobs;
		i->in_round = true;
		i->may_start = false;
	}
	return 0;
}

void round_add(struct guest *i) {
	if (i->due)
		return;
	i->due = true;
	TAILQ_INSERT_TAIL(&i->h->due, i, due_entry);
	round_arm(i->h, ROUND_US);
}

void round_drop(struct guest *i) {
	if (!i->due)
		return;
	i->due = false;
	TAILQ_REMOVE(&i->h->due, i, due_entry);
}

void round_free(struct hypervisor *h) {
	h->round_timer = sd_event_source_disable_unref(h->round_timer);
	free(h->round);
	h->round = NULL;
}
