/* SPDX-License-Identifier: Apache-2.0 */

/* nacre-apiserver: the Kubernetes API of one Nacre cloud, on SQLite. */

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "apiserver/auth/authn.h"
#include "apiserver/http/audit.h"
#include "apiserver/request/limits.h"
#include "apiserver/request/stats.h"
#include "apiserver/server.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/util.h"
#include "cmd/apiserver-backup.h"

#define RUN_DIR "/run/nacre"
/* How long requests under way may take before the program ends. */
#define STOP_NS (5 * NSEC_PER_SEC)

struct program {
	sd_event *loop;
	struct server *server;
	struct tls_files files;
	const char *account_key, *audit_log;
	struct error audit_failure;
	int64_t token_life_s, share;
	bool crl_old; /* the list of revoked certificates is past its next update, and that was logged */
	bool read_only;
	struct tls *tls; /* NULL: UNIX sockets only */
	struct http *https[OPT_LIST_MAX];
	size_t n_https;
	sd_event_source *tick, *term, *interrupt, *hangup;
	uint64_t stop_at_ns;
	struct error last_failure;
};

static size_t busy(const struct program *p) {
	size_t n = 0;
	for (size_t i = 0; i < p->n_https; i++)
		n += http_busy(p->https[i]);
	return n;
}

static void log_failures(struct program *p) {
	const struct error *e = &p->server->write_failed;
	if (e->code && !streq(e->msg, p->last_failure.msg))
		log_error("writes fail", "cause=\"%s\"", e->msg);
	else if (!e->code && p->last_failure.code)
		log_info("writes work again", "after=\"%s\"", p->last_failure.msg);
	p->last_failure = *e;
}

/* While files are being replaced, they may not belong together for a moment; then the old ones stay in use. */
static void refresh_tls(struct program *p) {
	struct error err = {0};
	bool old;
	int r = p->tls ? tls_refresh(p->tls, &err) : 0;
	if (r > 0)
		log_info("certificates read again", "cert=%s", p->files.cert);
	else if (r < 0)
		log_error("certificates stay as they were", "cause=\"%s\"", err.msg);
	old = p->tls && tls_crl_until(p->tls) <= time(NULL);
	if (old && !p->crl_old)
		log_error("the list of revoked certificates is past its next update and stays in force",
		          "file=%s remedy=\"sign it anew (nacre pki revoke DIR)\"", p->files.client_crl);
	p->crl_old = old;
}

static void log_audit(struct program *p) {
	struct error e;
	audit_state(p->server->site.audit, &e);
	if (e.code && !p->audit_failure.code)
		log_error("the audit log can't be written", "cause=\"%s\"", e.msg);
	else if (!e.code && p->audit_failure.code)
		log_info("the audit log works again", "after=\"%s\"", p->audit_failure.msg);
	p->audit_failure = e;
}

static int nacre_apiserver_on_tick(sd_event_source *src, uint64_t usec, void *userdata) {
	struct program *p = userdata;
	(void)src;
	(void)usec;
	log_failures(p);
	refresh_tls(p);
	if (p->server->site.audit)
		log_audit(p);
	server_tick(p->server);
	for (size_t i = 0; i < p->n_https; i++)
		http_tick(p->https[i]);
	bool stop = p->stop_at_ns && (busy(p) == 0 || now_monotonic_ns() > p->stop_at_ns);
	if (stop)
		sd_event_exit(p->loop, 0);
	return loop_timer(p->loop, &p->tick, p->stop_at_ns ? 20 * USEC_PER_MSEC : USEC_PER_SEC, nacre_apiserver_on_tick,
	                  p);
}

static int on_hangup(sd_event_source *src, const struct signalfd_siginfo *si, void *userdata) {
	(void)src;
	(void)si;
	struct program *p = userdata;
	refresh_tls(p);
	if (p->server->site.audit)
		audit_reopen(p->server->site.audit);
	return 0;
}

