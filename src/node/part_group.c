/* SPDX-License-Identifier: Apache-2.0 */

/* The control group of an instance, which limits what its processes use (docs/instances.md). */

#include "node/part.h"
#include "vm/qemu.h"

/* What QEMU and nacre-vm get in addition to the machine's size. */
#define OVERHEAD_MIB    256
#define OVERHEAD_CPU_US 50000 /* in each 100 ms */
#define OVERHEAD_PIDS   128   /* QEMU has at most 64 threads for its disk */

static int group_configure(struct guest_look *l, _unused_ struct error *err) {
	l->container.cgroups = l->host->cgroups;
	l->container.cgroup = l->name;
	return 0;
}

/* Makes the group with the machine's memory and processors and what QEMU needs in addition. */
static int group_prepare(struct guest_look *l, struct error *err) {
	uint64_t mib = (uint64_t)l->vm.memory_mib, vcpus = (uint64_t)l->vm.vcpus;

	mib += mib / 64 + 4 * vcpus + OVERHEAD_MIB + (l->host->kvm ? 0 : QEMU_TCG_CACHE_MIB);
	const struct cgroup_limits limits = {.memory = mib << 20,
	                                     .vcpus = l->vm.vcpus,
	                                     .cpu_us = l->vm.vcpus * 100000 + OVERHEAD_CPU_US,
	                                     .pids = l->vm.vcpus + OVERHEAD_PIDS};
	return cgroup_make(l->host->cgroups, l->name, &limits, err);
}

static int group_remove(struct guest_look *l, struct error *err) {
	return cgroup_remove(l->host->cgroups, l->name, err);
}

const struct part part_group = {
	.name = "group", .configure = group_configure, .prepare = group_prepare, .remove = group_remove};
