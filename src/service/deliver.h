/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Frames for instances that come out of the public overlay: a program at the VXLAN device in `public`
 * (bpf/deliver.bpf.c, tc ingress) that sends a frame whose destination is the MAC of an instance to the instance's
 * device. It passes everything else to the stack.
 *
 * Program and table live in the kernel as long as the device. They outlive this process, and the next one adopts them:
 * deliver_open(), deliver_begin(), deliver_put()…, deliver_end(), deliver_attach(); then single changes. What
 * service/balancer.h says about the order, threads and failures holds here, too.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/inet.h"
#include "bpf/deliver.h"

struct deliver;

/* NETNS_FD (`public`) is duplicated. Adopts the table of the program on DEVICE, or makes an empty one. */
int deliver_open(struct deliver **ret, int netns_fd, const char *device, struct error *err) _must_use_;
/* Leaves the kernel as it is. */
struct deliver *deliver_free(struct deliver *d);
DEFINE_CLEANUP(deliver, struct deliver *, deliver_free)
#define _deliver_free_ _cleanup_(cleanup_deliver)

/*
 * Makes the program run on the device, or atomically replaces an older one. Changes nothing if it does, so it may be
 * called at any time: the device may have been deleted and created again. -ENODEV: there is no such device.
 */
int deliver_attach(struct deliver *d, struct error *err) _must_use_;
/* Takes the program off the device. Succeeds if it isn't there. */
int deliver_detach(struct deliver *d, struct error *err);

/* Frames to MAC go to the device with this index in `public`, whatever they did before. -ENOSPC: there are
 * DELIVER_INSTANCES already. */
int deliver_put(struct deliver *d, const struct mac *mac, int ifindex, struct error *err) _must_use_;
/* Succeeds if it is not there. */
int deliver_remove(struct deliver *d, const struct mac *mac, struct error *err);

/* Between them the caller puts all that there is; deliver_end() removes what was not put. */
void deliver_begin(struct deliver *d);
int deliver_end(struct deliver *d, struct error *err) _must_use_;

/* How many frames were redirected since the table was made. */
int deliver_count(const struct deliver *d, uint64_t *ret, struct error *err) _must_use_;
