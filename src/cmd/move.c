/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/move.h"

#include "base/util.h"
#include "cmd/command.h"
#include "cmd/session.h"
#include "move/move.h"

static const char *file(const struct opt_program *prog, int argc, char **argv) {
	int i = opt_parse_or_exit(prog, argc, argv);
	if (argc - i != 1)
		exit(command_usage(prog, "give one file"));
	return argv[i];
}

int cmd_export(int argc, char **argv) {
	struct kube_access access = {0};
	struct opt_list namespaces = {0};
	const struct opt opts[] = {
		KUBE_ACCESS_OPTIONS(access),
		{"namespace", OPT_LIST, &namespaces, "NS",
	         "export only this namespace, for a cluster that others use as well; may be given several times", 0, 0,
	         false},
		{0},
	};
	const struct opt_program prog = {
		"nacre export", "Writes all objects of a cloud into the file TO.", "[OPTIONS] TO",
		"First stop nacre-controller and put the server on hold, so that nobody changes exported objects.\n"
		"TO holds Secrets, so only its owner can read it. If it exists, it is replaced once the export is "
		"complete.\n"
		"Events, Leases, tokens of ServiceAccounts and namespaces kube-* are not exported. docs/MOVING.md "
		"lists all steps.\n",
		opts};
	const char *to = file(&prog, argc, argv);
	_cleanup_(session_close) struct session s = {0};
	struct move_report report = {0};
	struct error err = {0};
	int r = session_open(&s, &access, &err);
	if (r == 0)
		r = move_export(s.client, to, namespaces.v, namespaces.n, &report, &err);
	if (r < 0)
		return command_failed(prog.name, &err);
	if (!report.held)
		fprintf(stderr, "%s: %s is not on hold: later changes there are not in %s\n", prog.name,
		        kube_client_server(s.client), to);
	printf("%zu objects of %s in %s\n", report.objects, kube_client_server(s.client), to);
	return 0;
}

int cmd_import(int argc, char **argv) {
	struct kube_access access = {0};
	const struct opt opts[] = {KUBE_ACCESS_OPTIONS(access), {0}};
	const struct opt_program prog = {
		"nacre import", "Creates the objects of the file FROM, which nacre export wrote, on another server.",
		"[OPTIONS] FROM",
		"The server must have no objects of nacre.dev that are not in FROM, and no program of Nacre may be "
		"using it.\n"
		"If objects differ from FROM, nothing is changed and each such object is named.\n"
		"To continue an import that was interrupted, run it again. docs/MOVING.md lists all steps.\n",
		opts};
	const char *from = file(&prog, argc, argv);
	_cleanup_(session_close) struct session s = {0};
	struct move_report report = {0};
	struct error err = {0};
	int r = session_open(&s, &access, &err);
	if (r == 0)
		r = move_import(s.client, from, &report, &err);
	if (r < 0)
		return command_failed(prog.name, &err);
	printf("%zu objects at %s, of which %zu were missing\n", report.objects, kube_client_server(s.client),
	       report.made);
	return 0;
}
