/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Slices of ports in the status of an Instance of ipv4 shared, and the forwards that lie in them: arithmetic only, no
 * cache and no requests.
 */

#include "api/instance.h"

/* Writes the value of S as in an Allocation: "198.51.100.3:1024-1535". Returns OUT. */
const char *slices_value(const struct instance_slice *s, char out[static SLICE_STR_MAX]);
/* True if the status lists VALUE, a slice as in an Allocation. S: NULL: there is no status. */
bool slices_have(const struct instance_status *s, const char *value);
/* Appends VALUE. The address of the first slice is also the instance's publicIPv4. -ENOMEM; -EINVAL: not a slice. */
int slices_add(struct instance_status *s, const char *value) _must_use_;
/* Removes all slices after the first N. */
void slices_trim(struct instance_status *s, size_t n);
/* How many of the slices, counted from the first, must stay: up to the last one that has a forward of SPEC. */
size_t slices_pinned(const struct instance_spec *spec, const struct instance_status *s);

/* Writes "198.51.100.3:1024-1535, 198.51.100.3:1536-2047", or "none". Returns OUT. */
#define SLICES_TEXT_MAX 512
const char *slices_print(const struct instance_status *s, char out[static SLICES_TEXT_MAX]);

#define FORWARDS_MESSAGE_MAX (SLICES_TEXT_MAX + 256)
/*
 * Makes status.forwards of N from spec.forwards. A forward that names its port gets it, if a slice has it. A forward
 * that names none keeps the port that it has in status.forwards. Otherwise it gets the lowest port of the first slice
 * that no other forward of its protocol has: the first slice is never given back, and the lowest port is the one that
 * people expect. Connections of the instance itself don't collide with forwards, wherever the ports of these are.
 * 1: all forwards have ports. 0: WHY says which one has none; the others have theirs. -ENOMEM: N is unchanged.
 */
int forwards_update(struct instance *n, char why[static FORWARDS_MESSAGE_MAX]) _must_use_;
