/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Copies of a server's database. Both functions write beside the target, check what they wrote, and put it there by
 * rename(2): on failure the target is as it was.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct backup_report {
	size_t objects;
	int64_t version;
};

/* Copies DATABASE, whose server may be running, as of one moment into the file TO, which it may replace. */
int backup_make(const char *database, const char *to, struct backup_report *ret, struct error *err) _must_use_;

/*
 * Makes DATABASE anew from the copy FROM. Refuses one that a server uses, and without FORCE one that is there; with it
 * the old one stays as DATABASE.replaced, which must not be there yet. Killed at any moment, it leaves the old or the
 * new database in its place.
 *
 * All objects get new versions, above what the copy and the old database have seen and a good deal above (what was
 * written after the copy may be lost, but clients know its versions): so versions never go back, nobody's update from
 * the lost time succeeds, and watches from before get 410 and list anew.
 */
int backup_restore(const char *from, const char *database, bool force, struct backup_report *ret,
                   struct error *err) _must_use_;
