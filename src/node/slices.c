/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Looks every few seconds at how much guests use their slices of ports (node/ports.h). One worker looks at many guests,
 * and the loop notes what it saw.
 */

#include <string.h>

#include "base/util.h"
#include "net/netns.h"
#include "node/internal.h"

#define SLICES_BATCH_S 10
#define SLICES_MAX_MS  60000

_Static_assert(sizeof(struct slices_seen) <= JOB_RESULT_MAX, "a job returns no more");

void slices_see(const struct slices_look *l, uint64_t until_ns, struct slices_seen *ret) {
	do {
		size_t k = ret->n++;
		const struct guest *i = hypervisor_find(l->h, l->uid[k]);
		_close_ int fd = -1;
		struct error ignored;
		/* A namespace that is missing is the business of a look at the guest's parts. */
		if (i && netns_open(i->name, &fd, &ignored) >= 0 &&
		    ports_look(fd, &i->spec.net, &i->ports, i->state.current ? i->network.open_slices : 0, l->now_ns,
		               &ret->look[k], &ignored) >= 0)
			ret->ok |= UINT64_C(1) << k;
	} while (ret->n < l->n && now_monotonic_ns() < until_ns);
}

static int slices_in_worker(void *arg, void *result, _unused_ struct error *err) {
	slices_see(arg, now_monotonic_ns() + SLICES_BATCH_S * NSEC_PER_SEC, result);
	return 0;
}

/* The guest has slices, and a network that was made for them. */
static bool has_slices(const struct guest *i) {
	return i->want == WANT_YES && i->state.connected && i->spec.net.ipv4 == INSTNET_SHARED;
}

static void slices_note(struct guest *i, const struct ports_look *look, uint64_t now_ns) {
	const struct ports before = i->ports;
	struct guest_ports *told = &i->state.ports;
	char message[PORTS_MESSAGE_MAX];

	i->h->refused += ports_note(&i->ports, &i->spec.net, look, now_ns);
	if (i->ports.open_slices != before.open_slices)
		guest_wake(i, 0);
	if (i->ports.exhausted && !before.exhausted) {
		snprintf(told->message, sizeof(told->message), "%s", ports_message(&i->spec.net, message));
		guest_event(i, true, "PortsExhausted", told->message);
	}
	if (told->wanted == i->ports.wanted && told->exhausted == i->ports.exhausted)
		return;
	told->wanted = i->ports.wanted;
	told->exhausted = i->ports.exhausted;
	i->h->c.ops.changed(i->h->c.userdata, i->uid);
}

static void on_slices_looked(void *userdata, _unused_ int r, const void *result, _unused_ const struct error *err) {
	_free_ struct slices_look *l = userdata;
	const struct slices_seen *seen = result;
	struct hypervisor *h = l->h;

	h->slices_look = NULL;
	/* A worker that was killed has told nothing: the look goes on with the guests after these. */
	size_t n = seen ? seen->n : l->n;

	for (size_t k = 0; seen && k < n; k++) {
		struct guest *i = hypervisor_find(h, l->uid[k]);
		if (i && has_slices(i) && seen->ok & UINT64_C(1) << k)
			slices_note(i, &seen->look[k], l->now_ns);
	}
	/* A full look may not have had room for all, and a slow one no time. */
	bool more = n == SLICES_GUESTS || n < l->n;
	snprintf(h->slices_after, sizeof(h->slices_after), "%s", more ? l->uid[n - 1] : "");
	slices_watch(h, more ? 0 : PORTS_LOOK_S * USEC_PER_SEC);
}

static int on_slices(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct hypervisor *h = userdata;
	struct slices_look *l = calloc(1, sizeof(*l));
	struct guest *i;
	struct job *job;

	if (!l)
		abort();
	h->slices_look = l;
	l->h = h;
	l->now_ns = now_monotonic_ns();
	RB_FOREACH (i, guests, &h->all) {
		if (l->n == SLICES_GUESTS)
			break;
		if (has_slices(i) && strcmp(i->uid, h->slices_after) > 0)
			memcpy(l->uid[l->n++], i->uid, sizeof(i->uid));
	}
	const struct job_spec spec = {.fn = slices_in_worker,
	                              .arg = l,
	                              .result_size = sizeof(struct slices_seen),
	                              .timeout_ms = SLICES_MAX_MS,
	                              .done = on_slices_looked,
	                              .userdata = l};
	if (l->n == 0 || job_start(h->jobs, &spec, &job, NULL) < 0)
		on_slices_looked(l, 0, NULL, NULL);
	return 0;
}

void slices_watch(struct hypervisor *h, uint64_t delay_us) {
	if (loop_timer(h->c.loop, &h->slices_timer, delay_us, on_slices, h) < 0)
		abort();
}
