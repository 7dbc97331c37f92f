/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Control groups of instances: MOUNT/nacre/NAME for each, in every hierarchy that is mounted. Version 1 has one for a
 * few controllers each, version 2 has one for all, and a host may have both. They are outside the agent's own group,
 * so that nothing that ends the agent's service or Pod by its group ends a guest.
 *
 * Which controller is where is read once. What a host doesn't offer bounds nothing; cgroups_missing() names it.
 * References: cgroups(7); the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define CGROUP_PARENT "nacre"

enum cgroup_controller {
	CGROUP_MEMORY = 1,
	CGROUP_CPU = 2,
	CGROUP_PIDS = 4,
	CGROUP_BOUNDS = 7, /* those that limit; io only gives shares */
	CGROUP_IO = 8,
	CGROUP_ALL = 15,
};

struct cgroup_limits {
	uint64_t memory; /* bytes */
	int64_t vcpus;   /* its share of processor and disks */
	int64_t cpu_us;  /* processor time in each 100 ms */
	int64_t pids;    /* threads */
};

struct cgroups;

/* Finds what is mounted. Success even if nothing is. */
int cgroups_new(struct cgroups **ret, struct error *err) _must_use_;
struct cgroups *cgroups_free(struct cgroups *c);
DEFINE_CLEANUP(cgroups, struct cgroups *, cgroups_free)

/* Bits of enum cgroup_controller. */
unsigned cgroups_missing(const struct cgroups *c);
/* "memory, pids". */
const char *cgroups_names(unsigned controllers, char out[static 32]);

/*
 * Makes NAME anew, with counters at zero and with LIMITS; kills what is left of an earlier one, and fails with -EBUSY
 * where that takes longer than 50 ms. A failure may leave a part of it behind, which cgroup_remove() or another
 * cgroup_make() handles.
 */
int cgroup_make(const struct cgroups *c, const char *name, const struct cgroup_limits *limits,
                struct error *err) _must_use_;
/* Moves the calling process there, and so all its later children. */
int cgroup_enter(const struct cgroups *c, const char *name, struct error *err) _must_use_;
/*
 * Calls VISIT for the processes there, those of pid namespaces that we don't see left out, until it returns other than
 * 0; returns that. A missing group has none.
 */
int cgroup_visit(const struct cgroups *c, const char *name, int (*visit)(void *userdata, pid_t pid), void *userdata,
                 struct error *err) _must_use_;
/* Has the kernel killed something there since cgroup_make() for want of memory? */
bool cgroup_ran_out_of_memory(const struct cgroups *c, const char *name);
/*
 * Kills what is in it, and removes it. A missing one is success. -EBUSY: something in it has not ended yet, call again.
 * Never waits longer than 50 ms.
 */
int cgroup_remove(const struct cgroups *c, const char *name, struct error *err) _must_use_;
/*
 * Removes the empty ones whose names begin with PREFIX and of which KEEP says no. Kills nothing: a host has one root of
 * control groups, and another agent, with mounts of its own, may use the same prefix. On failure the rest was tried.
 */
int cgroups_sweep(const struct cgroups *c, const char *prefix, bool (*keep)(void *userdata, const char *name),
                  void *userdata, struct error *err) _must_use_;
