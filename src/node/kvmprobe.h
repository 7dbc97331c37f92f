/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Does KVM really run a guest here? A /dev/kvm that opens says little: nested or filtered KVM may fail when a vCPU is
 * made, or when a guest leaves real mode, or be so slow that no guest ever boots. So two machines are booted at once,
 * one with KVM and one with software emulation, each in a container like any instance's (user, namespaces, control
 * group, system call filter), from a boot sector of our own that enters long mode, computes, and presses the power
 * button. Nothing of a tenant's takes part, and nothing that a tenant's guest does later changes the answer.
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
 * Blocks for about two seconds, at most for KVMPROBE_MS. 0: it does. -EOPNOTSUPP: it doesn't, and ERR tells how that
 * showed: by QEMU's own failure, or as KVM took more than twice as long as software emulation and a second; these two
 * answers are kept. Other errors, as -ETIMEDOUT on a host that is too busy: not known.
 */
int kvmprobe(const struct kvmprobe_config *c, struct error *err) _must_use_;
/* Removes what an agent left that was killed while it probed. */
int kvmprobe_clear(const struct kvmprobe_config *c, struct error *err);

/* What the end of the probe's machine says, as above. */
int kvmprobe_judge(const struct vm_status *end, struct error *err) _must_use_;
