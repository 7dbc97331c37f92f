/* SPDX-License-Identifier: Apache-2.0 */

/*
 * nacre-edge: runs on a gateway host. It joins the fabric as every host does, and connects the public overlay with the
 * routers outside by BGP.
 */

#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/util.h"
#include "edge/edge.h"
#include "fabric/fabric.h"

struct program {
	sd_event *loop;
	struct kube_client *client;
	struct fabric *fabric;
	struct edge *edge;
	struct metrics_server *metrics;
	sd_event_source *tick;
};

static struct metric ready_metric = METRIC_GAUGE("nacre_edge_ready", "1 while the edge has its wanted state.");
static struct metric peers_metric = METRIC_GAUGE("nacre_edge_peers", "EdgePeers of this edge.");
static struct metric established_metric =
	METRIC_GAUGE("nacre_edge_peers_established", "EdgePeers of this edge whose session is established.");
static struct metric announced_metric = METRIC_GAUGE("nacre_edge_prefixes_announced", "Prefixes announced by BGP.");
static struct metric not_understood_metric =
	METRIC_GAUGE("nacre_edge_objects_not_understood",
                     "EdgePeers and AddressPools that this edge can't read; what may belong to them is not removed.");
static struct metric default4_metric = METRIC_GAUGE("nacre_edge_default_ipv4", "1 while it has an IPv4 default route.");
static struct metric default6_metric = METRIC_GAUGE("nacre_edge_default_ipv6", "1 while it has an IPv6 default route.");
static struct metric errors_metric = METRIC_COUNTER("nacre_edge_errors_total", "Errors that were logged.");

static bool is_ready(void *userdata) {
	const struct program *p = userdata;
	return edge_ready(p->edge) && fabric_ready(p->fabric);
}

/* Metrics are read at most about once a second. */
static int nacre_edge_on_tick(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct program *p = userdata;
	struct edge_stats st;
	edge_stats(p->edge, &st);
	metric_set(&peers_metric, st.peers);
	metric_set(&established_metric, st.established);
	metric_set(&announced_metric, st.announced);
	metric_set(&not_understood_metric, (int64_t)st.not_understood);
	metric_set(&default4_metric, st.default4);
	metric_set(&default6_metric, st.default6);
	metric_set(&ready_metric, is_ready(p));
	return loop_timer(p->loop, &p->tick, USEC_PER_SEC, nacre_edge_on_tick, p);
}

static void on_state(const char *what, const struct error *err, _unused_ void *userdata) {
	if (err) {
		metric_add(&errors_metric, 1);
		log_warn("not well", "part=\"%s\" cause=\"%s\"", what, err->msg);
	} else {
		log_info("well again", "part=\"%s\"", what);
	}
}

static int nacre_edge_start(struct program *p, struct fabric_config *fc, const struct fabric_options *fo,
                            struct edge_config *ec, struct error *err) {
	int r = loop_new(&p->loop, err);
	if (r >= 0)
		r = kube_client_open(&p->client, p->loop, &fo->access, "nacre-edge", err);
	if (r < 0)
		return r;
	fc->loop = p->loop;
	fc->client = p->client;
	fc->role = "edge";
	fc->own_defaults = true;
	fc->state = on_state;
	fc->userdata = p;
	r = fabric_new(&p->fabric, fc, err);
	if (r < 0)
		return r;
	ec->loop = p->loop;
	ec->client = p->client;
	ec->fabric = p->fabric;
	ec->name = fc->host;
	ec->run_dir = fc->underlay.run_dir;
	ec->vtep = fc->underlay.vtep;
	ec->state = on_state;
	ec->userdata = p;
	r = edge_new(&p->edge, ec, err);
	if (r >= 0 && loop_timer(p->loop, &p->tick, 0, nacre_edge_on_tick, p) < 0)
		r = error_oom(err);
	return r;
}

static void nacre_edge_stop(struct program *p) {
	p->metrics = metrics_server_free(p->metrics);
	p->tick = sd_event_source_disable_unref(p->tick);
	p->edge = edge_free(p->edge);
	p->fabric = fabric_free(p->fabric);
	p->client = kube_client_free(p->client);
	p->loop = sd_event_unref(p->loop);
}

