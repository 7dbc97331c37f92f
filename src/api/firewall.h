/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Firewall: what instances of its namespace may receive and send. It selects instances by their labels. Rules only
 * allow, and all Firewalls that select an instance add up. docs/firewall.md has the semantics.
 *
 * A group is the set of the instances that the `peers` of a rule match. The controller writes the ids of an instance's
 * groups into the status of its Endpoint; hosts learn the members of a group from there alone.
 */

#include "api/endpoint.h"
#include "api/meta.h"
#include "api/selector.h"

#define FIREWALL_RULES_MAX     10000  /* of a list */
#define FIREWALL_PREFIXES_MAX  1000   /* of a rule */
#define FIREWALL_ELEMENTS_MAX  20000  /* of an instance and direction, see struct firewall_size */
#define FIREWALL_STORED_MAX    100    /* Firewalls of a namespace */
#define FIREWALL_ATTACHED_MAX  32     /* Firewalls of an instance */
#define FIREWALL_GROUPS_MAX    32     /* different peers in the rules of an instance */
#define FIREWALL_MEMBERS_MAX   131072 /* instances of a group */
#define FIREWALL_ADDRESSES_MAX 262144 /* of the members of all groups of an instance */
#define FIREWALL_COUNTERS_MAX  256    /* rows of status.rules */

/*
 * The limit of JSON values of one: a list of 10,000 rules with name, protocol, ports and a prefix, and a list of as
 * many that are simpler. Besides, it has at most 1.5 MiB.
 */
#define FIREWALL_VALUES_MAX 100000

#define FIREWALL_RULE(F, T)                                                                                           \
	F(T, str, name, "name", 0, rule_name, 0, 63, NULL,                                                            \
	  "A name for status.rules and for logs: lower-case letters, digits and `-`, beginning with a letter. Rules " \
	  "with the same name are counted together. Default: the rule's index, from 0.")                              \
	F(T, str, protocol, "protocol", 0, firewall_protocol, 0, 7, NULL,                                             \
	  "tcp, udp, icmp (IPv4), icmpv6 (IPv6) or any; default: any.")                                               \
	F(T, i64, port, "port", 0, _, 1, 65535, NULL,                                                                 \
	  "Destination port, for tcp and udp; of an ingress rule it is the guest's. Default: all ports.")             \
	F(T, i64, end_port, "endPort", 0, _, 1, 65535, NULL, "Last port, if port is the first one of a range.")       \
	F(T, i64, icmp_type, "icmpType", 0, _, 0, 255, NULL,                                                          \
	  "Type of the message, for icmp and icmpv6, such as 8 (echo request of icmp) or 128 (of icmpv6). Default: "  \
	  "all types.")                                                                                               \
	F(T, strs, prefixes, "prefixes", 0, rule_prefix, 0, FIREWALL_PREFIXES_MAX, NULL,                              \
	  "The other side: addresses in these IPv4 and IPv6 prefixes, whose host bits must be 0. A rule with "        \
	  "prefixes and peers is for both; a rule without either is for every address.")                              \
	F(T, obj, peers, "peers", 0, api_selector, 0, 0, NULL,                                                        \
	  "The other side: the instances of the same namespace with these labels, by their public addresses; {}: "    \
	  "all instances of the namespace. Instances that get the labels later, or lose them, follow.")
API_DECLARE(firewall_rule, FIREWALL_RULE)

#define FIREWALL_SPEC(F, T)                                                                                       \
	F(T, obj, instances, "instances", API_REQ, api_selector, 0, 0, NULL,                                      \
	  "The instances of the namespace that it is for, by their labels; {}: all of them. All Firewalls that "  \
	  "select an instance add up.")                                                                           \
	F(T, list, ingress, "ingress", 0, firewall_rule, 0, FIREWALL_RULES_MAX, NULL,                             \
	  "What the instances may receive, besides replies and what spec.ingress and spec.forwards of the "       \
	  "Instance allow; all other is dropped.")                                                                \
	F(T, list, egress, "egress", 0, firewall_rule, 0, FIREWALL_RULES_MAX, NULL,                               \
	  "What the instances may send, besides replies; only with defaultEgress deny.")                          \
	F(T, str, default_egress, "defaultEgress", 0, default_egress, 0, 7, "\"allow\"",                          \
	  "deny: the instances may send only what the egress rules of their Firewalls allow. allow: everything, " \
	  "unless another Firewall that selects the instance denies it.")
API_DECLARE(firewall_spec, FIREWALL_SPEC)

#define FIREWALL_COUNTER(F, T)                                                                                        \
	F(T, str, direction, "direction", API_REQ, direction, 1, 7, NULL, "ingress or egress.")                       \
	F(T, str, rule, "rule", API_REQ, any, 1, 63, NULL, "Name of the rule, or its index, from 0.")                 \
	F(T, i64, packets, "packets", 0, _, 0, INT64_MAX, NULL,                                                       \
	  "Packets that the rule allowed: the first of each connection, and one more of it after each change of the " \
	  "rules.")                                                                                                   \
	F(T, i64, bytes, "bytes", 0, _, 0, INT64_MAX, NULL, "Bytes of these packets.")
