/* SPDX-License-Identifier: Apache-2.0 */

/* nacre: the command for people. */

#include <string.h>

#include "api/admission.h"
#include "api/roles.h"
#include "api/schema.h"
#include "base/opt.h"
#include "base/util.h"
#include "cmd/command.h"
#include "cmd/move.h"
#include "cmd/pki.h"
#include "cmd/topology.h"
#include "cmd/whois.h"
#include "lab/console.h"
#include "lab/daemon.h"
#include "lab/down.h"
#include "lab/kubernetes.h"
#include "lab/place.h"
#include "lab/progress.h"
#include "lab/status.h"
#include "lab/up.h"

#define OPT_LAB_NAME(var) \
	{ "name", OPT_STR, &(var), "NAME", "which lab", 0, 0, false }

static int cmd_up(int argc, char **argv) {
	const char *name = "lab", *images = "/var/cache/nacre/images", *api = "nacre", *oracle = LAB_ORACLE_DIR;
	int64_t hosts = 3, balancers = LAB_BALANCERS;
	struct lab_up_options o = {0};
	const struct opt opts[] = {
		OPT_LAB_NAME(name),
		{"hosts", OPT_I64, &hosts, "N", "how many hosts", 1, LAB_HOSTS_MAX, false},
		{"balancers", OPT_I64, &balancers, "N", "how many balancers; 0: no shared IPv4 addresses", 0,
	         LAB_BALANCERS_MAX, false},
		{"images", OPT_STR, &images, "DIR", "directory of guest images, made by scripts/guest-image.sh", 0, 0,
	         false},
		{"api", OPT_STR, &api, "SERVER", "nacre: nacre-apiserver; kubernetes: kube-apiserver and etcd", 0, 0,
	         false},
		{"oracle-dir", OPT_STR, &oracle, "DIR",
	         "directory of kube-apiserver, etcd and kubectl, made by tests/oracle/build (default: " LAB_ORACLE_DIR
	         ")",
	         0, 0, false},
		{"keep", OPT_FLAG, &o.keep, NULL, "keep a lab that failed to come up, for inspection", 0, 0, false},
		{"no-instance", OPT_FLAG, &o.no_instance, NULL, "don't wait for the first instance", 0, 0, false},
		{0},
	};
	const struct opt_program prog = {"nacre lab up", "Brings up a data centre in a box and shows that it works.",
	                                 "[OPTIONS]", NULL, opts};
	struct error err = {0};
	struct lab lab;
	if (opt_parse_or_exit(&prog, argc, argv) < argc)
		return command_usage(&prog, "takes no operands");
	if (lab_init(&lab, name, &err) < 0)
		return command_usage(&prog, err.msg);
	char *real = realpath(images, NULL);
	int n = snprintf(lab.images, sizeof(lab.images), "%s", real ? real : images);
	free(real);
	if ((size_t)n >= sizeof(lab.images))
		return command_usage(&prog, "--images: the path is too long");
	lab.hosts = hosts;
	lab.balancers = balancers;
	lab.kubernetes = streq(api, "kubernetes");
	if (!lab.kubernetes && !streq(api, "nacre"))
		return command_usage(&prog, "--api: must be nacre or kubernetes");
	real = realpath(oracle, NULL);
	n = snprintf(lab.oracle, sizeof(lab.oracle), "%s", real ? real : oracle);
	free(real);
	if ((size_t)n >= sizeof(lab.oracle))
		return command_usage(&prog, "--oracle-dir: the path is too long");
	return lab_up(&lab, &o, &err) < 0 ? command_failed(prog.name, &err) : 0;
}

/* Parses the options of commands that take only --name. RET_OPERANDS: index of the first operand. */
static void parse_name(const char *command, const char *summary, const char *usage, int argc, char **argv,
                       const char **name, int *ret_operands) {
	const struct opt opts[] = {{"name", OPT_STR, name, "NAME", "which lab", 0, 0, false}, {0}};
	const struct opt_program prog = {command, summary, usage, NULL, opts};
	*ret_operands = opt_parse_or_exit(&prog, argc, argv);
	bool wants = strchr(usage, ' ') != NULL;
	if (wants == (*ret_operands < argc))
		return;
	exit(command_usage(&prog, wants ? "an operand is missing" : "takes no operands"));
}

