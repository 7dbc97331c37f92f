/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The folders of one instance, and what they tell of it.
 *
 * RUN_DIR/instances/UID, the agent's own, gone when the host boots:
 *   config.json   for nacre-vm; also tells a restarted agent which user QEMU runs as
 *   pid, log, root (node/container.h)
 *   control.sock, console.sock, exit.json (vm/fds.h)
 * STATE_DIR/instances/UID, which stays; the files are QEMU's:
 *   disk.qcow2    the machine's own changes to its disk image
 *   vars.fd       its UEFI variables
 *   disk.max      the agent's: how large the disk may become (node/room.h)
 */

#include <sys/types.h>

#include "vm/status.h"

/* QEMU's user of the last start; -ENOENT if there was none. */
int instdir_uid(const char *dir, uid_t *ret) _must_use_;

/* Why the last machine ended; VM_END_KILLED when it left no word, or not a whole one. */
void instdir_end(const char *dir, struct vm_status *ret);
