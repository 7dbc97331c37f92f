/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/up.h"

#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/util.h"
#include "lab/access.h"
#include "lab/daemon.h"
#include "lab/down.h"
#include "lab/kubernetes.h"
#include "lab/place.h"
#include "lab/progress.h"
#include "lab/routers.h"
#include "lab/seed.h"
#include "lab/topology.h"

/* After Ctrl-C the present step ends, and the lab is removed. Signal handlers can use only globals. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(_unused_ int sig) {
	interrupted = 1;
}

static int check_interrupted(struct error *err) {
	return interrupted ? error_set(err, EINTR, "interrupted") : 0;
}

struct up {
	struct lab *lab;
	struct progress progress;
	struct lab_instance instance;
};

int lab_check_requirements(const struct lab *lab, struct error *err) {
	static const struct {
		const char *file, *package;
	} tools[] = {
		{"/usr/lib/frr/zebra", "frr"},
		{"/usr/lib/frr/bgpd", "frr"},
		{"/usr/bin/qemu-system-x86_64", "qemu-system-x86"},
		{"/bin/ip", "iproute2"},
		{"/bin/ping", "iputils-ping"},
		{"/usr/bin/curl", "curl"},
	};
	static const char *const images[] = {"vmlinuz", "initrd"};
	char path[512];
	if (geteuid() != 0)
		return error_set(err, EPERM, "a lab makes network namespaces and needs root; run it with sudo");
	int missing = lab->kubernetes ? lab_kubernetes_check(lab, err) : 0;
	if (missing < 0)
		return missing;
	for (size_t i = 0; i < ARRAY_SIZE(tools); i++)
		if (access(tools[i].file, X_OK) < 0)
			return error_set(err, ENOENT, "`%s` is missing; install it: apt-get install %s", tools[i].file,
			                 tools[i].package);
	for (int i = 0; i < lab_daemons(lab); i++) {
		struct lab_daemon d;
		int r = lab_daemon_get(lab, i, &d, err);
		if (r < 0)
			return r;
		snprintf(path, sizeof(path), "%s", d.argv[0]);
		lab_daemon_clear(&d);
		if (access(path, X_OK) < 0)
			return error_errno(err, errno, "`%s`, one of the programs of Nacre", path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		snprintf(path, sizeof(path), "%s/%s", lab->images, images[i]);
		if (access(path, R_OK) < 0)
			return error_errno(err, errno, "guest image `%s`; make it with scripts/guest-image.sh %s", path,
			                   lab->images);
	}
	return 0;
}

/* Fails if a daemon has ended; its log says why. */
static int check_daemons(const struct lab *lab, struct error *err) {
	for (int i = 0; i < lab_daemons(lab); i++) {
		_daemon_ struct lab_daemon d = {0};
		char words[300];
		int r = lab_daemon_get(lab, i, &d, err);
		if (r < 0)
			return r;
		if (access(d.pid_file, F_OK) < 0 || lab_daemon_pid(&d))
			continue;
		lab_daemon_last_words(&d, words, sizeof(words));
		return error_set(err, ESRCH, "%s has ended; its log `%s` ends with: %s", d.program, d.log, words);
	}
	return 0;
}

/* Returns 0 when the condition holds; else the message says why it does not yet. */
typedef int (*condition)(struct up *u, struct error *err);

/* SECONDS is enough for a machine with a fraction of a core. Failures are found by check_daemons(), not by this
 * time-out. */
static int wait_for(struct up *u, condition holds, unsigned seconds, struct error *err) {
	uint64_t deadline = now_monotonic_ns() + seconds * NSEC_PER_SEC;
	for (;;) {
		struct error why = {0};
		if (holds(u, &why) == 0)
			return 0;
		int r = check_interrupted(err);
		if (r >= 0)
			r = check_daemons(u->lab, err);
		if (r < 0)
			return r;
		if (now_monotonic_ns() > deadline)
			return error_set(err, ETIMEDOUT, "gave up after %u s: %s", seconds, why.msg);
		progress_wait(&u->progress, "%s", why.msg);
		usleep(20000);
	}
}

