/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which host an instance fits on, and if none, why: arithmetic only, no API and no state. */

#include <stddef.h>

#include "api/host.h"
#include "api/instance.h"

/* A host, what instances may use of it (host_usable()), and what is free of that: negative if more was promised. */
struct fit_host {
	const struct host *host;
	bool alive; /* its heartbeat is fresh */
	struct resources usable, free;
};

#define FIT_MESSAGE_MAX 512

/* True if the host takes such instances now: it is ready, schedulable, of the right role, and has the labels. */
bool fit_takes(const struct fit_host *host, const struct instance_spec *spec);
/* True if, beside that, the instance has room on this host. */
bool fit_host(const struct fit_host *host, const struct instance_spec *spec, const struct instancetype *type);
/*
 * The index of the best of N hosts: the one with the largest share of its resources left, of equal ones the first.
 * -1 if none fits; then WHY says, per reason, how many hosts: "0 of 3 hosts fit: 2 have too little memory (free 512 MiB
 * at most, asked 1024), 1 is unschedulable". Hosts that are not for instances (role edge) are not counted.
 */
int fit_choose(const struct fit_host *hosts, size_t n, const struct instance_spec *spec,
               const struct instancetype *type, char why[static FIT_MESSAGE_MAX]);

/*
 * Places COUNT instances of the same kind one after the other, each where fit_choose() would place it; AT[i] is the
 * index of the host of the ith. Returns how many fit. If not all fit, AT is not written, and WHY says why the next one
 * doesn't fit; as all are alike, no other way of placing them fits more. What the instances take is subtracted from
 * what is free on the hosts. The cost is that of looking at each host once or twice, and log N for each instance.
 * Without memory the process ends (abort).
 */
size_t fit_gang(struct fit_host *hosts, size_t n, const struct instance_spec *spec, const struct instancetype *type,
                size_t count, int *at, char why[static FIT_MESSAGE_MAX]);
