/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Control groups of instances: MOUNT/nacre/NAME for each instance, in every hierarchy that is mounted. Version 1 has a
 * hierarchy for every few controllers, version 2 has one hierarchy for all; a host may have both. The groups are
 * outside the agent's own group, so a guest survives when the agent's service or Pod is ended by its group.
 *
 * MOUNT/nacre is made with the first group and removed with the last one. All agents of one kernel share it, and they
 * need no lock: the kernel doesn't remove MOUNT/nacre while a group is in it. So an agent first makes its group, and
 * then gives MOUNT/nacre, whoever made it, what groups need.
 *
 * Which controller is in which hierarchy is read once. A controller that the host doesn't offer limits nothing;
 * cgroups_missing() names it. References: cgroups(7); the kernel's Documentation/admin-guide/cgroup-v2.rst and
 * cgroup-v1/.
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
	CGROUP_BOUNDS = 7, /* the controllers that limit; io only gives shares */
	CGROUP_IO = 8,
	CGROUP_ALL = 15,
};

struct cgroup_limits {
	uint64_t memory; /* bytes */
	int64_t vcpus;   /* decides the shares of processor and disks */
	int64_t cpu_us;  /* processor time in each 100 ms */
	int64_t pids;    /* threads */
};

struct cgroups;

/* Finds the mounted hierarchies. Succeeds even if there is none. */
int cgroups_new(struct cgroups **ret, struct error *err) _must_use_;
struct cgroups *cgroups_free(struct cgroups *c);
DEFINE_CLEANUP(cgroups, struct cgroups *, cgroups_free)

/* The controllers that the host doesn't offer, as bits of enum cgroup_controller. */
unsigned cgroups_missing(const struct cgroups *c);
/* The names of CONTROLLERS, such as "memory, pids". */
const char *cgroups_names(unsigned controllers, char out[static 32]);

/*
 * Creates the group NAME again, with counters at zero and with LIMITS. Kills what is left in an earlier group of that
 * name, and fails with -EBUSY if that takes longer than 50 ms. A failure may leave a part of the group behind;
 * cgroup_remove() or another cgroup_make() handles that.
 */
int cgroup_make(const struct cgroups *c, const char *name, const struct cgroup_limits *limits,
                struct error *err) _must_use_;
/* Moves the calling process into the group, and so all its later children. */
int cgroup_enter(const struct cgroups *c, const char *name, struct error *err) _must_use_;
/*
 * Calls VISIT for each process in the group until VISIT returns something other than 0, and returns that. Processes of
 * pid namespaces that the caller doesn't see are left out. A missing group has no processes.
 */
int cgroup_visit(const struct cgroups *c, const char *name, int (*visit)(void *userdata, pid_t pid), void *userdata,
                 struct error *err) _must_use_;
/* True if the kernel has killed something in the group since cgroup_make() because memory ran out. */
bool cgroup_ran_out_of_memory(const struct cgroups *c, const char *name);
/*
 * Kills everything in the group and removes it. A missing group is success. -EBUSY: something in it has not ended yet;
 * call again. Never waits longer than 50 ms.
 */
int cgroup_remove(const struct cgroups *c, const char *name, struct error *err) _must_use_;
/*
 * Removes the empty groups whose names begin with PREFIX and for which KEEP returns false. Kills nothing: a host has
 * one root of control groups, and another agent, with mounts of its own, may use the same prefix. After a failure the
 * other groups were tried all the same.
 */
int cgroups_sweep(const struct cgroups *c, const char *prefix, bool (*keep)(void *userdata, const char *name),
                  void *userdata, struct error *err) _must_use_;