/* Ends all watches, lets requests under way finish, then ends the loop. */
static int on_signal(sd_event_source *src, const struct signalfd_siginfo *si, void *userdata) {
	struct program *p = userdata;
	(void)src;
	log_info("stopping", "signal=%u answers=%zu", si->ssi_signo, busy(p));
	if (!p->stop_at_ns)
		p->stop_at_ns = now_monotonic_ns() + STOP_NS;
	server_stop(p->server);
	return loop_timer(p->loop, &p->tick, 0, nacre_apiserver_on_tick, p);
}

static int nacre_apiserver_start(struct program *p, const char *database, const struct opt_list *listen,
                                 struct error *err) {
	/* Not loop_new(), with which SIGTERM would end the loop at once: here requests under way are finished first. */
	signal(SIGPIPE, SIG_IGN);
	int r = sd_event_new(&p->loop);
	if (r >= 0)
		r = sd_event_add_signal(p->loop, &p->term, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, on_signal, p);
	if (r >= 0)
		r = sd_event_add_signal(p->loop, &p->interrupt, SIGINT | SD_EVENT_SIGNAL_PROCMASK, on_signal, p);
	if (r >= 0)
		r = sd_event_add_signal(p->loop, &p->hangup, SIGHUP | SD_EVENT_SIGNAL_PROCMASK, on_hangup, p);
	if (r >= 0)
		r = sd_event_set_watchdog(p->loop, true);
	if (r < 0)
		return error_errno(err, r, "create the event loop");
	r = server_new(&p->server, p->loop, database, err);
	if (r == 0) {
		p->server->queue.read_only = p->read_only;
		limits_set_share(p->server->limits, p->share);
	}
	if (r == 0 && p->files.cert)
		r = tls_new(&p->tls, &p->files, err);
	if (r == 0 && p->audit_log)
		r = audit_new(&p->server->site.audit, p->audit_log, err);
	_free_ char *beside = strf("%s.service-account.key", database);
	if (r == 0)
		r = beside ? authn_new(&p->server->auth.authn,
		                       &(struct authn_options){
					       .key = p->account_key ? p->account_key : beside,
					       .root_ca = p->tls ? tls_client_ca_pem(p->tls) : NULL,
					       .life_max_s = p->token_life_s,
				       },
		                       err)
		           : error_oom(err);
	for (size_t i = 0; r == 0 && i < listen->n; i++) {
		r = http_new(&p->https[i], &p->server->site, listen->v[i], listen->n, p->tls, err);
		if (r == 0)
			p->n_https++;
	}
	return r < 0 ? r : loop_timer(p->loop, &p->tick, USEC_PER_SEC, nacre_apiserver_on_tick, p);
}

