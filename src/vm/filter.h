/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * System calls that QEMU and nacre-vm may make: those that they were seen to need, and no others. Any other call ends
 * the whole process with SIGSYS, so that no part of it stays. Calls that a library tries and can do without fail with
 * ENOSYS (io_uring_setup, memfd_create, and clone3, whose flags a filter can't read; threads are then made by clone).
 */

#include "base/error.h"

enum filter {
	/*
	 * For QEMU, before its exec. It can make no socket, no namespace, and no process except threads. It can open
	 * files; the container decides which files there are. No file can take more of a disk than RLIMIT_FSIZE allows.
	 * execve is allowed until QEMU's own filter (-sandbox spawn=deny) forbids it, before the guest runs.
	 */
	FILTER_QEMU,
	/* For nacre-vm after its start: the event loop and the end of QEMU. It can't create, rename or remove files. */
	FILTER_NACRE_VM,
};

/* Applies to the calling thread and to programs that it executes. Can't be undone; sets no-new-privs. */
int filter_apply(enum filter which, struct error *err) _must_use_;
