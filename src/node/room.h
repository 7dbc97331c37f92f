/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Limits what instances may store in STATE_DIR, so that all of them together never need more space than there is.
 *
 * A disk is a sparse file that grows as its guest writes. The agent writes into a file beside it, "disk.max", how large
 * it may become; root owns that file and its folder, so nothing in QEMU can change it. A new disk is made only if the
 * free space suffices for it and for everything that other disks may still grow by. No sum is kept in memory: whenever
 * a disk is made, the sum is read from STATE_DIR/instances and from STATE_DIR/removed, whose disks may be given back.
 * Disks are made side by side, so the promise is written before the disk, and STATE_DIR/room.lock is held meanwhile.
 * The maker of the disk holds a lock on the promise. A promise without a disk that nobody locks is left over from a
 * start that was killed, and doesn't count.
 *
 * UEFI variables have a fixed size that the kernel doesn't enforce: RLIMIT_FSIZE is one limit for all files of a
 * process. So the agent checks their size (room_check_vars()).
 */

#include <stdint.h>

#include "base/error.h"

#define ROOM_VARS_MAX ((uint64_t)4 << 20) /* bytes of UEFI variables */

struct room {
	const char *state_dir;
	int64_t overcommit; /* per cent of the space for disks that may be promised in addition to it */
};

/* Taken to move disks between these folders, for a short time. Closing *RET_FD releases the lock. */
int room_lock(const char *state_dir, int *ret_fd, struct error *err) _must_use_;

/*
 * Promises SIZE bytes to the disk that will be made in folder OWN, STATE_DIR/instances/UID, and writes the promise down
 * as room_write() does. The caller closes *RET_FD when the disk has its name; without a disk the promise ends then.
 * Several processes may call this at once. -ENOSPC: there is no room.
 */
int room_take(const struct room *room, const char *own, uint64_t size, int *ret_fd, struct error *err) _must_use_;

/* How large the disk in folder OWN may become, in bytes. room_read() returns -ENOENT if that is not known. */
int room_write(const char *own, uint64_t max, struct error *err) _must_use_;
int room_read(const char *own, uint64_t *ret_max, struct error *err) _must_use_;

/* No disk was made in folder OWN: ends its promise. */
void room_give_back(const char *own);

/* -EFBIG if the UEFI variables in folder OWN have grown; only code in QEMU can make them grow. 0 if there are none. */
int room_check_vars(const char *own, struct error *err) _must_use_;
