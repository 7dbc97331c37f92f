/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What one party may take of the server at a time, so that a hostile one leaves enough for all others: connections,
 * requests under way, watches, and memory for bodies, answers and pending output of watches.
 *
 * A party is a user; all ServiceAccounts of a namespace together, since who may make one may make a thousand; or, while
 * nobody is authenticated, a network address (of IPv6 a /64). Members of system:masters are counted, but never refused.
 * Parties are shared by counted references and are gone with their last one.
 */

#include <stdbool.h>
#include <sys/socket.h>

#include "apiserver/request/request.h"

enum limit {
	LIMIT_CONNECTIONS,
	LIMIT_REQUESTS,
	LIMIT_WATCHES,
	LIMIT_MEMORY,
	LIMIT_EVENTS,
	LIMIT_SERVER,
	LIMIT_TIME,
	LIMITS_COUNT
};
const char *limit_name(enum limit what);

struct limits;
struct party;

struct limits *limits_new(void); /* NULL on no memory */
/* What a user may take of a processor for long, 1 to 100. Addresses have half of it, agents and the controller 2.5
 * times. */
#define LIMITS_SHARE_PERCENT 20
void limits_set_share(struct limits *l, int64_t percent);
/* All parties must be gone. */
struct limits *limits_free(struct limits *l);

/* New references; NULL on no memory. SA NULL: a UNIX socket. */
struct party *limits_user(struct limits *l, const struct user *u);
struct party *limits_address(struct limits *l, const struct sockaddr *sa);
struct party *party_unref(struct party *p); /* NULL is fine; returns NULL */
/* Agents, the controller and administrators: some connections are kept free for them. */
bool party_trusted(const struct party *p);

/* Nobody who is known. */
bool party_is_address(const struct party *p);

/* One more connection, request or watch; false: it has as many as it may. */
bool party_take(struct party *p, enum limit what);
void party_give(struct party *p, enum limit what);
/*
 * What is held for one request becomes N bytes, *HELD is what it was. False, and nothing changed: the party holds too
 * much; but never if it holds nothing else, or if it MUST be.
 */
bool party_hold(struct party *p, size_t *held, size_t n, bool must);

/*
 * An agent makes one more Event at NOW_NS: at first EVENTS_BURST, then one each EVENTS_INTERVAL_NS. False: not yet. Its
 * allowance is remembered when its last connection has gone.
 */
#define EVENTS_BURST       1000
#define EVENTS_INTERVAL_NS INT64_C(500000000)
bool party_event(struct party *p, uint64_t now_ns);

/* What processor time goes to. */
enum work { WORK_REQUEST, WORK_HANDSHAKE, WORK_WATCH, WORK_COMMIT, WORKS_COUNT };
const char *work_name(enum work what);

/*
 * Processor time that a party took: a burst, and then a share of each second. What is under way is never refused, but
 * charged, also beyond the burst: the party waits the longer. Remembered while the party is in debt, when its last
 * connection has gone, too. Agents and the controller have larger shares, each of its own.
 */
void party_charge(struct party *p, enum work what, uint64_t cpu_ns, uint64_t now_ns);
/* CPU_NS that were charged to FROM are P's instead; false: they stay where they are, for P has no time left. */
bool party_take_over(struct party *p, struct party *from, uint64_t cpu_ns, uint64_t now_ns);
/* 0: a request may begin at NOW_NS; else after how many seconds. */
unsigned party_wait_s(const struct party *p, uint64_t now_ns);

/* To be called now and then: forgets whose debts are paid. How many parties there are. */
size_t limits_tick(struct limits *l, uint64_t now_ns);

/*
 * The time of the loop's thread is charged by who it works for: from party_work() on it works for P, until the next
 * call of one of these. What is charged is added to *ALSO (may be NULL), too. limits_settle() charges what was done so
 * far and returns the thread's clock; limits_idle() as well, and from then on it works for nobody. limits_except():
 * of the time since the last call NS are charged in another way.
 */
void party_work(struct party *p, enum work what, uint64_t *also);
uint64_t limits_settle(struct limits *l);
void limits_idle(struct limits *l);
void limits_except(struct limits *l, uint64_t ns);

/* The text of a refusal (429), and how long to wait. Counts it. */
unsigned limits_message(const struct party *p, enum limit what, char out[static 512]);
void limits_refuse(struct request *r, const struct party *p, enum limit what);
