/* SPDX-License-Identifier: Apache-2.0 */

/* nacre-node: the agent of a compute host. Joins the fabric and runs the host's instances. */

#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/util.h"
#include "fabric/fabric.h"
#include "node/agent.h"
#include "node/cgroup.h"
#include "node/conntrack.h"

#define RESERVED_MIB INT64_C(1024) /* for the host itself, unless --memory-mib says otherwise */

struct node {
	sd_event *loop;
	struct fabric *fabric;
	struct agent *agent;
	bool told_accel;
	struct error connections; /* what was said last about their limit; code 0: nothing, or that it is good */
	struct error failed;      /* the error with which the program ends */
};

static struct metric guests = METRIC_GAUGE("nacre_node_guests", "Instances on this host.");
static struct metric running = METRIC_GAUGE("nacre_node_guests_running", "Instances whose machine runs.");
static struct metric restarts =
	METRIC_COUNTER("nacre_node_guest_restarts_total", "Machines started again after their end.");
static struct metric ports =
	METRIC_GAUGE("nacre_node_ports", "Ports of shared addresses that instances on this host have.");
static struct metric ports_used = METRIC_GAUGE(
	"nacre_node_ports_used",
	"Ports that they use, of the protocol that uses most; of an instance with few connections, at most "
	"so many.");
static struct metric refused = METRIC_COUNTER("nacre_node_connections_refused_total",
                                              "Packets of new connections for which no port was free.");
static struct metric connections_max =
	METRIC_GAUGE("nacre_node_connections_max",
                     "Connections of a guest that the kernel tracks at most (nf_conntrack_max); 0: not known.");
static struct metric dropped_in = METRIC_COUNTER("nacre_node_firewall_dropped_in_packets_total",
                                                 "Packets to instances that their firewalls dropped.");
static struct metric dropped_out = METRIC_COUNTER("nacre_node_firewall_dropped_out_packets_total",
                                                  "Packets of instances that their firewalls dropped.");
static struct metric members[] = {
	{.name = "nacre_node_firewall_members_total",
         .help = "Changes of members of a firewall's groups that were made without a worker.",
         .type = "counter",
         .labels = "result=\"done\""},
	{.name = "nacre_node_firewall_members_total", .type = "counter", .labels = "result=\"failed\""},
};
static struct metric problems = METRIC_COUNTER("nacre_node_problems_total", "Problems that were logged.");

static struct metric not_understood =
	METRIC_GAUGE("nacre_node_objects_not_understood",
                     "Objects of the API that this agent can't read; what they describe is left as it was.");
static struct metric unbounded =
	METRIC_GAUGE("nacre_node_cgroup_controllers_missing",
                     "Control group controllers (memory, cpu, pids, io) that are missing for guests.");

static void nacre_node_on_state(const char *what, const struct error *err, void *userdata) {
	(void)userdata;
	if (err) {
		metric_add(&problems, 1);
		log_warn("not well", "what=\"%s\" error=\"%s\"", what, err->msg);
	} else {
		log_info("well", "what=\"%s\"", what);
	}
}

static void on_failed(const struct error *err, void *userdata) {
	struct node *n = userdata;

	n->failed = *err;
	(void)sd_event_exit(n->loop, -err->code);
}

static bool is_able(void *userdata) {
	struct node *n = userdata;

	return n->agent && agent_ready(n->agent);
}

static void on_able(void *userdata) {
	struct node *n = userdata;

	fabric_update(n->fabric);
}

static bool is_ready(void *userdata) {
	struct node *n = userdata;

	return n->fabric && fabric_ready(n->fabric) && is_able(n);
}

/* Says what is wrong with the limits of connection tracking when that changes. */
static void nacre_node_look_at_connections(struct node *n) {
	struct conntrack_limits limits = {0};
	struct error err = {0};

	int r = conntrack_read(CONNTRACK_DIR, &limits, &err);
	if (r >= 0)
		r = conntrack_judge(&limits, &err);
	metric_set(&connections_max, limits.max);
	if (streq(err.msg, n->connections.msg))
		return;
	n->connections = err;
	nacre_node_on_state("connection tracking", r < 0 ? &err : NULL, n);
}

static const char *protocol_name(uint8_t protocol, char out[static 4]) {
	switch (protocol) {
	case IPPROTO_TCP: return "tcp";
	case IPPROTO_UDP: return "udp";
	case IPPROTO_ICMP: return "icmp";
	case IPPROTO_ICMPV6: return "icmpv6";
	default: snprintf(out, 4, "%u", protocol); return out;
	}
}

static void nacre_node_on_dropped(const struct instance *inst, const struct firewall_drop *d, _unused_ void *userdata) {
	char address[ADDR_STR_MAX], protocol[4];

	log_info("packets dropped by the firewall",
	         "namespace=%s instance=%s direction=%s protocol=%s address=%s port=%u packets=%" PRIu64, inst->meta.ns,
	         inst->meta.name, d->out ? "egress" : "ingress", protocol_name(d->protocol, protocol),
	         addr_str(&d->addr, address), (unsigned)d->port, d->packets);
}

