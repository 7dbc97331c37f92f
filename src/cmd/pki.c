/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/pki.h"

#include <string.h>

#include "base/pki.h"
#include "base/util.h"
#include "cmd/command.h"

#define OPT_DAYS(var) \
	{ "days", OPT_I64, &(var), "N", "how long it is valid (default: 365)", 1, PKI_CA_DAYS, false }
#define OPT_IF_DUE(var)                                                                                              \
	{                                                                                                            \
		"if-due", OPT_FLAG, &(var), NULL,                                                                    \
			"do nothing unless the certificate is missing or in the last third of its life", 0, 0, false \
	}

/* The operand of PROG, the directory of the authority. It may also come before the options. */
static const char *directory(const struct opt_program *prog, int argc, char **argv) {
	if (argc > 2 && argv[1][0] != '-') {
		char *dir = argv[1];
		memmove(argv + 1, argv + 2, (size_t)(argc - 2) * sizeof(*argv));
		argv[argc - 1] = dir;
	}
	int i = opt_parse_or_exit(prog, argc, argv);
	if (i + 1 != argc)
		exit(command_usage(prog, i == argc ? "the directory of the authority is missing"
		                                   : "takes one operand, the directory of the authority"));
	return argv[i];
}

static int cmd_init(int argc, char **argv) {
	const char *name = "nacre";
	const struct opt opts[] = {{"name", OPT_STR, &name, "NAME", "common name of the authority", 0, 0, false}, {0}};
	const struct opt_program prog = {"nacre pki init",
	                                 "Creates an authority, DIR/ca.crt and DIR/ca.key, unless it exists.",
	                                 "DIR [OPTIONS]", NULL, opts};
	struct error err = {0};
	return pki_init(directory(&prog, argc, argv), name, &err) < 0 ? command_failed(prog.name, &err) : 0;
}

/* Issues RQ's certificate and key as PREFIX = OUT, or DIR/NAME if OUT is NULL. */
static int cmd_pki_issue(const char *what, const char *dir, const struct pki_request *rq, const char *out,
                         bool if_due) {
	char file[PKI_NAME_MAX + 1];
	struct error err = {0};
	pki_file_name(rq->name, file);
	_free_ char *prefix = out ? strf("%s", out) : strf("%s/%s", dir, file);
	_free_ char *crt = prefix ? strf("%s.crt", prefix) : NULL, *key = prefix ? strf("%s.key", prefix) : NULL;
	int r = crt && key ? 0 : error_oom(&err);
	if (r == 0 && (!if_due || pki_due(crt) || pki_due(key)))
		r = pki_issue_files(dir, rq, prefix, &err);
	return r < 0 ? command_failed(what, &err) : 0;
}

static int cmd_server(int argc, char **argv) {
	const char *out = NULL;
	struct opt_list names = {0}, addresses = {0};
	struct pki_request rq = {.server = true};
	bool if_due = false;
	const struct opt opts[] = {
		{"name", OPT_LIST, &names, "NAME", "DNS name of the server; may be given several times", 0, 0, false},
		{"address", OPT_LIST, &addresses, "ADDRESS", "address of the server; may be given several times", 0, 0,
	         false},
		OPT_DAYS(rq.days),
		OPT_IF_DUE(if_due),
		{"out", OPT_STR, &out, "PREFIX", "write PREFIX.crt and PREFIX.key (default: DIR/server)", 0, 0, false},
		{0},
	};
	const struct opt_program prog = {"nacre pki server", "Issues the certificate of a server.", "DIR [OPTIONS]",
	                                 "A running server reads the new files by itself.\n", opts};
	const char *all[2 * OPT_LIST_MAX], *dir = directory(&prog, argc, argv);
	size_t n = 0;
	for (size_t i = 0; i < names.n; i++)
		all[n++] = names.v[i];
	for (size_t i = 0; i < addresses.n; i++)
		all[n++] = addresses.v[i];
	if (n == 0)
		return command_usage(&prog, "give at least one --name or --address");
	rq.name = "server";
	rq.names = all;
	rq.n_names = n;
	return cmd_pki_issue(prog.name, dir, &rq, out, if_due);
}

static int cmd_client(int argc, char **argv) {
	const char *out = NULL;
	struct opt_list groups = {0};
	struct pki_request rq = {0};
	bool if_due = false;
	const struct opt opts[] = {
		{"user", OPT_STR, &rq.name, "NAME", "who the client is (the common name)", 0, 0, true},
		{"group", OPT_LIST, &groups, "GROUP", "a group it is in (an organisation); may be given several times",
	         0, 0, false},
		OPT_DAYS(rq.days),
		OPT_IF_DUE(if_due),
		{"out", OPT_STR, &out, "PREFIX",
	         "write PREFIX.crt and PREFIX.key (default: DIR/NAME, with '-' for characters unusual in file names)",
	         0, 0, false},
		{0},
	};
	const struct opt_program prog = {"nacre pki client", "Issues the certificate of a client.", "DIR [OPTIONS]",
	                                 "Members of the group system:masters are administrators.\n", opts};
	const char *dir = directory(&prog, argc, argv);
	rq.groups = groups.v;
	rq.n_groups = groups.n;
	return cmd_pki_issue(prog.name, dir, &rq, out, if_due);
}