API_DECLARE(firewall_counter, FIREWALL_COUNTER)

#define FIREWALL_STATUS(F, T)                                                                                        \
	F(T, i64, observed_generation, "observedGeneration", 0, _, 0, INT64_MAX, NULL,                               \
	  "metadata.generation that this status is about.")                                                          \
	F(T, i64, instances, "instances", 0, _, 0, INT64_MAX, NULL, "Number of instances that it selects.")          \
	F(T, list, rules, "rules", 0, firewall_counter, 0, FIREWALL_COUNTERS_MAX, NULL,                              \
	  "What its rules allowed, summed over its instances, the most packets first; at most a minute behind each " \
	  "instance's status.firewall.")                                                                             \
	API_CONDITIONS(F, T)
API_DECLARE(firewall_status, FIREWALL_STATUS)

#define FIREWALL(F, T)                                                                                           \
	API_META(F, T)                                                                                           \
	F(T, obj, spec, "spec", API_REQ, firewall_spec, 0, 0, NULL, "What is allowed, and for which instances.") \
	F(T, obj, status, "status", 0, firewall_status, 0, 0, NULL, "What was last observed.")
API_DECLARE(firewall, FIREWALL)
extern const struct api_kind api_kind_firewall;

/* The condition of a Firewall, and the one of an Instance by which its agent says the same. */
#define FIREWALL_CONDITION          "Applied"
#define FIREWALL_INSTANCE_CONDITION "FirewallApplied"

bool firewall_denies_egress(const struct firewall *f);

/* Writes the name by which counters and logs know R, the rule number INDEX of its list: its name, or "3". */
#define FIREWALL_RULE_LABEL_MAX 64
const char *firewall_rule_label(const struct firewall_rule *r, size_t index, char out[static FIREWALL_RULE_LABEL_MAX]);

/*
 * Writes the id of the group of the instances of namespace NS that PEERS matches: the first half of SHA-256 over the
 * namespace, a line feed and the selector's canonical text, in hex. 0 or -ENOMEM.
 */
#define FIREWALL_GROUP_ID_MAX (ENDPOINT_GROUP_LENGTH + 1)
int firewall_group_id(const char *ns, const struct api_selector *peers,
                      char out[static FIREWALL_GROUP_ID_MAX]) _must_use_;

/* ---- the limits of an instance ---- */

struct firewall_group {
	char id[FIREWALL_GROUP_ID_MAX];
	const struct api_selector *peers; /* of the Firewall's first such rule, borrowed */
};

/*
 * What a Firewall adds to an instance. Elements: one for each prefix of a rule, one for its peers, two for a rule for
 * every address (of icmp and icmpv6: one). The kernel splits a range of ports into aligned blocks, at most 30 of them,
 * and the time to load an element grows with these (pipapo_expand() of net/netfilter/nft_set_pipapo.c); so each element
 * counts once for each FIREWALL_BLOCKS of them or less.
 */
#define FIREWALL_BLOCKS 4
struct firewall_size {
	size_t ingress, egress;        /* elements */
	size_t n_groups;               /* different peers of all rules */
	struct firewall_group *groups; /* in order of id; NULL if there are none, or more than FIREWALL_GROUPS_MAX */
};

/*
 * Measures F, in time that grows with the bytes of F. RET borrows from F and must be freed by firewall_size_clear().
 * 0 or -ENOMEM.
 */
int firewall_measure(const struct firewall *f, struct firewall_size *ret) _must_use_;
void firewall_size_clear(struct firewall_size *s); /* frees the content and zeroes it */

enum firewall_limit {
	FIREWALL_FITS,
	FIREWALL_OVER_ATTACHED,
	FIREWALL_OVER_INGRESS,
	FIREWALL_OVER_EGRESS,
	FIREWALL_OVER_GROUPS,
};

struct firewall_verdict {
	enum firewall_limit limit; /* the limit that the Firewall exceeds */
	size_t figure;             /* what the instance would have with it, of what the limit is about */
};

/*
 * Says which of the N Firewalls that select an instance are applied to it: V[i] is the size of Firewall i, in order of
 * name, and RET[i] its verdict. A Firewall that exceeds a limit together with those before it that fit isn't applied:
 * its rules allow nothing on this instance, while its defaultEgress still holds. Those after it may fit. The overlap of
 * prefixes is not judged here: only the host's agent knows it.
 */
void firewall_judge(const struct firewall_size *const *v, size_t n, struct firewall_verdict *ret);

/* Writes what V, which does not fit, says about an instance: "it needs …, and the limit is …; remedy". */
#define FIREWALL_MESSAGE_MAX 256
const char *firewall_verdict_message(const struct firewall_verdict *v, char out[static FIREWALL_MESSAGE_MAX]);
