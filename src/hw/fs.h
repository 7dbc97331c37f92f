/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A sysfs tree to read from: the kernel's, a captured one in a directory, or one in memory (memfs.h, for tests). Paths
 * are relative to the directory that is mounted at /sys: "bus/pci/devices". The reader never leaves that tree: in a
 * directory, links are followed only inside of it, as if it were the root of the file system.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define HW_FS_PATH_MAX  2048
#define HW_FS_FILE_MAX  65536
#define HW_FS_NAMES_MAX 65536 /* of one directory: a host has thousands of virtual functions */

struct hw_fs {
	/* Reads the file PATH, of less than SIZE bytes, into BUF and returns their number. -EFBIG if it has more,
	 * -ENOENT if there is no such file, or no longer; then ERR is not filled. Whatever else goes wrong is an error:
	 * the reader knows which attributes it can do without. */
	int (*read)(const struct hw_fs *fs, const char *path, char *buf, size_t size, struct error *err);
	/* The target of the link PATH, with a NUL. -ENOENT if there is nothing; then ERR is not filled.
	 * -EINVAL if it is no link. */
	int (*link)(const struct hw_fs *fs, const char *path, char *buf, size_t size, struct error *err);
	/* Calls EACH with every name in the directory PATH, in any order, until that returns non-zero. -ENOENT if there
	 * is no such directory; then ERR is not filled. */
	int (*list)(const struct hw_fs *fs, const char *path, int (*each)(void *arg, const char *name), void *arg,
	            struct error *err);
	void *data;
};

/*
 * A tree in the directory PATH: either what is mounted at /sys, or a directory that holds `sys`. The caller calls
 * hw_fs_close(). Needs openat2(2), Linux 5.6.
 */
int hw_fs_open(const char *path, struct hw_fs *ret, struct error *err) _must_use_;
void hw_fs_close(struct hw_fs *fs);
#define _hw_fs_close_ _cleanup_(hw_fs_close)

/* The file as text without white space at its end. Returns 1, 0 if there is no such file, or a negative errno. Bytes
 * that are not printable ASCII, or more than SIZE - 1 of them, are errors that name the file. */
int hw_fs_text(const struct hw_fs *fs, const char *path, char *out, size_t size, struct error *err) _must_use_;
