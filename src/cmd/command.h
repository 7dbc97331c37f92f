/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Commands that have commands of their own: `nacre lab up`. Exit status 1: the command failed. 2: it was used
 * wrongly. */

#include "base/opt.h"

struct command {
	const char *name, *help;
	int (*run)(int argc, char **argv);
};

/* Runs the command that ARGV[1] names; a NULL name ends COMMANDS. Returns the exit status. */
int command_run(const struct command *commands, const char *prog, const char *summary, int argc, char **argv);
/* Both print what is wrong and return the exit status. */
int command_failed(const char *what, const struct error *err);
int command_usage(const struct opt_program *prog, const char *msg);
