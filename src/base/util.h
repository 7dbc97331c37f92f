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
 * Writes through a temporary name and rename_durable(): after a failure, or whenever the power goes, the file has its
 * old content or the new one, whole.
 */
int write_file_atomic(const char *path, const void *data, size_t len, mode_t mode, struct error *err) _must_use_;
/* FROM becomes TO, in the same directory, and once this returns it stays so when the power goes. */
int rename_durable(const char *from, const char *to, struct error *err) _must_use_;
/* Makes names that came and went in the directory of PATH durable. */
int sync_directory_of(const char *path, struct error *err) _must_use_;
/* Writes in place: for /proc and /sys. */
int write_file(const char *path, const char *text, struct error *err) _must_use_;
int mkdir_p(const char *path, mode_t mode, struct error *err) _must_use_;
/*
 * Opens PATH with FLAGS of open(2) (a file that is made gets mode 0600) and takes the lock of the whole file or
 * directory (flock(2)), which is held until *RET_FD is closed. If another has it and WAIT isn't given: -EBUSY.
 */
int lock_path(const char *path, int flags, bool wait, int *ret_fd, struct error *err) _must_use_;
/* Removes a tree without following links or crossing mounts. A missing PATH is success. */
int remove_tree(const char *path, struct error *err);
/* write(2) until done; EINTR is retried. */
int write_all(int fd, const void *data, size_t len, struct error *err) _must_use_;

/* malloc'ed printf; NULL on no memory. */
char *strf(const char *fmt, ...) _printf_(1, 2) _must_use_;
bool streq(const char *a, const char *b); /* NULL equals only NULL */
/* *P, malloc'ed or NULL, becomes a copy of VALUE. 1: it did; 0: it was equal; -ENOMEM: it is as before. */
int string_set(char **p, const char *value) _must_use_;
bool starts_with(const char *s, const char *prefix);
/* A decimal integer in [MIN, MAX], nothing else in the text. */
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
 * A random (version 4) UUID in lower case (RFC 9562). No secret: memory holds the bytes of later ones. Not to be called
 * both before a fork() and in the child, which would make the same ones.
 */
void uuid_make(char out[static 37]);
