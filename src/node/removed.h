/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Disks of instances that are gone: STATE_DIR/removed/UID, moved there from STATE_DIR/instances/UID.
 *
 * The agent learns from one answer of the API which instances there are. That answer may come from the wrong API, or
 * from an old copy of its database. So the disk of an instance that is merely missing is kept for a time, and given
 * back when the instance appears again. The disk of an instance that was deleted while the agent watched is deleted at
 * once. If less than a tenth of the file system is free, the oldest disks are deleted first.
 *
 * The time of removal is the folder's mtime. A folder that is to be deleted is first renamed to "purge-UID". A worker
 * process of its own (base/job.h) renames and deletes, one at a time, because deleting a large file takes longer than
 * the loop may be away. A folder that can't be deleted holds up no other; it is tried again after a minute, then after
 * two, and so on up to an hour.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"

struct removed;

/* Carries on where an earlier agent ended. KEEP_S: seconds for which a disk is kept. STATE_DIR is copied. */
int removed_new(struct removed **ret, sd_event *loop, const char *state_dir, int64_t keep_s,
                struct error *err) _must_use_;
/*
 * It is known now which instances there are. Until then only disks of deleted instances are deleted. Afterwards no disk
 * of an instance for which IS_KNOWN returns true is deleted, unless the instance was deleted. A worker calls IS_KNOWN.
 */
void removed_set_known(struct removed *r, bool (*is_known)(void *userdata, const char *uid), void *userdata);
/* Ends the worker that deletes. */
struct removed *removed_free(struct removed *r);

/*
 * removed_put() and removed_take_back() may be called in a worker process (base/job.h); after that the loop calls
 * removed_wake().
 *
 * Moves the folder of UID away. ASKED: it is deleted at once, even if it was moved before. A missing folder is success.
 */
int removed_put(const struct removed *r, const char *uid, bool asked, struct error *err) _must_use_;
/* Moves the folder back if it is still kept and there is no new one. Success if there is nothing to move. */
int removed_take_back(const struct removed *r, const char *uid, struct error *err) _must_use_;
/* Looks for something to delete: a folder may have been put there. */
void removed_wake(struct removed *r);
