/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What answers the guest on its tap, from the configuration alone: router advertisements (vm/ra.h), DHCPv4
 * (vm/dhcp4.h), DHCPv6 (vm/dhcp6.h) and metadata (vm/metadata.h). A protocol is one file with the same functions (open,
 * new, and one that makes the answer and touches memory only), which vm/responder.h helps to write, a descriptor of
 * vm/fds.h, and a line in each function here.
 */

#include <systemd/sd-event.h>

#include "vm/config.h"
#include "vm/fds.h"

struct responders;

/* Opens the sockets of all protocols for one interface of this network namespace. After a failure some may be open. */
int responders_open(const char *ifname, struct vm_fds *fds, struct error *err) _must_use_;
/* Starts what CONFIG has need of. Takes the responders' descriptors out of FDS, even on failure, and closes those that
 * are not needed. */
int responders_new(struct responders **ret, sd_event *loop, const struct vm_config *config, struct vm_fds *fds,
                   struct error *err) _must_use_;
struct responders *responders_free(struct responders *r);

DEFINE_CLEANUP(responders, struct responders *, responders_free)