static int cmd_kubeconfig(int argc, char **argv) {
	const char *out = NULL;
	struct opt_list groups = {0};
	struct pki_request rq = {0};
	struct pki_kubeconfig k = {0};
	const struct opt opts[] = {
		{"server", OPT_STR, &k.server, "URL", "https://NAME[:PORT] of the API server", 0, 0, true},
		{"user", OPT_STR, &rq.name, "NAME", "who the client is (the common name)", 0, 0, true},
		{"group", OPT_LIST, &groups, "GROUP", "a group it is in (an organisation); may be given several times",
	         0, 0, false},
		{"namespace", OPT_STR, &k.ns, "NAMESPACE", "namespace to work in", 0, 0, false},
		{"cluster", OPT_STR, &k.cluster, "NAME", "name of the cluster (default: nacre)", 0, 0, false},
		OPT_DAYS(rq.days),
		{"out", OPT_STR, &out, "FILE", "file to write, mode 0600 (default: DIR/NAME.kubeconfig)", 0, 0, false},
		{0},
	};
	const struct opt_program prog = {"nacre pki kubeconfig",
	                                 "Writes a kubeconfig that holds a new certificate and its key.",
	                                 "DIR [OPTIONS]", NULL, opts};
	char file[PKI_NAME_MAX + 1];
	struct error err = {0};
	const char *dir = directory(&prog, argc, argv);
	rq.groups = groups.v;
	rq.n_groups = groups.n;
	pki_file_name(rq.name, file);
	_free_ char *path = out ? strf("%s", out) : strf("%s/%s.kubeconfig", dir, file);
	int r = path ? pki_kubeconfig_file(dir, &rq, k, path, &err) : error_oom(&err);
	return r < 0 ? command_failed(prog.name, &err) : 0;
}

static int cmd_revoke(int argc, char **argv) {
	struct opt_list serials = {0};
	const struct opt opts[] = {
		{"serial", OPT_LIST, &serials, "HEX",
	         "serial number of a certificate of which no copy is left; may be given several times", 0, 0, false},
		{0}};
	const struct opt_program prog = {
		"nacre pki revoke",
		"Adds certificates (files, or kubeconfigs that hold them) to DIR/ca.crl, the list of revoked\n"
		"certificates. nacre-apiserver refuses them if started with --client-crl-file DIR/ca.crl. Without a "
		"FILE\nthe list is only signed anew.",
		"[OPTIONS] DIR [FILE...]", "A running server reads the new list within seconds.\n", opts};
	struct error err = {0};
	size_t n;
	int i = opt_parse_or_exit(&prog, argc, argv);
	if (i == argc)
		return command_usage(&prog, "the directory of the authority is missing");
	if (pki_revoke(argv[i], (const char *const *)argv + i + 1, (size_t)(argc - i - 1), serials.v, serials.n, &n,
	               &err) < 0)
		return command_failed(prog.name, &err);
	printf("%s/ca.crl: %zu revoked\n", argv[i], n);
	return 0;
}

static int cmd_check(int argc, char **argv) {
	const struct opt opts[] = {{0}};
	const struct opt_program prog = {
		"nacre pki check",
		"Prints the owner and the end of each certificate, and whether some clients refuse a private key.\n"
		"Files are PEM or kubeconfigs. Exits with 1 if one should be issued anew: a certificate in the last\n"
		"third of its life or past its end, or a key in a form that some clients refuse.",
		"[OPTIONS] FILE...", NULL, opts};
	struct error err = {0};
	struct pki_info info;
	char end[TIME_STR_MAX];
	int status = 0, i = opt_parse_or_exit(&prog, argc, argv);
	if (i == argc)
		return command_usage(&prog, "name at least one file");
	for (; i < argc; i++) {
		if (pki_info(argv[i], &info, &err) < 0)
			return command_failed(prog.name, &err);
		if (info.certificate)
			printf("%s: %s, until %s%s\n", argv[i], info.subject,
			       time_str((uint64_t)MAX(info.not_after_s, (int64_t)0) * USEC_PER_SEC, false, end),
			       info.due && !info.refused ? ", due" : "");
		else if (!info.refused)
			printf("%s: a private key\n", argv[i]);
		if (info.refused)
			printf("%s: the private key is refused by some clients: %s; issue key and certificate anew, or "
			       "convert the key (umask 077; openssl ec -in OLD -out NEW; mv NEW OLD); keys of "
			       "authorities and tokens must be converted\n",
			       argv[i], info.refused);
		status |= info.due;
	}
	return status;
}

int cmd_pki(int argc, char **argv) {
	static const struct command commands[] = {
		{"init", "make an authority", cmd_init},
		{"server", "issue the certificate of a server", cmd_server},
		{"client", "issue the certificate of a client", cmd_client},
		{"kubeconfig", "write a kubeconfig for a client", cmd_kubeconfig},
		{"revoke", "revoke certificates", cmd_revoke},
		{"check", "print the owner and the end of certificates", cmd_check},
		{0},
	};
	return command_run(commands, "nacre pki", "The certificate authority of a cloud, in a directory.", argc, argv);
}
