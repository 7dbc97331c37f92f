/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * PLACE, the name of a part of a lab: internet, mgmt, leaf1, edge1, edge1/public, host1, host1/underlay, host1/public,
 * or TENANT/NAME for the container of an instance.
 */

#include "lab/lab.h"
#include "net/netns.h"

struct place {
	char netns[NETNS_PATH_MAX]; /* path of its network namespace */
	char name[NETNS_NAME_MAX + 1];
};

/* -ENOENT if there is no such place; the message has a list of all. */
int place_find(const struct lab *lab, const char *text, struct place *ret, struct error *err) _must_use_;

/* Replaces the process by ARGV, running at that place (by ip-netns-exec(8)). Returns only on failure. */
int place_exec(const struct place *p, char **argv, struct error *err);
