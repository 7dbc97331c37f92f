/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/daemon.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/util.h"
#include "lab/access.h"
#include "net/netns.h"

#define STOP_GRACE_MS  5000
#define LAB_HOST_VCPUS 64

void lab_daemon_clear(struct lab_daemon *d) {
	for (int i = 0; d->argv[i]; i++)
		free(d->argv[i]);
	*d = (struct lab_daemon){0};
}

/* Adds one argument, printed by FMT. */
static int add_arg(struct lab_daemon *d, const char *fmt, ...) _printf_(2, 3);
static int add_arg(struct lab_daemon *d, const char *fmt, ...) {
	char text[600];
	va_list ap;
	int n = 0;
	while (d->argv[n])
		n++;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n == LAB_ARGS_MAX || !(d->argv[n] = strdup(text)))
		return -ENOMEM;
	return 0;
}

/* The capacity of each host: enough vCPUs for any experiment, and the host's share of this machine's real memory. */
static int64_t memory_share_mib(const struct lab *lab) {
	int64_t all = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / (1 << 20);
	return MAX((all - 2048) / lab->hosts, (int64_t)512);
}

static int machine_args(const struct lab *lab, const struct lab_machine *m, struct lab_daemon *d) {
	int r = add_arg(d, "--host=%s", m->name);
	r = r < 0 ? r : add_arg(d, "--netns-prefix=%s", m->prefix);
	r = r < 0 ? r : add_arg(d, "--vtep=%s", m->vtep);
	r = r < 0 ? r : add_arg(d, "--asn=%lld", (long long)m->asn);
	r = r < 0 ? r : add_arg(d, "--nic=eth0");
	r = r < 0 ? r : add_arg(d, "--nic=eth1");
	r = r < 0 ? r : add_arg(d, "--run-dir=%s/%s", lab->dir, m->name);
	r = r < 0 ? r : add_arg(d, "--underlay-password=%s/bgp/underlay", lab->dir);
	r = r < 0 ? r : add_arg(d, "--underlay-max-prefixes=1000");
	if (m->overlay[0])
		r = r < 0 ? r : add_arg(d, "--overlay-ip=%s", m->overlay);
	switch (m->agent->whose) {
	case ACCESS_OF_EDGE:
		r = r < 0 ? r : add_arg(d, "--uplink=wan");
		r = r < 0 ? r : add_arg(d, "--bgp-passwords=%s/bgp", lab->dir);
		break;
	case ACCESS_OF_BALANCER: r = r < 0 ? r : add_arg(d, "--xdp=generic"); break;
	default:
		r = r < 0 ? r : add_arg(d, "--images=%s", lab->images);
		r = r < 0 ? r : add_arg(d, "--state-dir=%s/%s/state", lab->dir, m->name);
		r = r < 0 ? r : add_arg(d, "--vcpus=%d", LAB_HOST_VCPUS);
		r = r < 0 ? r : add_arg(d, "--memory-mib=%lld", (long long)memory_share_mib(lab));
		/* The hosts share one machine here, so their user ids must differ. */
		r = r < 0 ? r : add_arg(d, "--uid-base=%d", 200000 + m->index * 120000);
	}
	return r;
}

/* ---- the control plane ---- */

static int etcd_args(const struct lab *lab, struct lab_daemon *d) {
	static const char clients[] = "http://127.0.0.1:2379", peers[] = "http://127.0.0.1:2380";
	int r = add_arg(d, "%s/etcd", lab->oracle);
	r = r < 0 ? r : add_arg(d, "--name=lab");
	r = r < 0 ? r : add_arg(d, "--data-dir=%s/etcd", lab->dir);
	r = r < 0 ? r : add_arg(d, "--listen-client-urls=%s", clients);
	r = r < 0 ? r : add_arg(d, "--advertise-client-urls=%s", clients);
	r = r < 0 ? r : add_arg(d, "--listen-peer-urls=%s", peers);
	r = r < 0 ? r : add_arg(d, "--initial-advertise-peer-urls=%s", peers);
	r = r < 0 ? r : add_arg(d, "--initial-cluster=lab=%s", peers);
	return r < 0 ? r : add_arg(d, "--log-level=warn");
}