static int cmd_down(int argc, char **argv) {
	const char *name = "lab", *what = "nacre lab down";
	int i;
	bool found;
	struct error err = {0};
	struct lab lab;
	struct progress p;
	_close_ int lock = -1;
	parse_name(what, "Removes a lab, whatever state it is in.", "[OPTIONS]", argc, argv, &name, &i);
	progress_init(&p);
	int r = lab_init(&lab, name, &err);
	if (r >= 0 && geteuid() != 0)
		r = error_set(&err, EPERM, "needs root; run it with sudo");
	if (r >= 0 && (r = lab_lock(&lab, &lock, &err)) == -ENOENT)
		r = 0; /* the lab's directory is gone, but other parts may be left */
	if (r >= 0)
		r = lab_down(&lab, &p, &found, &err);
	if (r < 0)
		return command_failed(what, &err);
	if (!found)
		fprintf(stderr, "There was no lab `%s`.\n", name);
	return 0;
}

static int cmd_status(int argc, char **argv) {
	const char *name = "lab", *what = "nacre lab status";
	int i;
	bool well;
	struct error err = {0};
	struct lab lab;
	parse_name(what, "Shows the health of a lab; exits with 1 if something is wrong.", "[OPTIONS]", argc, argv,
	           &name, &i);
	if (lab_load(&lab, name, &err) < 0 || lab_status(&lab, &well, &err) < 0)
		return command_failed(what, &err);
	return well ? 0 : 1;
}

static int cmd_list(int argc, char **argv) {
	const struct opt opts[] = {{0}};
	const struct opt_program prog = {"nacre lab list", "Lists the labs of this machine.", "[OPTIONS]", NULL, opts};
	struct error err = {0};
	if (opt_parse_or_exit(&prog, argc, argv) < argc)
		return command_usage(&prog, "takes no operands");
	return lab_list(&err) < 0 ? command_failed(prog.name, &err) : 0;
}

static int cmd_exec(int argc, char **argv) {
	const char *name = "lab", *what = "nacre lab exec";
	int i;
	struct error err = {0};
	struct lab lab;
	struct place place;
	parse_name(
		what,
		"Runs a command in the network namespace of a place: internet, mgmt, leaf1, edge1, edge1/public, lb1, "
		"host1,\n"
		"host1/underlay, host1/public, or TENANT/NAME for the container of an instance.",
		"[OPTIONS] PLACE -- COMMAND [ARGUMENTS]", argc, argv, &name, &i);
	const char *text = argv[i++];
	if (i < argc && streq(argv[i], "--"))
		i++;
	if (i == argc) {
		fprintf(stderr, "%s: no command given after the place\nTry `%s --help`.\n", what, what);
		return 2;
	}
	if (lab_load(&lab, name, &err) < 0 || place_find(&lab, text, &place, &err) < 0 ||
	    place_exec(&place, argv + i, &err) < 0)
		return command_failed(what, &err);
	return 0;
}

static int cmd_restart(int argc, char **argv) {
	const char *name = "lab", *what = "nacre lab restart";
	int i;
	struct error err = {0};
	struct lab lab;
	_close_ int lock = -1;
	parse_name(what,
	           "Stops daemons of a lab if they run, and starts them: apiserver, controller, host1, edge1, ...",
	           "[OPTIONS] DAEMON...", argc, argv, &name, &i);
	int r = lab_load(&lab, name, &err);
	if (r >= 0)
		r = lab_lock(&lab, &lock, &err);
	for (; r >= 0 && i < argc; i++) {
		_daemon_ struct lab_daemon d = {0};
		r = lab_daemon_find(&lab, argv[i], &d, &err);
		if (r >= 0)
			r = lab_daemon_stop(&d, &err);
		if (r >= 0)
			r = lab_daemon_start(&d, &err);
	}
	return r < 0 ? command_failed(what, &err) : 0;
}

static int cmd_kubeconfig(int argc, char **argv) {
	const char *name = "lab", *what = "nacre lab kubeconfig";
	char path[LAB_PATH_MAX];
	int i;
	struct error err = {0};
	struct lab lab;
	parse_name(what, "Prints the path of a lab's kubeconfig: export KUBECONFIG=$(nacre lab kubeconfig)",
	           "[OPTIONS]", argc, argv, &name, &i);
	if (lab_load(&lab, name, &err) < 0)
		return command_failed(what, &err);
	printf("%s\n", lab_path(&lab, path, "kubeconfig"));
	return 0;
}

