/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Instances and clusters that wait for room of whatever sort: a value, a host, a quota, an InstanceType. */

#include "controller/concern.h"

/*
 * The object M of the concern waits. It is queued again, the oldest first, when there may be room (a value or an
 * instance is gone, a pool, host, quota or InstanceType changed). If it still finds none, it calls this again. FIRST:
 * before those that are not.
 */
void room_wait(struct controller *c, const struct concern *concern, const struct api_meta *m, bool first);
/* A host came back or was lost. */
void room_made(struct controller *c);
