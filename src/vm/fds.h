/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What nacre-vm needs and may not open itself. The agent opens it (vm_fds_open()) and passes it on (vm_fds_pass()) as
 * sd_listen_fds_with_names(3) says: descriptors from 3 on, and their names in the environment.
 */

#include "base/error.h"

enum vm_fd {
	VM_FD_CONTROL, /* listening sockets: vm/control.h, */
	VM_FD_CONSOLE, /* vm/console.h */
	VM_FD_END,     /* exit.json: empty, and written to once */
	VM_FD_TAP,     /* vm/qemu.h */
	VM_FD_RA,      /* vm/ra.h */
	VM_FDS,
};

#define VM_FDS_FIRST 3
#define VM_FDS_END   (VM_FDS_FIRST + VM_FDS)

struct vm_fds {
	int fd[VM_FDS]; /* -1: there is none */
};

#define VM_FDS_NONE ((struct vm_fds){{-1, -1, -1, -1, -1}})

/*
 * DIR/control.sock, DIR/console.sock and DIR/exit.json; with TAP also the tap of that name in this network namespace,
 * and a socket for router advertisements on it (CAP_NET_ADMIN and CAP_NET_RAW).
 */
int vm_fds_open(const char *dir, const char *tap, struct vm_fds *ret, struct error *err) _must_use_;
void vm_fds_close(struct vm_fds *fds);

struct vm_fds_env {
	char pid[32], fds[32], names[64];
};
/*
 * For the exec that follows: puts them in place, over whatever descriptor is there (up to VM_FDS_END), and says in ENV
 * what they are. FDS is of no use after that.
 */
int vm_fds_pass(const struct vm_fds *fds, struct vm_fds_env *env, struct error *err) _must_use_;

/* What this process was given, close-on-exec again. -EBADF if a socket or exit.json is missing. */
int vm_fds_take(struct vm_fds *ret, struct error *err) _must_use_;
