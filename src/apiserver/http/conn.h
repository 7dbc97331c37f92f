/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The connections of one listener: who the client is, and which party's limits the connection counts against. A new
 * connection counts for its address. From its first request on it counts for the user of the last request. The user
 * also takes over the charge for the handshake, because many users may share an address; if the user has no processor
 * time left, the address pays.
 *
 * All bytes of TLS pass through this module, so that the time of the loop can be charged to the right party.
 *
 * Some connections are kept free for agents, the controller and administrators. An authenticated user is refused only
 * if no connection can be closed for him. Only connections whose requests were all unauthenticated are closed for
 * others, the longest idle first. At most a quarter of all connections may be without a first request.
 */

#include <gnutls/gnutls.h>
#include <sys/queue.h>

#include "apiserver/auth/tls.h"
#include "apiserver/request/limits.h"

#define CONNECTIONS_MAX 16384U

struct exchange;
struct turns;
struct MHD_Connection;

/* The list of connections that may be closed for others in which a connection is. */
enum conn_list { CONN_NONE, CONN_FRESH, CONN_NOBODY, CONN_LISTS };

/* What a connection waits for; see turns.h. */
enum park { PARK_NONE, PARK_TURN, PARK_LATE, PARK_INPUT, PARKS };

struct conn {
	TAILQ_ENTRY(conn) link, waits, parks;
	enum conn_list list;
	struct conns *conns;
	struct MHD_Connection *mhd;
	int fd;
	enum park park;
	sd_event_source *input;
	bool suspended;           /* suspended in libmicrohttpd */
	bool fed;                 /* its turn has come, but nothing was done yet */
	enum work work;           /* WORK_HANDSHAKE until the first request */
	uint64_t fresh_ns;        /* ns of processor time charged for the handshake */
	gnutls_session_t session; /* NULL on a UNIX socket */
	struct tls_set *set;
	/* The client, from its certificate or from the kernel. NULL: not known yet, or not authenticated. */
	struct user *user;
	int64_t user_until_s;
	unsigned user_generation;
	bool user_known, user_refused;
	struct party *party; /* the connection counts for it if COUNTED */
	bool counted;
	bool shut;    /* being closed to make room */
	bool closing; /* to be closed with the answer: there were too many */
	bool busy;    /* an answer is under way; otherwise the client's next request is */
	struct exchange *exchange;
	uint64_t since_ns;
	uint64_t refused_ns; /* monotonic time of the last refusal because of a limit; 0: none */
};

struct conns {
	TAILQ_HEAD(conn_head, conn) list; /* oldest first */
	/* CONN_FRESH: no request yet. CONN_NOBODY: only unauthenticated requests. The longest idle first. */
	struct conn_head waiting[CONN_LISTS];
	size_t max, n, n_fresh, n_shut;
	struct tls *tls; /* NULL on a UNIX socket */
	struct limits *limits;
	struct turns *turns;
};

/*
 * The limit of descriptors determines how many connections there may be; LISTENERS share them equally. The most is
 * CONNECTIONS_MAX. TLS NULL: a UNIX socket.
 */
void conns_init(struct conns *cs, struct tls *tls, struct limits *limits, size_t listeners);
/* False: the address SA has used up its processor time, which a handshake would need. */
bool conns_accept(struct conns *cs, const struct sockaddr *sa);
/*
 * Registers a new connection. SESSION NULL: a UNIX socket. NULL: no memory. A connection that can't be served is shut
 * down.
 */
struct conn *conn_open(struct conns *cs, struct MHD_Connection *mhd, int fd, gnutls_session_t session,
                       const struct sockaddr *sa);
void conn_close(struct conns *cs, struct conn *c);

/* From now on the loop works for C. */
void conn_work(struct conn *c);

/* Identifies the client: once for each connection, and again when its certificate may no longer be accepted. */
void conn_identify(struct conns *cs, struct conn *c);
/*
 * Identifies again the clients with a request under way, such as a watch: certificates expire or are revoked, or their
 * authority is no longer accepted. Connections of clients that are no longer accepted are shut down. True: call again
 * soon, there are more to check.
 */
bool conns_recheck(struct conns *cs);
/* An answer begins (BUSY) or has ended. A connection with an answer under way is not closed for others. */
void conn_busy(struct conns *cs, struct conn *c, bool busy);
/*
 * Counts C for U (NULL: not authenticated), who sends a request. False: there are too many connections; *WHAT says
 * which limit is reached.
 */
bool conn_count(struct conns *cs, struct conn *c, const struct user *u, enum limit *what);
