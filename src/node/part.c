/* SPDX-License-Identifier: Apache-2.0 */

/* Goes over the table of parts. */

#include "node/part.h"

#define PART_ENTRY(name) &part_##name,
static const struct part *const parts[] = {PARTS(PART_ENTRY)};

/* Fails for REASON, should what follows fail. */
static void parts_reason(struct guest_look *l, const char *reason) {
	snprintf(l->ret->reason, sizeof(l->ret->reason), "%s", reason ? reason : "StartFailed");
}

int parts_start(struct guest_look *l, struct error *err) {
	int r = 0;

	l->vm = l->spec->vm;
	l->container = (struct container_config){0};
	for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0; i++)
		if (parts[i]->configure) {
			parts_reason(l, parts[i]->reason);
			r = parts[i]->configure(l, err);
		}
	for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0; i++)
		if (parts[i]->prepare) {
			parts_reason(l, parts[i]->reason);
			r = parts[i]->prepare(l, err);
		}
	return r;
}

int parts_ensure(struct guest_look *l, struct error *err) {
	int r = 0;

	/* Before the network, whose namespace may have lost its name: a container would not be found in a new one. */
	parts_reason(l, "AdoptionFailed");
	for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0 && !l->pid; i++)
		if (parts[i]->adopt)
			r = parts[i]->adopt(l, err);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0; i++)
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
	for (size_t i = ARRAY_SIZE(parts); i > 0 && r >= 0; i--)
		if (parts[i - 1]->remove)
			r = parts[i - 1]->remove(l, err);
	return r;
}
