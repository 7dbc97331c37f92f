/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/http/conn.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "apiserver/http/turns.h"
#include "apiserver/request/stats.h"
#include "base/util.h"

#define SILENCE_S 60 /* a client's machine that is silent for so long is gone */
/* How many certificates are verified at a time, which takes some 20 ms. */
#define RECHECK_MAX 64U
/* Descriptors for other purposes than connections: the database, logs, certificates. */
#define FILES_KEPT 128U

/* The number of connections kept free for agents, the controller and administrators. */
static size_t reserved(const struct conns *cs) {
	return cs->max / 16;
}

static size_t fresh_max(const struct conns *cs) {
	return cs->max / 4;
}

/* The number of connections without those that are being closed. */
static size_t conns_count(const struct conns *cs) {
	return cs->n - cs->n_shut;
}

void conns_init(struct conns *cs, struct tls *tls, struct limits *limits, size_t listeners) {
	struct rlimit rl;
	*cs = (struct conns){.tls = tls, .limits = limits, .max = CONNECTIONS_MAX};
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < CONNECTIONS_MAX * listeners + FILES_KEPT)
		cs->max = (rl.rlim_cur > (rlim_t)2 * FILES_KEPT ? rl.rlim_cur - FILES_KEPT : FILES_KEPT) / listeners;
	TAILQ_INIT(&cs->list);
	for (size_t i = 0; i < CONN_LISTS; i++)
		TAILQ_INIT(&cs->waiting[i]);
}

/* Notices a client that has disappeared (its machine or network failed), even if nothing is sent to it. */
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

/* Puts C at the end of LIST. CONN_NONE: it must not be closed for others. */
static void wait_in(struct conns *cs, struct conn *c, enum conn_list list) {
	if (c->list != CONN_NONE)
		TAILQ_REMOVE(&cs->waiting[c->list], c, waits);
	cs->n_fresh -= c->list == CONN_FRESH;
	c->list = list;
	cs->n_fresh += list == CONN_FRESH;
	if (list != CONN_NONE)
		TAILQ_INSERT_TAIL(&cs->waiting[list], c, waits);
}

static void close_for_others(struct conns *cs, struct conn *c, enum limit why) {
	uncount(c);
	wait_in(cs, c, CONN_NONE);
	shutdown(c->fd, SHUT_RDWR);
	c->shut = true;
	cs->n_shut++;
	stats_refused(why);
}

/* Closes the oldest connection of P that has no request under way. */
static bool give_way(struct conns *cs, const struct party *p) {
	struct conn *c;
	TAILQ_FOREACH (c, &cs->list, link) {
		if (!c->counted || c->party != p || c->busy)
			continue;
		close_for_others(cs, c, LIMIT_CONNECTIONS);
		return true;
	}
	return false;
}

static bool drop_first(struct conns *cs, enum conn_list list) {
	struct conn *c = TAILQ_FIRST(&cs->waiting[list]);
	if (c)
		close_for_others(cs, c, LIMIT_SERVER);
	return c;
}

/*
 * Of the clients that have sent no request yet, the newest is the most likely to be honest, and the others must not
 * keep it out. So a part of the reserved connections is for such clients, too.
 */
static void make_room(struct conns *cs) {
	bool done = cs->n_fresh > fresh_max(cs) && drop_first(cs, CONN_FRESH);
	if (!done && conns_count(cs) > cs->max - reserved(cs))
		done = drop_first(cs, CONN_NOBODY);
	if (!done && conns_count(cs) > cs->max - reserved(cs) / 2)
		(void)drop_first(cs, CONN_FRESH);
}

void conn_work(struct conn *c) {
	party_work(c->party, c->work, c->work == WORK_HANDSHAKE ? &c->fresh_ns : NULL);
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *data, size_t len) {
	struct conn *c = ptr;
	struct turns *t = c->conns->turns;
	conn_work(c);
	bool waits = !party_trusted(c->party) && turns_wait(t, c, limits_settle(c->conns->limits));
	ssize_t n = waits ? -1 : recv(c->fd, data, len, 0);
	if (waits)
		turns_park(t, c, PARK_TURN);
	else {
		c->fed = false;
		if (n >= 0 || errno != EAGAIN || c->work != WORK_HANDSHAKE)
			return n;
		turns_park(t, c, PARK_INPUT);
	}
	errno = EAGAIN;
	return -1;
}

/* libmicrohttpd encrypts before it calls this function. The time for that is charged to the previous party. */
static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *iov, int n) {
	struct conn *c = ptr;
	conn_work(c);
	const struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
	return sendmsg(c->fd, &m, MSG_NOSIGNAL);
}

bool conns_accept(struct conns *cs, const struct sockaddr *sa) {
	struct party *p = cs->tls ? limits_address(cs->limits, sa) : NULL;
	const bool good = !p || party_wait_s(p, now_monotonic_ns()) == 0;
	if (!good)
		stats_refused(LIMIT_TIME);
	party_unref(p);
	return good;
}

