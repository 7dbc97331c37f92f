/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Commands with commands of their own: `nacre lab up`. Exit status 1: it failed. 2: it was asked for in a wrong way. */

#include "base/opt.h"

struct command {
	const char *name, *help;
	int (*run)(int argc, char **argv);
};

/* Runs the one that ARGV[1] names; a NULL name ends COMMANDS. */
int command_run(const struct command *commands, const char *prog, const char *summary, int argc, char **argv);
/* Both print what is wrong and return the exit status. */
int command_failed(const char *what, const struct error *err);
int command_usage(const struct opt_program *prog, const char *msg);
