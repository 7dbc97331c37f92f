/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A sysfs tree in memory, made from a short text: fixtures of tests and inputs of fuzzing. Not part of the programs.
 *
 * Lines, `#` begins a comment:
 *
 *     file PATH TEXT                   a file
 *     link PATH TARGET                 a link
 *     cores 0-3 +8 package=0           cores 0 to 3 with threads 0 to 3 and 8 to 11; "+0": one thread each
 *     node 0 cpus=0-3,8-11 memory=KIB distance=10,21 hugepages=2048:512:500
 *     pci PART/PART/... KEY=VALUE ...  a function, whose path from its root complex on is given
 *
 * Keys of `pci`: `type=root|up|down|end`, `acs=CAPABILITY:CONTROL` and `ats=on|off` make a config space of 4096 bytes,
 * `buses=16-19` those of a bridge, `config=short` only the first 64 bytes, `config=dead` one
 * with all bits set, `config=vf` one without ids, as virtual functions have it; `driver` and `iommu_group` are links;
 * `ib=NAME:LAYER:RATE`, `net`, `nvme` directories; `bars=26,37` the log2 of the sizes of BAR 0, 2, ...; all others are
 * files. In values `_` stands for a space.
 */

#include "hw/fs.h"

/* -EINVAL for a line that can't be read. The caller calls hw_memfs_clear(). */
int hw_memfs_parse(const char *text, size_t len, struct hw_fs *ret, struct error *err) _must_use_;
void hw_memfs_clear(struct hw_fs *fs);
#define _hw_memfs_clear_ _cleanup_(hw_memfs_clear)
