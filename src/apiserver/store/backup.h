/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Makes and restores copies of a server's database. Both functions write to a file beside the target, check it, and
 * rename it to the target. On failure the target is unchanged.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct backup_report {
	size_t objects;
	int64_t version;
};

/*
 * Copies DATABASE to the file TO, and replaces TO if it exists. The server may be running: the copy has the state of
 * one moment.
 */
int backup_make(const char *database, const char *to, struct backup_report *ret, struct error *err) _must_use_;

/*
 * Replaces DATABASE by the copy FROM. Fails if a server uses DATABASE, or if DATABASE exists and FORCE is false. With
 * FORCE the old database is kept as DATABASE.replaced, which must not exist yet. If the program is killed, DATABASE is
 * either the old or the new one.
 *
 * All objects get new versions, far above those that the copy and the old database have given, because clients may know
 * versions that were given after the copy and are lost. So versions never go back, an update that carries a lost
 * version is refused, and an older watch gets 410 and lists again.
 */
int backup_restore(const char *from, const char *database, bool force, struct backup_report *ret,
                   struct error *err) _must_use_;