int main(int argc, char **argv) {
	const char *database = "/var/lib/nacre/apiserver.db", *level = "info";
	struct opt_list listen = {0};
	struct program p = {.share = LIMITS_SHARE_PERCENT};
	const struct opt opts[] = {
		{"database", OPT_STR, &database, "FILE", "SQLite database; created if it does not exist"},
		{"listen", OPT_LIST, &listen, "WHERE",
	         "unix:/PATH or, with TLS, ADDRESS:PORT; may be given several times (default: "
	         "unix:/run/nacre/api.sock)"},
		{"tls-cert", OPT_STR, &p.files.cert, "FILE", "the server's certificate and those of its issuers, PEM"},
		{"tls-key", OPT_STR, &p.files.key, "FILE", "private key of the server's certificate, PEM"},
		{"client-ca", OPT_STR, &p.files.client_ca, "FILE",
	         "authorities whose client certificates are accepted, PEM"},
		{"client-crl-file", OPT_STR, &p.files.client_crl, "FILE",
	         "lists (CRL, PEM) of revoked client certificates, which are refused; `nacre pki revoke` writes one"},
		{"service-account-key", OPT_STR, &p.account_key, "FILE",
	         "ECDSA P-256 key that signs tokens; created if it does not exist (default: the name of the database "
	         "with '.service-account.key' appended)"},
		{"service-account-max-token-expiration", OPT_I64, &p.token_life_s, "SECONDS",
	         "the longest life of a token; even a token with a later end is refused after it (default: 86400, a "
	         "day)",
	         600, INT64_C(1) << 32, false},
		{"processor-share", OPT_I64, &p.share, "PERCENT",
	         "share of one processor that a user may use in the long run; an address may use half of it, an agent "
	         "2.5 times (default: 20)",
	         1, 100, false},
		{"audit-log", OPT_STR, &p.audit_log, "FILE",
	         "append a line for each request, as audit.k8s.io/v1; the file is opened again on SIGHUP"},
		{"read-only", OPT_FLAG, &p.read_only, NULL,
	         "refuse all changes (503) while the cloud is moved to another server; see docs/MOVING.md"},
		{"log-level", OPT_STR, &level, "LEVEL", "error, warn, info or debug"},
		{0},
	};
	const struct opt_program prog = {
		.name = "nacre-apiserver",
		.summary = "The Kubernetes API of one Nacre cloud: group nacre.dev, namespaces, events and leases, on "
			   "SQLite.",
		.usage = "[OPTIONS] | backup [OPTIONS] TO | restore [OPTIONS] FROM",
		.epilogue =
			"Over a UNIX socket, root and the server's own user are administrators (group "
			"system:masters).\nOver TCP, users are identified by certificates (O: groups, CN: user), which "
			"`nacre pki` issues.\nChanged certificate files are read again without a restart.\n"
			"Health is at /healthz, /livez and /readyz, metrics at /metrics.\n",
		.opts = opts,
	};
	enum log_level lv;
	struct error err = {0};

	if (argc > 1 && backup_is_command(argv[1]))
		return backup_command(argc - 1, argv + 1);
	int operand = opt_parse_or_exit(&prog, argc, argv);
	if (operand < argc) {
		fprintf(stderr, "%s: `%s` is not a command; the commands are backup and restore, see --help\n",
		        prog.name, argv[operand]);
		return 2;
	}
	log_init(prog.name, LOG_LEVEL_INFO);
	if (log_level_parse(level, &lv, &err) < 0) {
		log_error("bad option", "cause=\"%s\"", err.msg);
		return 2;
	}
	log_init(prog.name, lv);
	if (listen.n == 0) {
		listen.v[listen.n++] = "unix:" RUN_DIR "/api.sock";
		(void)!mkdir_p(RUN_DIR, 0755, NULL); /* if this fails, listening fails with a message */
	}
	if (!p.files.cert != !p.files.key || (p.files.client_ca && !p.files.cert) ||
	    (p.files.client_crl && !p.files.client_ca)) {
		log_error("bad option", "cause=\"--tls-cert needs --tls-key, --tls-key needs --tls-cert, --client-ca "
		                        "needs both, and --client-crl-file needs --client-ca\"");
		return 2;
	}
	umask(0077); /* no other user may read the database */
	proc_raise_file_limit();
	stats_register();
	int r = nacre_apiserver_start(&p, database, &listen, &err);
	if (r == 0) {
		for (size_t i = 0; i < listen.n; i++)
			log_info("listening", "on=%s database=%s version=%lld", listen.v[i], database,
			         (long long)store_version(p.server->store));
		r = loop_run(p.loop, &err);
	}
	if (r < 0)
		log_error("failed", "cause=\"%s\"", err.msg);
	else
		log_info("stopped", "version=%lld", p.server ? (long long)store_version(p.server->store) : 0LL);
	for (size_t i = 0; i < p.n_https; i++)
		http_free(p.https[i]);
	tls_free(p.tls);
	server_free(p.server);
	sd_event_source_disable_unref(p.tick);
	sd_event_source_disable_unref(p.term);
	sd_event_source_disable_unref(p.interrupt);
	sd_event_source_disable_unref(p.hangup);
	sd_event_unref(p.loop);
	return r < 0 ? 1 : 0;
}
