/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The parts of read.c. Each fills H and RAWS; on failure both hold something unspecified, which the caller drops. */

#include "hw/build.h"
#include "hw/fs.h"
#include "hw/xml.h"

int hw_nccl_read(const struct xml_doc *d, struct hw_host *h, struct hw_raws *raws, struct error *err) _must_use_;
int hw_hwloc_read(const struct xml_doc *d, struct hw_host *h, struct hw_raws *raws, struct error *err) _must_use_;
int hw_sysfs_read_processors(const struct hw_fs *fs, struct hw_host *h, struct error *err) _must_use_;
int hw_sysfs_read_pci(const struct hw_fs *fs, struct hw_raws *raws, struct error *err) _must_use_;
/* The links of its GPUs, once hw_build() has completed H. */
int hw_nccl_read_links(const struct xml_doc *d, struct hw_host *h, struct error *err) _must_use_;
