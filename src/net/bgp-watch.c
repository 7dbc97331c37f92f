/* SPDX-License-Identifier: Apache-2.0 */
#include "net/bgp-watch.h"

#include <string.h>
#include <sys/epoll.h>

#include "base/loop.h"
#include "base/util.h"
#include "net/nl.h"
#include "net/route.h"

struct bgp_watch {
	struct nl *requests, *notifications;
	sd_event_source *io, *first;
	void (*changed)(const struct bgp_routes *now, void *userdata);
	void *userdata;
	struct bgp_routes known;
	bool told;
};

/* route_dump() lists only routes with our protocol number; these routes are FRR's. */
static int bgp_watch_look_at_route(const struct nlmsghdr *h, void *userdata) {
	struct bgp_routes *b = userdata;
	struct route r;
	if (!route_decode(h, &r) || r.protocol != RTPROT_BGP)
		return 0;
	bool v6 = r.dst.addr.family == AF_INET6;
	b->any |= v6;
	b->default4 |= !v6 && r.dst.len == 0;
	b->default6 |= v6 && r.dst.len == 0;
	return 0;
}

static int look(struct bgp_watch *w, struct bgp_routes *ret, struct error *err) {
	struct bgp_routes d = {0};
	for (int i = 0; i < 2; i++) {
		struct rtmsg hdr = {.rtm_family = i ? AF_INET6 : AF_INET};
		/* The kernel filters by protocol and table, so the answer does not hold the whole overlay. */
		hdr.rtm_protocol = RTPROT_BGP;
		struct nlmsghdr *h = nl_request(w->requests, RTM_GETROUTE, 0, &hdr, sizeof(hdr));
		int r = nl_dump(w->requests, h, bgp_watch_look_at_route, &d, err, "list the routes of BGP");
		if (r < 0)
			return r;
	}
	*ret = d;
	return 0;
}

static void update(struct bgp_watch *w) {
	struct bgp_routes now;
	if (look(w, &now, NULL) < 0)
		return; /* the next notification tries again; until then the known state stays */
	if (w->told && memcmp(&now, &w->known, sizeof(now)) == 0)
		return;
	w->known = now;
	w->told = true;
	w->changed(&now, w->userdata);
}

static int is_bgp(const struct nlmsghdr *h, void *userdata) {
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	if (m->rtm_protocol == RTPROT_BGP)
		*(bool *)userdata = true;
	return 0;
}

static int bgp_watch_on_io(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
	struct bgp_watch *w = userdata;
	bool touched = false;
	if (nl_receive(w->notifications, is_bgp, &touched, NULL) < 0 || touched)
		update(w);
	return 0;
}

static int on_first(_unused_ sd_event_source *s, void *userdata) {
	update(userdata);
	return 0;
}

int bgp_watch_new(struct bgp_watch **ret, sd_event *loop, int netns_fd,
                  void (*changed)(const struct bgp_routes *now, void *userdata), void *userdata, struct error *err) {
	static const unsigned groups[] = {RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, 0};
	struct bgp_watch *w = calloc(1, sizeof(*w));
	if (!w)
		return error_oom(err);
	w->changed = changed;
	w->userdata = userdata;
	int r = nl_open(&w->requests, netns_fd, err);
	if (r >= 0)
		r = nl_subscribe(&w->notifications, netns_fd, groups, err);
	if (r >= 0 && sd_event_add_io(loop, &w->io, nl_fd(w->notifications), EPOLLIN, bgp_watch_on_io, w) < 0)
		r = error_oom(err);
	if (r >= 0 && sd_event_add_defer(loop, &w->first, on_first, w) < 0)
		r = error_oom(err);
	if (r < 0) {
		bgp_watch_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

struct bgp_watch *bgp_watch_free(struct bgp_watch *w) {
	if (!w)
		return NULL;
	sd_event_source_disable_unref(w->io);
	sd_event_source_disable_unref(w->first);
	nl_free(w->notifications);
	nl_free(w->requests);
	free(w);
	return NULL;
}