static int kubernetes_args(const struct lab *lab, struct lab_daemon *d) {
	char text[ADDR_STR_MAX];
	struct addr a = lab_mgmt_address(lab, LAB_MGMT_API);
	int r = add_arg(d, "%s/kube-apiserver", lab->oracle);
	r = r < 0 ? r : add_arg(d, "--etcd-servers=http://127.0.0.1:2379");
	r = r < 0 ? r : add_arg(d, "--bind-address=%s", addr_str(&a, text));
	r = r < 0 ? r : add_arg(d, "--advertise-address=%s", text);
	r = r < 0 ? r : add_arg(d, "--secure-port=%d", LAB_API_PORT);
	r = r < 0 ? r : add_arg(d, "--tls-cert-file=%s/pki/server.crt", lab->dir);
	r = r < 0 ? r : add_arg(d, "--tls-private-key-file=%s/pki/server.key", lab->dir);
	r = r < 0 ? r : add_arg(d, "--client-ca-file=%s/pki/ca.crt", lab->dir);
	r = r < 0 ? r : add_arg(d, "--service-account-issuer=https://nacre-lab");
	r = r < 0 ? r : add_arg(d, "--service-account-key-file=%s/pki/sa.crt", lab->dir);
	r = r < 0 ? r : add_arg(d, "--service-account-signing-key-file=%s/pki/sa.key", lab->dir);
	r = r < 0 ? r : add_arg(d, "--service-cluster-ip-range=fd4e:5e::/112");
	r = r < 0 ? r : add_arg(d, "--endpoint-reconciler-type=none");
	return r < 0 ? r : add_arg(d, "--authorization-mode=RBAC");
}

static int nacre_args(const struct lab *lab, struct lab_daemon *d) {
	int r = add_arg(d, "%s/nacre-apiserver", lab->bindir);
	r = r < 0 ? r : add_arg(d, "--listen=unix:%s/api.sock", lab->dir);
	r = r < 0 ? r : add_arg(d, "--listen=[::]:%d", LAB_API_PORT);
	r = r < 0 ? r : add_arg(d, "--tls-cert=%s/pki/server.crt", lab->dir);
	r = r < 0 ? r : add_arg(d, "--tls-key=%s/pki/server.key", lab->dir);
	r = r < 0 ? r : add_arg(d, "--client-ca=%s/pki/ca.crt", lab->dir);
	return r < 0 ? r : add_arg(d, "--database=%s/api.db", lab->dir);
}

/* The common arguments of nacre-WHAT, which uses the API as user d->name. */
static int program_args(const struct lab *lab, const char *what, struct lab_daemon *d) {
	snprintf(d->program, sizeof(d->program), "nacre-%s", what);
	lab_path(lab, d->metrics, "%s.sock", d->name);
	int r = add_arg(d, "%s/%s", lab->bindir, d->program);
	r = r < 0 ? r : add_arg(d, "--kubeconfig=%s/pki/%s.kubeconfig", lab->dir, d->name);
	return r < 0 ? r : add_arg(d, "--metrics=unix:%s", d->metrics);
}

static int daemon_fill(const struct lab *lab, int i, struct lab_daemon *d) {
	static const char *const names[] = {"etcd", "apiserver", "controller"};
	int control = lab_control_daemons(lab), r;
	struct lab_machine m;
	if (i < control) {
		const char *name = names[i + (int)ARRAY_SIZE(names) - control];
		snprintf(d->name, sizeof(d->name), "%s", name);
		d->api = streq(name, "apiserver");
		snprintf(d->program, sizeof(d->program), "%s",
		         d->api ? lab->kubernetes ? "kube-apiserver" : "nacre-apiserver" : name);
		lab_ns(lab, "mgmt", d->ns);
		r = !d->api           ? streq(name, "etcd") ? etcd_args(lab, d) : program_args(lab, name, d)
		              : lab->kubernetes ? kubernetes_args(lab, d)
		                      : nacre_args(lab, d);
	} else {
		lab_machine(lab, i - control, &m);
		snprintf(d->name, sizeof(d->name), "%s", m.name);
		snprintf(d->ns, sizeof(d->ns), "%s", m.ns);
		r = program_args(lab, m.role->program, d);
		r = r < 0 ? r : machine_args(lab, &m, d);
	}
	lab_path(lab, d->pid_file, "%s.pid", d->name);
	lab_path(lab, d->log, "%s.log", d->name);
	return r;
}

