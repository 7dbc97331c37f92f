/* SPDX-License-Identifier: Apache-2.0 */
#include "base/opt.h"

#include <string.h>

#include "base/util.h"

#ifndef NACRE_VERSION
#define NACRE_VERSION "unknown"
#endif

static void print_help(const struct opt_program *prog) {
	printf("Usage: %s %s\n%s\n\nOptions:\n", prog->name, prog->usage, prog->summary);
	for (const struct opt *o = prog->opts; o && o->name; o++) {
		char left[64];
		snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		printf("  %-28s %s", left, o->help);
		if (o->required)
			printf(" (required)");
		else if (strstr(o->help, "default"))
			; /* the help text states the default better */
		else if (o->type == OPT_STR && *(const char **)o->dest && **(const char **)o->dest)
			printf(" (default %s)", *(const char **)o->dest);
		else if (o->type == OPT_I64)
			printf(" (default %lld)", (long long)*(int64_t *)o->dest);
		else if (o->type == OPT_LIST)
			printf(" (may be repeated)");
		putchar('\n');
	}
	printf("  %-28s %s\n  %-28s %s\n", "--help", "show this text", "--version", "show the version");
	if (prog->epilogue)
		printf("\n%s\n", prog->epilogue);
}

static int opt_set(const struct opt *o, const char *value, struct error *err) {
	switch (o->type) {
	case OPT_FLAG: *(bool *)o->dest = true; return 0;
	case OPT_STR: *(const char **)o->dest = value; return 0;
	case OPT_I64: {
		int r = parse_i64(value, o->min, o->max, o->dest, err);
		return r < 0 ? error_prefix(err, "--%s", o->name) : 0;
	}
	case OPT_LIST: {
		struct opt_list *l = o->dest;
		if (l->n == OPT_LIST_MAX)
			return error_set(err, E2BIG, "--%s: given more than %d times", o->name, OPT_LIST_MAX);
		l->v[l->n++] = value;
		return 0;
	}
	}
	return -EINVAL;
}

int opt_parse(const struct opt_program *prog, int argc, char **argv, int *ret_operands, struct error *err) {
	bool seen[64] = {false};
	int i;
	for (i = 1; i < argc; i++) {
		const char *a = argv[i];
		if (strcmp(a, "--") == 0) {
			i++;
			break;
		}
		if (strcmp(a, "-h") == 0)
			a = "--help";
		if (strncmp(a, "--", 2) != 0) {
			if (a[0] == '-' && a[1])
				return error_set(err, EINVAL, "unknown option `%s`", a);
			break;
		}
		a += 2;
		size_t n = strcspn(a, "=");
		if (strcmp(a, "help") == 0) {
			print_help(prog);
			exit(0);
		}
		if (strcmp(a, "version") == 0) {
			printf("%s %s\n", prog->name, NACRE_VERSION);
			exit(0);
		}
		const struct opt *o;
		for (o = prog->opts; o && o->name; o++)
			if (strlen(o->name) == n && strncmp(o->name, a, n) == 0)
				break;
		if (!o || !o->name)
			return error_set(err, EINVAL, "unknown option `--%.*s`", (int)n, a);
		const char *value = a[n] == '=' ? a + n + 1 : NULL;
		if (o->type == OPT_FLAG && value)
			return error_set(err, EINVAL, "--%s takes no value", o->name);
		if (o->type != OPT_FLAG && !value) {
			if (i + 1 >= argc)
				return error_set(err, EINVAL, "--%s needs a value (%s)", o->name, o->arg);
			value = argv[++i];
		}
		int r = opt_set(o, value, err);
		if (r < 0)
			return r;
		if ((size_t)(o - prog->opts) < ARRAY_SIZE(seen))
			seen[o - prog->opts] = true;
	}
	for (const struct opt *o = prog->opts; o && o->name; o++)
		if (o->required && !seen[o - prog->opts])
			return error_set(err, EINVAL, "--%s %s is required", o->name, o->arg);
	*ret_operands = i;
	return 0;
}

int opt_parse_or_exit(const struct opt_program *prog, int argc, char **argv) {
	struct error err = {0};
	int operands;
	if (opt_parse(prog, argc, argv, &operands, &err) < 0) {
		fprintf(stderr, "%s: %s\nTry `%s --help`.\n", prog->name, err.msg, prog->name);
		exit(2);
	}
	return operands;
}
