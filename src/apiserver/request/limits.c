/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request/limits.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "api/roles.h"
#include "apiserver/request/reply.h"
#include "apiserver/request/stats.h"
#include "base/tree.h"
#include "base/util.h"

/* The first row is for users, the second for addresses. docs/apiserver.md documents the values. */
static const size_t maxima[2][LIMITS_COUNT] = {
	{[LIMIT_CONNECTIONS] = 512, [LIMIT_REQUESTS] = 128, [LIMIT_WATCHES] = 256, [LIMIT_MEMORY] = (size_t)128 << 20},
	{[LIMIT_CONNECTIONS] = 256, [LIMIT_REQUESTS] = 32, [LIMIT_WATCHES] = 16, [LIMIT_MEMORY] = (size_t)16 << 20},
};

/*
 * Limits of processor time: a burst, and for each second a multiple (in tenths) of a user's share. docs/apiserver.md
 * documents the values.
 */
static const struct share {
	int64_t burst_ns, tenths;
} shares[] = {{2 * NSEC_PER_SEC, 10}, {1 * NSEC_PER_SEC, 5}, {4 * NSEC_PER_SEC, 25}};

struct party {
	RB_ENTRY(party) node;
	struct limits *limits;
	unsigned refs;
	bool address, exempt, trusted;
	size_t used[LIMITS_COUNT];
	bool kept;           /* it has a reference of its own because of events_from */
	int64_t events_from; /* monotonic ns: the allowance of Events is used up to this time */
	int64_t time_used;   /* processor time in ns that was not yet given back at TIME_AT (monotonic ns) */
	int64_t time_at;
	bool time_kept; /* it has a reference of its own because of time_used */
	char name[];    /* the key, as messages write it: "user ann" */
};

static int party_cmp(const struct party *a, const struct party *b) {
	return strcmp(a->name, b->name);
}

RB_HEAD(parties, party);
RB_GENERATE_INTERNAL(parties, party, node, party_cmp, _unused_ static)

struct limits {
	struct parties parties;
	int64_t percent; /* a user's share of a processor */
	/* The party that the loop works for since SINCE (ns of the thread's clock); NULL: none. */
	struct party *working;
	enum work what;
	uint64_t since, *also;
};

const char *work_name(enum work what) {
	static const char *const names[] = {
		[WORK_REQUEST] = "requests",
		[WORK_HANDSHAKE] = "handshakes",
		[WORK_WATCH] = "watches",
		[WORK_COMMIT] = "commits",
	};
	return names[what];
}

const char *limit_name(enum limit what) {
	static const char *const names[] = {
		[LIMIT_CONNECTIONS] = "connections",
		[LIMIT_REQUESTS] = "requests",
		[LIMIT_WATCHES] = "watches",
		[LIMIT_MEMORY] = "memory",
		[LIMIT_EVENTS] = "events",
		[LIMIT_SERVER] = "server",
		[LIMIT_TIME] = "time",
	};
	return names[what];
}

struct limits *limits_new(void) {
	struct limits *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	RB_INIT(&l->parties);
	l->percent = LIMITS_SHARE_PERCENT;
	return l;
}

void limits_set_share(struct limits *l, int64_t percent) {
	l->percent = percent;
}

struct limits *limits_free(struct limits *l) {
	struct party *p, *next;
	if (!l)
		return NULL;
	RB_FOREACH_SAFE (p, parties, &l->parties, next) {
		p->refs -= p->kept && p->time_kept;
		if (p->kept || p->time_kept)
			party_unref(p);
	}
	free(l);
	return NULL;
}

static struct party *limits_find(const struct limits *l, const char *name) {
	return TREE_FIND_STRING(party, &l->parties, node, name, name);
}

static struct party *find_or_add(struct limits *l, const char *name) {
	struct party *p = limits_find(l, name);
	size_t n = strlen(name) + 1;
	if (!p) {
		p = calloc(1, sizeof(*p) + n);
		if (!p)
			return NULL;
		p->limits = l;
		memcpy(p->name, name, n);
		RB_INSERT(parties, &l->parties, p);
	}
	p->refs++;
	return p;
}

