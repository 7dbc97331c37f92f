/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Instances and clusters that wait for room. They say what they wait for; whoever frees something of that sort says so,
 * and the oldest that can use it is queued again (waiters.h).
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

struct room_want {
	enum room_sort sort;
	const char *of;
	const struct instance_spec *spec;
	const struct instancetype *size;
	size_t n;
	bool first; /* before those that are not, however old they are */
};

/*
 * The object M of the concern (instances or clusters), which is being looked at, waits. It does so until it is looked
 * at again for whatever reason; if it still finds no room then, it must call this again.
 */
void room_wait(struct controller *c, const struct concern *concern, const struct api_meta *m,
               const struct room_want *want);

/* What somebody who waits was told as the reason may be another now, although nothing became free. */
void room_reasons_changed(struct controller *c);
/*
 * A write by which somebody would have taken what was free has failed with ERROR, and it is free again. If others'
 * writes may fail as well (the API is away, or has too much to do), nobody is woken for a second: who waits would try
 * one after the other without an end.
 */
void room_write_failed(struct controller *c, int error);
/* Something may have become free. These only take note: nobody is looked at before control is back in the loop. */
void room_on_host(struct controller *c, const char *host);
void room_of_values(struct controller *c, const char *use);
void room_in_quota(struct controller *c, const char *ns);
