/* SPDX-License-Identifier: Apache-2.0 */

/* What is reported about a guest: its state, its events, and why its machine ended. */

#include <string.h>

#include "base/util.h"
#include "node/internal.h"

#define RESTART_MAX_US (60 * USEC_PER_SEC)
#define STABLE_NS      (30 * NSEC_PER_SEC) /* a machine that ran for so long is started again at once */

static const char *const phase_names[] = {
	[GUEST_PENDING] = "Starting", [GUEST_STARTING] = "Starting", [GUEST_RUNNING] = "Running",
	[GUEST_PAUSED] = "Running",   [GUEST_STOPPING] = "Running",  [GUEST_STOPPED] = "Stopped",
	[GUEST_FAILED] = "Failed",
};

const char *guest_phase_name(enum guest_phase phase) {
	return phase_names[phase];
}

void guest_set_state(struct guest *i, enum guest_phase phase, const char *reason, const char *message) {
	struct guest_state *s = &i->state;

	if (s->phase == phase && streq(s->reason, reason) && streq(s->message, message))
		return;
	s->phase = phase;
	snprintf(s->reason, sizeof(s->reason), "%s", reason);
	snprintf(s->message, sizeof(s->message), "%.*s", (int)sizeof(s->message) - 1, message);
	/* The cut may have gone through a character, and JSON allows no partial characters. */
	for (char *p = s->message; strlen(message) >= sizeof(s->message) && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	i->h->c.ops.changed(i->h->c.userdata, i->uid);
}

void guest_event(struct guest *i, bool warning, const char *reason, const char *message) {
	if (i->want != WANT_UNKNOWN) {
		i->h->c.ops.event(i->h->c.userdata, i->uid, warning, reason, message);
		return;
	}
	free(i->untold.message);
	i->untold.message = strdup(message);
	i->untold.warning = warning;
	snprintf(i->untold.reason, sizeof(i->untold.reason), "%s", reason);
}

void guest_tell_untold(struct guest *i) {
	_free_ char *message = TAKE_PTR(i->untold.message);

	if (message)
		guest_event(i, i->untold.warning, i->untold.reason, message);
}

void guest_note_end(struct guest *i, const struct vm_status *end) {
	char message[512];
	bool stopped = i->want != WANT_UNKNOWN && !i->spec.running;

	if (stopped) {
		guest_set_state(i, GUEST_STOPPED, "Stopped", end->message);
		guest_event(i, false, "Stopped", end->message);
		return;
	}
	uint64_t now = now_monotonic_ns(), delay_us = 0;
	if (i->started_ns && now - i->started_ns >= STABLE_NS)
		i->crashes = 0;
	if (i->crashes)
		delay_us = USEC_PER_SEC << MIN(i->crashes - 1, 10U);
	delay_us = MIN(delay_us, RESTART_MAX_US);
	i->crashes++;
	i->not_before_ns = now + delay_us * 1000;
	if (end->end == VM_END_STOPPED && !delay_us) {
		/* The machine must run again by now. */
		guest_event(i, false, "Stopped", end->message);
		return;
	}
	i->state.restarts++;
	i->h->restarts++;
	if (delay_us)
		snprintf(message, sizeof(message), "%s; it is started again in %llu s", end->message,
		         (unsigned long long)(delay_us / USEC_PER_SEC));
	else
		snprintf(message, sizeof(message), "%s; it is started again", end->message);
	guest_set_state(i, delay_us ? GUEST_FAILED : GUEST_STARTING, vm_end_name(end->end), message);
	guest_event(i, end->end != VM_END_POWERED_OFF && end->end != VM_END_STOPPED, vm_end_name(end->end), message);
}
