/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The DNS that an instance is told: that of the AddressPool of its prefix. When the pool's settings change, its
 * instances are queued, and no others.
 */

#include "api/instance.h"
#include "controller/work.h"

/* Writes the DNS into the status of N. Without the pool the status stays as it is. 0 or -ENOMEM. */
int dns_fill(const struct controller *c, struct instance *n) _must_use_;
