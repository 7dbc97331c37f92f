/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Builds a lab, waits until an instance in it answers from the internet side, and shows that. */

#include "lab/lab.h"

struct lab_up_options {
	bool keep;        /* keep a failed lab for inspection */
	bool no_instance; /* stop once the fabric is up: create no tenant and no guest */
};

/*
 * LAB: lab_init(), then hosts and images set. Shows progress on stderr, and the final demonstration on stdout. On
 * failure the message names the step and the log, and the lab is removed (unless keep is set).
 */
int lab_up(struct lab *lab, const struct lab_up_options *o, struct error *err);

/* Checks that everything that `up` needs is installed and permitted. */
int lab_check_requirements(const struct lab *lab, struct error *err) _must_use_;
