/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Internal to service: the program of ours among the filters of a device's ingress (tc). The kernel keeps it as long as
 * the device. All functions return -ENODEV if there is no such device.
 */

#include "service/program.h"

struct tcfilter {
	int netns_fd; /* the namespace of the device; both are borrowed */
	const char *device;
	const char *program; /* its name */
};

/* Opens the program that is on the device. RET->fd is -1 after a failure, or if there is no program of this name. */
int tcfilter_open(const struct tcfilter *f, struct program *ret, struct error *err) _must_use_;
/* Makes the program PROG_FD run on the device, or atomically replaces the one that is there. */
int tcfilter_attach(const struct tcfilter *f, int prog_fd, struct error *err) _must_use_;
/* Takes the program off the device. Succeeds if there is none of this name. */
int tcfilter_detach(const struct tcfilter *f, struct error *err) _must_use_;
