/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What instances may store in STATE_DIR, so that all of them together never need more than there is.
 *
 * A disk is a sparse file that grows as its guest writes. The agent writes into a file beside it, "disk.max", how large
 * it may become; root owns that file and its folder, so nothing in QEMU can change it. A new disk is made only if what
 * is free suffices for it and for all that other disks may still grow by. Nothing of that is kept in memory: the sum is
 * read from STATE_DIR/instances and STATE_DIR/removed, whose disks may be given back, whenever a disk is made. Disks
 * are made side by side, so the promise is written before the disk, and STATE_DIR/room.lock is held meanwhile. Whoever
 * makes the disk holds a lock on the promise: one without a disk that nobody holds is of a start that was killed, and
 * counts for nothing.
 *
 * UEFI variables have a fixed size, which the kernel doesn't enforce: RLIMIT_FSIZE is one for all files of a process.
 * So the agent looks at them (room_check_vars()).
 */

#include <stdint.h>

#include "base/error.h"

#define ROOM_VARS_MAX ((uint64_t)4 << 20) /* bytes of UEFI variables */

struct room {
	const char *state_dir;
	int64_t overcommit; /* per cent of what there is for disks that may be promised beyond it */
};

/* Who moves disks between these folders holds this lock for as long, which is short; closing *RET_FD gives it back. */
int room_lock(const char *state_dir, int *ret_fd, struct error *err) _must_use_;

/*
 * Promises SIZE bytes to the disk that is to be made in folder OWN, STATE_DIR/instances/UID, and writes them down as
 * room_write() does. The caller closes *RET_FD once the disk has its name, or nothing is promised. Several processes
 * may do so at once. -ENOSPC: there is no room.
 */
int room_take(const struct room *room, const char *own, uint64_t size, int *ret_fd, struct error *err) _must_use_;

/* How large the disk in folder OWN may become. room_read() yields -ENOENT where nothing is known of it. */
int room_write(const char *own, uint64_t max, struct error *err) _must_use_;
int room_read(const char *own, uint64_t *ret_max, struct error *err) _must_use_;

/* There is no disk in folder OWN after all, so nothing is promised to it any more. */
void room_give_back(const char *own);

/* -EFBIG if the UEFI variables in folder OWN have grown, which only code in QEMU can make them. None are fine. */
int room_check_vars(const char *own, struct error *err) _must_use_;
