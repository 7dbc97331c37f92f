/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The folders of one instance, and what their files say about it.
 *
 * RUN_DIR/instances/UID, the agent's own, gone when the host boots:
 *   config.json   for nacre-vm; also tells a restarted agent the uid of QEMU
 *   seed/user-data, seed/ssh-keys (node/part_seed.c)   absent: there is none; for nacre-vm (vm/seed.h), not QEMU
 *   pid, log, root (node/container.h)
 *   control.sock, console.sock, exit.json (vm/fds.h)
 * STATE_DIR/instances/UID, which survives a boot; its files are QEMU's, except for the last one:
 *   disk.qcow2    the machine's own changes to its disk image
 *   vars.fd       its UEFI variables
 *   disk.max      the agent's: how large the disk may become (node/room.h)
 */

#include <sys/types.h>

#include "vm/status.h"

/* The uid of QEMU at the last start; -ENOENT if there was none. */
int instdir_uid(const char *dir, uid_t *ret) _must_use_;

/* Why the last machine ended; VM_END_KILLED if it left no complete report. */
void instdir_end(const char *dir, struct vm_status *ret);
