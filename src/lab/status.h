/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shows people the health of a lab. */

#include "lab/lab.h"

/* Prints one line per daemon and router. *RET_WELL says whether all is well. */
int lab_status(const struct lab *lab, bool *ret_well, struct error *err) _must_use_;

/* Prints the names of all labs on this machine. */
int lab_list(struct error *err);
