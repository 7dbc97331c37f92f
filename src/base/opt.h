/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Command-line options from one table a program, which also gives --help
 * (and through help2man the man page). Long options only, "--name VALUE" or
 * "--name=VALUE"; flags take none. --help and --version are always there.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum opt_type {
	OPT_FLAG, /* bool * */
	OPT_STR,  /* const char **, points into argv */
	OPT_I64,  /* int64_t *, between min and max */
	OPT_LIST, /* struct opt_list *: may be given several times */
};

#define OPT_LIST_MAX 64
struct opt_list {
	const char *v[OPT_LIST_MAX];
	size_t n;
};

struct opt {
	const char *name; /* without "--"; NULL ends the table */
	enum opt_type type;
	void *dest;       /* holds the default before parsing */
	const char *arg;  /* the value's name in the help text, e.g. "DIR" */
	const char *help; /* one sentence, no full stop at the end */
	int64_t min, max;
	bool required;
};

struct opt_program {
	const char *name;     /* "nacre-node" */
	const char *summary;  /* one line */
	const char *usage;    /* what follows the name, e.g. "[OPTIONS]" */
	const char *epilogue; /* printed last in --help; may be NULL */
	const struct opt *opts;
};

/*
 * Parses ARGV[1..]. Operands (what is not an option; all after "--", and all after
 * the first operand) begin at *RET_OPERANDS, an index into argv.
 * Prints and exits by itself for --help and --version (status 0).
 * -EINVAL with a message that names the option otherwise.
 */
int opt_parse(const struct opt_program *prog, int argc, char **argv, int *ret_operands, struct error *err) _must_use_;
/* opt_parse(), and on failure prints the message and a hint at --help, and exits with status 2. */
int opt_parse_or_exit(const struct opt_program *prog, int argc, char **argv);
