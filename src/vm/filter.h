/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * System calls that QEMU and nacre-vm may make: what they were seen to need, and nothing else. Any other ends the whole
 * process with SIGSYS, so that nothing of it lingers. Calls that a library tries and can do without fail with ENOSYS
 * (clone3, whose flags a filter can't read, so that threads are made by clone; io_uring_setup, memfd_create).
 */

#include "base/error.h"

enum filter {
	/*
	 * For QEMU, before its exec. No socket, no namespace, no process beside threads; files can be opened, and what
	 * can be opened is the container's matter; none can be made to take more of a disk than RLIMIT_FSIZE allows.
	 * execve is open until QEMU's own filter (-sandbox spawn=deny) closes it, which it does before the guest runs.
	 */
	FILTER_QEMU,
	/* For nacre-vm once all is set up: its loop and the end of QEMU. It makes, renames and removes no file. */
	FILTER_NACRE_VM,
};

/* For the calling thread and what it becomes. Can't be undone; sets no-new-privs. */
int filter_apply(enum filter which, struct error *err) _must_use_;
