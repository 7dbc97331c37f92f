/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Builds a lab, waits until an instance in it answers from the internet side, and shows that. */

#include "lab/lab.h"

struct lab_up_options {
	bool keep;        /* leave a failed lab as it is, to be looked at */
	bool no_instance; /* stop once the fabric is up: no tenant, no guest */
};

/*
 * LAB: lab_init(), then hosts and images set. Shows progress on stderr and what it proves on stdout. On failure the
 * message names the step and the log, and what was built is taken away again (unless keep).
 */
int lab_up(struct lab *lab, const struct lab_up_options *o, struct error *err);

/* Everything that `up` needs is installed and allowed. */
int lab_check_requirements(const struct lab *lab, struct error *err) _must_use_;
