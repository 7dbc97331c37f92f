/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Does KVM really run a guest here? /dev/kvm that opens says little: nested or
 * filtered KVM fails when a vCPU is made, or kills the guest's kernel later on. So a
 * guest is booted and has to get somewhere:
 *   with a kernel: Linux, till it looks for a root file system (and finds none);
 *   without:       a boot sector, in real mode, till it writes to the exit device.
 */

#include <stdbool.h>

#include "base/error.h"

#define KVM_PROBE_MS 8000

/*
 * KERNEL may be NULL. Blocks for about a second, or until KVM_PROBE_MS have passed. The result is kept in
 * DIR, one file a kernel, and taken from there as long as the host's boot, QEMU and the kernel are the same.
 * 0: it does. -EOPNOTSUPP: it doesn't, and ERR tells how that showed. Other errors: not known.
 */
int kvm_probe(const char *kernel, const char *dir, struct error *err) _must_use_;
