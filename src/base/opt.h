/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Command-line options from one table per program. --help (and, through help2man, the man page) is made from the same
 * table. Long options only, "--name VALUE" or "--name=VALUE"; flags take no value. --help and --version always exist.
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
	const char *usage;    /* printed after the name, e.g. "[OPTIONS]" */
	const char *epilogue; /* printed last in --help; may be NULL */
	const struct opt *opts;
};

/*
 * Parses ARGV[1..]. *RET_OPERANDS is the index in ARGV of the first operand: operands begin with the first argument
 * that is not an option, or after "--". Prints and exits with status 0 for --help and --version. -EINVAL for a bad
 * option, with a message that names it.
 */
int opt_parse(const struct opt_program *prog, int argc, char **argv, int *ret_operands, struct error *err) _must_use_;
/* Calls opt_parse(). On failure prints the message and a hint at --help, and exits with status 2. */
int opt_parse_or_exit(const struct opt_program *prog, int argc, char **argv);
