/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The firewall of one instance in the kernel: a table of its namespace (node/firewall_rules.c).
 *
 * A look compares what is wanted with what was put there, by the number of the namespace's last nftables transaction
 * and a hash. If only members of groups have come or gone, a few elements of sets are changed by one transaction; else
 * the whole table is made anew and put in force by one. The kernel has the old rules or the new ones, never a mixture.
 *
 * Connections are remembered by their mark: the generation of the rules that allowed them. A change that may take
 * something away begins a new generation. Each connection is then looked up again with its next packet: it goes on
 * without loss, or it is cut at that packet.
 */

#include "api/firewall.h"
#include "base/inet.h"
#include "node/groups.h"

struct instnet_spec;
struct nftset_batch;
struct nl;

/*
 * The Firewalls that select an instance, in order of name. They, their sizes and GROUPS are the caller's. UNKNOWN: they
 * may not be all. Then the rules of the table that is there stay, and only members of its groups come and go, as long
 * as its state is known and its groups are those of these Firewalls; if there is no table, one is made that lets in and
 * out only what the instance's own ingress and forwards say.
 */
struct firewall_attached {
	const struct firewall *const *v;
	const struct firewall_size *const *sizes; /* of each; NULL: they are measured when they are needed */
	size_t n;
	bool deny_beyond; /* one that is not among them, since the instance may have no more, denies egress */
	bool unknown;
	const struct groups *groups; /* NULL: groups have no members */
	bool *ret_postponed;         /* NULL: firewall_ensure() also loads tables of more than FIREWALL_MUCH elements */
};

/* What was put into the namespace; all zero at first. A bit in a mask is a Firewall, by its place in `attached`. */
struct firewall_state {
	uint64_t hash;       /* of the rules without members */
	uint64_t seq;        /* as of which change of groups (groups_seq()) */
	uint32_t generation; /* the mark of connections that were allowed by these rules; 0: nothing is known */
	uint32_t groups;     /* a hash of the groups and their numbers */
	uint32_t table;      /* which of two names the table has (node/firewall_rules.h) */
	uint32_t limited;    /* mask: not applied, since they exceed a limit of the instance (api/firewall.h) */
	uint32_t deep;       /* mask: not applied, since their rules overlap those before them too often */
	uint32_t crowded;    /* mask: not applied, since their groups have too many members */
	uint32_t failures;   /* so often the table could not be made since it was last made */
	uint32_t failed;     /* the table with this hash; it is tried again at RETRY_NS (now_monotonic_ns()) */
	uint64_t retry_ns;
	uint64_t dropped_in, dropped_out; /* packets that were dropped by tables that have been replaced since */
};

/* The generation that a change begins which takes something away, with the same table. */
uint32_t firewall_generation_after(uint32_t generation);

/*
 * Makes the table in the namespace of NETNS_FD, where NL is a socket of nl_open_netfilter(). *GENID is the number of
 * the namespace's last transaction if nothing has changed since the last call with this *STATE, else 0. A transaction
 * that only changes elements adds 1 to it; if another process commits one before that, the table is made anew.
 * *RET_CHANGED is set if there was any other transaction. After a failure the old table is in force, or in rare cases
 * the new one; *STATE says so, and nothing else has changed in it. The same table is tried again after a second, and
 * after each further failure after twice as long, up to FIREWALL_RETRY_MAX_S; until then -EAGAIN is returned, and
 * members come and go as long as the old table has the same groups. The same happens if a table is to be loaded that
 * has more than FIREWALL_MUCH elements, which may take seconds, and ATTACHED has a RET_POSTPONED; it is then set.
 */
#define FIREWALL_RETRY_MAX_S 300
#define FIREWALL_MUCH        2000
int firewall_ensure(int netns_fd, struct nl *nl, const struct instnet_spec *spec,
                    const struct firewall_attached *attached, uint32_t *genid, struct firewall_state *state,
                    bool *ret_changed, struct error *err) _must_use_;

/*
 * Collects in *B, which the caller sends by nftset_commit() and frees, the changes of elements by which members come
 * and go, and in *RET what *STATE is after that. There may be none. *B is empty, with the GENID and the maximum that it
 * is to have. 1: that takes firewall_ensure(), also because the maximum would be exceeded. Nothing is read or changed
 * in the kernel.
 */
int firewall_members(const struct instnet_spec *spec, const struct firewall_attached *attached,
                     const struct firewall_state *state, struct nftset_batch *b, struct firewall_state *ret,
                     struct error *err) _must_use_;

/* The packets that a rule has let pass which were looked up: the first of each connection, and one after each change.
 */
struct firewall_count {
	uint8_t firewall; /* its place in `attached` */
	bool out;
	uint32_t rule; /* its place in spec.ingress or spec.egress */
	uint64_t packets, bytes;
};

/* Packets of one kind that were dropped; it is forgotten after five minutes without a further one. */
struct firewall_drop {
	bool out;
	struct addr addr; /* the one outside */
	uint8_t protocol; /* IPPROTO_* */
	uint16_t port;    /* to which the connection was made; 0: the protocol is neither TCP nor UDP */
	uint32_t age_ms;  /* since the last such packet */
	uint64_t packets, bytes;
};

#define FIREWALL_LAYERS_MAX 8   /* of rules that overlap each other partly */
#define FIREWALL_DROPS_MAX  512 /* 128 of each family and direction; what is beyond them is in the totals only */

struct firewall_seen {
	uint64_t dropped_in, dropped_out; /* packets, since the network was made or the agent started */
	size_t n_counts;                  /* rules that have counted packets, most packets first */
	struct firewall_count *counts;
	size_t n_drops;
	struct firewall_drop drops[FIREWALL_DROPS_MAX];
};
/*
 * Reads what was dropped and, with COUNTS, the counters of rules. -ENOENT: the table is not there. The caller calls
 * firewall_seen_done().
 */
int firewall_read(int netns_fd, const struct firewall_state *state, bool counts, struct firewall_seen *ret,
                  struct error *err) _must_use_;
void firewall_seen_done(struct firewall_seen *s);
