/* SPDX-License-Identifier: Apache-2.0 */

/*
 * nacre-lb: runs on a balancer. It joins the fabric as every host does, and forwards packets for shared IPv4 addresses
 * to the hosts of the owners of their ports.
 */

#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/util.h"
#include "fabric/fabric.h"
#include "lb/lb.h"
#include "net/netns.h"

struct program {
	sd_event *loop;
	struct kube_client *client;
	struct fabric *fabric;
	struct lb *lb;
	struct metrics_server *metrics;
};

static struct metric errors_metric = METRIC_COUNTER("nacre_lb_errors_total", "Errors that were logged.");

static bool nacre_lb_is_ready(void *userdata) {
	const struct program *p = userdata;
	return lb_ready(p->lb) && fabric_ready(p->fabric);
}

static void nacre_lb_on_state(const char *what, const struct error *err, _unused_ void *userdata) {
	if (err) {
		metric_add(&errors_metric, 1);
		log_warn("not well", "part=\"%s\" cause=\"%s\"", what, err->msg);
	} else {
		log_info("well again", "part=\"%s\"", what);
	}
}

static void nacre_lb_on_endpoint(const struct kube_change *ch, void *userdata) {
	struct program *p = userdata;
	lb_endpoint_changed(p->lb, ch);
}

static void nacre_lb_condition(struct fabric_condition *ret, void *userdata) {
	const struct program *p = userdata;
	lb_condition(p->lb, ret);
}

static int nacre_lb_start(struct program *p, struct fabric_config *fc, const struct fabric_options *fo,
                          struct lb_config *lc, struct error *err) {
	int r = loop_new(&p->loop, err);
	if (r >= 0)
		r = kube_client_open(&p->client, p->loop, &fo->access, "nacre-lb", err);
	if (r < 0)
		return r;
	fc->loop = p->loop;
	fc->client = p->client;
	fc->role = "balancer";
	fc->endpoint = nacre_lb_on_endpoint;
	fc->condition = nacre_lb_condition;
	fc->state = nacre_lb_on_state;
	fc->userdata = p;
	/* Its callbacks come from the loop, which runs only once there is the balancer. */
	r = fabric_new(&p->fabric, fc, err);
	if (r < 0)
		return r;
	lc->loop = p->loop;
	lc->client = p->client;
	lc->fabric = p->fabric;
	lc->state = nacre_lb_on_state;
	lc->userdata = p;
	r = lb_new(&p->lb, lc, err);
	if (r >= 0)
		lb_metrics_start(p->lb);
	return r;
}

static void nacre_lb_stop(struct program *p) {
	p->metrics = metrics_server_free(p->metrics);
	p->lb = lb_free(p->lb);
	p->fabric = fabric_free(p->fabric);
	p->client = kube_client_free(p->client);
	p->loop = sd_event_unref(p->loop);
}

static int nacre_lb_serve(struct fabric_config *fc, const struct fabric_options *fo, struct lb_config *lc,
                          const char *metrics, struct error *err) {
	struct program p = {0};
	metric_register(&errors_metric);
	int r = nacre_lb_start(&p, fc, fo, lc, err);
	if (r >= 0 && metrics)
		r = metrics_server_new(&p.metrics, p.loop, metrics, nacre_lb_is_ready, &p, err);
	if (r >= 0) {
		log_info("started", "host=%s vtep=%s api=%s", fo->host, fo->vtep, kube_client_server(p.client));
		r = loop_run(p.loop, err);
	}
	nacre_lb_stop(&p);
	return r;
}

static int nacre_lb_detach(const struct fabric_options *fo, struct lb_config *lc, unsigned seconds, bool force,
                           struct error *err) {
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(cleanup_kube_client) struct kube_client *client = NULL;
	_close_ int underlay = -1;
	_free_ char *name = strf("%sunderlay", fo->prefix);
	int r = name ? loop_new(&loop, err) : error_oom(err);
	if (r >= 0)
		r = kube_client_open(&client, loop, &fo->access, "nacre-lb", err);
	if (r >= 0)
		r = netns_open(name, &underlay, err);
	lc->client = client;
	return r < 0 ? r : lb_detach(lc, underlay, seconds, force, err);
}

