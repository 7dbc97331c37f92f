/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The folders of one instance: what a start of its container needs.
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

#include "node/container.h"
#include "node/guest.h"
#include "node/room.h"
#include "vm/status.h"

struct instdir_start {
	struct container_file files[CONTAINER_FILES_MAX];
	size_t n_files;
	bool has_state;    /* it has a disk */
	bool has_tap;      /* INSTNET_TAP */
	uint64_t file_max; /* bytes of each file that is written inside */
};

/* Is what the spec names there, and what it says it is? The message names the file. */
int instdir_check_image(const struct guest_spec *s, struct error *err) _must_use_;

/*
 * Makes the folders DIR and STATE ready for a container of QEMU's user UID (and group). The paths in RET are the
 * spec's. Disk and variables of an earlier start are kept, but for variables that have another size than the
 * firmware's. A new disk needs ROOM (-ENOSPC); NULL: that isn't asked.
 */
int instdir_prepare(const char *dir, const char *state, const struct room *room, const struct guest_spec *s, uid_t uid,
                    enum vm_accel accel, struct instdir_start *ret, struct error *err) _must_use_;

/* QEMU's user of the last start; -ENOENT if there was none. */
int instdir_uid(const char *dir, uid_t *ret) _must_use_;

/* Why the last machine ended; VM_END_KILLED when it left no word, or not a whole one. */
void instdir_end(const char *dir, struct vm_status *ret);
