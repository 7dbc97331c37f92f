/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/command.h"

#include "base/util.h"

int command_failed(const char *what, const struct error *err) {
	fprintf(stderr, "%s: %s\n", what, err->msg);
	return 1;
}

int command_usage(const struct opt_program *prog, const char *msg) {
	fprintf(stderr, "%s: %s\nTry `%s --help`.\n", prog->name, msg, prog->name);
	return 2;
}

int command_run(const struct command *commands, const char *prog, const char *summary, int argc, char **argv) {
	const char *name = argc > 1 ? argv[1] : "--help";
	for (const struct command *c = commands; c->name; c++)
		if (streq(c->name, name))
			return c->run(argc - 1, argv + 1);
	bool help = streq(name, "--help") || streq(name, "-h");
	if (streq(name, "--version")) {
		printf("nacre %s\n", NACRE_VERSION);
		return 0;
	}
	FILE *f = help ? stdout : stderr;
	if (!help)
		fprintf(f, "%s: there is no command `%.64s`\n", prog, name);
	fprintf(f, "Usage: %s COMMAND [OPTIONS]\n%s\n\n", prog, summary);
	for (const struct command *c = commands; c->name; c++)
		fprintf(f, "  %-12s %s\n", c->name, c->help);
	fprintf(f, "\nFor the options of a command, run `%s COMMAND --help`.\n", prog);
	return help && argc > 1 ? 0 : 2;
}
