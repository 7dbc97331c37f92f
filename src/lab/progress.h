/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a long command shows a person: the step it is at, what it waits for (on a terminal), and how long each step
 * took. Written to stderr.
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
/* Ends the step before, begins this one. */
void progress_step(struct progress *p, const char *fmt, ...) _printf_(2, 3);
/* What the step is waiting for; shown on a terminal only. */
void progress_wait(struct progress *p, const char *fmt, ...) _printf_(2, 3);
void progress_end(struct progress *p);
/* Ends the step as the one that failed. */
void progress_fail(struct progress *p);
double progress_total(const struct progress *p); /* seconds since progress_init() */
