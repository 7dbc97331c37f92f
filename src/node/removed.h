/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Disks of instances that are no more: STATE_DIR/removed/UID, moved there from STATE_DIR/instances/UID.
 *
 * One answer of the API says which instances there are, and it may come from the wrong API, or from an old copy of its
 * database. So a disk whose instance is merely missing is kept for a time and given back when the instance appears
 * again. A disk whose instance was deleted in front of us goes at once. Below a tenth of free space the oldest go
 * first.
 *
 * The time of removal is the folder's mtime. What goes is renamed to "purge-UID" and deleted. A worker process of its
 * own does both (base/job.h), one at a time: the deletion of a large file takes longer than the loop may be away.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"

struct removed;

/* Carries on where an agent before this one ended. KEEP_S: seconds that a disk is kept. STATE_DIR is copied. */
int removed_new(struct removed **ret, sd_event *loop, const char *state_dir, int64_t keep_s,
                struct error *err) _must_use_;
/* Ends the worker that deletes. */
struct removed *removed_free(struct removed *r);

/*
 * These two may be called in a worker process (base/job.h), after which the loop calls removed_wake().
 *
 * Moves the folder of UID; ASKED: it goes at once, also if it was moved before. A missing one is success.
 */
int removed_put(const struct removed *r, const char *uid, bool asked, struct error *err) _must_use_;
/* Moves it back if it is still kept, and if there is no other. Success also if there is nothing to move. */
int removed_take_back(const struct removed *r, const char *uid, struct error *err) _must_use_;
/* Something may have been put there. */
void removed_wake(struct removed *r);