static void nacre_node_on_endpoint(const struct kube_change *ch, void *userdata) {
	struct node *n = userdata;

	agent_endpoint(n->agent, ch);
}

static int nacre_node_on_tick(sd_event_source *s, uint64_t usec, void *userdata) {
	(void)usec;
	struct node *n = userdata;
	struct hypervisor_stats stats;
	const char *why_not;

	if (!n->told_accel && !agent_uses_kvm(n->agent, &why_not) && *why_not) {
		log_warn("guests run with software emulation", "why=\"%s\"", why_not);
		n->told_accel = true;
	}
	nacre_node_look_at_connections(n);
	agent_stats(n->agent, &stats);
	metric_set(&not_understood, (int64_t)agent_not_understood(n->agent));
	metric_set(&guests, (int64_t)stats.guests);
	metric_set(&running, (int64_t)stats.running);
	metric_set(&restarts, (int64_t)stats.restarts);
	metric_set(&ports, (int64_t)stats.ports);
	metric_set(&ports_used, (int64_t)stats.ports_used);
	metric_set(&refused, (int64_t)stats.refused);
	metric_set(&dropped_in, (int64_t)stats.dropped_in);
	metric_set(&dropped_out, (int64_t)stats.dropped_out);
	metric_set(&members[0], (int64_t)stats.members_sent);
	metric_set(&members[1], (int64_t)stats.members_refused);
	int r = sd_event_source_set_time_relative(s, USEC_PER_SEC);
	return r < 0 ? r : sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* Once, at the start: the controllers of a host do not change later. */
static void tell_cgroups(const struct agent *a) {
	unsigned missing = agent_missing_controllers(a);
	char names[32];

	metric_set(&unbounded, __builtin_popcount(missing));
	if (missing)
		log_warn("this host's control groups can't bound every resource of guests",
		         "missing_controllers=\"%s\"", cgroups_names(missing, names));
}

static int parse_accel(const char *name, enum hypervisor_accel *ret, struct error *err) {
	static const char *const names[] = {"auto", "kvm", "tcg"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(name, names[i])) {
			*ret = (enum hypervisor_accel)i;
			return 0;
		}
	return error_set(err, EINVAL, "--accel: `%s` is not auto, kvm or tcg", name);
}

/* The path of nacre-vm in this program's directory, in the build tree as well as when installed. */
static char *beside_this_program(const char *name) {
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return NULL;
	self[n] = 0;
	*strrchr(self, '/') = 0;
	return strf("%s/%s", self, name);
}

static int64_t default_memory_mib(void) {
	struct sysinfo si;

	if (sysinfo(&si) < 0)
		return 0;
	int64_t total = (int64_t)((uint64_t)si.totalram * si.mem_unit >> 20);
	return total > 2 * RESERVED_MIB ? total - RESERVED_MIB : total / 2;
}

struct options {
	struct fabric_options fabric;
	const char *images, *state_dir, *accel, *vm, *metrics, *log_level;
	struct resources capacity;
	int64_t uid_base, keep_removed, disk_overcommit, stop_s;
	bool require_cgroups;
};

static int nacre_node_run(const struct options *o, struct error *err) {
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(cleanup_kube_client) struct kube_client *client = NULL;
	_cleanup_(cleanup_fabric) struct fabric *fabric = NULL;
	_cleanup_(cleanup_agent) struct agent *agent = NULL;
	_cleanup_(cleanup_source) sd_event_source *tick = NULL;
	_free_ char *vm = o->vm ? strdup(o->vm) : beside_this_program("nacre-vm");
	struct metrics_server *metrics = NULL;
	struct hypervisor_stats adopted;
	struct node node = {0};
	struct fabric_config fc = {.role = "compute",
	                           .capacity = o->capacity,
	                           .device = agent_device,
	                           .endpoint = nacre_node_on_endpoint,
	                           .able = is_able,
	                           .state = nacre_node_on_state,
	                           .userdata = &node};
	struct agent_config ac = {.host = o->fabric.host,
	                          .vtep = o->fabric.vtep,
	                          .image_dir = o->images,
	                          .problem = nacre_node_on_state,
	                          .dropped = nacre_node_on_dropped,
	                          .ready = on_able,
	                          .failed = on_failed,
	                          .userdata = &node,
	                          .hypervisor = {.run_dir = o->fabric.run_dir,
	                                         .state_dir = o->state_dir,
	                                         .keep_removed_s = o->keep_removed,
	                                         .disk_overcommit = o->disk_overcommit,
	                                         .stop_s = o->stop_s,
	                                         .require_cgroups = o->require_cgroups,
	                                         .prefix = o->fabric.prefix,
	                                         .program = vm,
	                                         .uid_base = (uid_t)o->uid_base}};

	int r = !vm ? error_oom(err) : parse_accel(o->accel, &ac.hypervisor.accel, err);
	if (r >= 0)
		r = fabric_options_apply(&o->fabric, &fc, err);
	if (r >= 0)
		r = loop_new(&loop, err);
	if (r >= 0 && o->metrics)
		r = metrics_server_new(&metrics, loop, o->metrics, is_ready, &node, err);
	if (r >= 0)
		r = kube_client_open(&client, loop, &o->fabric.access, "nacre-node", err);
	if (r < 0)
		goto out;
	fc.loop = ac.loop = node.loop = loop;
	fc.client = ac.client = client;
	r = fabric_new(&fabric, &fc, err);
	if (r < 0)
		goto out;
	ac.fabric = node.fabric = fabric;
	r = agent_new(&agent, &ac, err);
	if (r < 0)
		goto out;
	node.agent = agent;
	tell_cgroups(agent);
	r = loop_timer(loop, &tick, 0, nacre_node_on_tick, &node);
	if (r < 0) {
		error_errno(err, r, "timer");
		goto out;
	}
	agent_stats(agent, &adopted);
	log_info("running", "host=%s api=%s guests=%zu", o->fabric.host, kube_client_server(client), adopted.guests);
	r = loop_run(loop, err);
	if (node.failed.code)
		*err = node.failed;
out:
	/* Metrics use the agent, so they end before it. */
	metrics_server_free(metrics);
	return r;
}

int main(int argc, char **argv) {
	struct options o = {.fabric = FABRIC_OPTIONS_DEFAULT,
	                    .images = "/var/lib/nacre/images",
	                    .state_dir = "/var/lib/nacre",
	                    .accel = "auto",
	                    .log_level = "info",
	                    .capacity.v[RESOURCE_vcpus] = get_nprocs(),
	                    .capacity.v[RESOURCE_memory_mib] = default_memory_mib(),
	                    .uid_base = 200000,
	                    .keep_removed = 86400,
	                    .stop_s = 60};
	/* clang-format off */
	const struct opt opts[] = {
		FABRIC_OPTIONS(o.fabric),
		{"images", OPT_STR, &o.images, "DIR", "directory of the files of Image objects", 0, 0, false},
		{"state-dir", OPT_STR, &o.state_dir, "DIR", "directory for the disks of instances", 0, 0, false},
		{"keep-removed", OPT_I64, &o.keep_removed, "SECONDS", "how long to keep the disk of an instance that is not in the API", 0, 1000000000, false},
		{"disk-overcommit", OPT_I64, &o.disk_overcommit, "PERCENT", "promise disks so much more than the space that exists (default: 0)", 0, 10000, false},
		{"stop-seconds", OPT_I64, &o.stop_s, "N", "seconds until a machine that should stop is killed (default: 60; nacre-vm needs 35)", 1, 3600, false},
		{"require-cgroups", OPT_FLAG, &o.require_cgroups, NULL, "do not start if control groups can't bound a guest", 0, 0, false},
		{"vcpus", OPT_I64, &o.capacity.v[RESOURCE_vcpus], "N", "vCPUs to offer (default: as many as the host has)", 0, 65536, false},
		{"memory-mib", OPT_I64, &o.capacity.v[RESOURCE_memory_mib], "N", "memory to offer (default: all but 1 GiB)", 0, 1 << 30, false},
		{"accel", OPT_STR, &o.accel, "NAME", "kvm (without KVM no guest runs), tcg (software emulation), or auto (kvm if it boots a probe)", 0, 0, false},
		{"uid-base", OPT_I64, &o.uid_base, "UID", "the 120000 user ids after UID are for instances; each has two: for QEMU, and for root in its container", 1, 2000000000, false},
		{"vm-program", OPT_STR, &o.vm, "FILE", "nacre-vm (default: beside this program)", 0, 0, false},
		{"metrics", OPT_STR, &o.metrics, "ADDR:PORT", "serve metrics and health here, or at unix:PATH", 0, 0, false},
		{"log-level", OPT_STR, &o.log_level, "LEVEL", "error, warn, info or debug", 0, 0, false},
		{0},
	};
	/* clang-format on */
	const struct opt_program prog = {
		.name = "nacre-node", .summary = "the agent of a compute host", .usage = "[OPTIONS]", .opts = opts};
	enum log_level level;
	struct error err = {0};

	opt_parse_or_exit(&prog, argc, argv);
	/* No core dump shows the Secrets that it has read; the programs that it starts decide for themselves. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	proc_raise_file_limit();
	int r = log_level_parse(o.log_level, &level, &err);
	log_init("nacre-node", r < 0 ? LOG_LEVEL_INFO : level);
	metric_register(&guests);
	metric_register(&running);
	metric_register(&restarts);
	metric_register(&ports);
	metric_register(&ports_used);
	metric_register(&refused);
	metric_register(&connections_max);
	metric_register(&dropped_in);
	metric_register(&dropped_out);
	metric_register(&members[0]);
	metric_register(&members[1]);
	metric_register(&problems);
	metric_register(&not_understood);
	metric_register(&unbounded);
	if (r >= 0)
		r = nacre_node_run(&o, &err);
	if (r < 0)
		log_error("failed", "error=\"%s\"", err.msg);
	return r < 0;
}