struct party *party_unref(struct party *p) {
	if (p && --p->refs == 0) {
		if (p->limits->working == p)
			p->limits->working = NULL;
		RB_REMOVE(parties, &p->limits->parties, p);
		free(p);
	}
	return NULL;
}

struct party *limits_user(struct limits *l, const struct user *u) {
	bool exempt = user_in_group(u, GROUP_MASTERS);
	bool agent = user_is_agent(u);
	const char *account = starts_with(u->name, USER_ACCOUNT_PREFIX) ? u->name + strlen(USER_ACCOUNT_PREFIX) : NULL;
	/* An agent is another party than a user with the same name who is in no group of agents. */
	_free_ char *name = exempt ? strdup("the members of " GROUP_MASTERS)
	                    : account
	                            ? strf("the ServiceAccounts of namespace %.*s", (int)strcspn(account, ":"), account)
	                            : strf("%s %s", agent ? "agent" : "user", u->name);
	struct party *p = name ? find_or_add(l, name) : NULL;
	if (p) {
		p->exempt = exempt;
		p->trusted = exempt || agent || streq(u->name, ROLES_CONTROLLER);
	}
	return p;
}

struct party *limits_address(struct limits *l, const struct sockaddr *sa) {
	char text[INET6_ADDRSTRLEN] = "", name[INET6_ADDRSTRLEN + 32];
	const char *suffix = "";
	if (sa && sa->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, text, sizeof(text));
	else if (sa && sa->sa_family == AF_INET6) {
		struct in6_addr a = ((const struct sockaddr_in6 *)sa)->sin6_addr;
		if (IN6_IS_ADDR_V4MAPPED(&a))
			inet_ntop(AF_INET, &a.s6_addr[12], text, sizeof(text));
		else {
			/* Whoever has one address of a /64 can use all of them. */
			memset(&a.s6_addr[8], 0, 8);
			inet_ntop(AF_INET6, &a, text, sizeof(text));
			suffix = "/64";
		}
	}
	snprintf(name, sizeof(name), "address %s%s", *text ? text : "of a UNIX socket", suffix);
	struct party *p = find_or_add(l, name);
	if (p)
		p->address = true;
	return p;
}

bool party_trusted(const struct party *p) {
	return p->trusted;
}

bool party_is_address(const struct party *p) {
	return p->address;
}

bool party_take(struct party *p, enum limit what) {
	if (!p->exempt && p->used[what] >= maxima[p->address][what])
		return false;
	p->used[what]++;
	return true;
}

void party_give(struct party *p, enum limit what) {
	p->used[what]--;
}

bool party_hold(struct party *p, size_t *held, size_t n, bool must) {
	size_t *used = &p->used[LIMIT_MEMORY];
	size_t others = *used - *held;
	bool fits = n <= *held || others == 0 || others + n <= maxima[p->address][LIMIT_MEMORY];
	if (!fits && !must && !p->exempt)
		return false;
	*used = others + n;
	*held = n;
	return true;
}

bool party_event(struct party *p, uint64_t now_ns) {
	const int64_t now = (int64_t)now_ns, step = EVENTS_INTERVAL_NS, first = now - EVENTS_BURST * step;
	/* Each Event moves events_from on by one interval. At most one burst of unused allowance is kept. */
	const int64_t from = p->kept ? MAX(p->events_from, first) : first;
	if (from + step > now)
		return false;
	p->events_from = from + step;
	p->refs += !p->kept;
	p->kept = true;
	return true;
}

static const struct share *share_of(const struct party *p) {
	return &shares[p->trusted ? 2 : p->address ? 1 : 0];
}

/* The part of each second that P may use, in thousandths. */
static int64_t thousandths(const struct party *p) {
	return share_of(p)->tenths * p->limits->percent;
}

static int64_t time_used(const struct party *p, int64_t now) {
	const int64_t back = MIN(now - p->time_at, INT64_MAX / 10000) * thousandths(p) / 1000;
	return MAX(p->time_used - back, (int64_t)0);
}

static void use_time(struct party *p, int64_t cpu_ns, int64_t now) {
	p->time_used = MAX(time_used(p, now) + cpu_ns, (int64_t)0);
	p->time_at = now;
	/* Keep the party while it owes time, so that it still owes it after it has reconnected. */
	if (!p->time_kept && p->time_used > 0) {
		p->refs++;
		p->time_kept = true;
	}
}

