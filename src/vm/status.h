/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What nacre-vm says of its machine: on the control socket, and at the end in exit.json.
 *
 *     {"state":"running","since":"2026-…","resets":0}
 *     {"state":"ended","since":"2026-…","resets":0,"reason":"Killed","message":"QEMU was killed by signal 9 (Killed)"}
 */

#include <stdint.h>

#include "base/buf.h"

enum vm_state {
	VM_STARTING, /* QEMU runs, its monitor has not answered yet */
	VM_RUNNING,
	VM_PAUSED,   /* its vCPUs stand still */
	VM_STOPPING, /* asked to go */
	VM_ENDED,
};

enum vm_end {
	VM_END_NONE,
	VM_END_POWERED_OFF,     /* the guest did it */
	VM_END_STOPPED,         /* it was asked to */
	VM_END_KILLED,          /* a signal from elsewhere */
	VM_END_FAILED,          /* QEMU gave up */
	VM_END_CPU_FAILED,      /* the accelerator gave up: KVM that can't run this guest */
	VM_END_START_FAILED,    /* it never ran */
	VM_END_OUT_OF_MEMORY,   /* it went past the limit of its control group; the agent finds that out */
	VM_END_FORBIDDEN,       /* QEMU made a system call that no guest needs (vm/filter.h) */
	VM_END_FORBIDDEN_WRITE, /* it stored what no guest needs to (node/room.h); the agent finds that out */
};

struct vm_status {
	enum vm_state state;
	uint64_t since_us; /* of the state */
	int64_t resets;
	enum vm_end end;
	char message[400]; /* why it ended, "" before */
};

/* "Killed", …; NULL for VM_END_NONE. */
const char *vm_end_name(enum vm_end end);

void vm_status_print(const struct vm_status *s, struct buf *out);
/* All but printable ASCII becomes '?'. */
void vm_status_plain(char *text);
/* Unknown members are passed over; unknown values are -EINVAL. The message is plain. */
int vm_status_parse(const char *text, size_t len, struct vm_status *ret, struct error *err) _must_use_;
