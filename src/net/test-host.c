/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A host for tests/net: joins a fabric and programs the overlay, by commands on stdin, one per line:
 *   put NAME IP MAC VTEP DEVICE|- [PREFIX...]   remove NAME   start   ensure   stats   quit
 * Each is answered with "ok ..." or "error MESSAGE"; a report is printed as "report NAME ROUTE|- MESSAGE|ok". Other
 * uses: test-host remove OPTIONS; test-host frr NETNS DIR ZEBRA.CONF BGPD.CONF; test-host frr-stop NETNS DIR.
 */

#include <string.h>
#include <sys/epoll.h>

#include "base/loop.h"
#include "base/opt.h"
#include "base/util.h"
#include "net/frr.h"
#include "net/overlay.h"
#include "net/underlay.h"

struct host {
	struct underlay_config config;
	struct underlay underlay;
	struct overlay *overlay;
	sd_event *loop;
	struct buf in;
};

static void say(int r, const struct error *err) {
	if (r < 0)
		printf("error %s\n", err->msg);
	else
		printf("ok\n");
	fflush(stdout);
}

static void report(const char *endpoint, const struct prefix *route, const struct error *err, void *userdata) {
	char text[PREFIX_STR_MAX] = "-";
	if (route)
		prefix_str(route, text);
	printf("report %s %s %s\n", endpoint, text, err ? err->msg : "ok");
	fflush(stdout);
}

static int put(struct host *h, char *save, struct error *err) {
	struct prefix prefixes[OVERLAY_PREFIXES_MAX];
	struct overlay_endpoint e = {.prefixes = prefixes};
	char *word[5];
	int r = 0;
	for (int i = 0; i < 5; i++)
		if (!(word[i] = strtok_r(NULL, " ", &save)))
			return error_set(err, EINVAL, "put: too few words");
	e.name = word[0];
	e.device = streq(word[4], "-") ? NULL : word[4];
	if ((r = addr_parse(word[1], &e.ip, err)) < 0 || (r = mac_parse(word[2], &e.mac, err)) < 0 ||
	    (r = addr_parse(word[3], &e.vtep, err)) < 0)
		return r;
	for (char *p; r >= 0 && (p = strtok_r(NULL, " ", &save)) && e.n_prefixes < OVERLAY_PREFIXES_MAX;)
		r = prefix_parse(p, &prefixes[e.n_prefixes++], err);
	return r < 0 ? r : overlay_put(h->overlay, &e, err);
}

static void command(struct host *h, char *line) {
	struct error err = {0};
	struct overlay_stats st;
	char *save = NULL, *verb = strtok_r(line, " ", &save);
	if (!verb)
		return;
	if (streq(verb, "put")) {
		say(put(h, save, &err), &err);
	} else if (streq(verb, "remove")) {
		overlay_remove(h->overlay, save);
		say(0, NULL);
	} else if (streq(verb, "start")) {
		say(overlay_start(h->overlay, &err), &err);
	} else if (streq(verb, "ensure")) {
		say(underlay_ensure(&h->underlay, &h->config, &err), &err);
	} else if (streq(verb, "stats")) {
		overlay_stats(h->overlay, &st);
		printf("ok {\"endpoints\": %zu, \"routes\": %zu, \"nexthops\": %zu, \"groups\": %zu, \"failing\": %zu, "
		       "\"pending\": %zu, \"messages\": %llu, \"syncs\": %llu, \"repairs\": %llu}\n",
		       st.endpoints, st.routes, st.nexthops, st.groups, st.failing, st.pending,
		       (unsigned long long)st.messages, (unsigned long long)st.syncs, (unsigned long long)st.repairs);
		fflush(stdout);
	} else {
		sd_event_exit(h->loop, 0);
	}
}

static int readable(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	struct host *h = userdata;
	char *room = buf_reserve(&h->in, 4096), *end;
	ssize_t n = room ? read(fd, room, 4096) : 0;
	if (n <= 0)
		return sd_event_exit(h->loop, 0);
	h->in.len += (size_t)n;
	while ((end = memchr(h->in.data, '\n', h->in.len))) {
		*end = 0;
		command(h, h->in.data);
		buf_consume(&h->in, (size_t)(end - h->in.data) + 1);
	}
	return 0;
}