void party_charge(struct party *p, enum work what, uint64_t cpu_ns, uint64_t now_ns) {
	use_time(p, (int64_t)cpu_ns, (int64_t)now_ns);
	stats_cpu(what, cpu_ns);
}

bool party_take_over(struct party *p, struct party *from, uint64_t cpu_ns, uint64_t now_ns) {
	if (party_wait_s(p, now_ns))
		return false;
	use_time(p, (int64_t)cpu_ns, (int64_t)now_ns);
	use_time(from, -(int64_t)cpu_ns, (int64_t)now_ns);
	return true;
}

uint64_t limits_settle(struct limits *l) {
	const uint64_t now = now_thread_cpu_ns();
	const uint64_t took = now > l->since ? now - l->since : 0;
	if (l->working) {
		party_charge(l->working, l->what, took, now_monotonic_ns());
		if (l->also)
			*l->also += took;
	}
	l->since = now;
	return now;
}

void party_work(struct party *p, enum work what, uint64_t *also) {
	struct limits *l = p->limits;
	if (l->working == p && l->what == what && l->also == also)
		return;
	(void)limits_settle(l);
	l->working = p;
	l->what = what;
	l->also = also;
}

size_t limits_tick(struct limits *l, uint64_t now_ns) {
	struct party *p, *next;
	size_t n = 0;
	RB_FOREACH_SAFE (p, parties, &l->parties, next) {
		const bool last = p->refs == 1;
		const bool paid = p->time_kept && time_used(p, (int64_t)now_ns) == 0;
		n += !(paid && last);
		if (!paid)
			continue;
		p->time_kept = false;
		party_unref(p);
	}
	return n;
}

void limits_idle(struct limits *l) {
	if (l->working)
		(void)limits_settle(l);
	l->working = NULL;
}

void limits_except(struct limits *l, uint64_t ns) {
	l->since += ns;
}

unsigned party_wait_s(const struct party *p, uint64_t now_ns) {
	const struct share *s = share_of(p);
	const int64_t over = time_used(p, (int64_t)now_ns) - s->burst_ns;
	if (p->exempt || over < 0)
		return 0;
	return (unsigned)MIN(over / (thousandths(p) * (int64_t)NSEC_PER_MSEC) + 1, (int64_t)60);
}

unsigned limits_message(const struct party *p, enum limit what, char out[static 512]) {
	const size_t max = maxima[p->address][what];
	stats_refused(what);
	switch (what) {
	case LIMIT_CONNECTIONS:
		snprintf(out, 512, "too many connections: %.300s may have %zu; close some, or try again later", p->name,
		         max);
		return 5;
	case LIMIT_WATCHES:
		snprintf(out, 512, "too many watches: %.300s may have %zu; close some, or try again later", p->name,
		         max);
		return 5;
	case LIMIT_REQUESTS:
		snprintf(out, 512, "too many requests: %.300s may have %zu under way; please try again later", p->name,
		         max);
		return 1;
	case LIMIT_MEMORY:
		snprintf(out, 512,
		         "too much memory: requests and answers of %.300s may take %zu MiB; read the "
		         "answers, ask for less at a time (limit), or try again later",
		         p->name, max >> 20);
		return 1;
	case LIMIT_EVENTS:
		snprintf(out, 512, "too many Events: %.300s may create %d at once, and then one every %d ms", p->name,
		         EVENTS_BURST, (int)(EVENTS_INTERVAL_NS / 1000000));
		return 5;
	case LIMIT_TIME:
		snprintf(out, 512,
		         "too much processor time: the requests of %.300s may take %d ms of each second, and %d s at "
		         "once; please try again later",
		         p->name, (int)thousandths(p), (int)(share_of(p)->burst_ns / (int64_t)NSEC_PER_SEC));
		return MAX(party_wait_s(p, now_monotonic_ns()), 1U);
	default: snprintf(out, 512, "the server has too many connections; try again later"); return 5;
	}
}

void limits_refuse(struct request *r, const struct party *p, enum limit what) {
	char msg[512];
	const struct status_details d = {.retry_after_s = limits_message(p, what, msg)};
	reply_status(&r->reply, 429, "TooManyRequests", &d, "%s", msg);
}
