/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The guard of a tap (bpf/offload.bpf.c): drops frames whose header of virtio-net asks the host to complete a checksum
 * in an address or a port, or to cut a frame into tiny pieces. Without it a guest could write another source into a
 * packet after all filters have seen it.
 *
 * The program lives in the kernel as long as the device.
 */

#include "base/error.h"

/* Makes the program run on DEVICE in the namespace; changes nothing if it does. -ENODEV: there is no such device. */
int offload_guard(int netns_fd, const char *device, struct error *err) _must_use_;
