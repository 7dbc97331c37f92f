/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/apiserver-backup.h"

#include <stdio.h>
#include <sys/stat.h>

#include "apiserver/store/backup.h"
#include "base/opt.h"
#include "base/util.h"

bool backup_is_command(const char *name) {
	return streq(name, "backup") || streq(name, "restore");
}

static int apiserver_backup_finish(const char *command, int r, const struct backup_report *report, const char *to,
                                   const struct error *err) {
	if (r < 0) {
		fprintf(stderr, "nacre-apiserver %s: %s\n", command, err->msg);
		return 1;
	}
	printf("%zu objects, version %lld, in %s\n", report->objects, (long long)report->version, to);
	return 0;
}

int backup_command(int argc, char **argv) {
	const bool back_up = streq(argv[0], "backup");
	const char *database = "/var/lib/nacre/apiserver.db";
	bool force = false;
	const struct opt database_opt = {"database", OPT_STR, &database, "FILE", "SQLite database of the server",
	                                 0,          0,       false};
	const struct opt backup_opts[] = {database_opt, {0}};
	const struct opt restore_opts[] = {
		database_opt,
		{"force", OPT_FLAG, &force, NULL,
	         "replace an existing database; it is kept as FILE.replaced, which must not exist yet", 0, 0, false},
		{0},
	};
	const struct opt_program progs[] = {
		{"nacre-apiserver backup",
	         "Copies the state of the database at one moment into the file TO, and checks the copy. The "
	         "server may be running.",
	         "[OPTIONS] TO", "If TO exists, it is replaced once the copy is complete.\n", backup_opts},
		{"nacre-apiserver restore", "Restores the database from a copy. The server must be stopped.",
	         "[OPTIONS] FROM",
	         "Objects get new, higher versions, so that clients notice the change and list again.\n", restore_opts},
	};
	const struct opt_program *prog = &progs[!back_up];
	struct backup_report report = {0};
	struct error err = {0};
	int operand = opt_parse_or_exit(prog, argc, argv);
	if (argc - operand != 1) {
		fprintf(stderr, "%s: give one file; see --help\n", prog->name);
		return 2;
	}
	umask(0077);
	if (back_up)
		return apiserver_backup_finish(argv[0], backup_make(database, argv[operand], &report, &err), &report,
		                               argv[operand], &err);
	return apiserver_backup_finish(argv[0], backup_restore(argv[operand], database, force, &report, &err), &report,
	                               database, &err);
}
