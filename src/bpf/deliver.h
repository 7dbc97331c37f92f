/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the program deliver.bpf.c and its user space (service/deliver.c) share: a hash, MAC of an instance -> index of
 * the instance's device in `public`, and a counter for each processor of what it redirected.
 */

#include <linux/types.h>

#define DELIVER_INSTANCES 16384

struct deliver_mac {
	__u8 bytes[6];
	__u8 zero[2];
};

_Static_assert(sizeof(struct deliver_mac) == 8, "layout of a map");
