/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Makes the argument vector of QEMU from a vm_config, and runs QEMU.
 *
 * QEMU gets three descriptors from its parent: the tap, the QMP monitor and the serial port (the caller keeps the other
 * ends of two socket pairs). So it opens no socket and no device except /dev/kvm, and needs no privilege.
 */

#include <sys/types.h>

#include "vm/config.h"

#define QEMU_PROGRAM "/usr/bin/qemu-system-x86_64"

/* Size of the cache for code that TCG has translated. */
#define QEMU_TCG_CACHE_MIB 256

struct qemu_fds {
	int tap; /* -1 = no network */
	int qmp;
	int serial;
};

/* *RET is a NULL-terminated vector; free it with strv_free(). */
int qemu_argv(const struct vm_config *c, const struct qemu_fds *fds, char ***ret, struct error *err) _must_use_;

char **strv_free(char **v);
static inline void cleanup_strv(char ***v) {
	strv_free(*v);
}
#define _strv_free_ _cleanup_(cleanup_strv)

/*
 * Opens the existing tap device NAME of the caller's network namespace, with offload headers as virtio-net needs them.
 * Needs CAP_NET_ADMIN; a user of the descriptor needs no privilege.
 */
int qemu_open_tap(const char *name, int *ret_fd, struct error *err) _must_use_;

struct qemu_process {
	pid_t pid; /* a child of the caller */
	int qmp;   /* our ends; the caller closes them */
	int serial;
	int log; /* a pipe of QEMU's stdout and stderr */
};

/*
 * Starts QEMU with only its three descriptors (the caller keeps TAP; -1: no network), as the config's user, without
 * capabilities or new privileges, with a filter of system calls, and in a process group of its own. QEMU is killed when
 * the caller ends. A failure before exec is returned as an error; later failures show in QEMU's exit status and its
 * log.
 */
int qemu_start(const struct vm_config *c, int tap, struct qemu_process *ret, struct error *err) _must_use_;