static int cmd_lab(int argc, char **argv) {
	static const struct command commands[] = {
		{"up", "bring up a data centre in a box", cmd_up},
		{"down", "remove the lab", cmd_down},
		{"status", "show the state of its parts", cmd_status},
		{"list", "list the labs of this machine", cmd_list},
		{"exec", "run a command at a place in the lab", cmd_exec},
		{"restart", "restart a daemon of the lab", cmd_restart},
		{"kubeconfig", "print the path of the lab's kubeconfig", cmd_kubeconfig},
		{0},
	};
	return command_run(commands, "nacre lab", "A small data centre in network namespaces of this machine.", argc,
	                   argv);
}

static int print_made(int argc, char **argv, const char *name, const char *about,
                      int (*make)(struct buf *out, struct error *err)) {
	const struct opt opts[] = {{0}};
	const struct opt_program prog = {name, about, "[OPTIONS]", NULL, opts};
	_buf_free_ struct buf b = {0};
	struct error err = {0};
	if (opt_parse_or_exit(&prog, argc, argv) < argc)
		return command_usage(&prog, "takes no operands");
	if (make(&b, &err) < 0 || write_all(1, b.data, b.len, &err) < 0)
		return command_failed(prog.name, &err);
	return 0;
}

static int cmd_crds(int argc, char **argv) {
	return print_made(argc, argv, "nacre crds", "Prints the CustomResourceDefinitions as YAML.", api_crds_yaml);
}

static int cmd_rbac(int argc, char **argv) {
	return print_made(
		argc, argv, "nacre rbac",
		"Prints the roles and bindings of Nacre's programs and tenants as YAML, for a kube-apiserver.",
		roles_yaml);
}

static int cmd_admission(int argc, char **argv) {
	return print_made(argc, argv, "nacre admission",
	                  "Prints the admission policies, which a kube-apiserver needs beside the roles, as YAML.",
	                  admission_yaml);
}

static int cmd_reference(int argc, char **argv) {
	return print_made(argc, argv, "nacre reference", "Prints the reference of all kinds as Markdown.",
	                  api_reference);
}

static int cmd_console(int argc, char **argv) {
	const char *name = "lab";
	bool raw = false;
	const struct opt opts[] = {
		{"name", OPT_STR, &name, "NAME", "which lab", 0, 0, false},
		{"raw", OPT_FLAG, &raw, NULL, "show all output of the guest, even escape sequences", 0, 0, false},
		{0}};
	const struct opt_program prog = {"nacre console", "Connects to the serial console of an instance; Ctrl-] ends.",
	                                 "[OPTIONS] TENANT/NAME", NULL, opts};
	struct error err = {0};
	struct lab lab;
	int i = opt_parse_or_exit(&prog, argc, argv);
	if (i >= argc)
		return command_usage(&prog, "an operand is missing");
	if (lab_load(&lab, name, &err) < 0 || lab_console(&lab, argv[i], raw, &err) < 0)
		return command_failed(prog.name, &err);
	return 0;
}

int main(int argc, char **argv) {
	static const struct command commands[] = {
		{"lab", "a data centre in a box: up, down, status, ...", cmd_lab},
		{"pki", "certificates: an authority, servers, clients", cmd_pki},
		{"export", "write all objects of a cloud into a file", cmd_export},
		{"import", "create the objects of such a file on another server", cmd_import},
		{"whois", "who has or had a public address or port", cmd_whois},
		{"topology", "draw what a host has, from a file or a captured sysfs", cmd_topology},
		{"console", "the serial console of an instance", cmd_console},
		{"crds", "print the CustomResourceDefinitions", cmd_crds},
		{"rbac", "print the roles and bindings that Nacre needs", cmd_rbac},
		{"admission", "print the admission policies that a kube-apiserver needs", cmd_admission},
		{"reference", "print the reference of all kinds", cmd_reference},
		{0},
	};
	return command_run(commands, "nacre", "Nacre: a GPU cloud.", argc, argv);
}
