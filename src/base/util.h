/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Files, time and randomness. The conventions of base/error.h hold. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

#define NSEC_PER_SEC  1000000000ULL
#define NSEC_PER_MSEC 1000000ULL
#define USEC_PER_SEC  1000000ULL
#define USEC_PER_MSEC 1000ULL

/* Reads a whole file, at most MAX bytes (-EFBIG past that), as malloc'ed NUL-terminated bytes. */
int read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct error *err) _must_use_;
/*
 * Writes to a temporary name and calls rename_durable(): after a failure, or a power cut at any moment, the file has
 * its whole old content or its whole new content.
 */
int write_file_atomic(const char *path, const void *data, size_t len, mode_t mode, struct error *err) _must_use_;
/* Renames FROM to TO in the same directory. Once this returns, the new name survives a power cut. */
int rename_durable(const char *from, const char *to, struct error *err) _must_use_;
/* Makes the names that were added to or removed from the directory of PATH durable. */
int sync_directory_of(const char *path, struct error *err) _must_use_;
/* Writes in place; for /proc and /sys. */
int write_file(const char *path, const char *text, struct error *err) _must_use_;
int mkdir_p(const char *path, mode_t mode, struct error *err) _must_use_;
/*
 * Opens PATH with FLAGS of open(2) (a new file gets mode 0600) and locks the whole file or directory (flock(2)). The
 * lock is held until *RET_FD is closed. -EBUSY if another process holds the lock and WAIT is false.
 */
int lock_path(const char *path, int flags, bool wait, int *ret_fd, struct error *err) _must_use_;
/* Removes a tree without following links or crossing mounts. Succeeds if PATH does not exist. */
int remove_tree(const char *path, struct error *err);
/* Calls write(2) until all is written; retries after EINTR. */
int write_all(int fd, const void *data, size_t len, struct error *err) _must_use_;

/* malloc'ed printf, which the caller frees; NULL without memory. */
char *strf(const char *fmt, ...) _printf_(1, 2) _must_use_;
bool streq(const char *a, const char *b); /* NULL is equal only to NULL */
/* Replaces *P (malloc'ed or NULL) by a copy of VALUE. Returns 1 if *P changed, 0 if it was equal already, -ENOMEM if
 * there is no memory; then *P is unchanged. */
int string_set(char **p, const char *value) _must_use_;
bool starts_with(const char *s, const char *prefix);
/* A decimal integer in [MIN, MAX]; the text holds nothing else. */
int parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret, struct error *err) _must_use_;

uint64_t now_monotonic_ns(void);
uint64_t now_thread_cpu_ns(void); /* processor time of this thread */
uint64_t now_realtime_us(void);
#define TIME_STR_MAX 32
/* RFC 3339 in UTC: "2026-01-31T12:00:00Z", or with microseconds ("….000000Z"). */
const char *time_str(uint64_t realtime_us, bool micro, char out[static TIME_STR_MAX]);
int time_parse(const char *s, uint64_t *ret_us) _must_use_;

void random_bytes(void *out, size_t len);
/*
 * A random (version 4) UUID in lower case (RFC 9562). It is not secret: memory holds the bytes of later UUIDs. Must not
 * be called both before a fork() and in the child: the child would make the same UUIDs.
 */
void uuid_make(char out[static 37]);
