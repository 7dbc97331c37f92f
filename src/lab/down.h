/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Removes a lab: processes, namespaces with their links, mounts, files. Works in any state, half-built or half-removed,
 * and after a crash of any part; a second call does no harm.
 */

#include "lab/lab.h"
#include "lab/progress.h"

/* LAB needs only lab_init(). Continues after failures and returns the first. *RET_FOUND says whether anything of the
 * lab existed. */
int lab_down(const struct lab *lab, struct progress *p, bool *ret_found, struct error *err);
