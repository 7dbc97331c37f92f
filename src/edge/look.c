/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The blocking part of a look at the edge: it corrects the kernel and FRR of `public` to the wanted state, and asks FRR
 * for its sessions. It runs in a worker process (base/job.h), which may be killed at any moment; the next look repeats
 * it. The loop fills in the wanted state before; the result holds what was found.
 */

#include "base/util.h"
#include "edge/aggregate.h"
#include "edge/edge-internal.h"
#include "edge/filter.h"
#include "net/link.h"

/* The time for FRR to start, or to take changes. The next look repeats what was not finished. */
#define LOOK_MAX_MS 120000

struct edge_found {
	uint64_t filter;
	bool compared;
	struct bgp_session sessions[BGP_PEERS_MAX];
};
_Static_assert(sizeof(struct edge_found) <= JOB_RESULT_MAX, "a look's result fits into the result of a job");

void edge_look_clear(struct edge_look *l) {
	free(l->pools);
	frrconf_free(l->config);
	*l = (struct edge_look){0};
}

/* Moves the uplink into `public`, if it is still in the namespace in which the program was started, and sets it up. */
static int ensure_uplink(const struct edge *e, struct nl *public, const char *name, struct error *err) {
	struct link l;
	int r = link_get(public, name, &l, err);
	if (r == -ENODEV) {
		_nl_free_ struct nl *here = NULL;
		r = nl_open(&here, -1, err);
		if (r >= 0)
			r = link_get(here, name, &l, err);
		if (r >= 0)
			r = link_set(here, l.index,
			             &(struct link_change){.move = true,
			                                   .netns_fd = fabric_underlay(e->c.fabric)->public_fd},
			             err);
		if (r >= 0)
			r = link_get(public, name, &l, err);
	}
	if (r >= 0 && !(l.flags & IFF_UP))
		r = link_set(public, l.index, &(struct link_change){.up = true}, err);
	return r < 0 ? error_prefix(err, "uplink `%s`", name) : 0;
}

static int ensure_links(const struct edge *e, struct nl *public, struct error *err) {
	struct link lo;
	int r = link_get(public, "lo", &lo, err);
	if (r >= 0)
		r = link_ensure_addr(public, lo.index, &e->c.overlay_ip, 128, err);
	for (size_t i = 0; r >= 0 && i < e->c.n_uplinks; i++)
		r = ensure_uplink(e, public, e->c.uplinks[i], err);
	return r;
}

static int ask_sessions(const struct edge *e, struct bgp_session *sessions, struct error *err) {
	static const char *const command[] = {"show bgp summary json", NULL};
	const struct edge_look *l = &e->look;
	_buf_free_ struct buf out = {.max = 1 << 20};
	/* Without a session FRR has no BGP and would refuse the command. */
	int r = l->n_sessions ? frr_command(&e->frr, "bgpd", command, &out, err) : 0;
	for (size_t i = 0; r >= 0 && i < l->n_sessions; i++)
		r = bgp_session_parse(out.data ? out.data : "{}", out.data ? out.len : 2, l->neighbors[i], &sessions[i],
		                      err);
	return r;
}

/* Adds to the look the pools that the edge knew before and that may have become unknown to it. The kernel has them. */
static int keep_pools(struct nl *public, struct edge_look *l, struct error *err) {
	size_t n = l->n_pools;
	int r = aggregate_keep(public, &l->pools, &l->n_pools, err);
	if (r < 0 || !l->announce || !l->config || !frrconf_asn(l->config))
		return r;
	for (; n < l->n_pools; n++)
		frrconf_network(l->config, &l->pools[n]);
	return 0;
}

static int edge_look_in_worker(void *arg, void *result, struct error *err) {
	struct edge *e = arg;
	struct edge_look *l = &e->look;
	const int public_fd = fabric_underlay(e->c.fabric)->public_fd;
	struct edge_found *ret = result;
	_nl_free_ struct nl *public = NULL;
	int r = nl_open(&public, public_fd, err);

	ret->filter = e->filter;
	if (r >= 0)
		r = ensure_links(e, public, err);
	if (r < 0 || !l->known)
		return r;
	if (l->compare && l->keep_pools)
		r = keep_pools(public, l, err);
	/* The filter comes first: no limit can make it fail, and it must be in place before prefixes are announced, as
	 * traffic follows the announcement. */
	if (r >= 0 && l->compare)
		r = filter_ensure(public_fd, e->c.uplinks, e->c.n_uplinks, l->pools, l->n_pools, &ret->filter, err);
	if (r >= 0 && l->fault.code)
		return error_set(err, l->fault.code, "%s", l->fault.msg);
	if (r >= 0 && l->compare) {
		r = aggregate_ensure(public, l->pools, l->n_pools, err);
		ret->compared = r >= 0;
	}
	if (r >= 0)
		r = frr_ensure(&e->frr, l->config, err);
	return r < 0 ? r : ask_sessions(e, ret->sessions, err);
}

static void edge_look_done(void *userdata, int r, const void *result, const struct error *err) {
	struct edge *e = userdata;
	const struct edge_found *got = result;

	e->job = NULL;
	if (got)
		e->filter = got->filter;
	if (e->look.compare && (!got || !got->compared))
		e->compared_at = 0;
	edge_looked(e, r, got ? got->sessions : NULL, err);
}

int edge_look_start(struct edge *e, struct error *err) {
	const struct job_spec spec = {.fn = edge_look_in_worker,
	                              .arg = e,
	                              .result_size = sizeof(struct edge_found),
	                              .keep = {fabric_underlay(e->c.fabric)->public_fd},
	                              .n_keep = 1,
	                              .timeout_ms = LOOK_MAX_MS,
	                              .done = edge_look_done,
	                              .userdata = e};
	return job_start(e->jobs, &spec, &e->job, err);
}