static int start_daemons(struct up *u, int from, int to, struct error *err) {
	for (int i = from; i < to; i++) {
		_daemon_ struct lab_daemon d = {0};
		int r = check_interrupted(err);
		if (r >= 0)
			r = lab_daemon_get(u->lab, i, &d, err);
		if (r >= 0)
			r = lab_daemon_start(&d, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int daemons_ready(struct up *u, int from, int to, struct error *err) {
	for (int i = from; i < to; i++) {
		_daemon_ struct lab_daemon d = {0};
		int r = lab_daemon_get(u->lab, i, &d, err);
		if (r >= 0)
			r = lab_daemon_ready(u->lab, &d, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int api_ready(struct up *u, struct error *err) {
	return daemons_ready(u, 0, lab_control_daemons(u->lab) - 1, err);
}

static int all_ready(struct up *u, struct error *err) {
	return daemons_ready(u, 0, lab_daemons(u->lab), err);
}

static int sessions_up(struct up *u, struct error *err) {
	for (int i = 0; i < LAB_ROUTERS; i++) {
		int up, all;
		int r = lab_router_sessions(u->lab, i, &up, &all, err);
		if (r < 0)
			return r;
		if (up < all)
			return error_set(err, EAGAIN, "%s: %d of %d sessions are up", lab_router_name(i), up, all);
	}
	return 0;
}

static int instance_ready(struct up *u, struct error *err) {
	int r = lab_instance_get(u->lab, LAB_TENANT, LAB_INSTANCE, &u->instance, err);
	if (r < 0)
		return r;
	if (!u->instance.ready)
		return error_set(err, EAGAIN, "%s", u->instance.waiting);
	if (u->lab->balancers && !u->instance.forward[0])
		return error_set(err, EAGAIN, "it has no port of a shared IPv4 address yet");
	return 0;
}

static int run_quietly(struct up *u, const char *const *argv, struct error *err) {
	struct place place;
	struct proc_spec spec = {.argv = argv, .netns = place.netns, .timeout_ms = 10000};
	int r = place_find(u->lab, "internet", &place, err);
	return r < 0 ? r : proc_run(&spec, NULL, err);
}

static int answers_ping(struct up *u, struct error *err) {
	const char *argv[] = {"ping", "-6", "-n", "-c", "1", "-W", "1", u->instance.address, NULL};
	if (run_quietly(u, argv, err) < 0)
		return error_set(err, EAGAIN, "%s does not answer a ping from the internet", u->instance.address);
	return 0;
}

static int url_answers(struct up *u, const char *url, struct error *err) {
	const char *argv[] = {"curl", "-sf", "-m", "3", "-o", "/dev/null", url, NULL};
	if (run_quietly(u, argv, err) < 0)
		return error_set(err, EAGAIN, "%s does not answer HTTP from the internet", url);
	return 0;
}

static int answers_http(struct up *u, struct error *err) {
	char url[64];
	snprintf(url, sizeof(url), "http://[%s]/", u->instance.address);
	return url_answers(u, url, err);
}

static int answers_http4(struct up *u, struct error *err) {
	char url[64];
	snprintf(url, sizeof(url), "http://%s/", u->instance.forward);
	return url_answers(u, url, err);
}

static int build_fabric(struct up *u, struct error *err) {
	int control = lab_control_daemons(u->lab);
	char names[LAB_NAMES_MAX];
	progress_step(&u->progress, "management network, authority, kubeconfigs");
	int r = lab_mgmt_up(u->lab, err);
	if (r >= 0)
		r = lab_access_make(u->lab, err);
	if (r < 0)
		return r;
	progress_step(&u->progress, "API server and controller");
	r = start_daemons(u, 0, control - 1, err);
	if (r >= 0)
		r = wait_for(u, api_ready, u->lab->kubernetes ? 240 : 60, err);
	if (r >= 0 && u->lab->kubernetes) {
		progress_step(&u->progress, "CustomResourceDefinitions, roles, admission policies");
		r = lab_kubernetes_prepare(u->lab, err);
	}
	/* The controller starts only now: a program that finds no API waits before it asks again. */
	if (r >= 0)
		r = start_daemons(u, control - 1, control, err);
	if (r < 0)
		return r;
	progress_step(&u->progress, "cables: 2 leaves, internet, %s", lab_names(u->lab, names));
	r = lab_topology_up(u->lab, err);
	if (r < 0)
		return r;
	progress_step(&u->progress, "objects: pools, edge peers, an image, tenants");
	r = lab_seed(u->lab, err);
	if (r < 0)
		return r;
	/* The agents set up their hosts while we start the routers. */
	progress_step(&u->progress, "agents of hosts, edges and balancers");
	r = lab_router_passwords(u->lab, err);
	if (r >= 0)
		r = start_daemons(u, control, lab_daemons(u->lab), err);
	for (int i = 0; r >= 0 && i < LAB_ROUTERS; i++) {
		progress_step(&u->progress, "router %s", lab_router_name(i));
		r = lab_router_ensure(u->lab, i, err);
	}
	if (r < 0)
		return r;
	progress_step(&u->progress, "BGP sessions");
	r = wait_for(u, sessions_up, 180, err);
	if (r < 0)
		return r;
	progress_step(&u->progress, "daemons are ready");
	return wait_for(u, all_ready, 180, err);
}

static int await_instance(struct up *u, struct error *err) {
	progress_step(&u->progress, "instance %s/%s runs", LAB_TENANT, LAB_INSTANCE);
	int r = wait_for(u, instance_ready, 300, err);
	if (r < 0)
		return r;
	progress_step(&u->progress, "it answers from the internet");
	r = wait_for(u, answers_ping, 180, err);
	if (r >= 0)
		r = wait_for(u, answers_http, 120, err);
	if (r < 0 || !u->lab->balancers)
		return r;
	progress_step(&u->progress, "it answers by IPv4, too");
	return wait_for(u, answers_http4, 120, err);
}

/* Runs ARGV in the internet's namespace and prints the command and its output. */
static void demonstrate(struct up *u, const char *const *argv) {
	_buf_free_ struct buf out = {.max = 65536};
	struct place place;
	struct error err = {0};
	struct proc_spec spec = {.argv = argv, .netns = place.netns};
	printf("internet$");
	for (const char *const *a = argv; *a; a++)
		printf(" %s", *a);
	printf("\n");
	fflush(stdout);
	if (place_find(u->lab, "internet", &place, &err) < 0 || proc_run(&spec, &out, &err) < 0)
		printf("%s\n", err.msg);
	printf("%s\n", out.data ? out.data : "");
}

static void show(struct up *u) {
	const struct lab *lab = u->lab;
	char url[64], url4[64], kubeconfig[LAB_PATH_MAX], red[LAB_PATH_MAX], me[300], name[32];
	snprintf(me, sizeof(me), "%s/nacre", lab->bindir);
	bool usual = streq(lab->name, "lab");
	snprintf(name, sizeof(name), "%s%s", usual ? "" : " --name ", usual ? "" : lab->name);
	lab_path(lab, kubeconfig, "kubeconfig");
	lab_path(lab, red, LAB_TENANT_RED ".kubeconfig");
	printf("\nInstance %s/%s runs on %s and answers from the internet:\n\n", LAB_TENANT, LAB_INSTANCE,
	       u->instance.host);
	const char *ping[] = {"ping", "-6", "-n", "-c", "3", "-i", "0.2", u->instance.address, NULL};
	const char *curl[] = {"curl", "-s", url, NULL}, *curl4[] = {"curl", "-s", url4, NULL};
	snprintf(url, sizeof(url), "http://[%s]/", u->instance.address);
	snprintf(url4, sizeof(url4), "http://%s/", u->instance.forward);
	demonstrate(u, ping);
	demonstrate(u, curl);
	if (lab->balancers) {
		printf("A port of a shared IPv4 address is forwarded to its port 80:\n\n");
		demonstrate(u, curl4);
	}
	printf("The lab is up after %.1f s. Try next:\n"
	       "  export KUBECONFIG=%s\n"
	       "  kubectl get hosts,endpoints.nacre.dev,edgepeers\n"
	       "  kubectl -n %s describe instance %s\n"
	       "  kubectl --kubeconfig %s apply -f - ...   # a tenant, red (or blue), in its namespace\n"
	       "  %s console%s %s/%s        # its serial console; Ctrl-] ends\n"
	       "  %s lab exec%s internet -- ping %s\n",
	       progress_total(&u->progress), kubeconfig, LAB_TENANT, LAB_INSTANCE, red, me, name, LAB_TENANT,
	       LAB_INSTANCE, me, name, u->instance.address);
	if (lab->balancers)
		printf("  %s lab exec%s internet -- curl %s\n"
		       "  %s whois %.*s %s        # which instance has that port\n",
		       me, name, url4, me, (int)strcspn(u->instance.forward, ":"), u->instance.forward,
		       strchr(u->instance.forward, ':') + 1);
	printf("  %s lab status%s\n"
	       "  %s lab down%s\n",
	       me, name, me, name);
}

/* Copies the logs of a failed lab to a place that `down` does not remove. */
static int keep_logs(const struct lab *lab, char *ret_dir, size_t size, struct error *err) {
	char to[64];
	snprintf(to, sizeof(to), "/tmp/nacre-lab-%s-XXXXXX", lab->name);
	if (!mkdtemp(to))
		return error_errno(err, errno, "make `%s`", to);
	DIR *dir = opendir(lab->dir);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char from[512], target[512];
		_free_ char *text = NULL;
		size_t len, n = strlen(e->d_name);
		if (n < 5 || !streq(e->d_name + n - 4, ".log"))
			continue;
		snprintf(from, sizeof(from), "%s/%s", lab->dir, e->d_name);
		snprintf(target, sizeof(target), "%s/%s", to, e->d_name);
		if (read_file(from, 64 << 20, &text, &len, err) < 0 ||
		    write_file_atomic(target, text, len, 0644, err) < 0)
			break;
	}
	if (dir)
		closedir(dir);
	snprintf(ret_dir, size, "%s", to);
	return 0;
}

/* ERR is why `up` failed. Removes or keeps the lab, and prints where its logs are. */
static void up_fail(struct up *u, bool keep, struct error *err) {
	struct error also = {0};
	char logs[64];
	bool found;
	progress_fail(&u->progress);
	error_prefix(err, "lab `%s`: %s", u->lab->name, u->progress.step);
	if (keep) {
		fprintf(stderr, "The lab stays as it is (--keep); its logs are in %s.\n", u->lab->dir);
		return;
	}
	if (keep_logs(u->lab, logs, sizeof(logs), &also) == 0)
		fprintf(stderr, "The lab is removed; its logs are in %s.\n", logs);
	else
		fprintf(stderr, "The logs could not be kept: %s\n", also.msg);
	if (lab_down(u->lab, &u->progress, &found, &also) < 0)
		fprintf(stderr, "The lab could not be removed: %s\n", also.msg);
}

static int claim(struct lab *lab, int *ret_lock, struct error *err) {
	int r = mkdir_p(LAB_RUN_DIR, 0755, err);
	if (r < 0)
		return r;
	if (mkdir(lab->dir, 0755) < 0) {
		if (errno != EEXIST)
			return error_errno(err, errno, "make `%s`", lab->dir);
		return error_set(
			err, EEXIST,
			"lab `%s` is there already: look at it with `nacre lab status --name %s`, remove it with "
			"`nacre lab down --name %s`, or bring up another one with --name",
			lab->name, lab->name, lab->name);
	}
	return lab_lock(lab, ret_lock, err);
}

int lab_up(struct lab *lab, const struct lab_up_options *o, struct error *err) {
	struct up u = {.lab = lab};
	_close_ int lock = -1;
	int r = lab_check_requirements(lab, err);
	if (r >= 0)
		r = claim(lab, &lock, err);
	if (r < 0)
		return r;
	progress_init(&u.progress);
	struct sigaction catch = {.sa_handler = on_interrupt};
	sigaction(SIGINT, &catch, NULL);
	sigaction(SIGTERM, &catch, NULL);
	r = lab_save(lab, err);
	if (r >= 0)
		r = build_fabric(&u, err);
	if (r >= 0 && !o->no_instance)
		r = await_instance(&u, err);
	if (r < 0) {
		up_fail(&u, o->keep, err);
		return r;
	}
	progress_end(&u.progress);
	if (!o->no_instance)
		show(&u);
	return 0;
}
