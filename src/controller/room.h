/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Instances and clusters that wait for room. Each says what it waits for. Whoever frees something of that sort reports
 * it here, and the oldest waiter that can use it is queued again (waiters.h).
 */

#include "api/instance.h"
#include "controller/concern.h"

enum room_sort {
	ROOM_HOSTS,  /* hosts with SPEC's labels and room for N instances of SIZE */
	ROOM_VALUES, /* N values of the AddressPools with use OF */
	ROOM_QUOTA,  /* N instances of SIZE in the namespace OF */
	ROOM_TYPE,   /* the InstanceType of SPEC */
	ROOM_NAME,   /* that no Instance has the name "NAMESPACE/NAME" OF */
};

/*
 * Ranks of those who wait for slices of ports: without one an instance that has no host can't run, and one that has a
 * host has run without so far. Others have rank 0; so has an instance that wants a further slice.
 */
#define ROOM_RANK_FIRST_SLICE 1
#define ROOM_RANK_NO_HOST     2
/* Added for a Cluster of which some members have a place. */
#define ROOM_RANK_BEGUN 1

struct room_want {
	enum room_sort sort;
	const char *of;
	const struct instance_spec *spec;
	const struct instancetype *size;
	size_t n;
	unsigned rank; /* waiters of a higher rank are woken first, whatever their age */
};

/*
 * The object M of the concern (instances or clusters), which is being looked at, waits for WANT until it is looked at
 * again, for whatever reason. If there is still no room then, the concern must call this again.
 */
void room_wait(struct controller *c, const struct concern *concern, const struct api_meta *m,
               const struct room_want *want);

/* The reason that a waiter's status gives may be outdated, although nothing became free. */
void room_reasons_changed(struct controller *c);
/*
 * A write failed with ERROR, and what it would have taken is free again. If the writes of others may fail as well (the
 * API is away or overloaded), nobody is woken for a second: otherwise all waiters would try one after the other without
 * end. After that second those that can be woken have a turn, whatever fails meanwhile.
 */
void room_write_failed(struct controller *c, int error);
/* Something may have become free. These only take note: nobody is looked at before control is back in the loop. */
void room_on_host(struct controller *c, const char *host);
void room_of_values(struct controller *c, const char *use);
void room_in_quota(struct controller *c, const char *ns);
