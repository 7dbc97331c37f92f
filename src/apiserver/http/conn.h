/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The connections of one listener: who is at their other end, and whose share of the limits they take. A new one counts
 * for its address; from its first request on it counts for whoever asked last. So does its handshake: many users may
 * share an address. If the user has no processor time left, the address has to pay.
 *
 * All bytes of TLS go through here, so that it is known who the loop works for.
 *
 * Some connections are kept free for agents, the controller and administrators. An authenticated user is refused only
 * when no connection is left that can be closed for him: one on which only unauthenticated requests came, the longest
 * idle first. Connections that have asked nothing yet may be a quarter of all.
 */

#include <gnutls/gnutls.h>
#include <sys/queue.h>

#include "apiserver/auth/tls.h"
#include "apiserver/request/limits.h"

#define CONNECTIONS_MAX 16384U

struct exchange;
struct turns;
struct MHD_Connection;

/* Where a connection waits that may be closed for others. */
enum conn_list { CONN_NONE, CONN_FRESH, CONN_NOBODY, CONN_LISTS };

/* What it waits for, if it must wait: see turns.h. */
enum park { PARK_NONE, PARK_TURN, PARK_LATE, PARK_INPUT, PARKS };

struct conn {
	TAILQ_ENTRY(conn) link, waits, parks;
	enum conn_list list;
	struct conns *conns;
	struct MHD_Connection *mhd;
	int fd;
	enum park park;
	sd_event_source *input;
	bool suspended;           /* in libmicrohttpd */
	bool fed;                 /* its turn has come, and nothing was done yet */
	enum work work;           /* WORK_HANDSHAKE: until the first request */
	uint64_t fresh_ns;        /* what was charged for it until then */
	gnutls_session_t session; /* NULL on a UNIX socket */
	struct tls_set *set;
	/* Who is at the other end, by certificate or by the kernel's word; NULL: not asked yet, or nobody known. */
	struct user *user;
	int64_t user_until_s;
	unsigned user_generation;
	bool user_known, user_refused;
	struct party *party; /* takes one connection of it, if COUNTED */
	bool counted;
	bool shut;    /* it makes room, and is gone soon */
	bool closing; /* with the answer: there were too many of them */
	bool busy;    /* with an answer; else with the client's next request */
	struct exchange *exchange;
	uint64_t since_ns;
	uint64_t refused_ns; /* when something was refused last, for there was too much of it; 0: nothing was */
};

struct conns {
	TAILQ_HEAD(conn_head, conn) list; /* the oldest first */
	/* CONN_FRESH: nothing was asked yet. CONN_NOBODY: by nobody who is known. The longest idle first. */
	struct conn_head waiting[CONN_LISTS];
	size_t max, n, n_fresh, n_shut;
	struct tls *tls; /* NULL on a UNIX socket */
	struct limits *limits;
	struct turns *turns;
};

/*
 * As many as the limit of descriptors has room for, which LISTENERS share equally; at most CONNECTIONS_MAX. TLS NULL: a
 * UNIX socket.
 */
void conns_init(struct conns *cs, struct tls *tls, struct limits *limits, size_t listeners);
/* False: SA has used up its processor time, and a handshake would cost more of it. */
bool conns_accept(struct conns *cs, const struct sockaddr *sa);
/* SESSION NULL: a UNIX socket. NULL on no memory. One that can't be served is shut down. */
struct conn *conn_open(struct conns *cs, struct MHD_Connection *mhd, int fd, gnutls_session_t session,
                       const struct sockaddr *sa);
void conn_close(struct conns *cs, struct conn *c);

/* What is done from here on is done for C. */
void conn_work(struct conn *c);

/* Finds out once a connection who is at its other end, and again when its certificate may be good no longer. */
void conn_identify(struct conns *cs, struct conn *c);
/*
 * Looks whether those who have something under way, as a watch, still are who they were: certificates expire, are
 * revoked, and lose their authority. Who isn't is hung up on. True: there are more to look at, soon.
 */
bool conns_recheck(struct conns *cs);
/* An answer begins (BUSY) or has ended: who gets one is not hung up on. */
void conn_busy(struct conns *cs, struct conn *c, bool busy);
/* U (NULL: nobody) asks; false: the connection is one too many, *WHAT says of what. */
bool conn_count(struct conns *cs, struct conn *c, const struct user *u, enum limit *what);
