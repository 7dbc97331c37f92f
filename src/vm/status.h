/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The status of nacre-vm's machine: on the control socket, and at the end in exit.json.
 *
 *     {"state":"running","since":"2026-…","resets":0}
 *     {"state":"ended","since":"2026-…","resets":0,"reason":"Killed","message":"QEMU was killed by signal 9 (Killed)"}
 */

#include <stdint.h>

#include "base/buf.h"

enum vm_state {
	VM_STARTING, /* QEMU runs, its monitor has not answered yet */
	VM_RUNNING,
	VM_PAUSED,   /* its vCPUs are stopped */
	VM_STOPPING, /* it was asked to end */
	VM_ENDED,
};

enum vm_end {
	VM_END_NONE,
	VM_END_POWERED_OFF,     /* the guest powered itself off */
	VM_END_STOPPED,         /* the machine was asked to stop */
	VM_END_KILLED,          /* QEMU was killed by a signal from outside */
	VM_END_FAILED,          /* QEMU failed */
	VM_END_CPU_FAILED,      /* the accelerator failed: KVM that can't run this guest */
	VM_END_START_FAILED,    /* QEMU could not be started */
	VM_END_OUT_OF_MEMORY,   /* it exceeded the memory limit of its control group; the agent finds that out */
	VM_END_FORBIDDEN,       /* QEMU made a system call that no guest needs (vm/filter.h) */
	VM_END_FORBIDDEN_WRITE, /* it stored data that no guest needs to store (node/room.h); the agent finds that out
	                         */
};

struct vm_status {
	enum vm_state state;
	uint64_t since_us; /* time since when it has this state */
	int64_t resets;
	enum vm_end end;
	char message[400]; /* why it ended; "" before */
};

/* "Killed", …; NULL for VM_END_NONE. */
const char *vm_end_name(enum vm_end end);

void vm_status_print(const struct vm_status *s, struct buf *out);
/* Replaces everything except printable ASCII by '?'. */
void vm_status_plain(char *text);
/* Ignores unknown members; -EINVAL for unknown values. The message has only printable ASCII (vm_status_plain()). */
int vm_status_parse(const char *text, size_t len, struct vm_status *ret, struct error *err) _must_use_;
