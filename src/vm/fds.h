/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Descriptors that nacre-vm needs but may not open itself. The agent opens them (vm_fds_open()) and passes them
 * (vm_fds_pass()) as described in sd_listen_fds_with_names(3): the descriptors start at 3, and their names are in the
 * environment.
 */

#include "base/error.h"

enum vm_fd {
	VM_FD_CONTROL,   /* listening socket of vm/control.h */
	VM_FD_CONSOLE,   /* listening socket of vm/console.h */
	VM_FD_END,       /* exit.json: empty, and written once */
	VM_FD_TAP,       /* vm/qemu.h */
	VM_FD_RA,        /* vm/ra.h */
	VM_FD_DHCP4,     /* vm/dhcp4.h */
	VM_FD_DHCP6,     /* vm/dhcp6.h */
	VM_FD_METADATA4, /* listening sockets of vm/metadata.h */
	VM_FD_METADATA6,
	VM_FDS,
};

#define VM_FDS_FIRST 3
#define VM_FDS_END   (VM_FDS_FIRST + VM_FDS)

struct vm_fds {
	int fd[VM_FDS]; /* -1: none */
};

#define VM_FDS_NONE ((struct vm_fds){{-1, -1, -1, -1, -1, -1, -1, -1, -1}})

/*
 * Opens DIR/control.sock, DIR/console.sock and DIR/exit.json. With TAP it also opens the tap of that name in this
 * network namespace, and the sockets of vm/responders.h on it (needs CAP_NET_ADMIN, CAP_NET_RAW and
 * CAP_NET_BIND_SERVICE).
 */
int vm_fds_open(const char *dir, const char *tap, struct vm_fds *ret, struct error *err) _must_use_;
void vm_fds_close(struct vm_fds *fds);

struct vm_fds_env {
	char pid[32], fds[32], names[128];
};
/*
 * To be called before exec: moves the descriptors to their numbers, replacing whatever is open there (up to
 * VM_FDS_END), and describes them in ENV. FDS must not be used after that.
 */
int vm_fds_pass(const struct vm_fds *fds, struct vm_fds_env *env, struct error *err) _must_use_;

/* Takes the descriptors that were passed to this process and sets close-on-exec again. -EBADF if a socket or exit.json
 * is missing. */
int vm_fds_take(struct vm_fds *ret, struct error *err) _must_use_;