struct conn *conn_open(struct conns *cs, struct MHD_Connection *mhd, int fd, gnutls_session_t session,
                       const struct sockaddr *sa) {
	struct conn *c = calloc(1, sizeof(*c));
	struct party *p = c ? limits_address(cs->limits, cs->tls ? sa : NULL) : NULL;
	if (!p) {
		free(c);
		return NULL;
	}
	c->conns = cs;
	c->mhd = mhd;
	c->work = WORK_HANDSHAKE;
	c->fd = fd;
	c->session = session;
	c->since_ns = now_monotonic_ns();
	c->party = p;
	/* On a UNIX socket the client is an administrator or sends a token, so its connection isn't counted. */
	c->counted =
		!cs->tls || party_take(p, LIMIT_CONNECTIONS) || (give_way(cs, p) && party_take(p, LIMIT_CONNECTIONS));
	bool good = c->counted;
	c->counted &= cs->tls != NULL;
	if (cs->tls) {
		notice_silence(fd);
		c->set = session ? tls_session_begin(cs->tls, session) : NULL;
		good &= c->set != NULL;
	}
	if (session) {
		gnutls_transport_set_ptr(session, c);
		gnutls_transport_set_pull_function(session, pull);
		gnutls_transport_set_vec_push_function(session, push);
	}
	wait_in(cs, c, c->counted ? CONN_FRESH : CONN_NONE);
	cs->n++;
	TAILQ_INSERT_TAIL(&cs->list, c, link);
	make_room(cs);
	if (!good)
		shutdown(fd, SHUT_RDWR);
	return c;
}

/*
 * The first request on C has arrived: party P takes over the charge for the handshake. NULL: the client is not
 * authenticated, so its address pays.
 */
static void pay_handshake(struct conns *cs, struct conn *c, struct party *p) {
	if (c->work != WORK_HANDSHAKE)
		return;
	limits_idle(cs->limits);
	const bool takes = p && p != c->party && party_take_over(p, c->party, c->fresh_ns, now_monotonic_ns());
	if (cs->tls)
		stats_handshake(takes);
	c->work = WORK_REQUEST;
}

void conn_close(struct conns *cs, struct conn *c) {
	limits_idle(cs->limits);
	pay_handshake(cs, c, NULL);
	turns_forget(cs->turns, c);
	TAILQ_REMOVE(&cs->list, c, link);
	cs->n--;
	cs->n_shut -= c->shut;
	wait_in(cs, c, CONN_NONE);
	uncount(c);
	party_unref(c->party);
	user_unref(c->user);
	tls_set_unref(c->set);
	free(c);
}

/* On a UNIX socket root and the server's own user are administrators. */
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
		c->user_refused = true; /* until_s is still past or unknown, so the next request tries again */
	c->user_known = !c->user_refused;
	c->user_generation = generation;
}

bool conns_recheck(struct conns *cs) {
	const unsigned generation = cs->tls ? tls_generation(cs->tls) : 0;
	const int64_t now = time(NULL);
	unsigned n = 0;
	struct conn *c;
	TAILQ_FOREACH (c, &cs->list, link) {
		/* A client without a request under way is verified with its next request. */
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

void conn_busy(struct conns *cs, struct conn *c, bool busy) {
	c->busy = busy;
	if (!busy)
		c->since_ns = now_monotonic_ns();
	/* Connections on a UNIX socket are not counted, and those of users don't count for an address. */
	if (c->counted && party_is_address(c->party))
		wait_in(cs, c, busy ? CONN_NONE : CONN_NOBODY);
}

bool conn_count(struct conns *cs, struct conn *c, const struct user *u, enum limit *what) {
	bool first = c->list == CONN_FRESH;
	const bool known = u && !user_in_group(u, GROUP_ANONYMOUS);
	struct party *p = known ? limits_user(cs->limits, u) : NULL;
	pay_handshake(cs, c, p);
	if (!known) {
		if (first)
			wait_in(cs, c, CONN_NOBODY);
		return true;
	}
	first |= c->list == CONN_NOBODY;
	wait_in(cs, c, CONN_NONE);
	if (!p || p == c->party) {
		party_unref(p);
		return true;
	}
	limits_idle(cs->limits);
	bool full =
		first && conns_count(cs) > cs->max - reserved(cs) && !party_trusted(p) && !drop_first(cs, CONN_NOBODY);
	*what = full ? LIMIT_SERVER : LIMIT_CONNECTIONS;
	bool taken = !full && party_take(p, LIMIT_CONNECTIONS);
	/* The party is set even if the limit is exceeded, since the answer names it. */
	uncount(c);
	party_unref(c->party);
	c->party = p;
	c->counted = taken;
	conn_work(c);
	return taken;
}
