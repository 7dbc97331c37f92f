/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The file that `nacre export` writes and `nacre import` reads. It has lines of JSON: the first line says what the file
 * is, then comes one object per line, and the last line has the number of objects and the SHA-256 of all lines before
 * it. So a file that was cut off or changed is never taken for a complete one.
 *
 * The file holds Secrets, so its mode is 0600. It is written under another name in the same directory, synced, and
 * renamed.
 */

#include <jansson.h>

#include "base/error.h"

#define ARCHIVE_LINE_MAX    ((size_t)8 << 20) /* a stored object has at most 1.5 MiB, and escaping makes it longer */
#define ARCHIVE_SIZE_MAX    ((size_t)4 << 30)
#define ARCHIVE_OBJECTS_MAX 2000000

struct archive;

/* Begins the file PATH. SERVER names the server of the objects, for people. */
int archive_create(struct archive **ret, const char *path, const char *server, struct error *err) _must_use_;
int archive_add(struct archive *a, const json_t *obj, struct error *err) _must_use_;
/* Writes the last line and renames the file to its place. */
int archive_finish(struct archive *a, struct error *err) _must_use_;
size_t archive_count(const struct archive *a);
/* Frees A. Unless archive_finish() has succeeded, the unfinished file is removed and PATH is as it was before. */
struct archive *archive_free(struct archive *a);
DEFINE_CLEANUP(archive, struct archive *, archive_free)

/* Reads the TEXT of the file PATH. *RET is a new list of its objects, which are all valid and of kinds that are moved;
 * the caller frees it. -EBADMSG if the file is not valid. */
int archive_parse(const char *text, size_t len, const char *path, json_t **ret, struct error *err) _must_use_;
int archive_read(const char *path, json_t **ret, struct error *err) _must_use_;
