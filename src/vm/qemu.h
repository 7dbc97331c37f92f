/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * From a vm_config to the argument vector of QEMU, and the running of it.
 *
 * QEMU gets three descriptors from its parent: the tap, the QMP monitor and the
 * serial port (the other ends of two socket pairs stay with the caller), so it opens
 * no socket and no device by itself but /dev/kvm, and needs no privilege.
 */

#include <sys/types.h>

#include "vm/config.h"

#define QEMU_PROGRAM "/usr/bin/qemu-system-x86_64"

/* Code that TCG has translated. */
#define QEMU_TCG_CACHE_MIB 256

struct qemu_fds {
	int tap; /* -1 = no network */
	int qmp;
	int serial;
};

/* A NULL-terminated vector in *RET; strv_free() it. */
int qemu_argv(const struct vm_config *c, const struct qemu_fds *fds, char ***ret, struct error *err) _must_use_;

char **strv_free(char **v);
static inline void cleanup_strv(char ***v) {
	strv_free(*v);
}
#define _strv_free_ _cleanup_(cleanup_strv)

/*
 * Opens the existing tap device NAME of the caller's network namespace, with offload
 * headers as virtio-net wants them. Needs CAP_NET_ADMIN; whoever has it needs nothing.
 */
int qemu_open_tap(const char *name, int *ret_fd, struct error *err) _must_use_;

struct qemu_process {
	pid_t pid; /* a child of the caller */
	int qmp;   /* our ends; the caller closes them */
	int serial;
	int log; /* a pipe of QEMU's stdout and stderr */
};

/*
 * Starts QEMU with nothing but its three descriptors (TAP stays the caller's; -1: no network), as the config's user,
 * with no capabilities, no new privileges, a filter of system calls, in a process group of its own; it dies with the
 * caller. A failure before exec is reported as an error, later ones by QEMU's exit and its log.
 */
int qemu_start(const struct vm_config *c, int tap, struct qemu_process *ret, struct error *err) _must_use_;