/* 0, or an error that says what is wrong with the options. */
static int check_options(const struct fabric_options *fo, const struct opt_list *uplinks, const char *overlay_ip,
                         struct fabric_config *fc, struct edge_config *ec, struct error *err) {
	int r = fabric_options_apply(fo, fc, err);
	if (r < 0)
		return r;
	r = addr_parse(overlay_ip, &ec->overlay_ip, err);
	if (r < 0 || ec->overlay_ip.family != AF_INET6)
		return error_set(err, EINVAL, "--overlay-ip %s: must be an IPv6 address", overlay_ip);
	if (uplinks->n > EDGE_UPLINKS_MAX)
		return error_set(err, E2BIG, "--uplink: given more than %d times", EDGE_UPLINKS_MAX);
	for (size_t i = 0; i < uplinks->n; i++)
		ec->uplinks[ec->n_uplinks++] = uplinks->v[i];
	return 0;
}

int main(int argc, char **argv) {
	struct fabric_options fo = FABRIC_OPTIONS_DEFAULT;
	struct opt_list uplinks = {0};
	const char *overlay_ip = NULL, *passwords = NULL, *metrics = NULL, *level = "info";
	const struct opt opts[] = {
		FABRIC_OPTIONS(fo),
		{"uplink", OPT_LIST, &uplinks, "NAME",
	         "network device towards the routers outside; moved into `public`"},
		{"overlay-ip", OPT_STR, &overlay_ip, "ADDRESS",
	         "the edge's IPv6 address in the public overlay, outside all AddressPools", 0, 0, true},
		{"bgp-passwords", OPT_STR, &passwords, "DIR", "directory of the password files that EdgePeers name"},
		{"metrics", OPT_STR, &metrics, "WHERE", "serve metrics and health at 127.0.0.1:PORT or unix:/PATH"},
		{"log-level", OPT_STR, &level, "LEVEL", "error, warn, info or debug"},
		{0},
	};
	const struct opt_program prog = {
		.name = "nacre-edge",
		.summary = "Connects the public overlay with the routers outside, by BGP.",
		.usage = "--host NAME --vtep ADDRESS --asn N --nic NAME... --uplink NAME... --overlay-ip ADDRESS "
			 "[OPTIONS]",
		.epilogue = "BGP sessions are configured by EdgePeer objects that name this host. Sessions,\n"
			    "routes and the VXLAN device outlive the program; it adopts them when it starts.",
		.opts = opts,
	};
	struct fabric_config fc = {0};
	struct edge_config ec = {0};
	struct program p = {0};
	struct error err = {0};
	enum log_level lv;
	opt_parse_or_exit(&prog, argc, argv);
	proc_raise_file_limit();
	log_init(prog.name, LOG_LEVEL_INFO);
	if (log_level_parse(level, &lv, &err) < 0 || check_options(&fo, &uplinks, overlay_ip, &fc, &ec, &err) < 0) {
		fprintf(stderr, "%s: %s\nTry `%s --help`.\n", prog.name, err.msg, prog.name);
		return 2;
	}
	ec.passwords = passwords;
	log_init(prog.name, lv);
	struct metric *const metrics_list[] = {&ready_metric,     &peers_metric,         &established_metric,
	                                       &announced_metric, &default4_metric,      &default6_metric,
	                                       &errors_metric,    &not_understood_metric};
	for (size_t i = 0; i < ARRAY_SIZE(metrics_list); i++)
		metric_register(metrics_list[i]);
	int r = nacre_edge_start(&p, &fc, &fo, &ec, &err);
	if (r >= 0 && metrics)
		r = metrics_server_new(&p.metrics, p.loop, metrics, is_ready, &p, &err);
	if (r >= 0) {
		log_info("started", "host=%s vtep=%s api=%s", fo.host, fo.vtep, kube_client_server(p.client));
		r = loop_run(p.loop, &err);
	}
	if (r < 0)
		log_error("failed", "cause=\"%s\"", err.msg);
	else
		log_info("stopped", "host=%s", fo.host);
	nacre_edge_stop(&p);
	return r < 0 ? 1 : 0;
}
