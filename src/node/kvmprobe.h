/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Finds out whether KVM really runs a guest here. That /dev/kvm opens says little: nested or filtered KVM may fail when
 * a vCPU is created, or when a guest leaves real mode, or may be so slow that no guest ever boots. So two machines are
 * booted at once, one with KVM and one with software emulation. Each is in a container like that of an instance (user,
 * namespaces, control group, system call filter). Both boot from a boot sector of our own that enters long mode,
 * computes, and presses the power button. No tenant takes part in the probe, and nothing that a tenant's guest does
 * later changes the answer.
 */

#include "node/cgroup.h"
#include "vm/status.h"

struct kvmprobe_config {
	const char
		*run_dir;   /* the answer is kept in RUN_DIR/kvm for as long as the host's boot and QEMU are the same */
	const char *prefix; /* of names */
	const char *program; /* nacre-vm */
	uid_t uid;           /* QEMU runs as this one */
	const struct cgroups *cgroups;
};

#define KVMPROBE_MS 60000

/*
 * Blocks for about two seconds, at most for KVMPROBE_MS. 0: KVM works. -EOPNOTSUPP: it doesn't, and ERR says why: QEMU
 * itself failed with KVM, or KVM took more than twice as long as software emulation and a second. These two answers are
 * kept. Other errors: not known, such as -ETIMEDOUT on a host that is too busy.
 */
int kvmprobe(const struct kvmprobe_config *c, struct error *err) _must_use_;
/* Removes what is left of a probe whose agent was killed. */
int kvmprobe_clear(const struct kvmprobe_config *c, struct error *err);

/* What the end of the probe's machine says about KVM; returns the same as kvmprobe(). */
int kvmprobe_judge(const struct vm_status *end, struct error *err) _must_use_;
