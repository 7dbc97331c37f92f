/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Takes a lab away: processes, namespaces with their links, mounts, files. Works from any state, half-built or
 * half-removed, and whatever of it has crashed; doing it twice is fine.
 */

#include "lab/lab.h"
#include "lab/progress.h"

/* LAB needs only lab_init(). Goes on past failures; returns the first. *RET_FOUND: whether there was anything. */
int lab_down(const struct lab *lab, struct progress *p, bool *ret_found, struct error *err);
