/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The progress of a long command on stderr: the present step, what it waits for (only on a terminal), and how long each
 * step took.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct progress {
	bool tty, open;
	uint64_t begun, step_begun;
	char step[96];
};

void progress_init(struct progress *p);
/* Ends the step before and begins this one. */
void progress_step(struct progress *p, const char *fmt, ...) _printf_(2, 3);
/* Shows what the step waits for; only on a terminal. */
void progress_wait(struct progress *p, const char *fmt, ...) _printf_(2, 3);
void progress_end(struct progress *p);
/* Ends the step as failed. */
void progress_fail(struct progress *p);
double progress_total(const struct progress *p); /* seconds since progress_init() */
