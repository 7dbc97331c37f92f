/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Limits what one party may take of the server at a time, so that a hostile party leaves enough for all others:
 * connections, requests under way, watches, and memory for bodies, answers and pending output of watches.
 *
 * A party is one of: a user; all ServiceAccounts of a namespace together, because whoever may create one may create a
 * thousand; for a client that is not authenticated yet, its network address (of IPv6 the /64). Use by members of
 * system:masters is counted but never refused. Parties are reference-counted; without a reference a party is forgotten.
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

struct limits *limits_new(void); /* NULL: no memory */
/*
 * A user's lasting share of a processor, 1 to 100 percent. Addresses have half of it, agents and the controller 2.5
 * times as much.
 */
#define LIMITS_SHARE_PERCENT 20
void limits_set_share(struct limits *l, int64_t percent);
/* All parties must have been released before. */
struct limits *limits_free(struct limits *l);

/* Return a new reference; NULL: no memory. SA NULL: a UNIX socket. */
struct party *limits_user(struct limits *l, const struct user *u);
struct party *limits_address(struct limits *l, const struct sockaddr *sa);
struct party *party_unref(struct party *p); /* P may be NULL; returns NULL */
/* True for agents, the controller and administrators. Some connections are kept free for them. */
bool party_trusted(const struct party *p);

/* True if P is an address, that is, a client without authentication. */
bool party_is_address(const struct party *p);

/* Counts one more connection, request or watch. False: the limit is reached and nothing was counted. */
bool party_take(struct party *p, enum limit what);
void party_give(struct party *p, enum limit what);
/*
 * Changes the memory held for one request from *HELD to N bytes. False: the party would hold too much; nothing was
 * changed. Never fails if the party holds nothing else, or if MUST is set.
 */
bool party_hold(struct party *p, size_t *held, size_t n, bool must);

/*
 * Counts an Event that an agent creates at NOW_NS (monotonic). EVENTS_BURST are allowed at once, and then one each
 * EVENTS_INTERVAL_NS. False: it is too early. The allowance is remembered after the party's last connection has closed.
 */
#define EVENTS_BURST       1000
#define EVENTS_INTERVAL_NS INT64_C(500000000)
bool party_event(struct party *p, uint64_t now_ns);

/* What processor time is used for. */
enum work { WORK_REQUEST, WORK_HANDSHAKE, WORK_WATCH, WORK_COMMIT, WORKS_COUNT };
const char *work_name(enum work what);

/*
 * Processor time in ns. A party may use a burst, and then a share of each second. Work that has begun is never stopped,
 * but charged, even beyond the burst, so that the party then waits longer. A debt is remembered after the party's last
 * connection has closed. Agents and the controller have larger shares, each of its own. NOW_NS is monotonic.
 */
void party_charge(struct party *p, enum work what, uint64_t cpu_ns, uint64_t now_ns);
/* Moves a charge of CPU_NS from FROM to P. False: P has no time left; the charge stays with FROM. */
bool party_take_over(struct party *p, struct party *from, uint64_t cpu_ns, uint64_t now_ns);
/* Returns 0 if a request may begin at NOW_NS, or else after how many seconds it may. */
unsigned party_wait_s(const struct party *p, uint64_t now_ns);

/* Forgets parties that have paid their debts; must be called from time to time. Returns how many parties there are. */
size_t limits_tick(struct limits *l, uint64_t now_ns);

/*
 * The time of the loop's thread is charged to the party that it works for. party_work(): from now on it works for P,
 * until the next call of one of these functions. Charges are also added to *ALSO, which may be NULL. limits_settle():
 * charges the time so far, and returns the thread's clock in ns. limits_idle(): charges the time so far; from now on
 * the loop works for no party. limits_except(): NS of the time since the last call are charged elsewhere.
 */
void party_work(struct party *p, enum work what, uint64_t *also);
uint64_t limits_settle(struct limits *l);
void limits_idle(struct limits *l);
void limits_except(struct limits *l, uint64_t ns);

/* Counts a refusal (429), writes its message to OUT, and returns after how many seconds the client may try again. */
unsigned limits_message(const struct party *p, enum limit what, char out[static 512]);
void limits_refuse(struct request *r, const struct party *p, enum limit what);