int lab_control_daemons(const struct lab *lab) {
	return lab->kubernetes ? 3 : 2;
}

int lab_daemons(const struct lab *lab) {
	return lab_control_daemons(lab) + lab_machines(lab);
}

int lab_daemon_get(const struct lab *lab, int i, struct lab_daemon *ret, struct error *err) {
	struct lab_daemon d = {0};
	if (daemon_fill(lab, i, &d) < 0) {
		lab_daemon_clear(&d);
		return error_oom(err);
	}
	*ret = d;
	return 0;
}

int lab_daemon_find(const struct lab *lab, const char *name, struct lab_daemon *ret, struct error *err) {
	for (int i = 0; i < lab_daemons(lab); i++) {
		struct lab_daemon d;
		int r = lab_daemon_get(lab, i, &d, err);
		if (r < 0)
			return r;
		if (streq(d.name, name)) {
			*ret = d;
			return 0;
		}
		lab_daemon_clear(&d);
	}
	char names[LAB_NAMES_MAX];
	return error_set(err, ENOENT, "no daemon `%.32s`; there are %sapiserver, controller, %s", name,
	                 lab->kubernetes ? "etcd, " : "", lab_names(lab, names));
}

int lab_daemon_start(const struct lab_daemon *d, struct error *err) {
	char netns[NETNS_PATH_MAX];
	struct proc_spec spec = {.argv = (const char *const *)d->argv, .log_path = d->log};
	pid_t pid;
	if (lab_daemon_pid(d))
		return 0;
	if (d->ns[0])
		spec.netns = netns_path(d->ns, netns);
	int r = proc_start_detached(&spec, &pid, err);
	if (r < 0)
		return r;
	r = proc_pidfile_write(d->pid_file, pid, err);
	if (r == -ESRCH) {
		char words[200];
		lab_daemon_last_words(d, words, sizeof(words));
		error_set(err, ESRCH, "%s ended right after its start; its log `%s` ends with: %s", d->program, d->log,
		          words);
	}
	return r;
}

int lab_daemon_stop(const struct lab_daemon *d, struct error *err) {
	pid_t pid = lab_daemon_pid(d);
	int r = pid ? proc_stop(pid, STOP_GRACE_MS, err) : 0;
	if (r >= 0)
		unlink(d->pid_file);
	return r;
}

pid_t lab_daemon_pid(const struct lab_daemon *d) {
	pid_t pid;
	return proc_pidfile_read(d->pid_file, &pid) < 0 ? 0 : pid;
}

int lab_daemon_ready(const struct lab *lab, const struct lab_daemon *d, struct error *err) {
	if (!lab_daemon_pid(d))
		return error_set(err, ESRCH, "%s is not running", d->name);
	if (!d->api && !d->metrics[0])
		return 0;
	char endpoint[LAB_PATH_MAX + 8];
	_lab_api_ struct lab_api api = {0};
	snprintf(endpoint, sizeof(endpoint), "unix:%s", d->metrics);
	int r = d->api                        ? lab_api_open(lab, &api, err)
	        : sd_event_new(&api.loop) < 0 ? error_oom(err)
	                                      : kube_client_new(&api.client, api.loop, endpoint, "nacre", err);
	if (r < 0)
		return r;
	struct kube_response resp = {0};
	struct kube_spec spec = {.method = "GET", .path = "/readyz", .timeout_ms = 2000, .max = 65536};
	r = kube_perform(api.client, &spec, &resp);
	if (r < 0)
		error_set(err, r, "%s is running but not ready: %s", d->name, resp.err.msg);
	kube_response_clear(&resp);
	return r;
}

void lab_daemon_last_words(const struct lab_daemon *d, char *out, size_t size) {
	char tail[1024];
	_close_ int fd = open(d->log, O_RDONLY | O_CLOEXEC);
	struct stat st;
	*out = 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	off_t from = st.st_size > (off_t)sizeof(tail) - 1 ? st.st_size - (off_t)sizeof(tail) + 1 : 0;
	ssize_t n = pread(fd, tail, sizeof(tail) - 1, from);
	while (n > 0 && tail[n - 1] == '\n')
		n--;
	if (n <= 0)
		return;
	tail[n] = 0;
	const char *line = strrchr(tail, '\n');
	snprintf(out, size, "%s", line ? line + 1 : tail);
}
