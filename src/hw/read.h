/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Readers of a host: live, or as others have written it down. What they read may be hostile or wrong: sizes, counts and
 * depths are bounded (hw.h, build.h, xml.h, fs.h), and whatever does not fit together is an error that names the
 * element and, for XML, the line. A reader returns a whole model or none.
 *
 * All return 0 or a negative errno, and write *RET, which the caller frees (hw_free()), only on success.
 */

#include "hw/fs.h"
#include "hw/hw.h"

/*
 * What a user names: a directory (/sys of this machine, or a captured sysfs), a file or pipe with an hwloc XML (version
 * 2), with NCCL's or RCCL's XML, or with our own JSON. The content decides, not the name.
 *
 * In /sys, config space past 64 bytes (ACS, ATS, types of ports) needs root. If devices come and go meanwhile, the
 * directory is read again, a few times; then the result is -EAGAIN.
 */
int hw_read_path(const char *path, struct hw_host **ret, struct error *err) _must_use_;

/* The readers themselves. hw_read_fs() returns -EAGAIN if a function came or went away meanwhile. */
int hw_read_fs(const struct hw_fs *fs, struct hw_host **ret, struct error *err) _must_use_;
int hw_read_text(const char *text, size_t len, struct hw_host **ret, struct error *err) _must_use_;
