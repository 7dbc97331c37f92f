/* SPDX-License-Identifier: Apache-2.0 */

/* Goes over the table of parts. */

#include "node/part.h"

#define PART_ENTRY(name) &part_##name,
const struct part *const parts[N_PARTS] = {PARTS(PART_ENTRY)};

int parts_desire(const struct part_source *s, struct guest_spec *ret, const char **ret_reason, struct error *err) {
	const struct instance_status *st = s->inst->status;
	int r = 0;

	if (!st || !st->mac || !st->overlay_address || !st->prefix || !st->vcpus.set || !st->memory_mib.set)
		return 1;
	jt_init(&jt_guest_spec, ret);
	for (size_t i = 0; i < N_PARTS && r >= 0; i++)
		if (parts[i]->desire) {
			r = parts[i]->desire(s, ret, err);
			*ret_reason = r == -ENOENT ? parts[i]->missing : "Invalid";
		}
	return r == -EAGAIN ? 1 : MIN(r, 0);
}

/* The reason for a failure of the steps that follow. */
static void parts_reason(struct guest_look *l, const char *reason) {
	snprintf(l->ret->reason, sizeof(l->ret->reason), "%s", reason ? reason : "StartFailed");
}

int parts_start(struct guest_look *l, struct error *err) {
	int r = 0;

	l->vm = l->spec->vm;
	l->container = (struct container_config){0};
	for (size_t i = 0; i < N_PARTS && r >= 0; i++)
		if (parts[i]->configure) {
			parts_reason(l, parts[i]->reason);
			r = parts[i]->configure(l, err);
		}
	for (size_t i = 0; i < N_PARTS && r >= 0; i++)
		if (parts[i]->prepare) {
			parts_reason(l, parts[i]->reason);
			r = parts[i]->prepare(l, err);
		}
	return r;
}

int parts_ensure(struct guest_look *l, struct error *err) {
	int r = 0;

	/*
	 * Adoption comes before the network: if the namespace has lost its name, a new one is made, in which no
	 * container would be found.
	 */
	parts_reason(l, "AdoptionFailed");
	for (size_t i = 0; i < N_PARTS && r >= 0 && !l->pid; i++)
		if (parts[i]->adopt)
			r = parts[i]->adopt(l, err);
	for (size_t i = 0; i < N_PARTS && r >= 0; i++)
		if (parts[i]->ensure) {
			parts_reason(l, parts[i]->reason);
			r = parts[i]->ensure(l, err);
		}
	return r < 0 || l->pid || !l->spec->running || !l->may_start ? r : parts_start(l, err);
}

int parts_remove(struct guest_look *l, struct error *err) {
	int r = 0;

	l->ret->removed = true;
	l->ret->asked = l->asked;
	parts_reason(l, "RemovalFailed");
	for (size_t i = N_PARTS; i > 0 && r >= 0; i--)
		if (parts[i - 1]->remove)
			r = parts[i - 1]->remove(l, err);
	return r;
}