/* 0, or an error that says what is wrong with the options. */
static int nacre_lb_check_options(const struct fabric_options *fo, const char *overlay_ip, const char *xdp,
                                  struct fabric_config *fc, struct lb_config *lc, struct error *err) {
	int r = fabric_options_apply(fo, fc, err);
	if (r < 0)
		return r;
	r = addr_parse(overlay_ip, &lc->overlay_ip, err);
	if (r < 0 || lc->overlay_ip.family != AF_INET6)
		return error_set(err, EINVAL, "--overlay-ip %s: must be an IPv6 address", overlay_ip);
	lc->mode = streq(xdp, balancer_mode_name(BALANCER_GENERIC)) ? BALANCER_GENERIC : BALANCER_NATIVE;
	if (!streq(xdp, balancer_mode_name(lc->mode)))
		return error_set(err, EINVAL, "--xdp %s: must be native or generic", xdp);
	lc->name = fc->host;
	lc->run_dir = fc->underlay.run_dir;
	lc->vtep = fc->underlay.vtep;
	lc->vni = fc->underlay.vni;
	lc->nics = fc->underlay.nics;
	lc->n_nics = fc->underlay.n_nics;
	return 0;
}

int main(int argc, char **argv) {
	struct fabric_options fo = FABRIC_OPTIONS_DEFAULT;
	const char *overlay_ip = NULL, *xdp = "native", *metrics = NULL, *level = "info";
	int64_t seconds = 5;
	bool detach = false, force = false;
	const struct opt opts[] = {
		FABRIC_OPTIONS(fo),
		{"overlay-ip", OPT_STR, &overlay_ip, "ADDRESS",
	         "the balancer's IPv6 address in the public overlay, outside all AddressPools", 0, 0, true},
		{"xdp", OPT_STR, &xdp, "MODE",
	         "where the program runs on a NIC that has none yet: native (in the driver, if it can) or generic; "
	         "veth "
	         "devices need generic"},
		{"metrics", OPT_STR, &metrics, "WHERE", "serve metrics and health at 127.0.0.1:PORT or unix:/PATH"},
		{"log-level", OPT_STR, &level, "LEVEL", "error, warn, info or debug"},
		{"detach", OPT_FLAG, &detach, NULL,
	         "instead of running, take the host out of service: withdraw its Endpoint, wait, and take the program "
	         "off "
	         "the NICs"},
		{"detach-seconds", OPT_I64, &seconds, "N", "how long --detach waits until no more packets come", 0,
	         3600, false},
		{"force", OPT_FLAG, &force, NULL, "--detach even if the API doesn't answer"},
		{0},
	};
	const struct opt_program prog = {
		.name = "nacre-lb",
		.summary = "Forwards packets for shared IPv4 addresses to the owners of their ports.",
		.usage = "--host NAME --vtep ADDRESS --asn N --nic NAME... --overlay-ip ADDRESS [OPTIONS]",
		.epilogue = "The program on the NICs and its table outlive nacre-lb, however it ends, and go on "
			    "forwarding;\n"
			    "it adopts them when it starts. Only --detach takes them away.",
		.opts = opts,
	};
	struct fabric_config fc = {0};
	struct lb_config lc = {0};
	struct error err = {0};
	enum log_level lv;
	opt_parse_or_exit(&prog, argc, argv);
	proc_raise_file_limit();
	log_init(prog.name, LOG_LEVEL_INFO);
	if (log_level_parse(level, &lv, &err) < 0 || nacre_lb_check_options(&fo, overlay_ip, xdp, &fc, &lc, &err) < 0) {
		fprintf(stderr, "%s: %s\nTry `%s --help`.\n", prog.name, err.msg, prog.name);
		return 2;
	}
	log_init(prog.name, lv);
	int r = detach ? nacre_lb_detach(&fo, &lc, (unsigned)seconds, force, &err)
	               : nacre_lb_serve(&fc, &fo, &lc, metrics, &err);
	if (r < 0)
		log_error("failed", "cause=\"%s\"", err.msg);
	else
		log_info("stopped", "host=%s", fo.host);
	return r < 0 ? 1 : 0;
}