static int serve(struct host *h, struct error *err) {
	int r = loop_new(&h->loop, err);
	if (r >= 0)
		r = underlay_ensure(&h->underlay, &h->config, err);
	if (r < 0)
		return r;
	struct overlay_config oc = {.loop = h->loop,
	                            .underlay_fd = h->underlay.underlay_fd,
	                            .public_fd = h->underlay.public_fd,
	                            .device = OVERLAY_DEVICE,
	                            .vtep = h->config.vtep,
	                            .report = report};
	r = overlay_new(&h->overlay, &oc, err);
	if (r >= 0)
		r = sd_event_add_io(h->loop, NULL, 0, EPOLLIN, readable, h);
	say(r, err);
	if (r >= 0)
		r = loop_run(h->loop, err);
	overlay_free(h->overlay);
	underlay_close(&h->underlay);
	buf_free(&h->in);
	sd_event_unref(h->loop);
	return r;
}

static int frr(char **argv, int argc, struct error *err) {
	_free_ char *zebra = NULL, *bgpd = NULL;
	_frrconf_free_ struct frrconf *config = NULL;
	if (argc < 2)
		return error_set(err, EINVAL, "frr: NETNS DIR [ZEBRA.CONF BGPD.CONF]");
	struct frr f = {.netns = argv[0], .dir = argv[1]};
	if (argc < 4)
		return frr_stop(&f, err);
	int r = read_file(argv[2], 1 << 20, &zebra, NULL, err);
	if (r >= 0)
		r = read_file(argv[3], 1 << 20, &bgpd, NULL, err);
	if (r >= 0)
		r = frrconf_new(&config, FRRCONF_TRADITIONAL, err);
	if (r >= 0)
		r = frrconf_parse(config, FRRCONF_ZEBRA, zebra, err);
	if (r >= 0)
		r = frrconf_parse(config, FRRCONF_BGPD, bgpd, err);
	return r < 0 ? r : frr_ensure(&f, config, err);
}

int main(int argc, char **argv) {
	struct host h = {.config = {.prefix = "", .run_dir = "/run/nacre"}};
	struct error err = {0};
	const char *vtep = "fd00::1";
	int64_t asn = 65001, vni = 1, max_prefixes = 0;
	struct opt_list nics = {0};
	const struct opt opts[] = {
		{"netns-prefix", OPT_STR, &h.config.prefix, "P", "Prefix of the names of namespaces"},
		{"run-dir", OPT_STR, &h.config.run_dir, "DIR", "Directory for FRR's files"},
		{"vtep", OPT_STR, &vtep, "ADDR", "VTEP address"},
		{"asn", OPT_I64, &asn, "N", "AS number", 1, 4294967294},
		{"vni", OPT_I64, &vni, "N", "VXLAN network identifier", 1, 16777215},
		{"underlay-password", OPT_STR, &h.config.password_file, "FILE", "Password of BGP sessions"},
		{"underlay-max-prefixes", OPT_I64, &max_prefixes, "N", "Limit of prefixes", 1, UINT32_MAX},
		{"nic", OPT_LIST, &nics, "NAME", "Underlay NIC"},
		{0},
	};
	const struct opt_program prog = {.name = "test-host", .summary = "A host for tests", .opts = opts};
	int at = opt_parse_or_exit(&prog, argc, argv);
	int r = addr_parse(vtep, &h.config.vtep, &err);
	h.config.asn = (uint32_t)asn;
	h.config.vni = (uint32_t)vni;
	h.config.max_prefixes = (uint32_t)max_prefixes;
	for (size_t i = 0; i < nics.n && i < UNDERLAY_NICS; i++)
		h.config.nics[h.config.n_nics++] = nics.v[i];
	if (r < 0)
		;
	else if (at < argc && streq(argv[at], "remove"))
		r = underlay_remove(&h.config, &err);
	else if (at < argc && starts_with(argv[at], "frr"))
		r = frr(argv + at + 1, argc - at - 1, &err);
	else
		r = serve(&h, &err);
	if (r < 0)
		fprintf(stderr, "%s\n", err.msg);
	return r < 0;
}
