/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Checks that a file is what an Image object says. This comes before a machine is made of it, so that the error is a
 * sentence about the file and not the exit of QEMU.
 *
 * A qcow2 image that refers to other files (a backing file, an external data file) is refused: it would make QEMU open
 * any file that its author named.
 */

#include <stdint.h>

#include "vm/config.h"

/* A Linux kernel for x86 that QEMU can load: a bzImage. */
int image_check_kernel(const char *path, struct error *err) _must_use_;
/* The file must be readable and not empty. */
int image_check_initrd(const char *path, struct error *err) _must_use_;
/* *RET_SIZE is the size of the disk in bytes, a multiple of 512. */
int image_check_disk(const char *path, enum vm_format format, uint64_t *ret_size, struct error *err) _must_use_;
