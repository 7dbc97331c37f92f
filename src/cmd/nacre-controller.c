/* SPDX-License-Identifier: Apache-2.0 */

/* nacre-controller: gives instances their addresses and hosts, watches the hosts, deletes objects whose owners are
 * gone. */

#include "base/log.h"
#include "base/metrics.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/util.h"
#include "controller/controller.h"

DEFINE_CLEANUP(metrics_server, struct metrics_server *, metrics_server_free)

static int nacre_controller_run(const struct controller_options *o, const char *metrics, struct error *err) {
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(cleanup_controller) struct controller *c = NULL;
	_cleanup_(cleanup_metrics_server) struct metrics_server *m = NULL;
	int r = loop_new(&loop, err);
	if (r == 0)
		r = controller_new(&c, loop, o, err);
	if (r == 0 && metrics)
		r = metrics_server_new(&m, loop, metrics, controller_ready, c, err);
	if (r)
		return r;
	log_info("started", "api=%s identity=%s", kube_client_server(controller_client(c)), o->identity);
	return loop_run(loop, err);
}

int main(int argc, char **argv) {
	const char *identity = NULL, *metrics = NULL, *level_name = "info";
	int64_t lease = 15000, deadline = 10000, retry = 2000, grace = 15;
	bool no_election = false;
	struct kube_access access = {0};
	const struct opt opts[] = {
		KUBE_ACCESS_OPTIONS(access),
		{"identity", OPT_STR, &identity, "NAME",
	         "Name in the leader lease (default: the host's name and a random part)"},
		{"metrics", OPT_STR, &metrics, "LISTEN",
	         "Serve /metrics, /healthz and /readyz on ADDRESS:PORT or unix:/PATH"},
		{"lease-ms", OPT_I64, &lease, "MS", "Time after the last renewal until another takes over", 1000,
	         600000},
		{"lease-deadline-ms", OPT_I64, &deadline, "MS",
	         "Stop acting if the lease could not be renewed for so long", 500, 600000},
		{"lease-retry-ms", OPT_I64, &retry, "MS", "Time between attempts to take or renew the lease", 100,
	         600000},
		{"no-leader-election", OPT_FLAG, &no_election, NULL,
	         "Act without a lease, even if another controller acts, too"},
		{"host-grace", OPT_I64, &grace, "SECONDS", "Time until a host without a lease counts as lost", 1,
	         86400},
		{"log-level", OPT_STR, &level_name, "LEVEL", "error, warn, info or debug"},
		{0},
	};
	const struct opt_program prog = {
		.name = "nacre-controller",
		.summary =
			"Gives instances addresses and hosts, watches the hosts, deletes objects whose owners are gone",
		.usage = "[OPTIONS]",
		.epilogue = "Several controllers may run at once: one leads, the others wait for its lease "
			    "(nacre-system/nacre-controller).",
		.opts = opts,
	};
	struct error err = {0};
	enum log_level level;
	char own[128], host[65] = "controller";
	int operands = opt_parse_or_exit(&prog, argc, argv);
	proc_raise_file_limit();
	if (operands < argc)
		error_set(&err, EINVAL, "`%s`: nacre-controller takes no operands", argv[operands]);
	else if (log_level_parse(level_name, &level, &err) == 0) {
		log_init("nacre-controller", level);
		if (!identity) {
			uint32_t x;
			random_bytes(&x, sizeof(x));
			(void)!gethostname(host, sizeof(host) - 1);
			snprintf(own, sizeof(own), "%s_%08x", host, x);
			identity = own;
		}
		struct controller_options o = {.access = access,
		                               .identity = identity,
		                               .no_election = no_election,
		                               .lease_ms = lease,
		                               .deadline_ms = deadline,
		                               .retry_ms = retry,
		                               .host_grace_s = grace};
		if (nacre_controller_run(&o, metrics, &err) == 0)
			return EXIT_SUCCESS;
		log_error("failed", "error=\"%s\"", err.msg);
		return EXIT_FAILURE;
	}
	fprintf(stderr, "nacre-controller: %s\nTry --help.\n", err.msg);
	return 2;
}
