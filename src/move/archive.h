/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The file that `nacre export` writes and `nacre import` reads. Lines of JSON: the first says what the file is, then
 * comes one object a line, and the last says how many there were and has the SHA-256 of all lines before it. So a file
 * that was cut off or changed is never taken for a whole one.
 *
 * It holds Secrets: mode 0600. It is written beside its place and put there by rename(2), on disk.
 */

#include <jansson.h>

#include "base/error.h"

#define ARCHIVE_LINE_MAX    ((size_t)8 << 20) /* a stored object has 1.5 MiB, and more bytes where it is escaped */
#define ARCHIVE_SIZE_MAX    ((size_t)4 << 30)
#define ARCHIVE_OBJECTS_MAX 2000000

struct archive;

/* SERVER: where the objects come from; for people. */
int archive_create(struct archive **ret, const char *path, const char *server, struct error *err) _must_use_;
int archive_add(struct archive *a, const json_t *obj, struct error *err) _must_use_;
/* Puts the file in place. */
int archive_finish(struct archive *a, struct error *err) _must_use_;
size_t archive_count(const struct archive *a);
/* Before archive_finish() has succeeded: as if there had been none. */
struct archive *archive_free(struct archive *a);
DEFINE_CLEANUP(archive, struct archive *, archive_free)

/* A new list of the objects in the TEXT of the file PATH, all of kinds that are moved, and each of them valid. */
int archive_parse(const char *text, size_t len, const char *path, json_t **ret, struct error *err) _must_use_;
int archive_read(const char *path, json_t **ret, struct error *err) _must_use_;
