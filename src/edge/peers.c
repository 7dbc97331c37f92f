/* SPDX-License-Identifier: Apache-2.0 */

/* The status of EdgePeers, from FRR's answer about the sessions. */

#include <string.h>

#include "base/util.h"
#include "edge/edge-internal.h"

static int peers_fill_status(struct edgepeer *p, const char *fault, const char *why, const struct bgp_session *s,
                             struct error *err) {
	char msg[256];
	snprintf(msg, sizeof(msg), "%s", why);
	if (!fault && !s->established) {
		fault = "NotEstablished";
		snprintf(msg, sizeof(msg), "the session with %s is in state %s", edge_neighbor(p),
		         s->state[0] ? s->state : "unknown");
	}
	p->status->received = API_I64(s->received);
	p->status->announced = API_I64(s->announced);
	if (string_set(&p->status->state, s->state[0] ? s->state : "Unknown") < 0 ||
	    api_condition_set(&p->status->conditions.v, &p->status->conditions.n, "Ready", fault ? "False" : "True",
	                      fault ? fault : "Established", msg, p->meta.generation.v, now_realtime_us()) < 0)
		return error_oom(err);
	return 0;
}

static int report_one(struct edge *e, const struct edgepeer *p, const struct bgp_session *sessions, struct error *err) {
	static const struct bgp_session none;
	const struct bgp_session *session = NULL;
	char why[256] = "", password[BGP_PASSWORD_MAX + 1];
	const char *fault = edge_peer_fault(e, p, password, why, sizeof(why));
	for (size_t i = 0; !fault && !session && i < e->look.n_sessions; i++)
		if (streq(e->look.neighbors[i], edge_neighbor(p)))
			session = &sessions[i];
	/* The peer appeared after this look began; the next look knows its session. */
	if (!fault && !session)
		return 0;
	struct edgepeer *now = api_copy_with_status(&api_kind_edgepeer, p);
	if (!now)
		return error_oom(err);
	/* If this write is lost, the next report repeats it. */
	int r = peers_fill_status(now, fault, why, fault ? &none : session, err);
	if (r >= 0)
		r = kube_patch_status(e->c.client, &api_kind_edgepeer, p, now, KUBE_CALL(NULL, NULL, NULL), err);
	api_free(&api_kind_edgepeer, now);
	return r == -EALREADY ? 0 : r;
}

int edge_report_peers(struct edge *e, const struct bgp_session *sessions, struct error *err) {
	const struct edgepeer *p;
	int64_t peers = 0, established = 0;
	KUBE_CACHE_FOREACH(p, e->peers) {
		if (!streq(p->spec->edge, e->c.name))
			continue;
		peers++;
		established += p->status && streq(p->status->state, "Established");
		int r = report_one(e, p, sessions, err);
		if (r < 0)
			return error_prefix(err, "EdgePeer %s", p->meta.name);
	}
	e->stats.peers = peers;
	e->stats.established = established;
	return 0;
}
