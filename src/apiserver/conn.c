/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/conn.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "apiserver/stats.h"
#include "base/util.h"

#define SILENCE_S 60 /* of a client's machine */
/* Kept free for agents, the controller and administrators. */
#define RESERVED 1024U
/* Certificates verified in one go: some 20 ms. */
#define RECHECK_MAX 64U
#define FRESH_MAX   (CONNECTIONS_MAX / 4)

/* A client that went without a word (its machine, its network) is noticed although nothing is sent to it. */
static void notice_silence(int fd) {
	static const struct {
		int level, name, value;
	} all[] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, SILENCE_S / 2},
		{IPPROTO_TCP, TCP_KEEPINTVL, SILENCE_S / 6},
		{IPPROTO_TCP, TCP_KEEPCNT, 3},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_S * 1000},
	};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		(void)!setsockopt(fd, all[i].level, all[i].name, &all[i].value, sizeof(all[i].value));
}

static void uncount(struct conn *c) {
	if (c->counted)
		party_give(c->party, LIMIT_CONNECTIONS);
	c->counted = false;
}

static void no_longer_fresh(struct conns *cs, struct conn *c) {
	cs->n_fresh -= c->fresh;
	c->fresh = false;
}

/*
 * Shuts down the oldest that has nothing under way and is of party P, or is fresh if P is NULL: among those who have
 * not said yet who they are the newest is the likeliest to be honest, and must not be kept out by the rest.
 */
static bool give_way(struct conns *cs, const struct party *p) {
	struct conn *c;
	TAILQ_FOREACH (c, &cs->list, link) {
		if (!c->counted || (p ? c->party != p || c->busy : !c->fresh))
			continue;
		uncount(c);
		no_longer_fresh(cs, c);
		shutdown(c->fd, SHUT_RDWR);
		stats_refused(p ? LIMIT_CONNECTIONS : LIMIT_SERVER);
		return true;
	}
	return false;
}

struct conn *conn_open(struct conns *cs, int fd, gnutls_session_t session, const struct sockaddr *sa) {
	struct conn *c = calloc(1, sizeof(*c));
	struct party *p = c ? limits_address(cs->limits, cs->tls ? sa : NULL) : NULL;
	if (!p) {
		free(c);
		return NULL;
	}
	c->fd = fd;
	c->session = session;
	c->since_ns = now_monotonic_ns();
	c->party = p;
	/* Who may open a UNIX socket at all is an administrator, or comes with a token. */
	c->counted =
		!cs->tls || party_take(p, LIMIT_CONNECTIONS) || (give_way(cs, p) && party_take(p, LIMIT_CONNECTIONS));
	bool good = c->counted;
	c->counted &= cs->tls != NULL;
	if (cs->tls) {
		notice_silence(fd);
		c->set = session ? tls_session_begin(cs->tls, session) : NULL;
		good &= c->set != NULL;
	}
	c->fresh = c->counted;
	cs->n_fresh += c->fresh;
	cs->n++;
	TAILQ_INSERT_TAIL(&cs->list, c, link);
	if (cs->n_fresh > FRESH_MAX || cs->n > CONNECTIONS_MAX - RESERVED / 2)
		(void)!give_way(cs, NULL);
	if (!good)
		shutdown(fd, SHUT_RDWR);
	return c;
}

void conn_close(struct conns *cs, struct conn *c) {
	TAILQ_REMOVE(&cs->list, c, link);
	cs->n--;
	no_longer_fresh(cs, c);
	uncount(c);
	party_unref(c->party);
	user_unref(c->user);
	tls_set_unref(c->set);
	free(c);
}

/* Of a UNIX socket: the administrator of this machine and the user that the server runs as are its administrators. */
static void identify_peer(struct conn *c) {
	struct ucred cred;
	socklen_t len = sizeof(cred);
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && (cred.uid == 0 || cred.uid == geteuid()))
		c->user = user_new_admin();
	c->user_refused = !c->user;
	c->user_until_s = INT64_MAX;
}

void conn_identify(struct conns *cs, struct conn *c) {
	unsigned generation = cs->tls ? tls_generation(cs->tls) : 0;
	if (c->user_known && c->user_generation == generation && time(NULL) < c->user_until_s)
		return;
	c->user = user_unref(c->user);
	c->user_refused = false;
	if (!cs->tls)
		identify_peer(c);
	else if (tls_client(cs->tls, c->session, &c->user, &c->user_until_s, NULL) < 0)
		c->user_refused = true; /* until_s stays past or unknown, so that the next request tries again */
	c->user_known = !c->user_refused;
	c->user_generation = generation;
}

bool conns_recheck(struct conns *cs) {
	const unsigned generation = cs->tls ? tls_generation(cs->tls) : 0;
	const int64_t now = time(NULL);
	unsigned n = 0;
	struct conn *c;
	TAILQ_FOREACH (c, &cs->list, link) {
		/* Who has nothing under way is verified with the next request. */
		if (!cs->tls || !c->user || !c->busy || (c->user_generation == generation && now < c->user_until_s))
			continue;
		if (n++ == RECHECK_MAX)
			return true;
		conn_identify(cs, c);
		if (!c->user)
			shutdown(c->fd, SHUT_RDWR);
	}
	return false;
}

bool conn_count(struct conns *cs, struct conn *c, const struct user *u, enum limit *what) {
	bool first = c->fresh;
	no_longer_fresh(cs, c);
	if (!u || user_in_group(u, GROUP_ANONYMOUS))
		return true;
	struct party *p = limits_user(cs->limits, u);
	if (!p || p == c->party) {
		party_unref(p);
		return true;
	}
	*what = first && cs->n > CONNECTIONS_MAX - RESERVED && !party_trusted(p) ? LIMIT_SERVER : LIMIT_CONNECTIONS;
	bool taken = *what == LIMIT_CONNECTIONS && party_take(p, LIMIT_CONNECTIONS);
	/* Also when it is one too many: the answer names who has so many. */
	uncount(c);
	party_unref(c->party);
	c->party = p;
	c->counted = taken;
	return taken;
}
