/* SPDX-License-Identifier: Apache-2.0 */

/* The status of EdgePeers, from what FRR says about the sessions. */

#include <string.h>

#include "api/edgepeer.h"
#include "base/util.h"
#include "edge/edge-internal.h"

static int set_string(char **out, const char *s) {
	char *v = strdup(s);
	if (!v)
		return -ENOMEM;
	free(*out);
	*out = v;
	return 0;
}

static int fill_status(const struct edge *e, struct edgepeer *p, const char *summary, size_t len, struct error *err) {
	struct bgp_session s = {0};
	char msg[256] = "", password[BGP_PASSWORD_MAX + 1];
	const char *fault = edge_peer_fault(e, p, password, msg, sizeof(msg));
	const char *neighbor = p->spec->interface ? p->spec->interface : p->spec->address;
	if (!fault) {
		int r = bgp_session_parse(summary, len, neighbor, &s, err);
		if (r < 0)
			return r;
		if (!s.established) {
			fault = "NotEstablished";
			snprintf(msg, sizeof(msg), "the session with %s is in state %s", neighbor,
			         s.state[0] ? s.state : "unknown");
		}
	}
	if (!p->status && !(p->status = calloc(1, sizeof(*p->status))))
		return error_oom(err);
	p->status->received = API_I64(s.received);
	p->status->announced = API_I64(s.announced);
	if (set_string(&p->status->state, s.state[0] ? s.state : "Unknown") < 0 ||
	    api_condition_set(&p->status->conditions.v, &p->status->conditions.n, "Ready", fault ? "False" : "True",
	                      fault ? fault : "Established", msg, p->meta.generation.v, now_realtime_us()) < 0)
		return error_oom(err);
	return 0;
}

static int report_one(struct edge *e, const struct edgepeer *p, const char *summary, size_t len, struct error *err) {
	struct edgepeer *now = api_copy(&api_kind_edgepeer, p);
	if (!now)
		return error_oom(err);
	/* A write that is lost is made up for by the next report. */
	int r = fill_status(e, now, summary, len, err);
	if (r >= 0)
		r = kube_patch_status(e->c.client, &api_kind_edgepeer, p, now, KUBE_CALL(NULL, NULL, NULL), err);
	api_free(&api_kind_edgepeer, now);
	return r == -EALREADY ? 0 : r;
}

int edge_report_peers(struct edge *e, size_t sessions, struct error *err) {
	static const char *const command[] = {"show bgp summary json", NULL};
	_buf_free_ struct buf out = {.max = 1 << 20};
	const struct edgepeer *p;
	int64_t peers = 0, established = 0;
	/* Without a session FRR has no BGP, and refuses. */
	int r = sessions ? frr_command(&e->frr, "bgpd", command, &out, err) : 0;
	if (r < 0)
		return r;
	KUBE_CACHE_FOREACH(p, e->peers) {
		if (!streq(p->spec->edge, e->c.name))
			continue;
		peers++;
		established += p->status && streq(p->status->state, "Established");
		r = report_one(e, p, out.data ? out.data : "{}", out.data ? out.len : 2, err);
		if (r < 0)
			return error_prefix(err, "EdgePeer %s", p->meta.name);
	}
	e->stats.peers = peers;
	e->stats.established = established;
	return 0;
}
